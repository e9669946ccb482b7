package privsep

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRestored: what a child set and did not take back is undone when it dies; a kill switch stays.
func TestRestored(t *testing.T) {
	for _, c := range []struct {
		name       string
		killSwitch bool
		last       []string
	}{{"killed", false, []string{"no names", "no routes", "no rules"}}, {"killed with a kill switch", true, []string{"no names", "no routes", "rules left"}}} {
		t.Run(c.name, func(t *testing.T) {
			m, settings := &machine{}, testSettings
			settings.KillSwitch = c.killSwitch
			s := m.server(testSettings) // the rules of the child have none
			f, child := child(t, s, order{Do: "set"})
			for what, how := range f {
				if how != "done" {
					t.Errorf("%s: %s", what, how)
				}
			}
			s.mu.Lock()
			s.settings = settings
			s.mu.Unlock()
			if err := child.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-child.Done()
			_, clean, how, err := child.Finish()
			if clean || err != nil || !strings.Contains(how, "killed") {
				t.Errorf("in order %v, %s, %v", clean, how, err)
			}
			if len(m.log) != 7 || !slices.Equal(m.log[4:], c.last) {
				t.Errorf("done: %q", m.log)
			}
		})
	}
}

// TestTakenBack: a child that leaves in order leaves nothing to undo.
func TestTakenBack(t *testing.T) {
	m := &machine{}
	_, c := child(t, m.server(testSettings), order{Do: "set", Paths: []string{"and take back"}})
	<-c.Done()
	if status, clean, how, err := c.Finish(); status != 0 || !clean || err != nil {
		t.Errorf("%s: %d, in order %v, %v", how, status, clean, err)
	}
	if want := []string{"recovered", "routes", "rules", "names", "no names", "no routes", "no rules"}; !slices.Equal(m.log, want) {
		t.Errorf("done %q, want %q", m.log, want)
	}
}

// TestFiles: a child reads what the parent has read, and what came to a folder of that since; nothing else.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to, name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	named, other := write("named", "secret"), write("other", "not yours")
	write("lists/a.crl", "a")
	linked := link("named", "linked")
	s := (&machine{}).server(testSettings)
	for _, path := range []string{named, linked, filepath.Join(dir, "lists")} {
		if _, err := s.Files.Stat(path); err != nil {
			t.Fatal(err)
		}
		file, err := s.Files.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
	}
	later := write("lists/b.crl", "b")
	inside, out, far := link("b.crl", "lists/c.crl"), link("../other", "lists/d.crl"), link("/etc/shadow", "lists/e.crl")
	up := filepath.Join(dir, "lists") + "/../other"
	want := map[string]string{named: "secret", linked: "secret", later: "b", inside: "b", filepath.Join(dir, "lists", "a.crl"): "a"}
	refused := []string{other, out, far, up, "/etc/shadow", "named", named + "/", "/proc/self/environ", filepath.Join(named, "below"), filepath.Join(dir, "lists", "missing")}
	f, _ := child(t, s, order{Do: "read", Paths: append(slices.Collect(keys(want)), refused...)})
	for path, text := range want {
		if f[path] != text {
			t.Errorf("%s: %q, want %q", path, f[path], text)
		}
	}
	for _, path := range refused {
		if !strings.HasPrefix(f[path], "open "+path+": ") {
			t.Errorf("%s was read: %q", path, f[path])
		}
	}
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestControlSocket: the parent makes it, the child gets it, and it goes when both are gone.
func TestControlSocket(t *testing.T) {
	settings := testSettings
	settings.Control = filepath.Join(t.TempDir(), "run", "control.sock")
	s := NewServer(&Direct{Settings: settings}, &Files{})
	answer, fds, done := s.answer(message{Do: doControl})
	if answer.Fault != nil || len(fds) != 1 {
		t.Fatalf("%+v, %v", answer.Fault, fds)
	}
	if info, err := os.Stat(settings.Control); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if conn, err := net.Dial("unix", settings.Control); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	if again, _, _ := s.answer(message{Do: doControl}); again.Fault == nil {
		t.Error("it is made twice")
	}
	done()
	if left, err := s.restore(); left || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := os.Lstat(settings.Control); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestUnserved: a child that no server has yet waits, and is ended as one that is served.
func TestUnserved(t *testing.T) {
	needRoot(t)
	c, err := Spawn(testUser, os.Args[:1], os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
		t.Errorf("it did not wait: %v", c.cmd.ProcessState)
	default:
	}
	c.Kill()
	<-c.Done()
	if status := c.cmd.ProcessState.String(); !strings.Contains(status, "killed") {
		t.Error(status)
	}
}
