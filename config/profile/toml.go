package profile

import (
	"encoding"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"martlet/config"
)

// TOML writes the configuration, with the notes as comments. Its relative paths are those of
// Files. It passes config.Parse where they stand in the folder that is given there, and where no
// note is Needed. The error is an *Error.
func (i *Imported) TOML() ([]byte, error) {
	var w writer
	from := "# Imported from " + i.Format
	if i.name != "" {
		from = "# Imported from " + i.name + " (" + i.Format + ")"
	}
	w.line(from + ".")
	if i.Signed != "" {
		w.line("# " + i.Signed + ".")
	}
	w.notes("To be done before this works:", i.Notes, true)
	w.notes("Not carried over, or changed:", i.Notes, false)
	for _, c := range i.Connections {
		w.table(reflect.ValueOf(*c), "connection."+key(c.Name), true)
	}
	for _, p := range i.Pools {
		w.table(reflect.ValueOf(*p), "pool."+key(p.Name), true)
	}
	for _, u := range i.Users {
		w.table(reflect.ValueOf(*u), "user."+key(u.Name), true)
	}
	if w.Len() > maxSize {
		return nil, &Error{"the configuration is too large", fmt.Sprintf("it has %d octets, and a configuration may have %d", w.Len(), maxSize), "import less at once"}
	}
	return []byte(w.String()), nil
}

// writer writes structs by the toml tags of their fields.
type writer struct{ strings.Builder }

func (w *writer) line(text string) { w.WriteString(oneLine(text) + "\n") }

func (w *writer) notes(title string, notes []Note, needed bool) {
	for _, n := range notes {
		if n.Needed != needed {
			continue
		}
		if title != "" {
			w.line("#")
			w.line("# " + title)
			title = ""
		}
		w.line("#   " + n.String())
	}
}

// table writes a table with those of its keys that are set, and the tables in it. An empty one is
// written only if it must be there.
func (w *writer) table(v reflect.Value, path string, must bool) {
	var lines []string
	var tables []func()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		field := v.Field(i)
		if name == "" || name == "-" || field.IsZero() {
			continue
		}
		switch {
		case isTable(field):
			tables = append(tables, func() { w.table(field, path+"."+name, false) })
		case field.Kind() == reflect.Map:
			tables = append(tables, func() {
				for _, k := range slices.Sorted(maps.Keys(asMap(field))) {
					w.table(asMap(field)[k], path+"."+name+"."+key(k), true)
				}
			})
		default:
			if text := literal(field); text != "" {
				lines = append(lines, name+" = "+text)
			}
		}
	}
	if len(lines) > 0 || must {
		w.line("")
		w.line("[" + path + "]")
	}
	for _, l := range lines {
		w.line(l)
	}
	for _, t := range tables {
		t()
	}
}

func isTable(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	switch v.Interface().(type) {
	case config.Secret, config.Routes, netip.Addr, netip.Prefix:
		return false
	}
	return true
}

// asMap is a map of pointers to tables.
func asMap(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for it := v.MapRange(); it.Next(); {
		out[it.Key().String()] = it.Value().Elem()
	}
	return out
}

// literal writes a value, and nothing where the default is meant.
func literal(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case config.Secret:
		if x.Source == "" {
			return ""
		}
		return quote(x.Source)
	case config.Routes:
		switch {
		case x.None:
			return quote("none")
		case len(x.List) > 0:
			return literal(reflect.ValueOf(x.List))
		}
		return ""
	case config.Duration:
		return quote(short(x))
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return quote(string(text))
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Slice:
		var all []string
		for i := range v.Len() {
			all = append(all, literal(v.Index(i)))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// short writes 19h12m instead of 19h12m0s.
func short(d config.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// key writes a name as TOML wants it.
func key(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
	}) {
		return quote(name)
	}
	return name
}

// quote writes a basic string of TOML.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r <= 0xffff && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
