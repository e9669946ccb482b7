package profile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxElements bounds the elements of an XML file, of which a profile has some hundred.
const maxElements = 100_000

// element is one of an XML file. Attributes are those of its tag, and text is what stands in it
// outside of others.
type element struct {
	name       string
	attributes map[string]string
	text       strings.Builder
	in         []*element
}

// all are the elements in it with a name.
func (e *element) all(name string) []*element {
	return slices.DeleteFunc(slices.Clone(e.in), func(sub *element) bool { return sub.name != name })
}

// at is the text of the element at the end of a path, empty if there is none.
func (e *element) at(path ...string) string {
	for _, name := range path {
		all := e.all(name)
		if len(all) == 0 {
			return ""
		}
		e = all[0]
	}
	return strings.TrimSpace(e.text.String())
}

// xmlReader reads the part of XML 1.0 that files of configuration have: UTF-8, no name spaces, and
// no document type but an outer one, so that there are no entities to expand.
type xmlReader struct {
	data  string
	root  *element
	open  []*element
	count int
}

// readXML reads a file whose elements are nested at most most deep. The error is an *Error.
func readXML(data []byte, most int) (*element, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	all := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	r := &xmlReader{data: all}
	var err error
	for i, c := range all {
		if !isXML(c) || c == utf8.RuneError && !strings.HasPrefix(all[i:], string(utf8.RuneError)) {
			r.data, err = all[i:], errors.New("it has a character that is none of XML, or is not UTF-8")
			break
		}
	}
	for err == nil && r.data != "" {
		if err = r.next(); len(r.open) > most {
			err = fmt.Errorf("it is nested more than %d deep", most)
		}
	}
	switch {
	case err != nil:
	case len(r.open) > 0:
		err = errors.New("it ends within an element")
	case r.root == nil:
		err = errors.New("it has no element")
	default:
		return r.root, nil
	}
	line := 1 + strings.Count(all, "\n") - strings.Count(r.data, "\n")
	return nil, &Error{fmt.Sprintf("the XML cannot be read at line %d", line), shown(err.Error()), "mend it there, or download it again"}
}

// isXML tells whether a character may stand in XML (§2.2).
func isXML(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r != 0xfffe && r != 0xffff
}

// next reads a tag, or what is between two.
func (r *xmlReader) next() error {
	for _, kind := range []struct{ begin, end string }{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}, {"<!DOCTYPE", ">"}, {"</", ">"}} {
		rest, ok := strings.CutPrefix(r.data, kind.begin)
		if !ok {
			continue
		}
		text, rest, ok := strings.Cut(rest, kind.end)
		if !ok {
			return errors.New("it ends within a tag")
		}
		r.data = rest
		return r.special(kind.begin, text)
	}
	if rest, ok := strings.CutPrefix(r.data, "<"); ok {
		r.data = rest
		return r.tag()
	}
	n := strings.IndexByte(r.data, '<')
	if n < 0 {
		n = len(r.data)
	}
	text := r.data[:n]
	r.data = r.data[n:]
	if strings.Contains(text, "]]>") {
		return errors.New("]]> stands in a text")
	}
	return r.chars(text, true)
}

// chars adds to the text of the element that is open.
func (r *xmlReader) chars(text string, escaped bool) error {
	if len(r.open) == 0 {
		if strings.Trim(text, " \t\n") != "" || !escaped {
			return errors.New("text stands outside of all elements")
		}
		return nil
	}
	if escaped {
		var err error
		if text, err = unescapeXML(text); err != nil {
			return err
		}
	}
	r.open[len(r.open)-1].text.WriteString(text)
	return nil
}

