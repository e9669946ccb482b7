package main

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"martlet"
)

func TestNoTerminalNoPrompt(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if terminalPrompt(f, new(strings.Builder)) != nil {
		t.Error("a file was taken for a terminal")
	}
}

func TestReadLine(t *testing.T) {
	in := strings.NewReader("carol\r\n\nlast")
	for _, want := range []string{"carol", "", "last"} {
		if line, err := readLine(in); err != nil || string(line) != want {
			t.Errorf("%q, %v; want %q", line, err, want)
		}
	}
	if line, err := readLine(in); !errors.Is(err, errNothingTyped) {
		t.Errorf("of nothing: %q, %v", line, err)
	}
}

// TestPasswordOfAKeyring: a command tells the password by its first line, or why it does not.
func TestPasswordOfAKeyring(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no sh")
	}
	dave := martlet.Login{Connection: "home", User: "dave"}
	for _, c := range []struct {
		command  string
		login    martlet.Login
		password string
		why      string
	}{
		{"printf 'se cret\\nand more\\n'", dave, "se cret", ""},
		{"printf secret", dave, "secret", ""},
		{"printf 'secret\\r\\n'", dave, "secret", ""},
		{"true", dave, "", "its first line is empty"},
		{"echo; echo secret", dave, "", "its first line is empty"},
		{"echo locked >&2; exit 3", dave, "", "exit status 3"},
		{"echo secret", martlet.Login{Connection: "home"}, "", "whose password it is is not known"},
	} {
		var shown strings.Builder
		user, password, err := commandPrompt(c.command, &shown)(t.Context(), c.login)
		e, _ := errors.AsType[*martlet.Error](err)
		switch {
		case c.why == "" && (err != nil || user != "dave" || string(password) != c.password):
			t.Errorf("%s: %q %q %v", c.command, user, password, err)
		case c.why != "" && (e == nil || !strings.Contains(e.Why, c.why) || e.Code.Class() != martlet.ClassAuthentication):
			t.Errorf("%s: %v", c.command, err)
		}
		if strings.Contains(c.command, "locked") && shown.String() != "locked\n" {
			t.Errorf("shown %q", shown.String())
		}
	}
}
