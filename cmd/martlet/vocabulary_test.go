package main

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// examples are names in our examples and samples, that may be anybody's.
var examples = []string{
	"acme", "alice", "anna", "bob", "carol", "corp", "office", "staff", "intranet", "gw", "gateway1", "wiki", "mallory", "eve", "berlin",
}

// wordsOf adds the words of the texts in Go files, and of the names of functions, types and files, which
// stacks have.
func wordsOf(t *testing.T, into map[string]bool, dir string, names bool) {
	t.Helper()
	add := func(text string) {
		for part := range strings.FieldsSeq(text) {
			const encoded = 28 // octets that hold no words any more
			if len(part) >= encoded && strings.ContainsFunc(part, unicode.IsDigit) {
				continue
			}
			for _, word := range strings.FieldsFunc(part, func(r rune) bool { return !unicode.IsLetter(r) }) {
				if word = strings.ToLower(word); len(word) > 1 && len(word) < encoded && !slices.Contains(examples, word) {
					into[word] = true
				}
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{"testdata", "test", ".git"}, entry.Name()):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if names {
			add(entry.Name())
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					add(text)
				}
			case *ast.FuncDecl:
				if names {
					add(n.Name.Name)
				}
			case *ast.TypeSpec:
				if names {
					add(n.Name.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVocabulary: the program's own words pass the redactor, but for those that came since the list
// was made, which may be few: then make it anew with go test ./cmd/martlet -run TestVocabulary -update.
func TestVocabulary(t *testing.T) {
	own := map[string]bool{}
	wordsOf(t, own, filepath.Join("..", ".."), true)
	if *update {
		all := map[string]bool{}
		wordsOf(t, all, filepath.Join("..", ".."), true)
		for _, lib := range []string{"crypto/tls", "crypto/x509", "io", "internal/oserror", "internal/poll", "net", "os", "syscall"} {
			wordsOf(t, all, filepath.Join(build.Default.GOROOT, "src", lib), false)
		}
		words := make([]string, 0, len(all))
		for word := range all {
			words = append(words, word)
		}
		slices.Sort(words)
		var b strings.Builder
		line := 0
		for _, word := range words {
			if line+len(word) > 110 {
				b.WriteString("\n")
				line = 0
			} else if line > 0 {
				b.WriteString(" ")
			}
			b.WriteString(word)
			line += len(word) + 1
		}
		if err := os.WriteFile("words.txt", []byte(b.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	missing := 0
	for word := range own {
		if !vocabulary()[word] {
			missing++
		}
	}
	if missing*10 > len(own) {
		t.Errorf("%d of %d words are not in words.txt", missing, len(own))
	}
	for _, name := range examples {
		if vocabulary()[name] {
			t.Errorf("%q passes, which may be a name", name)
		}
	}
}
