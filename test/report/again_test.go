package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSecondTry: what is left of failures after a second try, and who gets one.
func TestSecondTry(t *testing.T) {
	test := func(name, result string) outcome {
		return outcome{name: name, result: result, reason: failed, test: true}
	}
	pkg := func(name string) outcome { return outcome{name: name, result: "fail", reason: packageFailed} }
	race := test("m/real TestRace", "fail")
	race.reason = crashed
	for name, c := range map[string]struct {
		all   []outcome
		cures string // the tests that pass at the second try
		tried string
		left  string // what is still a failure
	}{
		"passes":         {[]outcome{test("m/real TestA", "fail"), pkg("m/real"), test("m/real TestB", "pass")}, "TestA", "TestA", ""},
		"with its parts": {[]outcome{test("m/real TestA/x", "fail"), test("m/real TestA", "fail"), pkg("m/real")}, "TestA", "TestA", ""},
		"fails again":    {[]outcome{test("m/real TestA", "fail"), pkg("m/real")}, "", "TestA", "m/real TestA,m/real"},
		"one of two":     {[]outcome{test("m/real TestA", "fail"), test("m/real TestAB", "fail"), pkg("m/real")}, "TestA", "TestA,TestAB", "m/real TestAB,m/real"},
		"pure":           {[]outcome{test("m/pure TestA", "fail"), pkg("m/pure")}, "TestA", "", "m/pure TestA,m/pure"},
		"crashed":        {[]outcome{race, pkg("m/real")}, "TestRace", "", "m/real TestRace,m/real"},
		"crashed beside": {[]outcome{race, test("m/real TestA", "fail"), pkg("m/real")}, "TestA", "TestA", "m/real TestRace,m/real"},
		"too many": {
			[]outcome{test("m/real TestA", "fail"), test("m/real TestB", "fail"), test("m/real TestC", "fail"), test("m/real TestD", "fail"), pkg("m/real")},
			"TestA,TestB,TestC,TestD", "", "m/real TestA,m/real TestB,m/real TestC,m/real TestD,m/real",
		},
		"ended by itself": {[]outcome{pkg("m/real")}, "", "", "m/real"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "outcomes")
			if err := add(file, c.all...); err != nil {
				t.Fatal(err)
			}
			var tried []string
			run := func(_ context.Context, pkg, test string, flags []string) ([]outcome, error) {
				tried = append(tried, test)
				if len(flags) != 1 || flags[0] != "-race" {
					t.Errorf("flags %q", flags)
				}
				result := "fail"
				if strings.Contains(","+c.cures+",", ","+test+",") {
					result = "pass"
				}
				return []outcome{{name: pkg + " " + test, result: result, test: true}}, nil
			}
			if err := again(t.Context(), file, []string{"-race", "m/real"}, run); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(tried, ","); got != c.tried {
				t.Errorf("tried %q, want %q", got, c.tried)
			}
			all, err := load(file)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, o := range all {
				if o.result == "fail" {
					left = append(left, o.name)
				}
			}
			if diff := cmp.Diff(c.left, strings.Join(left, ",")); diff != "" {
				t.Error(diff)
			}
		})
	}
}
