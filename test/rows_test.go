package test

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lastRow is the last one of the list of what went wrong before that is about IKE, EAP,
// certificates and what carries them.
const lastRow = 65

// elsewhere is the rows that are about the data plane alone, and the tests of package esp
// that stand for them under names of their own.
var elsewhere = map[int][]string{
	24: {"TestInnerShorterThanHeaders", "TestParseMalformed"},
	61: {"TestNonceDiscipline"},
	62: {"TestWindowModel", "TestESNAcrossHalfSpaces", "TestForgedSequence"},
	63: {"TestInnerSourceSpoofing"},
	65: {"TestLargestInner", "TestNoPlaintext"},
}

var rowName = regexp.MustCompile(`^TestRow(\d\d)[A-Z]\w+$`)

// TestEveryRowHasATest: each row has a test that is named after it, which can fail.
func TestEveryRowHasATest(t *testing.T) {
	rows := map[int][]string{}
	names := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			names[f.Name.Name] = true
			m := rowName.FindStringSubmatch(f.Name.Name)
			if m == nil {
				if strings.HasPrefix(f.Name.Name, "TestRow") && f.Name.Name[7] >= '0' && f.Name.Name[7] <= '9' {
					t.Errorf("%s: %s is not TestRow, two digits, and what it tests", s.pos(f), f.Name.Name)
				}
				continue
			}
			row, err := strconv.Atoi(m[1])
			if err != nil || row < 1 || row > lastRow {
				t.Errorf("%s: there is no row %s", s.pos(f), m[1])
				continue
			}
			if !complains(f) {
				t.Errorf("%s: %s can fail in no way", s.pos(f), f.Name.Name)
			}
			rows[row] = append(rows[row], s.dir+": "+f.Name.Name)
		}
	}
	for row := 1; row <= lastRow; row++ {
		for _, name := range elsewhere[row] {
			if !names[name] {
				t.Errorf("row %d: %s is gone", row, name)
			}
		}
		if len(rows[row])+len(elsewhere[row]) == 0 {
			t.Errorf("row %d has no test", row)
		}
		slices.Sort(rows[row])
		t.Log(fmt.Sprintf("%2d  ", row), strings.Join(append(rows[row], elsewhere[row]...), ", "))
	}
}

// complains tells whether a function calls t.Error, t.Fatal and the like, or hands its t on
// to one that may.
func complains(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
			switch sel.Sel.Name {
			case "Error", "Errorf", "Fatal", "Fatalf":
				found = true
			}
		}
		for _, a := range c.Args {
			if id, ok := a.(*ast.Ident); ok && id.Name == "t" {
				found = true
			}
		}
		return true
	})
	return found
}
