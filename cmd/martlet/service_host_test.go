package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inFolder is a service manager of a test: its units are files in a folder, and each command adds a
// line to a file there.
type inFolder struct{ path string }

func (f inFolder) sign() string { return f.path }

func (f inFolder) file(u unit) string { return filepath.Join(f.path, u.id()+".unit") }

func (f inFolder) note(word string) []string {
	return []string{"sh", "-c", "echo " + word + " >>" + filepath.Join(f.path, "commands")}
}

func (f inFolder) install(u unit, had presence) []step {
	steps := []step{{write: f.file(u), text: "# " + u.mark() + "\n" + u.command() + "\n", mode: 0o644}, {run: []string{"false"}, lenient: true}}
	if had == other {
		return append(steps, step{run: f.note("restart")})
	}
	return append(steps, step{run: f.note("start")})
}

func (f inFolder) remove(u unit) []step { return []step{{run: f.note("stop")}, {remove: f.file(u)}} }

func (f inFolder) status(u unit) []string { return []string{"test", "-e", f.file(u)} }

// TestInstalling: once, again, with a change, and until it is removed; what others wrote stays.
func TestInstalling(t *testing.T) {
	m := inFolder{t.TempDir()}
	var said bytes.Buffer
	install := func(u unit, want presence) {
		t.Helper()
		had, err := present(m, u)
		if err != nil || had != want {
			t.Fatalf("%v, %v; want %v", had, err, want)
		}
		if err := carryOut(&said, m.install(u, had)); err != nil {
			t.Fatal(err)
		}
	}
	install(office, absent)
	install(gateway, absent)
	install(office, same)
	changed := office
	changed.program = "/usr/bin/martlet"
	install(changed, other)
	if text, err := os.ReadFile(m.file(office)); err != nil || !strings.Contains(string(text), changed.command()) {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(m.file(office)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	units, err := installed(m)
	if err != nil || len(units) != 2 || units[0].arg() != "--serve" || units[1].arg() != office.name {
		t.Errorf("%+v, %v", units, err)
	}
	if err := carryOut(&said, m.remove(office)); err != nil {
		t.Fatal(err)
	}
	if had, err := present(m, office); err != nil || had != absent {
		t.Errorf("after it was removed: %v, %v", had, err)
	}
	commands, err := os.ReadFile(filepath.Join(m.path, "commands"))
	if err != nil || string(commands) != "start\nstart\nstart\nrestart\nstop\n" {
		t.Errorf("%q, %v", commands, err)
	}
	if !strings.Contains(said.String(), "martlet: "+m.file(office)+" is as it should be\n") {
		t.Errorf("it said\n%s", said.String())
	}

	// Of another, with the same file.
	for _, text := range []string{"ours", "# " + unit{name: "hq_2"}.mark()} {
		if err := os.WriteFile(m.file(office), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := present(m, office); err == nil {
			t.Errorf("a file with %q counts as ours", text)
		}
	}
	if err := carryOut(&said, []step{{run: []string{"false"}}}); err == nil {
		t.Error("a command that fails is no error")
	}
	if err := carryOut(&said, []step{{write: filepath.Join(m.path, "no", "folder")}}); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}

// TestReplaceable: neither the file nor any folder above it may be one that others than root write.
func TestReplaceable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, who owns the files")
	}
	for path, safe := range map[string]bool{"/": true, "/etc/passwd": true, "/tmp": false, "/tmp/nothing": false} {
		if why := replaceable(path); (why == "") != safe {
			t.Errorf("%s: %q", path, why)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if why := replaceable(file); !strings.Contains(why, "belongs to user 65534") {
		t.Errorf("%q", why)
	}
	for path, want := range map[string]bool{"/home/alice/x": true, "/root/x": true, "/homes/x": false, "/etc/martlet/x": false, "/tmp/x": true} {
		if hidden(path) != want {
			t.Errorf("%s: hidden is %v", path, !want)
		}
	}
}
