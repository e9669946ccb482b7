package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// decoder fills a Config from tables by the toml and default tags of its fields, and
// notes every key that does not fit.
type decoder struct {
	*faults
	env   func(string) (string, bool)
	asked map[string]bool // what env was asked for
	// exposed says why no secret may stand in the file itself; empty if one may.
	exposed string
}

// table fills the struct v from t. A nil t stands for a table that is not there.
func (d *decoder) table(v reflect.Value, t *table, path string) {
	known := map[string]bool{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		known[key] = true
		var val *value
		if t != nil {
			val = t.vals[key]
		}
		if val == nil {
			d.absent(v.Field(i), defaultOf(field.Tag, runtime.GOOS), join(path, key))
			continue
		}
		d.value(v.Field(i), val, join(path, key))
		d.inRange(v.Field(i), field.Tag.Get("range"), join(path, key))
	}
	if t == nil {
		return
	}
	for _, key := range t.keys {
		if !known[key] {
			d.unknown(v.Type(), t.vals[key].at, path, key)
		}
	}
}

// absent gives a key that the file does not have its default.
func (d *decoder) absent(v reflect.Value, def, path string) {
	switch {
	case v.Type() == typeOf[Secret](), v.Type() == typeOf[Routes](), v.Type() == typeOf[netip.Addr]():
		if def != "" {
			d.setText(v, def, path)
		}
	case v.Kind() == reflect.Struct:
		d.table(v, nil, path)
	case def != "":
		setDefault(v, def)
	}
}

