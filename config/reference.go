package config

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"regexp"
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
	if def := field.Tag.Get("default"); def != "" {
		if field.Type.Kind() == reflect.String || field.Type == typeOf[Duration]() || field.Type == typeOf[Routes]() {
			def = `"` + def + `"`
		}
		text += "; default " + def
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
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		panic(err) // it was compiled
	}
	docs := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			spec := spec.(*ast.TypeSpec)
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range body.Fields.List {
				for _, name := range field.Names {
					docs[spec.Name.Name+"."+name.Name] = field.Doc.Text()
				}
			}
		}
	}
	for _, t := range append(tables(), section{typ: typeOf[Config]()}) {
		asKeys(docs, t.typ)
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
