package profile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// bag is a table of a property list or of JSON. It knows which of its keys were asked for, so
// that what was not can be noted.
type bag struct {
	place string
	all   map[string]any
	asked map[string]bool
	odd   map[string]bool // of asked: what they have is no number
}

func newBag(place string, v any) *bag {
	all, _ := v.(map[string]any)
	return &bag{place, all, map[string]bool{}, map[string]bool{}}
}

// at is the place of a key.
func (b *bag) at(key string) string {
	if b.place == "" {
		return key
	}
	return b.place + "." + key
}

func (b *bag) get(key string) any {
	b.asked[key] = true
	return b.all[key]
}

func (b *bag) has(key string) bool {
	_, ok := b.all[key]
	return ok
}

// text is a string, or a number as one; empty if there is none.
func (b *bag) text(key string) string {
	switch v := b.get(key).(type) {
	case string:
		return v
	case int64, uint64, float64:
		return fmt.Sprint(v)
	}
	return ""
}

// octets is data, as Apple has it, or the octets of a string.
func (b *bag) octets(key string) []byte {
	switch v := b.get(key).(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

// number is an integer, as which true counts 1.
func (b *bag) number(key string, otherwise int) int {
	switch v := b.get(key).(type) {
	case nil:
		return otherwise
	case bool:
		if v {
			return 1
		}
		return 0
	case int64:
		return int(v)
	case uint64:
		return int(min(v, 1<<31))
	case float64:
		return int(max(min(v, 1<<31), -1<<31))
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
			return n
		}
	}
	b.odd[key] = true
	return otherwise
}

// flag is true or 1.
func (b *bag) flag(key string, otherwise bool) bool {
	n := 0
	if otherwise {
		n = 1
	}
	return b.number(key, n) != 0
}

// texts is a list of strings; one string is a list with blanks between.
func (b *bag) texts(key string) []string {
	switch v := b.get(key).(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var out []string
		for _, element := range v {
			if s, ok := element.(string); ok && s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// bag is a table in the table, which may be empty.
func (b *bag) bag(key string) *bag { return newBag(b.at(key), b.get(key)) }

// bags is a list of tables.
func (b *bag) bags(key string) []*bag {
	list, _ := b.get(key).([]any)
	var out []*bag
	for i, element := range list {
		if _, ok := element.(map[string]any); ok {
			out = append(out, newBag(fmt.Sprintf("%s[%d]", b.at(key), i), element))
		}
	}
	return out
}

// skip are keys that say nothing about the connection.
func (b *bag) skip(keys ...string) {
	for _, k := range keys {
		b.asked[k] = true
	}
}

// without notes keys that have no counterpart, and what to do instead or why nothing.
func (b *bag) without(d *draft, why map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(why)) {
		if b.has(k) && !b.asked[k] {
			d.note(b.at(k), "%s", why[k])
		}
		b.asked[k] = true
	}
}

// rest notes the keys that nobody asked for, and those whose value is of another kind than was asked
// for.
func (b *bag) rest(d *draft) {
	for _, k := range slices.Sorted(maps.Keys(b.all)) {
		switch {
		case !b.asked[k]:
			d.note(b.at(k), "not carried over: Martlet has no such thing")
		case b.odd[k]:
			d.note(b.at(k), "not carried over: it is no number, and no yes or no")
		}
	}
}
