package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// watcher follows go test: it prints a line for each package and the output of what
// failed, and keeps every outcome.
type watcher struct {
	w        io.Writer
	outcomes []outcome
	output   map[string][]string // package and test -> lines
	build    map[string][]string
	tests    map[string]int // package -> tests that ran
}

// Why a test or a package failed.
const (
	failed        = "test failed"
	crashed       = "data race or panic"
	packageFailed = "package failed"
)

// keepLines is how many lines of a failed test are shown, from its end.
const keepLines = 400

func watch(r io.Reader, w io.Writer, file, stderr string) error {
	outcomes, err := follow(r, w)
	if err != nil {
		return err
	}
	// What go itself had to say: it could not even list the packages, say.
	b, err := os.ReadFile(stderr)
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		fmt.Fprintln(w, text)
	}
	if len(outcomes) == 0 {
		outcomes = append(outcomes, outcome{name: "go test ./...", result: "fail", reason: "no test ran"})
	}
	return add(file, outcomes...)
}

// follow reads what go test -json prints.
func follow(r io.Reader, w io.Writer) ([]outcome, error) {
	a := &watcher{w: w, output: map[string][]string{}, build: map[string][]string{}, tests: map[string]int{}}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(w, in.Text())
			continue
		}
		a.add(e)
	}
	return a.outcomes, in.Err()
}

func (a *watcher) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		a.build[e.ImportPath] = append(a.build[e.ImportPath], e.Output)
	case "output":
		if strings.HasPrefix(e.Output, "=== ") {
			return // that it runs, pauses, goes on
		}
		lines := append(a.output[key], e.Output)
		a.output[key] = lines[max(0, len(lines)-keepLines):]
	case "pass", "fail", "skip":
		a.done(key, e)
		delete(a.output, key)
	}
}

func (a *watcher) done(key string, e event) {
	o := outcome{name: e.Package, result: e.Action, seconds: e.Elapsed, test: e.Test != ""}
	if o.test {
		o.name += " " + e.Test
		a.tests[e.Package]++
	}
	switch {
	case e.Action == "skip" && !o.test:
		return // a package without tests
	case e.Action == "skip":
		o.reason = reason(a.output[key])
	case e.Action == "fail":
		if e.FailedBuild != "" {
			o.reason = "does not build"
			fmt.Fprint(a.w, strings.Join(a.build[e.FailedBuild], ""))
		} else if o.test {
			o.reason = failed
			if slices.ContainsFunc(a.output[key], func(l string) bool {
				return strings.Contains(l, "race detected during") || strings.Contains(l, "panic: ")
			}) {
				o.reason = crashed
			}
		} else {
			o.reason = packageFailed
		}
		fmt.Fprint(a.w, strings.Join(a.output[key], ""))
	case !o.test:
		o.reason = fmt.Sprintf("%d tests", a.tests[e.Package])
	}
	if !o.test {
		fmt.Fprintf(a.w, "%-5s %s (%.1f s)\n", e.Action, e.Package, e.Elapsed)
	}
	a.outcomes = append(a.outcomes, o)
}

// reason finds in a skipped test's output what it said, as in "    x_test.go:12: needs root".
func reason(lines []string) string {
	var said []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "---") {
			continue
		}
		if file, text, ok := strings.Cut(l, ": "); ok && strings.Contains(file, ".go:") {
			l = text
		}
		said = append(said, l)
	}
	if len(said) == 0 {
		return "skipped without a reason"
	}
	return strings.Join(said, " ")
}
