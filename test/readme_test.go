package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// What the README shows as a command: a line that is indented, a code span.
	readmeCommand = regexp.MustCompile("(?m)^ {4,}(.+)$|`([^`\n]+)`")
	flagWord      = regexp.MustCompile(`^\[?(--?[a-z][a-z-]*)\]?$`)
)

// TestReadme: every command that the README names exists, with the flags that it shows.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "martlet")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, module+"/cmd/martlet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	known := 0
	for _, m := range readmeCommand.FindAllStringSubmatch(string(text), -1) {
		words := strings.Fields(strings.Replace(m[1]+m[2], "go run ./cmd/martlet", "martlet", 1))
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "sudo":
			words = words[1:]
		case "test/run", "test/bench/run", ".ci/run":
			info, err := os.Stat(filepath.Join(root(t), words[0]))
			if err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("%s cannot be run: %v", words[0], err)
			}
			known++
			continue
		}
		if words[0] != "martlet" || len(words) < 2 {
			continue
		}
		known++
		var command, flags []string
		for _, w := range words[1:] {
			if f := flagWord.FindStringSubmatch(w); f != nil {
				flags = append(flags, f[1])
			} else if len(flags) == 0 && w == strings.ToLower(w) && !strings.ContainsAny(w, "[]<>.=/") {
				command = append(command, w)
			}
		}
		out, err := exec.CommandContext(t.Context(), program, append(command, "--help")...).CombinedOutput()
		if err != nil || len(command) == 0 || !strings.Contains(string(out), "martlet "+command[0]) {
			t.Errorf("README: %q: %v\n%s", strings.Join(words, " "), err, out)
		}
		for _, f := range flags {
			if !strings.Contains(string(out), f) {
				t.Errorf("README: %q: the command has no flag %s", strings.Join(words, " "), f)
			}
		}
	}
	if known < 5 {
		t.Errorf("found only %d commands in the README", known)
	}
}
