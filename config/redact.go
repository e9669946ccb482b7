package config

import (
	"errors"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Redact returns the text of a configuration for people to see: each secret that stands in it, each
// value of a key that is unknown, and each comment that looks like one, has [redacted] in its place.
// Where a secret comes from stays. The error is that the text is not TOML; it shows nothing of it.
func Redact(text []byte) ([]byte, error) {
	keys := allKeys()
	var out []byte
	end := 0
	replace := func(raw unstable.Range, by string) {
		out = append(append(out, text[end:raw.Offset]...), by...)
		end = int(raw.Offset + raw.Length)
	}
	err := scalars(text, func(key string, n *unstable.Node) {
		typ, known := keys[key]
		switch {
		case n.Kind == unstable.Comment:
			if looksSecret(n.Data) {
				replace(n.Raw, "# [redacted]")
			}
		case !known || typ == typeOf[Secret]() && !strings.HasPrefix(string(n.Data), "file:") && !strings.HasPrefix(string(n.Data), "env:"):
			replace(n.Raw, `"[redacted]"`)
		}
	})
	if err != nil {
		return nil, err
	}
	return append(out, text[end:]...), nil
}

// secretComment matches where a secret stands in a comment, a line that was taken out of use, and
// whether it is somewhere else.
var secretComment = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:secret|password)["']?\s*=\s*["']*(file:|env:)?`)
})

func looksSecret(comment []byte) bool {
	return slices.ContainsFunc(secretComment().FindAllSubmatch(comment, -1), func(m [][]byte) bool { return len(m[1]) == 0 })
}

// NamedFiles are the relative paths of the certificates, keys, revocation lists and secrets that the
// text of a configuration names, each once, with slashes. The error is that the text is not TOML.
func NamedFiles(text []byte) ([]string, error) {
	keys := allKeys()
	var out []string
	err := scalars(text, func(key string, n *unstable.Node) {
		name, inFile := strings.CutPrefix(string(n.Data), "file:")
		isFile := slices.Contains([]string{"cert", "key", "ca", "eap_ca", "crl"}, key) && name != system
		if n.Kind != unstable.String || !isFile && !(inFile && keys[key] == typeOf[Secret]()) || filepath.IsAbs(name) {
			return
		}
		if name = path.Clean(filepath.ToSlash(name)); !slices.Contains(out, name) {
			out = append(out, name)
		}
	})
	return out, err
}

// allKeys are the keys of all tables, with their types.
func allKeys() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	var add func(t reflect.Type)
	add = func(t reflect.Type) {
		for field := range t.Fields() {
			key := field.Tag.Get("toml")
			if key == "" || key == "-" {
				continue
			}
			switch {
			case !isTable(field.Type):
				// Of two keys that are called the same, the one that is a secret counts.
				if out[key] != typeOf[Secret]() {
					out[key] = field.Type
				}
			case field.Type.Kind() == reflect.Map:
				add(field.Type.Elem().Elem())
			default:
				add(field.Type)
			}
		}
	}
	add(typeOf[Config]())
	return out
}

// scalars calls visit for the values and comments of a text that is TOML, in their order: of a list
// for each of its elements. The key is the last one that leads to the value.
func scalars(text []byte, visit func(key string, n *unstable.Node)) error {
	var walk func(key string, n *unstable.Node, depth int) bool
	walk = func(key string, n *unstable.Node, depth int) bool {
		if depth > maxDepth {
			return false
		}
		switch n.Kind {
		case unstable.KeyValue:
			for it := n.Key(); it.Next(); {
				key = string(it.Node().Data)
			}
			return walk(key, n.Value(), depth+1)
		case unstable.Array, unstable.InlineTable:
			for it := n.Children(); it.Next(); {
				if !walk(key, it.Node(), depth+1) {
					return false
				}
			}
		case unstable.Table, unstable.ArrayTable:
		default:
			visit(key, n)
		}
		return true
	}
	p := unstable.Parser{KeepComments: true}
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		if !walk("", e, 0) {
			return errors.New("lists and tables are nested too deep")
		}
		for n := e.Next(); n != nil; n = n.Next() { // the comment behind it
			visit("", n)
		}
	}
	if p.Error() != nil {
		return errors.New("the text is not TOML")
	}
	return nil
}
