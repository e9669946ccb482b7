package profile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// maxSections bounds how deep sections are nested; swanctl.conf needs five.
	maxSections = 16
	// maxSettings bounds the sections and keys of a file, with what it includes, and how many are
	// there when references are followed.
	maxSettings = 20000
)

// settings is a section of strongSwan's settings: keys, and sections in it.
type settings struct {
	place    string
	values   map[string]string
	sections map[string]*settings
	order    []string // of sections
	refs     []string // absolute paths of sections that it takes over from
}

func newSettings(place string) *settings {
	return &settings{place: place, values: map[string]string{}, sections: map[string]*settings{}}
}

// at is the place of a key.
func (s *settings) at(key string) string {
	if s.place == "" {
		return key
	}
	return s.place + "." + key
}

// section returns a section, which is made if it is not there.
func (s *settings) section(name string) *settings {
	sub := s.sections[name]
	if sub == nil {
		sub = newSettings(s.at(name))
		s.sections[name] = sub
		s.order = append(s.order, name)
	}
	return sub
}

// settingsReader reads a file in strongSwan's grammar, and what it includes.
type settingsReader struct {
	d     *draft
	count int
	open  []string // the files that are being read
}

// readSettings reads a text; references between sections are followed.
func (d *draft) readSettings(data []byte) (*settings, error) {
	r := &settingsReader{d: d}
	root := newSettings("")
	if err := r.read(lastElement(d.o.Name), data, root); err != nil {
		return nil, err
	}
	r.count = 0
	return root, r.resolve(root, root, nil)
}

func (r *settingsReader) read(name string, data []byte, into *settings) error {
	l := &settingsLexer{name: name, data: data, line: 1}
	if err := r.body(l, into, 0); err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return e // of an included file
		}
		return &Error{fmt.Sprintf("%s, line %d, cannot be read", shown(name), l.line), err.Error(), "strongSwan itself would not read it: swanctl --load-all tells the place, too"}
	}
	return nil
}

// body reads what is in a section, up to its brace, or the file's end.
func (r *settingsReader) body(l *settingsLexer, into *settings, depth int) error {
	if depth > maxSections {
		return fmt.Errorf("sections are nested more than %d deep", maxSections)
	}
	for {
		if r.count++; r.count > maxSettings {
			return fmt.Errorf("there are more than %d keys", maxSettings)
		}
		l.skipSpace(true)
		switch c := l.peek(); {
		case c == 0 && l.ended():
			if depth > 0 {
				return errors.New("a closing brace is missing")
			}
			return nil
		case c == '}':
			if depth == 0 {
				return errors.New("there is a closing brace too much")
			}
			l.pos++
			return nil
		}
		name := l.word()
		if name == "" {
			return errors.New("the name of a key or a section was expected")
		}
		l.skipSpace(false)
		if name == "include" && l.peek() != '=' && l.peek() != '{' {
			at := fmt.Sprintf("%s:%d", shown(l.name), l.line)
			read := func(name string, data []byte) error { return r.read(name, data, into) }
			if err := r.d.included(at, l.value(), &r.open, read); err != nil {
				return err
			}
			continue
		}
		l.skipSpace(true)
		switch l.peek() {
		case '=':
			l.pos++
			into.values[name] = l.value()
		case '{':
			l.pos++
			if err := r.body(l, into.section(name), depth+1); err != nil {
				return err
			}
		case ':':
			l.pos++
			refs, err := l.refs()
			if err != nil {
				return err
			}
			sub := into.section(name)
			sub.refs = append(sub.refs, refs...)
			if err := r.body(l, sub, depth+1); err != nil {
				return err
			}
		default:
			// What is there may be the rest of a secret.
			return errors.New("behind a name one of = { : was expected")
		}
	}
}

