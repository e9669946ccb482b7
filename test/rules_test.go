// Package test holds the house rules as tests; its folders hold the tests that need
// more than one package.
package test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	module   = "martlet"
	maxLines = 800
)

// source is one Go file of the module.
type source struct {
	name string // from the module's root, with slashes
	dir  string
	test bool
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s *source) pos(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

// root is the module's root.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files lists every file of the project, without what git keeps for itself.
func files(t testing.TB) []string {
	t.Helper()
	var out []string
	dir := root(t)
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && e.Name() == ".git" {
			return filepath.SkipDir
		}
		if e.Type().IsRegular() && e.Name() != ".git" { // of a second worktree
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var parsed = sync.OnceValues(func() ([]*source, error) {
	var out []*source
	err := filepath.WalkDir("..", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == ".git" || e.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(p, ".."+string(filepath.Separator)))
		s := &source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, fset: token.NewFileSet()}
		s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
		out = append(out, s)
		return err
	})
	return out, err
})

func sources(t testing.TB) []*source {
	t.Helper()
	out, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("found only %d Go files", len(out))
	}
	return out
}

func (s *source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func TestFormatted(t *testing.T) {
	for _, s := range sources(t) {
		want, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		} else if !bytes.Equal(want, s.text) {
			t.Errorf("%s is not as gofmt writes it", s.name)
		}
	}
}

func TestFileLength(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, at most %d are allowed", s.name, n, maxLines)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range sources(t) {
		switch name := s.file.Name.Name; name {
		case "util", "utils", "common", "types", "helpers", "misc":
			t.Errorf("%s: package %s says nothing", s.name, name)
		}
	}
}

// topFolders are all that may stand at the module's root.
var topFolders = []string{"cmd", "config", "crypto", "esp", "ike", "test", "tun", ".ci", ".git"}

func TestTopFolders(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(topFolders, e.Name()) {
			t.Errorf("folder %s at the top; the plan knows %v", e.Name(), topFolders)
		}
	}
}

// mayImport says which of our packages each may import, besides itself; a star stands for
// everything below. The first rule that fits counts.
var mayImport = []struct{ from, to string }{
	{"test", "*"},
	{"test/*", "*"},
	{"crypto/*", "crypto/*"},
	{"ike/message", "crypto/*"},
	{"ike/eap", "crypto/*"},
	{"ike/aaa", "crypto/* ike/eap"},
	{"ike/probe", "crypto/* ike/message"},
	{"ike", "crypto/* ike/message ike/eap"},
	{"esp/udpencap", ""},
	{"esp", "crypto/suite tun esp/udpencap"},
	{"tun", ""},
	{"tun/proxy", ""},
	{"tun/privsep", "tun tun/* config"},
	{"tun/*", "tun tun/*"},
	{"config", "crypto/* tun/proxy"},
	{"config/profile", "crypto/* config"},
	{"config/store", "config"},
	{"cmd/martlet/dist/release", ""},
	{"cmd/martlet", ". config config/* crypto/pki tun/privsep"},
	{".", "crypto/* ike ike/* esp esp/* tun tun/* config"},
}

func fits(pattern, dir string) bool {
	below, ok := strings.CutSuffix(pattern, "*")
	return pattern == dir || ok && strings.HasPrefix(dir, below)
}

func TestImportDirection(t *testing.T) {
	for _, s := range sources(t) {
		i := slices.IndexFunc(mayImport, func(r struct{ from, to string }) bool { return fits(r.from, s.dir) })
		if i < 0 {
			t.Errorf("%s: no rule says what package %s may import", s.name, s.dir)
			continue
		}
		for _, p := range s.imports() {
			if p != module && !strings.HasPrefix(p, module+"/") {
				continue
			}
			dir := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
			if dir == "" {
				dir = "."
			}
			// A test may also use what is for tests, algorithms, and what stands above its
			// package.
			ok := s.test && (dir == s.dir || fits("test/*", dir) || fits("crypto/*", dir) || fits(s.dir+"/*", dir))
			for pattern := range strings.FieldsSeq(mayImport[i].to) {
				ok = ok || fits(pattern, dir)
			}
			if !ok {
				t.Errorf("%s imports %s; %s may import: %s", s.name, p, s.dir, mayImport[i].to)
			}
		}
	}
}

// purePackages are state machines: no socket, clock, lock or goroutine.
var purePackages = []string{"ike", "ike/message", "ike/eap", "ike/probe"}

