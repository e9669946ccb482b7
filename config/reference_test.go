package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestReferenceIsWhole: each key stands there with a comment that begins with its name.
func TestReferenceIsWhole(t *testing.T) {
	text := Reference()
	for _, s := range tables() {
		_, body, ok := strings.Cut(text, "\n["+strings.Join(s.headers, "], [")+"]\n")
		if !ok {
			t.Errorf("no [%s]", s.headers)
			continue
		}
		body, _, _ = strings.Cut(body, "\n[")
		for field := range s.typ.Fields() {
			key := field.Tag.Get("toml")
			if key == "" {
				t.Errorf("%s.%s has no toml tag", s.typ.Name(), field.Name)
			}
			if key == "-" || isTable(field.Type) {
				continue
			}
			entry := regexp.MustCompile(`\n  ` + key + ` = .+\n      ` + key + ` \S.+`)
			if !entry.MatchString(body) {
				t.Errorf("[%s] %s is not documented", s.headers[0], key)
			}
			if def := field.Tag.Get("default"); def != "" && !strings.Contains(body, def) {
				t.Errorf("[%s] %s does not show its default %s", s.headers[0], key, def)
			}
		}
	}
	if reflect.TypeFor[Config]().NumField() == 0 || strings.Contains(text, "toml:") {
		t.Error("tags show in the reference")
	}
}

// TestComments: what is read line by line is what Go's parser reads.
func TestComments(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
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
					want[spec.Name.Name+"."+name.Name] = field.Doc.Text()
				}
			}
		}
	}
	got := commentsOf(source)
	for field, doc := range want {
		// Several names in one line have one comment, and are no keys.
		if doc != "" && got[field] != doc {
			t.Errorf("%s has %q, want %q", field, got[field], doc)
		}
	}
	if len(want) < 100 {
		t.Errorf("only %d fields", len(want))
	}
}

// TestReadme loads the samples of the README, with the files that they name.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	samples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(samples) < 3 {
		t.Fatalf("the README has %d samples, want one of each role", len(samples))
	}
	dir := t.TempDir()
	credentials(t, dir)
	write(t, filepath.Join(dir, "branch.psk"), psk+"\n", 0o600)
	for _, sample := range samples {
		c, err := Parse("README.md", []byte(sample[1]), dir, nil)
		if err != nil {
			t.Errorf("%v\nin:\n%s", err, sample[1])
			continue
		}
		if !strings.Contains(sample[1], "[connection.") {
			continue // keys to add to a file
		}
		if len(c.Connections) != 1 || len(c.Warnings) != 0 {
			t.Errorf("%d connections, warnings %v in:\n%s", len(c.Connections), c.Warnings, sample[1])
		}
	}
}
