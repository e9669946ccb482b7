package test

import (
	"go/ast"
	"go/token"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestErrorPages: every code that an error can have is explained by a page of `martlet help
// errors`, and every page explains one.
func TestErrorPages(t *testing.T) {
	codes := map[string]string{} // and where it was found
	for _, s := range sources(t) {
		if !s.test {
			s.errorCodes(func(n *ast.BasicLit) {
				if code, err := strconv.Unquote(n.Value); err == nil && code != "" {
					codes[code] = s.pos(n)
				}
			})
		}
	}
	if len(codes) < 40 {
		t.Fatalf("found only %d codes", len(codes))
	}
	pages, err := filepath.Glob(filepath.Join(root(t), "cmd", "martlet", "errors", "*"))
	if err != nil {
		t.Fatal(err)
	}
	paged := map[string]bool{}
	for _, p := range pages {
		code := strings.TrimSuffix(path.Base(filepath.ToSlash(p)), ".txt")
		paged[code] = true
		if codes[code] == "" {
			t.Errorf("%s is about a code that no error has", p)
		}
	}
	for code, where := range codes {
		if !paged[code] {
			t.Errorf("%s: the code %q has no page cmd/martlet/errors/%[2]s.txt", where, code)
		}
	}
}

// errorCodes finds the texts of codes: the constants of the types Code of the engine, and in the
// runner and the program literal fields Code, constants called code…, and what hint is given.
func (s *source) errorCodes(found func(*ast.BasicLit)) {
	text := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			found(lit)
		}
	}
	engine, program := s.dir == "ike" || s.dir == "ike/eap", s.dir == "cmd/martlet"
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			typ, ok := n.Type.(*ast.Ident)
			for i, name := range n.Names {
				if engine && ok && typ.Name == "Code" || program && strings.HasPrefix(name.Name, "code") && i < len(n.Values) {
					text(n.Values[i])
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" && (program || s.dir == ".") {
				text(n.Value)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "hint" && program {
				text(n.Args[len(n.Args)-1])
			}
		}
		return true
	})
}
