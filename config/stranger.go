package config

import (
	"reflect"
	"slices"
	"strings"
)

// stranger notes a variable that is no key, with what was probably meant.
func (f *faults) stranger(v variable, root *table) {
	if rest, ok := strings.CutSuffix(v.rest, "_FILE"); ok {
		if r := readings(rest, root); len(r) > 0 {
			f.addAt(v.place(), r[0].key(), "only keys that hold a secret can be given as …_FILE", "set "+strings.TrimSuffix(v.name, "_FILE"))
			return
		}
	}
	if capitals := strings.ToUpper(v.rest); capitals != v.rest {
		if r := readings(capitals, root); len(r) > 0 {
			f.addAt(v.place(), r[0].key(), "variables of keys have capitals only", variablePrefix+capitals)
			return
		}
	}
	g := guess{typ: typeOf[Config](), key: strings.ToLower(v.rest)}
	if strings.Count(v.rest, "_") < maxWords && len(v.rest) <= maxVariable {
		g = guessAt(typeOf[Config](), v.rest, root, "")
	}
	if g.typ == nil || slices.Contains(keysOf(g.typ), g.key) {
		f.addAt(v.place(), join(g.path, g.key), "is a table and no key", "append _ and one of its keys")
		return
	}
	f.unknown(g.typ, v.place(), g.path, g.key)
}

// maxWords bounds the words of a variable for which is guessed what it means.
const maxWords = 16

// guess is where a variable leaves the keys that there are.
type guess struct {
	typ  reflect.Type // of the table; nil if the variable ends at the name of a table
	path string       // of the table
	key  string       // which the table does not have
	far  int          // how many letters it is from one that it has; guessNone if too many
}

// guessNone is more letters than a guess may be away.
const guessNone = 1 << 10

// guessAt guesses what rest means below the table at path, of type t, which is at if it is
// there.
func guessAt(t reflect.Type, rest string, at *table, path string) guess {
	best := guess{typ: t, path: path, key: strings.ToLower(rest)}
	best.far = distance(best.key, keysOf(t))
	if renamed, ok := foreign()[best.key]; ok && slices.Contains(keysOf(t), renamed.key) {
		best.far = 0
	}
	if word, _, ok := strings.Cut(best.key, "_"); ok && best.far == guessNone {
		// The name of a table may be misspelt.
		if far := distance(word, tablesIn(t)); far > 0 && far < best.far {
			best.key, best.far = word, far
		}
	}
	for field := range t.Fields() {
		key := field.Tag.Get("toml")
		if key == "" || key == "-" || !isTable(field.Type) {
			continue
		}
		below, ok := strings.CutPrefix(rest, inCapitals(key)+"_")
		if !ok {
			continue
		}
		g := guess{}
		if field.Type.Kind() == reflect.Map {
			g = guessNamed(field.Type.Elem().Elem(), below, at.table(key), join(path, key))
		} else {
			g = guessAt(field.Type, below, at.table(key), join(path, key))
		}
		if g.far <= best.far {
			best = g
		}
	}
	return best
}

// guessNamed is guessAt where rest begins with the name of a table.
func guessNamed(t reflect.Type, rest string, at *table, path string) guess {
	best := guess{path: path, key: strings.ToLower(rest), far: guessNone}
	if !strings.Contains(rest, "_") || slices.ContainsFunc(at.names(), func(known string) bool { return inCapitals(known) == rest }) {
		best.far = 0
	}
	for i := range len(rest) {
		if rest[i] != '_' || i == 0 {
			continue
		}
		name, have := strings.ToLower(rest[:i]), false
		for _, known := range at.names() {
			if inCapitals(known) == rest[:i] {
				name, have = known, true
			}
		}
		g := guessAt(t, rest[i+1:], at.table(name), join(path, name))
		if g.far < best.far || g.far == guessNone && best.far == guessNone && (have || best.typ == nil) {
			best = g
		}
	}
	return best
}

// distance returns how many letters word is from the nearest of words, guessNone if that is no
// slip of typing.
func distance(word string, words []string) int {
	if _, least := nearest(word, words); least <= 1+len(word)/4 {
		return least
	}
	return guessNone
}

// tablesIn lists the keys of a table that are tables.
func tablesIn(t reflect.Type) []string {
	var out []string
	for field := range t.Fields() {
		if key := field.Tag.Get("toml"); key != "" && key != "-" && isTable(field.Type) {
			out = append(out, key)
		}
	}
	return out
}
