package main

import (
	"os"
	"strings"
	"testing"

	"martlet"
)

func TestAsk(t *testing.T) {
	for _, c := range []struct{ known, typed, user, shown string }{
		{"", "carol\n", "carol", "User name for home at gw.example.org: Password of carol for home: \n"},
		{"dave", "", "dave", "Password of dave for home: \n"},
	} {
		var out strings.Builder
		l := martlet.Login{Connection: "home", Gateway: "gw.example.org", User: c.known}
		user, password, err := ask(strings.NewReader(c.typed), &out, l, func() ([]byte, error) { return []byte("secret"), nil })
		if err != nil || user != c.user || string(password) != "secret" || out.String() != c.shown {
			t.Errorf("%q %q %v, shown %q", user, password, err, out.String())
		}
	}
	if _, _, err := ask(strings.NewReader(""), new(strings.Builder), martlet.Login{}, nil); err == nil {
		t.Error("a name out of nothing")
	}
}

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