// special reads what is no tag that begins an element.
func (r *xmlReader) special(begin, text string) error {
	switch begin {
	case "<!--":
		if strings.Contains(text, "--") || strings.HasSuffix(text, "-") {
			return errors.New("a comment has -- in it")
		}
	case "<![CDATA[":
		return r.chars(text, false)
	case "<?":
		word, rest, _ := strings.Cut(text, " ")
		if low := strings.ToLower(rest); word == "xml" && (r.root != nil || strings.Contains(low, "encoding") && !strings.Contains(low, `"utf-8"`) && !strings.Contains(low, "'utf-8'") || !strings.Contains(low, "1.0")) {
			return errors.New("it is not XML 1.0 in UTF-8")
		}
		if name, _, ok := cutName(text); !ok || len(r.open) > 0 || name != word {
			return errors.New("it has an instruction for another program")
		}
	case "<!DOCTYPE":
		if r.root != nil || strings.ContainsAny(text, "[<") || strings.Count(text, `"`)%2 != 0 || strings.Contains(text, "'") {
			return errors.New("it has a document type of its own, with which it could become anything")
		}
	case "</":
		name := strings.TrimRight(text, " \t\n")
		if len(r.open) == 0 || r.open[len(r.open)-1].name != name {
			return fmt.Errorf("%s is closed and was not opened", quoted(name))
		}
		r.open = r.open[:len(r.open)-1]
	}
	return nil
}

// tag reads the tag that begins an element.
func (r *xmlReader) tag() error {
	name, rest, ok := cutName(r.data)
	if r.count++; !ok || r.count > maxElements {
		return errors.New("there is a tag without a name, or there are too many")
	}
	e := &element{name: name, attributes: map[string]string{}}
	switch {
	case len(r.open) > 0:
		parent := r.open[len(r.open)-1]
		parent.in = append(parent.in, e)
	case r.root != nil:
		return errors.New("there are two outer elements")
	default:
		r.root = e
	}
	for {
		spaced := strings.TrimLeft(rest, " \t\n")
		if r.data, ok = strings.CutPrefix(spaced, "/>"); ok {
			return nil
		}
		if r.data, ok = strings.CutPrefix(spaced, ">"); ok {
			r.open = append(r.open, e)
			return nil
		}
		key, after, ok := cutName(spaced)
		if !ok || spaced == rest {
			return fmt.Errorf("the tag %s is broken", quoted(name))
		}
		after, ok = strings.CutPrefix(strings.TrimLeft(after, " \t\n"), "=")
		after = strings.TrimLeft(after, " \t\n")
		if !ok || after == "" || after[0] != '"' && after[0] != '\'' {
			return fmt.Errorf("the attribute %s is broken", quoted(key))
		}
		value, end, ok := strings.Cut(after[1:], after[:1])
		if _, twice := e.attributes[key]; !ok || twice || strings.Contains(value, "<") {
			return fmt.Errorf("the attribute %s is broken", quoted(key))
		}
		var err error
		if e.attributes[key], err = unescapeXML(value); err != nil {
			return err
		}
		rest = end
	}
}

// cutName takes a name off a text; of XML's names those in ASCII are known.
func cutName(text string) (name, rest string, ok bool) {
	n := strings.IndexFunc(text, func(r rune) bool {
		return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' && r != '.'
	})
	if n < 0 {
		n = len(text)
	}
	return text[:n], text[n:], n > 0 && (unicode.IsLetter(rune(text[0])) || text[0] == '_')
}

// unescapeXML puts the characters in that references stand for.
func unescapeXML(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "&")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		word, after, ok := strings.Cut(rest, ";")
		text = after
		if c := map[string]rune{"lt": '<', "gt": '>', "amp": '&', "apos": '\'', "quot": '"'}[word]; ok && c != 0 {
			b.WriteRune(c)
			continue
		}
		digits, numbered := strings.CutPrefix(word, "#")
		base := 10
		if hexadecimal, ok := strings.CutPrefix(digits, "x"); ok {
			digits, base = hexadecimal, 16
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if !ok || !numbered || err != nil || n > unicode.MaxRune || !utf8.ValidRune(rune(n)) || !isXML(rune(n)) {
			return "", errors.New("it has a reference that XML itself does not know")
		}
		b.WriteRune(rune(n))
	}
}
