package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// A variable is called as the key's path, in capitals and with "_" for ".": MARTLET_NODE_MTU,
// MARTLET_CONNECTION_OFFICE_LOCAL_SECRET. Names (OFFICE) are those of tables that are there
// already, of the file, of Set or of other variables, if they read the same in capitals with "_"
// for what is neither letter nor digit; else they are the text in small letters. Since a name may
// have "_" in it, there may be several readings of a variable. One whose names are all there counts
// most, then the one of which more names are there, then the one with the shortest first name. Two
// whose names are all there, or are as long, are a fault.
const variablePrefix = "MARTLET_"

// maxVariable bounds the name of a variable, in octets: names of tables have 64 at most.
const maxVariable = 256

// notKeys are variables that begin as keys do and are none.
var notKeys = []string{
	"MARTLET_CONFIG",   // the path of the file, for commands
	"MARTLET_PROFILES", // the folder of profiles, for commands
	// Of the project's own tests, which start commands with their environment.
	"MARTLET_LONG", "MARTLET_SEED", "MARTLET_SESSIONS", "MARTLET_VECTORS",
}

// serviceLink matches NAME=VALUE as Kubernetes sets it, in every container of a namespace, for a
// Service whose name is martlet or begins with martlet-. That must keep no container from starting.
var serviceLink = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^MARTLET_(\w+_)?(SERVICE_HOST=[\da-f.:]+|SERVICE_PORT(_\w+)?=\d+|` +
		`PORT(_\d+_[A-Z]+)?=[a-z]+://\S+|PORT_\d+_[A-Z]+_(PROTO=[a-z]+|PORT=\d+|ADDR=[\da-f.:]+))$`)
})

// inCapitals writes a key or a name as variables have it.
func inCapitals(key string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return '_'
		}
		return unicode.ToUpper(r)
	}, key)
}

// keyVariable returns the part of a variable's name behind MARTLET_, and whether it may be that
// of a key.
func keyVariable(name string) (string, bool) {
	if runtime.GOOS == "windows" {
		name = strings.ToUpper(name) // there case does not count
	}
	rest, ok := strings.CutPrefix(name, variablePrefix)
	return rest, ok && !slices.Contains(notKeys, name) && !strings.HasPrefix(name, variablePrefix+"TEST_")
}

// holdsSecret tells whether a variable's value is a secret under any reading of its name.
func holdsSecret(name string) bool {
	rest, ok := keyVariable(name)
	return ok && slices.ContainsFunc(readings(rest, nil), func(r reading) bool { return r.typ == typeOf[Secret]() && !r.inFile })
}

// reading is a key that a variable may stand for.
type reading struct {
	path   []string
	typ    reflect.Type
	inFile bool  // the value is the path of a file with the secret
	fresh  int   // how many names in path are new
	names  []int // their lengths
}

// compare is negative if r counts more than other, and 0 if none does.
func (r reading) compare(other reading) int {
	switch {
	case r.fresh == 0 && other.fresh == 0:
		return 0
	case r.fresh == 0:
		return -1
	case other.fresh == 0:
		return 1
	}
	known, others := len(r.names)-r.fresh, len(other.names)-other.fresh
	return cmp.Or(cmp.Compare(others, known), slices.Compare(r.names, other.names))
}

// readings lists the keys that the part of a variable's name behind MARTLET_ may stand for, the
// ones that count first. root has the tables that are there; nil has none.
func readings(rest string, root *table) []reading {
	if len(rest) > maxVariable {
		return nil
	}
	var all []reading
	readTable(typeOf[Config](), rest, root, reading{}, &all)
	sort.SliceStable(all, func(i, j int) bool { return all[i].compare(all[j]) < 0 })
	return all
}

// readTable adds the keys below a table of type t, which is at if it is there, that rest may stand
// for.
func readTable(t reflect.Type, rest string, at *table, so reading, all *[]reading) {
	for field := range t.Fields() {
		key := field.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		tail, ok := strings.CutPrefix(rest, inCapitals(key))
		if !ok {
			continue
		}
		here := so.with(key, 0, nil)
		here.typ = field.Type
		below, deeper := strings.CutPrefix(tail, "_")
		switch {
		case tail == "" && !isTable(field.Type):
			*all = append(*all, here)
		case tail == "_FILE" && field.Type == typeOf[Secret]():
			here.inFile = true
			*all = append(*all, here)
		case deeper && field.Type.Kind() == reflect.Map:
			readNamed(field.Type.Elem().Elem(), below, at.table(key), here, all)
		case deeper && isTable(field.Type):
			readTable(field.Type, below, at.table(key), here, all)
		}
	}
}

// readNamed is readTable where rest begins with the name of a table.
func readNamed(t reflect.Type, rest string, at *table, so reading, all *[]reading) {
	for i := range len(rest) {
		if rest[i] != '_' || i == 0 {
			continue
		}
		name, below := rest[:i], rest[i+1:]
		known := false
		for _, have := range at.names() {
			if inCapitals(have) == name {
				known = true
				readTable(t, below, at.table(have), so.with(have, 0, []int{i}), all)
			}
		}
		if !known {
			readTable(t, below, nil, so.with(strings.ToLower(name), 1, []int{i}), all)
		}
	}
}

// with is r with one more key.
func (r reading) with(key string, fresh int, names []int) reading {
	r.path = append(slices.Clone(r.path), key)
	r.fresh += fresh
	r.names = slices.Concat(r.names, names)
	return r
}

// key is the dotted path.
func (r reading) key() string {
	path := ""
	for _, key := range r.path {
		path = join(path, key)
	}
	return path
}

// table returns a table within t, nil if it is not there.
func (t *table) table(key string) *table {
	if t == nil || t.vals[key] == nil {
		return nil
	}
	return t.vals[key].table
}

// names returns the keys of the tables within t.
func (t *table) names() []string {
	if t == nil {
		return nil
	}
	var out []string
	for _, key := range t.keys {
		if t.vals[key].table != nil {
			out = append(out, key)
		}
	}
	return out
}

// variable is one of the environment that may stand for a key.
type variable struct {
	name, rest, val string
}

// place names a variable in faults.
func (v variable) place() position {
	name := v.name
	if !isBare(name) {
		name = strconv.Quote(name)
	}
	return position{from: fromVariables + " " + name}
}

// variables returns those that may be keys, in the order of their names, without empty ones: a
// compose file that passes a variable on which is not set sets it to "".
func (s *Source) variables() []variable {
	last := map[string]variable{}
	for _, entry := range s.Env {
		name, val, _ := strings.Cut(entry, "=")
		if rest, ok := keyVariable(name); ok {
			last[rest] = variable{name, rest, val}
		}
	}
	var out []variable
	for _, v := range last {
		if v.val != "" {
			out = append(out, v)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].rest < out[j].rest })
	return out
}

// ambiguous notes a variable with two readings of which none is better.
func (f *faults) ambiguous(v variable, a, b reading) {
	f.addAt(v.place(), "", fmt.Sprintf("may be %s or %s", a.key(), b.key()), "use the file or --set, or rename one of the tables")
}
