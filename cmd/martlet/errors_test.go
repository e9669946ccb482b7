package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestErrorPages: a page is short enough to be read where the error stands, begins with what the
// code means, and tells causes and what to do. Which codes there are is for test/errors_test.go.
func TestErrorPages(t *testing.T) {
	for _, code := range errorCodes() {
		summary, text, ok := errorPage(code)
		if !ok || summary == "" || strings.HasSuffix(summary, ".") {
			t.Errorf("%s: the first line is %q", code, summary)
		}
		if n := 2 + strings.Count(text, "\n"); n < 5 || n > 15 {
			t.Errorf("%s: %d lines, want 5 to 15", code, n)
		}
		for line := range strings.Lines(summary + "\n" + text) {
			if n := utf8.RuneCountInString(line); n > 110 || strings.TrimRight(line, " \t\n") != strings.TrimSuffix(line, "\n") {
				t.Errorf("%s: a line of %d characters: %q", code, n, line)
			}
		}
		for _, part := range []string{"\nCauses", "\nHere:"} {
			if !strings.Contains("\n"+text, part) {
				t.Errorf("%s: it has no %q", code, strings.TrimSpace(part))
			}
		}
	}
	if _, _, ok := errorPage("../exit"); ok {
		t.Error("a page outside of the folder")
	}
}

// TestExitOf: what fails outside of a tunnel has no class, and still its status.
func TestExitOf(t *testing.T) {
	for code, want := range map[string]int{
		"usage": exitUsage, "configuration": exitConfiguration, "profile": exitConfiguration, "program": exitNotRunnable, "terminated": exitInterrupted,
		"internal": exitInternal, "unhealthy": exitInternal,
		"unreachable": exitNetwork, "eap-relay": exitNetwork, "eap-wrong-password": exitAuthentication, "refused": exitPolicy, "host": exitConfiguration,
	} {
		if got := exitOf(code); got != want {
			t.Errorf("%s leads to %d, want %d", code, got, want)
		}
	}
}