func TestPurity(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	for _, s := range sources(t) {
		if s.test || !slices.Contains(purePackages, s.dir) {
			continue
		}
		for _, p := range s.imports() {
			first, _, _ := strings.Cut(p, "/")
			impure := slices.Contains([]string{"net", "os", "sync", "syscall", "log"}, first) || p == "context" ||
				strings.HasPrefix(p, "go.uber.org/zap")
			if p == "net/netip" || p == "net" && s.dir == "ike/eap" {
				impure = false
			}
			if impure {
				t.Errorf("%s imports %s, which is not for the pure package %s", s.name, p, s.dir)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a goroutine", s.pos(n))
			case *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: a channel", s.pos(n))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: time.%s asks the clock", s.pos(n), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: an init function", s.pos(f))
			}
		}
	}
}

// TestNoPatternBeforeMain: every start of the program would pay for a pattern that is compiled
// with its package. One that sync.OnceValue compiles costs only those who ask for it.
func TestNoPatternBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || fits("test/*", s.dir) || s.dir == "cmd/martlet/dist/release" {
			continue
		}
		var find func(n ast.Node) bool
		find = func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.FuncLit); ok { // called where it stands
					ast.Inspect(f.Body, find)
				}
			case *ast.SelectorExpr:
				if isSelector(n, "regexp", "MustCompile") || isSelector(n, "regexp", "MustCompilePOSIX") {
					t.Errorf("%s: regexp.%s before main; wrap it in sync.OnceValue", s.pos(n), n.Sel.Name)
				}
			}
			return true
		}
		for _, d := range s.file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				ast.Inspect(g, find)
			}
		}
	}
}

// TestNoSleep: a test waits for what it needs, never for a while. In the bubble of
// synctest sleeping costs nothing and is exact.
func TestNoSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		var bubbles []ast.Node
		ast.Inspect(s.file, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && isSelector(c.Fun, "synctest", "Test") {
				bubbles = append(bubbles, c)
			}
			return true
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !isSelector(c.Fun, "time", "Sleep") {
				return true
			}
			if !slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() < c.Pos() && c.End() < b.End() }) {
				t.Errorf("%s: time.Sleep in a test", s.pos(c))
			}
			return true
		})
	}
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// TestOnlyLinux: nftables does not compile elsewhere.
func TestOnlyLinux(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(s.imports(), "github.com/google/nftables") && !strings.HasSuffix(s.name, "_linux.go") && !strings.HasSuffix(s.name, "_linux_test.go") {
			t.Errorf("%s imports nftables without _linux in its name", s.name)
		}
	}
}

var (
	rfc     = regexp.MustCompile(`\bRFC[  ]?\d{3,5}\b`)
	section = regexp.MustCompile(`(?i)§|\bsections?\b|\bappendix\b|\bfigure\b|\bchapter\b`)
)

// TestRFCSections: where the control plane names an RFC, the comment names a section of it,
// but for the comments of packages and files, which may speak of the whole, and those
// behind a name on its line, which say where a number was registered.
func TestRFCSections(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.dir != "ike" && !strings.HasPrefix(s.dir, "ike/") && s.dir != "esp" {
			continue
		}
		for _, c := range s.file.Comments {
			text := c.Text()
			line := s.text[:s.fset.Position(c.Pos()).Offset]
			line = line[bytes.LastIndexByte(line, '\n')+1:]
			if len(bytes.TrimSpace(line)) > 0 {
				continue
			}
			if c == s.file.Doc || c.End() < s.file.Package || !rfc.MatchString(text) || section.MatchString(text) {
				continue
			}
			t.Errorf("%s: %q names no section", s.pos(c), rfc.FindString(text))
		}
	}
}

// TestNoMachine: nothing of one machine, and no place from which software comes, stands in
// a file. The words are put together here so that this file passes.
func TestNoMachine(t *testing.T) {
	bad := regexp.MustCompile(`(^|[^\w.])/wor` + `k/|/tm` + `p/w/|prox` + `y\.golang\.org|su` + `m\.golang\.org|deb` + `\.debian\.org|registr` + `y\.npmjs|/roo` + `t/go/`)
	for _, name := range files(t) {
		b, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0 {
			continue // binary
		}
		for i, l := range bytes.Split(b, []byte("\n")) {
			if m := bad.Find(l); m != nil {
				t.Errorf("%s:%d: %q", name, i+1, m)
			}
		}
	}
}
