package config

import (
	"cmp"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// systems are those with defaults of their own, whose tags have the names that GOOS has.
var systems = []struct{ goos, name string }{
	{"darwin", "macOS"}, {"freebsd", "FreeBSD"}, {"openbsd", "OpenBSD"}, {"windows", "Windows"},
}

// defaultOf is the default of a tag on a system.
func defaultOf(tag reflect.StructTag, goos string) string {
	return cmp.Or(tag.Get(goos), tag.Get("default"))
}

// fillZero gives the zero fields of a struct the defaults of their tags, other than those
// whose zero means something of its own.
func fillZero(v reflect.Value) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		def := defaultOf(tag, runtime.GOOS)
		if def != "" && tag.Get("zero") != "kept" && v.Field(i).IsZero() {
			setDefault(v.Field(i), def)
		}
	}
}

// inRanges checks the numbers of a struct against their range tags.
func (f *faults) inRanges(v reflect.Value, path string) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		f.inRange(v.Field(i), tag.Get("range"), join(path, tag.Get("toml")))
	}
}

// inRange checks a number against its range tag: "0,64..65536" allows 0, and 64 to
// 65536.
func (f *faults) inRange(v reflect.Value, tag, path string) {
	if tag == "" || f.has(path) {
		return
	}
	var n int64
	if v.CanInt() {
		n = v.Int()
	} else {
		n = int64(v.Uint())
	}
	for part := range strings.SplitSeq(tag, ",") {
		low, high, ok := strings.Cut(part, "..")
		if !ok {
			high = low
		}
		from, _ := strconv.ParseInt(low, 0, 64)
		to, _ := strconv.ParseInt(high, 0, 64)
		if n >= from && n <= to {
			return
		}
	}
	f.add(path, fmt.Sprintf("expected %s, got %d", rangeWords(tag), n), "")
}

// rangeWords writes a range tag for people.
func rangeWords(tag string) string {
	parts := strings.Split(strings.ReplaceAll(tag, "..", " to "), ",")
	return strings.Join(parts, " or ")
}

// setDefault sets v from a default tag, which is ours and so cannot be wrong: what
// is not as the tests have seen it panics there.
func setDefault(v reflect.Value, def string) {
	d := decoder{faults: newFaults("", "")}
	val := &value{kind: unstable.String, text: def}
	switch {
	case v.Kind() == reflect.Slice:
		t, _ := readTOML([]byte("x = "+def), d.faults)
		val = t.vals["x"]
	case v.Type() != typeOf[Duration]() && (v.CanInt() || v.CanUint()):
		val.kind = unstable.Integer
	}
	if val != nil {
		d.value(v, val, "default")
	}
	if err := d.err(); err != nil {
		panic(err)
	}
}
