package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// outcome is one thing that was to be run: a test, a linter, a fuzz target. It is a line
// of a file, with tabs between.
type outcome struct {
	name    string
	result  string // pass, fail or skip; again where it passed after a failure
	seconds float64
	reason  string
	test    bool // one of many: only its failing or skipping is listed
}

const testMark = "test"

// add appends outcomes to the file, as test/run itself does.
func add(file string, all ...outcome) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var b bytes.Buffer // written at once: others append to the file at the same time
	for _, o := range all {
		mark := ""
		if o.test {
			mark = testMark
		}
		fmt.Fprintf(&b, "%s\t%s\t%.1f\t%s\t%s\n", oneLine(o.name), o.result, o.seconds, oneLine(o.reason), mark)
	}
	_, err = f.Write(b.Bytes())
	return errors.Join(err, f.Close())
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// replace writes the file anew.
func replace(file string, all []outcome) error {
	if err := os.Remove(file); err != nil {
		return err
	}
	return add(file, all...)
}

func load(file string) ([]outcome, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []outcome
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) < 4 {
			return nil, fmt.Errorf("%s: outcome %q has %d fields, want 4 or 5", file, line, len(f))
		}
		seconds, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, outcome{f[0], f[1], seconds, f[3], len(f) > 4 && f[4] == testMark})
	}
	return out, nil
}

// errFailed is the exit status of the whole where something failed or nothing ran.
var errFailed = errors.New("not everything passed")

// table prints what ran and what did not. Of tests, packages are listed, and each test that
// failed or was skipped. The last line is the count of everything.
func table(w io.Writer, file string) error {
	all, err := load(file)
	if err != nil {
		return err
	}
	count := map[string]int{}
	fmt.Fprintln(w, "\nWhat ran:")
	for _, o := range all {
		count[o.result]++
		if !o.test && o.result == "pass" {
			fmt.Fprintf(w, "  ok    %-60s %6.1f s %s\n", o.name, o.seconds, o.reason)
		}
	}
	list := func(result, title, word string) {
		if count[result] == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s:\n", title)
		// Tests that were skipped for one reason are shown together.
		var reasons []string
		names := map[string][]string{}
		for _, o := range all {
			if o.result != result {
				continue
			}
			if names[o.reason] == nil {
				reasons = append(reasons, o.reason)
			}
			names[o.reason] = append(names[o.reason], o.name)
		}
		for _, r := range reasons {
			slices.Sort(names[r])
			fmt.Fprintf(w, "  %-5s %s\n", word, r)
			for _, n := range names[r] {
				fmt.Fprintf(w, "          %s\n", n)
			}
		}
	}
	list("again", "What failed once and passed when run again by itself", "again")
	list("skip", "What did not run, and why", "skip")
	list("fail", "What failed", "FAIL")
	passed := count["pass"] + count["again"]
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, count["fail"], count["skip"])
	if count["fail"] > 0 || passed == 0 {
		return errFailed
	}
	return nil
}
