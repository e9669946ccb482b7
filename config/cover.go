package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// cover puts what Env and Set have over the tables of the file, as if it stood there, so that all
// checks are the same. It returns the variables that are no key.
func (s *Source) cover(root *table, f *faults) (strangers []variable) {
	for _, text := range s.Set {
		f.set(root, text)
	}
	var several []variable
	given := map[string]variable{} // by the key
	put := func(v variable) {
		all := readings(v.rest, root)
		if len(all) > 1 && all[0].compare(all[1]) == 0 {
			f.ambiguous(v, all[0], all[1])
			return
		}
		r := all[0]
		if other, ok := given[r.key()]; ok {
			f.addAt(v.place(), r.key(), "is given twice, by "+other.name+" too", "unset one of them")
			return
		}
		given[r.key()] = v
		text := v.val
		if r.inFile {
			text = "file:" + text
		}
		f.put(root, r.path, r.typ, text, v.place())
	}
	for _, v := range s.variables() {
		switch len(readings(v.rest, nil)) {
		case 0:
			strangers = append(strangers, v)
		case 1:
			put(v)
		default:
			// Names that others have count.
			several = append(several, v)
		}
	}
	for _, v := range several {
		put(v)
	}
	return strangers
}

// set puts a setting over the tables.
func (f *faults) set(root *table, text string) {
	at := position{from: fromFlag}
	path, val, ok := cutSetting(text)
	if !ok {
		f.addAt(at, beginning(text), "is not KEY=VALUE", "node.mtu=1400 for example; the KEY is dotted, as headers and keys of the file are")
		return
	}
	t, here := typeOf[Config](), ""
	for _, key := range path {
		switch {
		case t.Kind() == reflect.Map:
			t = t.Elem().Elem()
		case isTable(t):
			field, ok := fieldOf(t, key)
			if !ok {
				f.unknown(t, at, here, key)
				return
			}
			t = field.Type
		default:
			f.addAt(at, here, "has no keys within it", "leave "+join("", key)+" out")
			return
		}
		here = join(here, key)
	}
	if isTable(t) {
		f.addAt(at, here, "is a table", "set one of its keys: "+here+".KEY=VALUE")
		return
	}
	f.put(root, path, t, val, at)
}

// beginning is as much of a setting that is wrong as is a key for sure: what follows, or all of it,
// may be a secret.
func beginning(text string) string {
	if end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && !isBare(string(r)) }); end >= 0 {
		text = text[:end]
	}
	if first, _, _ := strings.Cut(text, "."); !slices.Contains(keysOf(typeOf[Config]()), first) {
		return ""
	}
	return text
}

// fieldOf returns the field of a table that has a key.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for field := range t.Fields() {
		if tag := field.Tag.Get("toml"); tag == key && tag != "" && tag != "-" {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

// cutSetting cuts KEY=VALUE. An equals sign may stand within quotes of the key.
func cutSetting(text string) (path []string, val string, ok bool) {
	const most = 8 // equals signs to try
	end := 0
	for range most {
		n := strings.IndexByte(text[end:], '=')
		if n < 0 {
			return nil, "", false
		}
		end += n
		if path := dottedKey(text[:end]); path != nil {
			return path, text[end+1:], true
		}
		end++
	}
	return nil, "", false
}

// dottedKey returns the parts of a dotted key; nil if text is none.
func dottedKey(text string) []string {
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	var p unstable.Parser
	p.Reset([]byte(text + "=0"))
	if !p.NextExpression() || p.Expression().Kind != unstable.KeyValue {
		return nil
	}
	var path []string
	for it := p.Expression().Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
	}
	if p.NextExpression() || p.Error() != nil || len(path) > maxDepth {
		return nil
	}
	return path
}

// put gives a key, of type t, the value that text stands for. A key that --set has given counts
// more than a variable.
func (f *faults) put(root *table, path []string, t reflect.Type, text string, at position) {
	around, here := root, ""
	for _, key := range path[:len(path)-1] {
		here = join(here, key)
		v := around.vals[key]
		if v == nil {
			made := position{from: fromVariables}
			if at.from == fromFlag {
				made = at
			}
			v = &value{at: made, kind: unstable.Table, table: newTable(made)}
			around.set(key, v)
			f.origin.at[here] = made
		}
		if v.table == nil {
			return // a fault of the file, which the decoder tells
		}
		around = v.table
	}
	key := path[len(path)-1]
	here = join(here, key)
	old := around.vals[key]
	if old != nil && old.at.from == fromFlag && at.from != fromFlag {
		return
	}
	v := f.valueOf(t, text, here, at)
	switch {
	case v == nil:
		f.spoilt[here] = true
		return
	case old == nil:
		around.set(key, v)
	default:
		around.vals[key] = v
		for i := range old.list {
			delete(f.origin.at, index(here, i))
		}
	}
	f.origin.at[here] = at
}

// valueOf makes a value for a key of type t of the text of a variable or a setting; nil after a
// fault.
func (f *faults) valueOf(t reflect.Type, text, path string, at position) *value {
	v := &value{at: at, kind: unstable.String, text: text}
	if t == typeOf[Secret]() {
		return v
	}
	if !utf8.ValidString(text) {
		f.addAt(at, path, "the text is not UTF-8", "")
		return nil
	}
	list := t.Kind() == reflect.Slice || t == typeOf[Routes]() && strings.ContainsAny(text, "[./:,")
	scalar := t.Kind() == reflect.Bool || typeName(t) == "integer"
	switch {
	case list && strings.HasPrefix(strings.TrimSpace(text), "["):
		whole := tomlValue(text, at)
		if whole == nil || whole.kind != unstable.Array {
			f.addAt(at, path, "expected a list, got "+shorten(text), `["a", "b"], or a,b`)
			return nil
		}
		return whole
	case list:
		v.kind, v.text = unstable.Array, ""
		for part := range strings.SplitSeq(text, ",") {
			v.list = append(v.list, &value{at: at, kind: unstable.String, text: strings.TrimSpace(part)})
		}
		return v
	case scalar:
		if whole := tomlValue(text, at); whole != nil {
			return whole
		}
		expected := "an integer"
		if t.Kind() == reflect.Bool {
			expected = "true or false"
		}
		f.addAt(at, path, "expected "+expected+", got "+shorten(text), "")
		return nil
	}
	return v
}

// tomlValue reads text as one value of TOML; nil if it is none.
func tomlValue(text string, at position) *value {
	f := newFaults("", "")
	data := []byte("x = " + text)
	root, _ := readTOML(data, f)
	if f.checkStrictly(data); len(f.errs) > 0 || len(root.keys) != 1 || root.vals["x"] == nil {
		return nil
	}
	v := root.vals["x"]
	v.place(at)
	return v
}

// place says that a value with all in it came from at.
func (v *value) place(at position) {
	v.at = at
	for _, element := range v.list {
		element.place(at)
	}
}

// shorten quotes the beginning of a text.
func shorten(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}

// strangers notes the variables that are no key, and that no secret of "env:NAME" is.
func (f *faults) strangers(all []variable, asked map[string]bool, root *table) {
	for _, v := range all {
		if !asked[v.name] && !serviceLink().MatchString(v.name+"="+v.val) {
			f.stranger(v, root)
		}
	}
}