// value sets v from a value of the file.
func (d *decoder) value(v reflect.Value, val *value, path string) {
	switch v.Type() {
	case typeOf[Secret]():
		d.secret(v, val, path)
		return
	case typeOf[Routes]():
		d.routes(v, val, path)
		return
	case typeOf[netip.Addr]():
		d.text(v, val, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if val.table == nil {
			d.mismatch(val, path, "a table", "["+path+"]")
			d.spoilt[path] = true
			return
		}
		d.table(v, val.table, path)
	case reflect.Map:
		d.tables(v, val, path)
	case reflect.Slice:
		d.list(v, val, path)
	case reflect.Bool:
		if val.kind != unstable.Bool {
			d.mismatch(val, path, "true or false", "")
			return
		}
		v.SetBool(val.text == "true")
	case reflect.String:
		d.text(v, val, path)
	case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.integer(v, val, path)
	default:
		d.text(v, val, path)
	}
}

// tables fills a map of tables by name.
func (d *decoder) tables(v reflect.Value, val *value, path string) {
	if val.table == nil {
		d.mismatch(val, path, "tables with names", "["+path+".NAME]")
		d.spoilt[path] = true
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range val.table.keys {
		element, p := reflect.New(v.Type().Elem().Elem()), join(path, name)
		named := val.table.vals[name]
		if named.table == nil {
			// A key right in [connection] is more likely one that lacks the name.
			d.addAt(named.at, p, "expected a table with a name, got "+named.what(), "begin with ["+path+".NAME]")
			continue
		}
		element.Elem().FieldByName("Name").SetString(name)
		d.table(element.Elem(), named.table, p)
		v.SetMapIndex(reflect.ValueOf(name), element)
	}
}

// list fills a slice.
func (d *decoder) list(v reflect.Value, val *value, path string) {
	if val.kind != unstable.Array {
		hint := ""
		if val.kind == unstable.String {
			hint = "put brackets around it"
		}
		d.mismatch(val, path, "a list", hint)
		return
	}
	if len(val.list) == 0 {
		d.add(path, "the list is empty", "leave the key out instead")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(val.list), len(val.list)))
	for i, element := range val.list {
		d.text(v.Index(i), element, index(path, i))
	}
}

// text sets v from a string.
func (d *decoder) text(v reflect.Value, val *value, path string) {
	if val.kind != unstable.String {
		hint := ""
		if val.kind != unstable.Array && val.kind != unstable.InlineTable && val.kind != unstable.Table {
			hint = "put quotes around it"
			if v.Type() == typeOf[Duration]() {
				hint = `write it as "30s", "5m" or "1h30m"`
			}
		}
		d.mismatch(val, path, "a string", hint)
		return
	}
	d.setText(v, val.text, path)
}

// setText sets v, of a type that is written as a string.
func (d *decoder) setText(v reflect.Value, text, path string) {
	switch v.Type() {
	case typeOf[netip.Prefix]():
		p, err := parsePrefix(text)
		if err != nil {
			d.fault(path, err)
			return
		}
		v.Set(reflect.ValueOf(p))
		return
	case typeOf[netip.Addr]():
		a, err := netip.ParseAddr(text)
		if err != nil {
			d.add(path, fmt.Sprintf("expected an IP address, got %q", text), "")
			return
		}
		v.Set(reflect.ValueOf(a.Unmap()))
		return
	}
	if v.Kind() == reflect.String {
		if text == "" {
			d.add(path, "the text is empty", "leave the key out instead")
		}
		v.SetString(text)
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		d.fault(path, err)
	}
}

// integer sets v from an integer.
func (d *decoder) integer(v reflect.Value, val *value, path string) {
	if val.kind != unstable.Integer {
		hint := ""
		if val.kind == unstable.String {
			hint = "write the number without quotes"
		}
		d.mismatch(val, path, "an integer", hint)
		return
	}
	n, err := strconv.ParseInt(val.text, 0, 64)
	switch {
	case err != nil:
		d.add(path, "the number is too large", "")
	case v.CanInt():
		v.SetInt(n)
	case n < 0 || v.OverflowUint(uint64(n)):
		d.add(path, fmt.Sprintf("expected a number from 0 to %d, got %d", uint64(1)<<v.Type().Bits()-1, n), "")
	default:
		v.SetUint(uint64(n))
	}
}

// secret sets v, a Secret, from a string. No fault shows what the file has there.
func (d *decoder) secret(v reflect.Value, val *value, path string) {
	if val.kind != unstable.String {
		d.mismatch(val, path, "a string", "put quotes around it")
		return
	}
	s, err := parseSecret(d.origin.reader(), val.text, d.origin.folderOf(val.at), d.variable)
	if err != nil {
		d.fault(path, err)
		return
	}
	if s.Source == inPlace {
		name, variable := strings.CutPrefix(val.at.from, fromVariables+" ")
		switch {
		case variable:
			s.Source = "env:" + name
		case val.at.from == fromFlag:
			d.add(path, "everybody who lists the processes of this host sees the secret", "write file:PATH or env:NAME behind the =")
		case d.exposed != "":
			d.add(path, "the secret stands in a file that "+d.exposed, "chmod 600 the file, or name another one with \"file:PATH\"")
		}
	}
	v.Set(reflect.ValueOf(s))
}

// variable looks up what "env:NAME" stands for.
func (d *decoder) variable(name string) (string, bool) {
	d.asked[name] = true
	if d.env == nil {
		return "", false
	}
	return d.env(name)
}

// routes sets v, Routes, from a string or a list.
func (d *decoder) routes(v reflect.Value, val *value, path string) {
	switch val.kind {
	case unstable.String:
		d.setText(v, val.text, path)
	case unstable.Array:
		if len(val.list) == 0 {
			d.add(path, "the list is empty", `write "none" for no routes`)
			return
		}
		var r Routes
		d.list(reflect.ValueOf(&r.List).Elem(), val, path)
		v.Set(reflect.ValueOf(r))
	default:
		d.mismatch(val, path, `"selectors", "none" or a list of prefixes`, "")
	}
}

func (d *decoder) mismatch(val *value, path, expected, hint string) {
	d.addAt(val.at, path, "expected "+expected+", got "+val.what(), hint)
}

// what names the kind of a value, never its contents.
func (v *value) what() string {
	switch v.kind {
	case unstable.String:
		return "a string"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer:
		return "an integer"
	case unstable.Float:
		return "a fraction"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable, unstable.Table:
		return "a table"
	}
	return "a date or time"
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// UnmarshalText reads "30s", "5m" or "1h30m"; "0s" gives Never.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return hinted(fmt.Sprintf("expected a duration, got %q", text), `write it as "30s", "5m" or "1h30m"; "0s" is never`)
	}
	*d = Duration(v)
	if v == 0 {
		*d = Never
	}
	return nil
}

// String writes d as a file has it.
func (d Duration) String() string {
	if d < 0 {
		return "0s"
	}
	return time.Duration(d).String()
}

// MarshalText writes d as a file has it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "selectors" or "none".
func (r *Routes) UnmarshalText(text []byte) error {
	switch string(text) {
	case "selectors":
		*r = Routes{Selectors: true}
	case "none":
		*r = Routes{None: true}
	default:
		hint := ""
		if _, err := parsePrefix(string(text)); err == nil {
			hint = "put brackets around it"
		}
		return hinted(fmt.Sprintf(`expected "selectors", "none" or a list of prefixes, got %q`, text), hint)
	}
	return nil
}