// resolve copies what sections take over from others into them. What they have themselves counts,
// then what the first reference has.
func (r *settingsReader) resolve(root, s *settings, open []*settings) error {
	if slices.Contains(open, s) || len(open) > 2*maxSections {
		return &Error{"the sections cannot be read", quoted(s.place) + " refers to itself, or too far", "write the keys out"}
	}
	open = append(open, s)
	for len(s.refs) > 0 {
		ref := s.refs[0]
		s.refs = s.refs[1:]
		from := root
		for part := range strings.SplitSeq(ref, ".") {
			if from = from.sections[part]; from == nil {
				r.d.note(s.place, "the section %s that it refers to is not there", quoted(ref))
				break
			}
		}
		if from == nil {
			continue
		}
		if err := r.resolve(root, from, open); err != nil {
			return err
		}
		if err := r.inherit(s, from); err != nil {
			return err
		}
	}
	for _, name := range s.order {
		if err := r.resolve(root, s.sections[name], open); err != nil {
			return err
		}
	}
	return nil
}

func (r *settingsReader) inherit(s, from *settings) error {
	if r.count += 1 + len(from.values); r.count > maxSettings {
		return &Error{"the sections cannot be read", fmt.Sprintf("references make more than %d keys of them", maxSettings), "write the keys out"}
	}
	for _, k := range slices.Sorted(maps.Keys(from.values)) {
		if _, ok := s.values[k]; !ok {
			s.values[k] = from.values[k]
		}
	}
	for _, name := range slices.Clone(from.order) {
		sub := s.section(name)
		if sub == from.sections[name] {
			continue
		}
		if err := r.inherit(sub, from.sections[name]); err != nil {
			return err
		}
	}
	return nil
}

// settingsLexer reads words of the grammar.
type settingsLexer struct {
	name string
	data []byte
	pos  int
	line int
}

func (l *settingsLexer) ended() bool { return l.pos >= len(l.data) }

// peek is the next octet, 0 at the end.
func (l *settingsLexer) peek() byte {
	if l.ended() {
		return 0
	}
	return l.data[l.pos]
}

// skipSpace skips blanks, and with lines ends of lines and comments.
func (l *settingsLexer) skipSpace(lines bool) {
	for ; !l.ended(); l.pos++ {
		switch c := l.data[l.pos]; {
		case c == ' ' || c == '\t' || c == '\r':
		case c == '\n' && lines:
			l.line++
		case c == '#' && lines:
			for !l.ended() && l.data[l.pos] != '\n' {
				l.pos++
			}
			l.pos--
		default:
			return
		}
	}
}

// word reads the name of a key or a section, and nothing if there is none.
func (l *settingsLexer) word() string {
	begin := l.pos
	for !l.ended() && !strings.ContainsRune(" \t\r\n#{}=,:\"\x00", rune(l.data[l.pos])) {
		l.pos++
	}
	return string(l.data[begin:l.pos])
}

// refs reads the references of a section, and the brace behind.
func (l *settingsLexer) refs() ([]string, error) {
	var out []string
	for {
		l.skipSpace(true)
		switch l.peek() {
		case '{':
			l.pos++
			return out, nil
		case ',':
			l.pos++
			continue
		}
		name := l.word()
		if name == "" || len(out) == 100 {
			return nil, errors.New("sections to refer to, and a brace, were expected behind the colon")
		}
		out = append(out, name)
	}
}

// value reads the rest of a line, up to a comment or a brace. In quotes these and ends of lines
// belong to it.
func (l *settingsLexer) value() string {
	l.skipSpace(false)
	var b strings.Builder
	solid := 0 // how much of b is not blanks at its end
	for !l.ended() {
		switch c := l.data[l.pos]; c {
		case '\n', '#', '}', '{':
			return b.String()[:solid]
		case ' ', '\t', '\r':
			b.WriteByte(c)
			l.pos++
			continue
		case '"':
			b.WriteString(l.quoted())
		default:
			b.WriteByte(c)
			l.pos++
		}
		solid = b.Len()
	}
	return b.String()[:solid]
}

// quoted reads a text in quotes, in which a backslash takes the meaning of the next octet away.
func (l *settingsLexer) quoted() string {
	var b strings.Builder
	for l.pos++; !l.ended(); l.pos++ {
		c := l.data[l.pos]
		switch {
		case c == '"':
			l.pos++
			return b.String()
		case c == '\\' && l.pos+1 < len(l.data):
			l.pos++
			if c = l.data[l.pos]; c == 'n' || c == 'r' || c == 't' {
				c = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t'}[c]
			} else if c == '\n' { // the line goes on
				l.line++
				continue
			}
		case c == '\n':
			l.line++
		}
		b.WriteByte(c)
	}
	return b.String()
}
