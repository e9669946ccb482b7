package config

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestParseSecret(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "unix"), "from a file\n", 0o600)
	write(t, filepath.Join(dir, "dos"), "from a file\r\n", 0o400)
	write(t, filepath.Join(dir, "twolines"), "from a file\n\n", 0o600)
	write(t, filepath.Join(dir, "base64"), "0sAAEC/w==\n", 0o600)
	write(t, filepath.Join(dir, "empty"), "\n", 0o600)
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"PSK": "from outside", "HEX": "0x00fF", "EMPTY": ""}[name]
		return v, ok
	}
	for text, want := range map[string]string{
		"as it stands":                      "as it stands",
		"0sAAEC/w==":                        "\x00\x01\x02\xff",
		"0sAAEC/w":                          "\x00\x01\x02\xff",
		"0x000102FF":                        "\x00\x01\x02\xff",
		"file:unix":                         "from a file",
		"file:" + filepath.Join(dir, "dos"): "from a file",
		"file:base64":                       "\x00\x01\x02\xff",
		"env:PSK":                           "from outside",
		"env:HEX":                           "\x00\xff",
	} {
		s, err := ParseSecret(text, dir, env)
		if err != nil || string(s.Value) != want {
			t.Errorf("%q: %q, %v; want %q", text, []byte(s.Value), err, want)
		}
		if source := s.Source; source != inPlace && source != text {
			t.Errorf("%q: source %q", text, source)
		}
	}
	for text, why := range map[string]string{
		"":              "empty",
		" x":            "white space",
		"x\t":           "white space",
		"x\u00a0":       "white space",
		"file:twolines": "white space",
		"file:empty":    "empty",
		"file:none":     "does not exist",
		"file:":         "not a regular file",
		"env:NONE":      "no variable",
		"env:EMPTY":     "empty",
		"0s!":           "not base64",
		"0s":            "empty",
		"0x0":           "not hexadecimal",
		"0x":            "empty",
	} {
		if s, err := ParseSecret(text, dir, env); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %q, %v; want an error that says %q", text, []byte(s.Value), err, why)
		}
	}
	if _, err := ParseSecret("env:PSK", dir, nil); err == nil {
		t.Error("without an environment env:PSK is read")
	}
}

// TestSecretFiles is security.md G2: who else may read or replace the file.
func TestSecretFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	dir := t.TempDir()
	for _, sub := range []string{"config", "open", "sticky", "sticky/own", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"config/psk", "open/psk", "sticky/psk", "sticky/own/psk", "elsewhere/psk"} {
		write(t, filepath.Join(dir, sub), psk, 0o600)
	}
	for sub, mode := range map[string]os.FileMode{"open": 0o707, "sticky": 0o777 | os.ModeSticky} {
		if err := os.Chmod(filepath.Join(dir, sub), mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"inside": "psk", "outside": "../elsewhere/psk", "dangling": "none"} {
		if err := os.Symlink(target, filepath.Join(dir, "config", link)); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}
	for mode, why := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o640: "group or others", 0o604: "group or others", 0o620: "group or others",
		0o602: "group or others", 0o610: "group or others", 0o644: "mode 0644",
	} {
		path := filepath.Join(dir, "config", fmt.Sprintf("mode%o", mode))
		write(t, path, psk, mode)
		checkSecretFile(t, path, dir, why)
	}
	for path, why := range map[string]string{
		"psk":               "",
		"inside":            "",
		"outside":           "a link out of the configuration's folder",
		"dangling":          "does not exist",
		".":                 "not a regular file",
		"../elsewhere/psk":  "",
		"../open/psk":       "world-writable folder",
		"../sticky/psk":     "world-writable folder",
		"../sticky/own/psk": "",
	} {
		checkSecretFile(t, path, filepath.Join(dir, "config"), why)
	}
	write(t, filepath.Join(dir, "config", "huge"), strings.Repeat("x", maxSize+1), 0o600)
	checkSecretFile(t, "huge", filepath.Join(dir, "config"), "more than")
}

