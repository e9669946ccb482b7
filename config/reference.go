package config

import (
	_ "embed"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// source is where every key is documented.
//
//go:embed config.go
var source string

// Reference describes every key with its type, its default and the comment on its
// field in this package.
func Reference() string {
	docs := fieldDocs()
	var b strings.Builder
	b.WriteString(`The configuration is one file of TOML (toml.io). Names in capitals are yours to
choose. Relative paths start at the folder of the file. An unknown key is a fault,
and martlet check FILE lists all faults at once.

Each key can be set in other places, too, which count more than the file: by a variable
of the environment, MARTLET_CONNECTION_OFFICE_REMOTE for remote in [connection.office],
and, more than that, by --set connection.office.remote=vpn.example.com. Texts stand
there without quotes, and lists as a,b or ["a", "b"]; relative paths start at the
current folder. A secret is better given by its file: MARTLET_..._SECRET_FILE=PATH, or
=file:PATH behind its key; in place --set takes none. Without a file these are enough.
`)
	for _, t := range tables() {
		b.WriteString("\n[" + strings.Join(t.headers, "], [") + "]\n")
		for _, field := range t.fields {
			b.WriteString(indent("  ", docs[field]))
		}
		for field := range t.typ.Fields() {
			key := field.Tag.Get("toml")
			if key == "" || key == "-" || isTable(field.Type) {
				continue
			}
			fmt.Fprintf(&b, "\n  %s = %s\n", key, describe(field))
			b.WriteString(indent("      ", docs[t.typ.Name()+"."+field.Name]))
		}
	}
	return b.String()
}

func indent(by, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(by + line)
	}
	return b.String()
}

// isTable says whether a field is a table, which the reference lists by itself.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Map || t.Kind() == reflect.Struct && t != typeOf[Secret]() && t != typeOf[Routes]() && t != typeOf[netip.Addr]()
}

// describe writes the type of a key, its bounds and its default.
func describe(field reflect.StructField) string {
	text := typeName(field.Type)
	if r := field.Tag.Get("range"); r != "" {
		text += ", " + rangeWords(r)
	}
	shown := func(def string) string {
		if field.Type.Kind() == reflect.String || field.Type == typeOf[Duration]() || field.Type == typeOf[Routes]() {
			return strconv.Quote(def)
		}
		return def
	}
	if def := field.Tag.Get("default"); def != "" {
		text += "; default " + shown(def)
		for _, s := range systems {
			if own := defaultOf(field.Tag, s.goos); own != def {
				text += ", on " + s.name + " " + shown(own)
			}
		}
	}
	return text
}

func typeName(t reflect.Type) string {
	switch t {
	case typeOf[Duration]():
		return "duration"
	case typeOf[Secret]():
		return "secret"
	case typeOf[Routes]():
		return "string or list of prefixes"
	case typeOf[netip.Addr]():
		return "address"
	case typeOf[netip.Prefix]():
		return "prefix"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	case reflect.Slice:
		plural := "s"
		if t.Elem().Kind() != reflect.String {
			plural = "es"
		}
		return "list of " + typeName(t.Elem()) + plural
	}
	return "integer"
}

// fieldDocs returns the comment on each field of this package, as "Type.Field", with the
// names of fields turned into keys.
func fieldDocs() map[string]string {
	docs := commentsOf(source)
	for _, t := range append(tables(), section{typ: typeOf[Config]()}) {
		asKeys(docs, t.typ)
	}
	return docs
}

// commentsOf reads the comments on the fields of structs out of a source that is as gofmt writes
// it. Go's own parser would do that too, and be a fiftieth of the program.
func commentsOf(source string) map[string]string {
	docs := map[string]string{}
	structure, doc := "", ""
	for line := range strings.Lines(source) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutSuffix(line, " struct {"); ok && strings.HasPrefix(name, "type ") {
			structure = strings.TrimPrefix(name, "type ")
			continue
		}
		field, within := strings.CutPrefix(line, "\t")
		comment, ok := strings.CutPrefix(field, "//")
		switch {
		case structure == "":
		case line == "}":
			structure = ""
		case within && ok:
			doc += strings.TrimPrefix(comment, " ") + "\n"
			continue
		case within:
			name, _, _ := strings.Cut(field, " ")
			docs[structure+"."+name] = doc
		}
		doc = ""
	}
	return docs
}

// asKeys turns the names of fields into keys in the comments of a type.
func asKeys(docs map[string]string, t reflect.Type) {
	var names []string
	keys := map[string]string{}
	for field := range t.Fields() {
		if key := field.Tag.Get("toml"); key != "" && key != "-" {
			names, keys[field.Name] = append(names, field.Name), key
		}
	}
	word := regexp.MustCompile(`\b(` + strings.Join(names, "|") + `)\b`)
	for _, name := range names {
		at := t.Name() + "." + name
		docs[at] = word.ReplaceAllStringFunc(docs[at], func(name string) string { return keys[name] })
	}
}
