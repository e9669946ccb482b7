package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stream is what go test -json prints for a test that passes, one that fails in a part, one
// that is skipped, a package without tests, and one that does not build.
const stream = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestGood"}
{"Action":"pass","Package":"m/a","Test":"TestGood","Elapsed":0.5}
{"Action":"output","Package":"m/a","Test":"TestBad/part","Output":"    a_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"m/a","Test":"TestBad/part","Elapsed":0}
{"Action":"fail","Package":"m/a","Test":"TestBad","Elapsed":0}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"=== RUN   TestRoot\n"}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"    a_test.go:9: needs root: makes namespaces\n"}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestRoot","Elapsed":0}
{"Action":"output","Package":"m/a","Output":"FAIL\n"}
{"Action":"fail","Package":"m/a","Elapsed":1.5}
{"Action":"skip","Package":"m/none","Elapsed":0}
{"ImportPath":"m/b [m/b.test]","Action":"build-output","Output":"b.go:1: syntax error\n"}
{"ImportPath":"m/b [m/b.test]","Action":"build-fail"}
{"Action":"fail","Package":"m/b","Elapsed":0,"FailedBuild":"m/b [m/b.test]"}
{"Action":"pass","Package":"m/c","Elapsed":2}
`

func TestWatchAndTable(t *testing.T) {
	dir := t.TempDir()
	file, stderr := filepath.Join(dir, "outcomes"), filepath.Join(dir, "stderr")
	if err := os.WriteFile(stderr, []byte("go: a warning\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := add(file, outcome{name: "go vet", result: "pass", seconds: 3}, outcome{name: "govulncheck", result: "skip", reason: "no\tanswer"}); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	if err := watch(strings.NewReader(stream), &shown, file, stderr); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"got 1, want 2", "syntax error", "go: a warning", "pass  m/c"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("watch does not show %q:\n%s", want, &shown)
		}
	}
	var list strings.Builder
	if err := table(&list, file); !errors.Is(err, errFailed) {
		t.Errorf("table of a failed run: %v", err)
	}
	want := `
What ran:
  ok    go vet                                                          3.0 s 
  ok    m/c                                                             2.0 s 0 tests

What did not run, and why:
  skip  no answer
          govulncheck
  skip  needs root: makes namespaces
          m/a TestRoot

What failed:
  FAIL  test failed
          m/a TestBad
          m/a TestBad/part
  FAIL  package failed
          m/a
  FAIL  does not build
          m/b

3 passed, 4 failed, 2 skipped
`
	if diff := cmp.Diff(want, list.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNothingRan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := watch(strings.NewReader(""), &strings.Builder{}, file, os.DevNull); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	if err := table(&list, file); !errors.Is(err, errFailed) || !strings.HasSuffix(list.String(), "\n0 passed, 1 failed, 0 skipped\n") {
		t.Errorf("%v\n%s", err, &list)
	}
}

func TestPassed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := add(file, outcome{name: "x", result: "pass"}); err != nil {
		t.Fatal(err)
	}
	if err := table(&strings.Builder{}, file); err != nil {
		t.Error(err)
	}
}