// TestMountedSecret: the folder as Kubernetes mounts a Secret, whose files are links to a folder beside
// them that is replaced as a whole.
func TestMountedSecret(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"..data": "..2026", "psk": "..data/psk"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}
	write(t, filepath.Join(dir, "..2026", "psk"), psk, 0o600)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	checkSecretFile(t, filepath.Join(dir, "psk"), t.TempDir(), "")

	// So is the configuration itself, with secrets in it. Beside the links anybody could have put it.
	const text = "[user.alice]\npassword = \"open sesame\"\n"
	write(t, filepath.Join(dir, "..2026", "martlet.toml"), text, 0o600)
	write(t, filepath.Join(dir, "loose.toml"), text, 0o600)
	if err := os.Symlink("..data/martlet.toml", filepath.Join(dir, "martlet.toml")); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(filepath.Join(dir, "martlet.toml")); err != nil || string(c.Users["alice"].Password.Value) != "open sesame" {
		t.Errorf("configuration: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "loose.toml")); err == nil || !strings.Contains(err.Error(), "world-writable folder") {
		t.Errorf("configuration without a link: %v", err)
	}
}

// TestLent: what a group may read is secret enough only where root owns it and lends it to us.
func TestLent(t *testing.T) {
	for _, c := range []struct {
		perm        os.FileMode
		owner, user int
		want        bool
	}{
		{0o440, 0, 65534, true},
		{0o640, 0, 65534, true},
		{0o660, 0, 65534, false}, // the group may write
		{0o444, 0, 65534, false}, // others may read
		{0o440, 0, 0, false},     // ours, and others may read it
		{0o440, 65534, 65534, false},
		{0o440, 1000, 65534, false},
		{0o440, -1, -1, false},
		{0o440, 0, -1, false}, // no numbers of users here
	} {
		if got := lent(c.perm, c.owner, c.user); got != c.want {
			t.Errorf("%o of %d for %d: %v", c.perm, c.owner, c.user, got)
		}
	}
}

func checkSecretFile(t *testing.T, path, dir, why string) {
	t.Helper()
	s, err := ParseSecret("file:"+path, dir, nil)
	switch {
	case why == "" && (err != nil || string(s.Value) != psk):
		t.Errorf("%s: %v", path, err)
	case why != "" && (err == nil || !strings.Contains(err.Error(), why)):
		t.Errorf("%s: %v, want an error that says %q", path, err, why)
	}
}

// TestSecretDoesNotShow is security.md G3 for this package.
func TestSecretDoesNotShow(t *testing.T) {
	s := Secret{Value: []byte(psk), Source: inPlace}
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(map[string]any{"s": s, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, siteToSite)
	shown := []string{string(text), string(js), fmt.Sprint(s), fmt.Sprintf("%+v %#v %x %q", s, s, s, s), fmt.Sprintf("%+v", c.Connections["branch"].Local)}
	// Faults in, before and behind the secret.
	for _, bad := range []string{
		change(t, psk, " "+psk), change(t, psk, "0s!"+psk), change(t, psk, "0x"+psk), change(t, `"`+psk+`"`, `"`+psk),
		change(t, `"`+psk+`"`, psk), change(t, `"`+psk+`"`, `["`+psk+`"]`), change(t, "secret", "secert"),
		change(t, `id = "branch.example.com"`, `secret = "another`+psk+`"`), change(t, psk+`"`, psk+`" x`),
		change(t, "secret = ", "secret "), change(t, "[connection.branch.peer]", `secret = "`+psk+`"`),
	} {
		_, err := Parse("", []byte(bad), t.TempDir(), nil)
		if err == nil {
			t.Errorf("no fault in:%s", bad)
			continue
		}
		shown = append(shown, err.Error(), fmt.Sprintf("%+v", err))
	}
	for _, text := range shown {
		for _, canary := range []string{psk, psk[:8], hex.EncodeToString([]byte(psk)), base64.StdEncoding.EncodeToString([]byte(psk))[:32]} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(canary)) {
				t.Errorf("the secret shows: %s", text)
			}
		}
	}
}

// TestRow37WeakPSK: what can be guessed offline draws a warning.
func TestRow37WeakPSK(t *testing.T) {
	for text, weak := range map[string]bool{
		psk:                false,
		"0123456789abcdef": true, // 80 bits at most
		"Tr0ub4dor&3":      true,
		"\x8f\x01\xe2\x77\xa0\x93\xff\x5c\x1e\xb6\xd8\x42\x3b\x90\x6d\xc4": false,
		"correct horse battery staple":                                     false,
		strings.Repeat("ab", 40):                                           true,
	} {
		if why := weakPSK([]byte(text)); (why != "") != weak {
			t.Errorf("%q: %q", text, why)
		}
	}
}
