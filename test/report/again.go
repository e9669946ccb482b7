package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// mostAgain is how many tests may be run again. Where more fail it was not a moment of the machine.
const mostAgain = 3

// alone runs one test of a package and tells what came of it.
type alone func(ctx context.Context, pkg, test string, flags []string) ([]outcome, error)

// again runs the tests of some packages that failed once more, each by itself. These packages have
// the kernel or other people's programs in them, and on a machine that others share these can stand
// still for longer than a test has patience. A test that raced or crashed gets no second try, and
// neither does any where many failed. What passes is listed as such.
func again(ctx context.Context, file string, args []string, run alone) error {
	packages := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	flags := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !strings.HasPrefix(a, "-") })
	all, err := load(file)
	if err != nil {
		return err
	}
	tests := failures(all, packages)
	if len(tests) == 0 || len(tests) > mostAgain {
		return nil
	}
	for _, name := range tests {
		pkg, test, _ := strings.Cut(name, " ")
		fmt.Printf("again %s\n", name)
		outcomes, err := run(ctx, pkg, test, flags)
		if err != nil {
			return err
		}
		passed := func(o outcome) bool { return o.name == name && o.result == "pass" }
		if !slices.ContainsFunc(outcomes, passed) {
			continue
		}
		forgive(all, pkg, name)
	}
	return replace(file, all)
}

// failures are the tests, of those packages, that may have a second try.
func failures(all []outcome, packages []string) []string {
	var names, never []string
	for _, o := range all {
		pkg, test, _ := strings.Cut(o.name, " ")
		if o.result != "fail" || !o.test || !slices.Contains(packages, pkg) {
			continue
		}
		whole, _, _ := strings.Cut(test, "/")
		name := pkg + " " + whole
		if o.reason != failed {
			never = append(never, name)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(never, n) })
}

// forgive takes the failures of a test back, and that of its package when no other is left.
func forgive(all []outcome, pkg, name string) {
	left := false
	for i, o := range all {
		switch {
		case o.result != "fail":
		case o.name == name || strings.HasPrefix(o.name, name+"/"):
			all[i].result = "again"
		case strings.HasPrefix(o.name, pkg+" "):
			left = true
		}
	}
	for i, o := range all {
		if !left && o.name == pkg && o.result == "fail" && o.reason == packageFailed {
			all[i].result = "again"
		}
	}
}

// runAlone implements alone.
func runAlone(ctx context.Context, pkg, test string, flags []string) ([]outcome, error) {
	args := append([]string{"test", "-json", "-count=1", "-run", "^" + test + "$"}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	outcomes, err := follow(out, os.Stdout)
	failed := cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](failed); ok {
		failed = nil // the outcomes tell
	}
	return outcomes, errors.Join(err, failed)
}
