package test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// coveringTest is a test as the table in interop's README names it: the package, where it is
// another one, the function, and perhaps the name of a part.
var coveringTest = regexp.MustCompile("`(?:([a-z0-9]+)\\.)?(Test[A-Za-z0-9_]+)(?:/([^`]+))?`")

// TestInteropTable: each row of the table of scenarios names a test that exists, or says that
// there is none; and each test of the folder is named in a row.
func TestInteropTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "test", "interop", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, parts := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.name, "_test.go") {
			continue
		}
		pkg := path.Base(s.dir)
		if s.dir == "." || s.dir == "" {
			pkg = module
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				tests[pkg+"."+n.Name.Name] = true
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					parts[pkg+"/"+text] = true
				}
			}
			return true
		})
	}
	rows, inTable := 0, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| scenario ") {
			continue
		}
		rows++
		named := coveringTest.FindAllStringSubmatch(line, -1)
		if len(named) == 0 && !strings.Contains(line, "not covered") && !strings.Contains(line, "needs ESP in its kernel") {
			t.Errorf("nothing covers, and nothing says so: %s", line)
		}
		for _, m := range named {
			pkg := m[1]
			if pkg == "" {
				pkg = "interop"
			}
			inTable[pkg+"."+m[2]] = true
			if !tests[pkg+"."+m[2]] {
				t.Errorf("there is no test %s.%s", pkg, m[2])
			}
			if m[3] != "" && !parts[pkg+"/"+m[3]] {
				t.Errorf("%s.%s has no part %q", pkg, m[2], m[3])
			}
		}
	}
	if rows < 80 {
		t.Errorf("the table has %d rows only", rows)
	}
	for name := range tests {
		if strings.HasPrefix(name, "interop.Test") && name != "interop.TestMain" && !inTable[name] {
			t.Errorf("%s is in no row of the table", name)
		}
	}
}
