package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

const (
	// maxSize bounds a configuration and every file that it names, in octets.
	maxSize = 1 << 20
	// maxDepth bounds nested lists and tables; no key needs more than five.
	maxDepth = 16
	// maxSyntaxFaults bounds how often a broken text is read again for more faults.
	maxSyntaxFaults = 10
)

// table is a TOML table with the order and the places of its keys.
type table struct {
	at   position
	keys []string
	vals map[string]*value

	header  bool // stands in brackets, so it may not do so again
	closed  bool // is inline, so nothing may be added
	section int  // the section in which dotted keys made it; 0: they did not
}

// value is a value: a table, a list or a scalar as the file has it.
type value struct {
	at    position
	kind  unstable.Kind
	text  string // of a string its contents, of other scalars as written
	list  []*value
	table *table
}

func newTable(at position) *table { return &table{at: at, vals: map[string]*value{}} }

func (t *table) set(key string, v *value) {
	t.keys = append(t.keys, key)
	t.vals[key] = v
}

// reader turns a text into tables and notes every fault of its syntax.
type reader struct {
	*faults
	data    []byte
	lines   []int // the offset of each line
	parser  unstable.Parser
	root    *table
	current *table
	prefix  string // path of current
	// Dotted keys may add to a table only within the section (what follows a
	// header, or an inline table) that began it. Sections count from 1.
	section, sections int

	partial bool // something of the text is not in the tables
}

// readTOML parses data. Where part of it could not be understood, whole is false and the
// tables lack it.
func readTOML(data []byte, f *faults) (root *table, whole bool) {
	r := &reader{faults: f, root: newTable(position{line: 1, column: 1}), section: 1, sections: 1}
	for i := 0; i <= len(data); {
		r.lines = append(r.lines, i)
		n := slices.Index(data[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
	}
	r.data = slices.Clone(data)
	if i := invalidUTF8(data); i >= 0 {
		r.addAt(r.position(i), "", "the text is not UTF-8", "save the file as UTF-8")
		return r.root, false
	}
	for range maxSyntaxFaults {
		if r.checkSyntax() {
			break
		}
	}
	r.partial = len(f.errs) > 0
	r.build()
	return r.root, !r.partial
}

// checkSyntax parses the text. At a fault it notes it and blanks what it concerns, so
// that the next call finds the next one; true means that the text parses now.
func (r *reader) checkSyntax() bool {
	r.parser.Reset(r.data)
	end := 0 // of the last expression that was understood
	for r.parser.NextExpression() {
		end = r.expressionEnd()
	}
	perr, ok := errors.AsType[*unstable.ParserError](r.parser.Error())
	if !ok {
		return true
	}
	offset := len(r.data)
	if cap(perr.Highlight) > 0 {
		offset = min(offset, int(r.parser.Range(perr.Highlight).Offset))
	}
	r.addAt(r.position(offset), "", perr.Message, syntaxHint(perr.Message))

	start := r.nextExpression(end)
	first := r.lineOf(start)
	if first != r.lineOf(offset) {
		// The expression spans lines: where it should have ended nobody knows.
		r.blank(start, len(r.data))
		return true
	}
	last := first + 1
	if start < len(r.data) && r.data[start] == '[' {
		// Without its header, what follows would be read as part of another table.
		for last < len(r.lines) && !strings.HasPrefix(strings.TrimLeft(string(r.line(last)), " \t"), "[") {
			last++
		}
	}
	r.blank(start, r.lineStart(last))
	return false
}

func syntaxHint(message string) string {
	switch {
	case strings.Contains(message, "start of value"):
		return `text stands in quotes: key = "value"`
	case strings.Contains(message, "expected '='"):
		return "a line is: key = value"
	}
	return ""
}

// checkStrictly has a text in which no fault was found decoded by the library as well: it
// knows rules of TOML (leading zeros) that concern no key of ours.
func (f *faults) checkStrictly(data []byte) {
	var all map[string]any
	err := toml.Unmarshal(data, &all)
	if err == nil {
		return
	}
	at := position{}
	if d, ok := errors.AsType[*toml.DecodeError](err); ok {
		at.line, at.column = d.Position()
	}
	f.addAt(at, "", strings.TrimPrefix(err.Error(), "toml: "), "")
}

// build makes tables of a text whose syntax is right.
func (r *reader) build() {
	r.current = r.root
	r.parser.Reset(r.data)
	for r.parser.NextExpression() {
		switch e := r.parser.Expression(); e.Kind {
		case unstable.Table:
			r.openTable(e)
		case unstable.ArrayTable:
			keys, at := r.keys(e.Key())
			r.addAt(at[0], strings.Join(keys, "."), "there are no lists of tables here",
				"write the header with one pair of brackets: ["+strings.Join(keys, ".")+"]")
			r.current, r.prefix, r.partial = newTable(at[0]), "", true
		case unstable.KeyValue:
			r.keyValue(r.current, r.prefix, e, 0)
		}
	}
}

// openTable makes the table of a header the current one.
func (r *reader) openTable(e *unstable.Node) {
	keys, at := r.keys(e.Key())
	r.sections++
	r.section = r.sections
	t, path := r.root, ""
	for i, key := range keys {
		path = join(path, key)
		v, last := t.vals[key], i == len(keys)-1
		switch {
		case v == nil:
			v = &value{at: at[0], kind: unstable.Table, table: newTable(at[0])}
			t.set(key, v)
			r.origin.at[path] = at[0]
		case v.table == nil || v.table.closed,
			last && (v.table.header || v.table.section != 0):
			r.addAt(at[0], path, fmt.Sprintf("is given twice, first on line %d", v.at.line), "join the two or rename one")
			if v.table == nil {
				r.current, r.prefix = newTable(at[0]), path
				return
			}
			// What follows is read as part of the first one.
		}
		t = v.table
	}
	t.header, t.at = true, at[0]
	r.current, r.prefix = t, path
}

// keyValue puts a key with its value into a table.
func (r *reader) keyValue(t *table, path string, e *unstable.Node, depth int) {
	keys, at := r.keys(e.Key())
	for i, key := range keys[:len(keys)-1] {
		path = join(path, key)
		v := t.vals[key]
		if v == nil {
			v = &value{at: at[i], kind: unstable.Table, table: newTable(at[i])}
			v.table.section = r.section
			t.set(key, v)
			r.origin.at[path] = at[i]
		}
		if v.table == nil || v.table.section != r.section {
			r.addAt(at[i], path, fmt.Sprintf("is given twice, first on line %d", v.at.line), "join the two or rename one")
			return
		}
		t = v.table
	}
	key, place := keys[len(keys)-1], at[len(at)-1]
	path = join(path, key)
	if v := t.vals[key]; v != nil {
		r.addAt(place, path, fmt.Sprintf("is given twice, first on line %d", v.at.line), "remove one of them")
		return
	}
	r.origin.at[path] = place
	if v := r.value(e.Value(), path, place, depth); v != nil {
		t.set(key, v)
	}
}

// value reads a value; nil after a fault.
func (r *reader) value(n *unstable.Node, path string, at position, depth int) *value {
	v := &value{at: at, kind: n.Kind}
	if depth == maxDepth {
		r.addAt(at, path, fmt.Sprintf("lists and tables are nested more than %d deep", maxDepth), "")
		return nil
	}
	switch n.Kind {
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			child := it.Node()
			if child.Kind == unstable.Comment {
				continue
			}
			p, place := index(path, len(v.list)), at
			if child.Raw.Length > 0 {
				place = r.position(int(child.Raw.Offset))
			}
			r.origin.at[p] = place
			element := r.value(child, p, place, depth+1)
			if element == nil {
				return nil
			}
			v.list = append(v.list, element)
		}
	case unstable.InlineTable:
		v.table = newTable(at)
		outer := r.section
		r.sections++
		r.section = r.sections
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				r.keyValue(v.table, path, it.Node(), depth+1)
			}
		}
		v.table.closed, r.section = true, outer
	default:
		v.text = string(n.Data)
	}
	return v
}

// keys returns the parts of a dotted key, with the place of each.
func (r *reader) keys(it unstable.Iterator) (keys []string, at []position) {
	for it.Next() {
		keys = append(keys, string(it.Node().Data))
		at = append(at, r.position(int(it.Node().Raw.Offset)))
	}
	return keys, at
}

// expressionEnd returns an offset within or behind the last line of the expression
// that was just parsed.
func (r *reader) expressionEnd() int {
	e := r.parser.Expression()
	if e.Kind == unstable.KeyValue {
		return int(e.Raw.Offset + e.Raw.Length)
	}
	end := 0
	for it := e.Key(); it.Next(); {
		raw := it.Node().Raw
		end = int(raw.Offset + raw.Length)
	}
	return end
}

// nextExpression returns where the first expression behind the line of offset begins.
func (r *reader) nextExpression(offset int) int {
	line := r.lineOf(offset)
	if offset > 0 {
		line++
	}
	for ; line < len(r.lines); line++ {
		text := r.line(line)
		trimmed := strings.TrimLeft(string(text), " \t\r\n")
		if trimmed != "" && trimmed[0] != '#' {
			return r.lines[line] + len(text) - len(trimmed)
		}
	}
	return len(r.data)
}

// blank overwrites a part of the text with spaces and keeps its lines.
func (r *reader) blank(from, to int) {
	for i := from; i < to; i++ {
		if r.data[i] != '\n' {
			r.data[i] = ' '
		}
	}
}

// lineOf returns the number of the line of an offset, from 0.
func (r *reader) lineOf(offset int) int {
	return sort.Search(len(r.lines), func(i int) bool { return r.lines[i] > offset }) - 1
}

func (r *reader) lineStart(line int) int {
	if line < len(r.lines) {
		return r.lines[line]
	}
	return len(r.data)
}

func (r *reader) line(line int) []byte { return r.data[r.lines[line]:r.lineStart(line+1)] }

func (r *reader) position(offset int) position {
	line := r.lineOf(offset)
	return position{line: line + 1, column: utf8.RuneCount(r.data[r.lines[line]:offset]) + 1}
}

// invalidUTF8 returns the offset of the first octet that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
