package dns

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// etc is a host of which only /etc is looked at, without a bus.
func etc(t *testing.T, log *zap.Logger) (*unixSystem, string) {
	t.Helper()
	t.Setenv("PATH", t.TempDir()) // no resolvconf
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &unixSystem{root: root, bus: "unix:path=" + filepath.Join(root, "no-bus"), log: log}, filepath.Join(root, "etc/resolv.conf")
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // as the system's is
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func begin(t *testing.T, s system, state string, log *zap.Logger) *host {
	t.Helper()
	h, err := newHost(s, state, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func set(t *testing.T, h Host, c Config) {
	t.Helper()
	if err := h.Set(c); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, h Host) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// until waits for what another goroutine does; the test's own time limit is the only one.
func until(what func() bool) {
	for !what() {
		runtime.Gosched()
	}
}

// killed leaves what a killed process does: its file, its note, and no lock.
func killed(t *testing.T, h *host) {
	t.Helper()
	f := h.manner.(*file)
	f.mu.Lock()
	stop := f.stop
	f.text = ""
	f.mu.Unlock()
	stop()
	if h.note != nil {
		if err := h.note.release(); err != nil {
			t.Fatal(err)
		}
	}
	h.manner, h.note = nil, nil
}

func TestFileIsOursAndComesBack(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	if err := os.Chmod(path, 0o640); err != nil { //nolint:gosec // not the mode that it would get
		t.Fatal(err)
	}
	state := t.TempDir()
	h := begin(t, s, state, zap.NewNop())
	set(t, h, everything())
	if got := get(t, path); !strings.Contains(got, "\nnameserver 10.1.0.53\nnameserver fd00:1::53\nsearch corp.example\n") {
		t.Errorf("set:\n%s", got)
	}
	next := everything()
	next.Servers = addrs("10.2.0.53")
	set(t, h, next)
	if c := parseConf(get(t, path)); len(c.Servers) != 1 || c.Servers[0] != next.Servers[0] {
		t.Errorf("set again: %v", c.Servers)
	}
	end(t, h)
	st, err := os.Stat(path)
	if got := get(t, path); got != hostConf || err != nil || st.Mode() != 0o640 {
		t.Errorf("closed: %q, %v, %v", got, st.Mode(), err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("in the state folder: %v, %v", left, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("in /etc: %v, %v", left, err)
	}
}

func TestLinkComesBack(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	const to = "../run/systemd/resolve/stub-resolv.conf"
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	h := begin(t, s, t.TempDir(), zap.NewNop())
	set(t, h, everything())
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		t.Errorf("%v, %v", st, err)
	}
	end(t, h)
	if got, err := os.Readlink(path); got != to {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNoFileComesBackAsNone(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	h := begin(t, s, "", zap.NewNop())
	set(t, h, everything())
	get(t, path)
	end(t, h)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// In a container the file is a mount of its own, and has no other name.
func TestMountedFileIsWrittenOver(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	source := filepath.Join(t.TempDir(), "from-outside")
	put(t, source, hostConf)
	put(t, path, "")
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		t.Skip("no mounts without root: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	log, text := logs()
	s.log = log
	h := begin(t, s, t.TempDir(), log)
	set(t, h, everything())
	if got := get(t, source); !strings.Contains(got, "\nnameserver 10.1.0.53\n") {
		t.Errorf("set:\n%s", got)
	}
	// The one who made the container writes by the other name.
	put(t, source, "nameserver 192.0.2.9\n")
	until(func() bool { return strings.Contains(get(t, path), "\nnameserver 10.1.0.53\n") })
	end(t, h)
	if got := get(t, source); got != "nameserver 192.0.2.9\n" {
		t.Errorf("closed: %q\n%s", got, text())
	}
}

func TestOverwrittenFileIsPutBackAndTheNewOneKept(t *testing.T) {
	for name, overwrite := range map[string]func(t *testing.T, path string){
		"written": func(t *testing.T, path string) { put(t, path, nmConf) },
		"renamed": func(t *testing.T, path string) {
			put(t, path+".new", nmConf)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"removed and written": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(t, path+".new", nmConf)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, text := logs()
			s, path := etc(t, log)
			put(t, path, hostConf)
			h := begin(t, s, t.TempDir(), log)
			set(t, h, everything())
			overwrite(t, path)
			until(func() bool {
				b, _ := os.ReadFile(path) // it can be away
				o, mine := parseOurs(string(b))
				return mine && o.Before.Content == nmConf
			})
			end(t, h)
			if got := get(t, path); got != nmConf {
				t.Errorf("closed: %q", got)
			}
			if n := strings.Count(text(), "warn another program has written over our resolvers"); n != 1 {
				t.Errorf("said %d times:\n%s", n, text())
			}
		})
	}
}

func TestLinkInPlaceOfOursIsKeptForTheEnd(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	h := begin(t, s, "", zap.NewNop())
	set(t, h, everything())
	if err := os.Symlink("other", path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	until(func() bool {
		st, err := os.Lstat(path)
		return err == nil && st.Mode().IsRegular()
	})
	end(t, h)
	if got, err := os.Readlink(path); got != "other" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFightEndsAndTheFileIsLeft(t *testing.T) {
	log, text := logs()
	s, path := etc(t, log)
	put(t, path, hostConf)
	h := begin(t, s, "", log)
	set(t, h, everything())
	f := h.manner.(*file)
	f.mu.Lock()
	start := time.Now()
	f.now = func() time.Time { return start }
	f.mu.Unlock()
	for range maxFights - 1 {
		put(t, path, nmConf)
		until(func() bool { _, mine := parseOurs(get(t, path)); return mine })
	}
	put(t, path, nmConf)
	until(func() bool {
		return strings.Contains(text(), "error the resolvers of this host are no longer those of the tunnel")
	})
	end(t, h)
	if got := get(t, path); got != nmConf {
		t.Errorf("closed: %q", got)
	}
	if !strings.Contains(text(), "left as they are") {
		t.Error(text())
	}
}

func TestPatienceIsOfOneMinute(t *testing.T) {
	var p patience
	now := time.Now()
	for i := range 100 {
		if p.lost(now.Add(time.Duration(i) * fightTime / (maxFights - 1))) {
			t.Fatalf("lost at %d", i)
		}
	}
	for i := range maxFights {
		if got := p.lost(now.Add(time.Hour)); got != (i == maxFights-1) {
			t.Errorf("%d: %v", i, got)
		}
	}
}

func TestRecoverAfterKill(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	state := t.TempDir()
	h := begin(t, s, state, zap.NewNop())
	set(t, h, everything())
	if err := recoverAll(s, state, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if _, mine := parseOurs(get(t, path)); !mine {
		t.Error("undone although its Host lives")
	}
	killed(t, h)
	if err := recoverAll(s, state, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, path); got != hostConf {
		t.Errorf("recovered: %q", got)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("in the state folder: %v, %v", left, err)
	}
}

// The state folder is empty after a reboot; /etc is not.
func TestRecoverWithoutState(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	c := everything()
	c.Device = "martlet-gone"
	h := begin(t, s, "", zap.NewNop())
	set(t, h, c)
	killed(t, h)
	if err := recoverAll(s, t.TempDir(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, path); got != hostConf {
		t.Errorf("recovered: %q", got)
	}
}

func TestRecoverLeavesWhatWasEditedSince(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	state := t.TempDir()
	h := begin(t, s, state, zap.NewNop())
	set(t, h, everything())
	killed(t, h)
	edited := strings.Replace(get(t, path), "10.1.0.53", "192.0.2.53", 1)
	put(t, path, edited)
	if err := recoverAll(s, state, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, path); got != edited {
		t.Errorf("recovered: %q", got)
	}
}

func TestNewHostTakesOverFromAKilledOne(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	c := everything()
	c.Device = "martlet-gone"
	h := begin(t, s, "", zap.NewNop())
	set(t, h, c)
	killed(t, h)
	next := begin(t, s, "", zap.NewNop())
	set(t, next, everything())
	end(t, next)
	if got := get(t, path); got != hostConf {
		t.Errorf("closed: %q", got)
	}
}

func TestOneTunnelHasTheFile(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	first := begin(t, s, "", zap.NewNop())
	set(t, first, everything()) // lo exists
	c := everything()
	c.Device = "martlet1"
	second := begin(t, s, "", zap.NewNop())
	if err := second.Set(c); err == nil || !strings.Contains(err.Error(), "those of the tunnel on lo; end that one first") {
		t.Errorf("%v", err)
	}
	end(t, second)
	if o, mine := parseOurs(get(t, path)); !mine || o.Device != "lo" {
		t.Errorf("%+v, %v", o, mine)
	}
}

func TestOneHostHasTheNote(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	state := t.TempDir()
	set(t, begin(t, s, state, zap.NewNop()), everything())
	if err := begin(t, s, state, zap.NewNop()).Set(everything()); err == nil || !strings.Contains(err.Error(), "another process holds it; end the other program") {
		t.Errorf("%v", err)
	}
}

func TestUnreadableNoteGoes(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	state := t.TempDir()
	put(t, filepath.Join(state, "martlet0."+scope()+noteSuffix), `{"manner":"file","device":"../../x","record":"x"}`)
	put(t, filepath.Join(state, "martlet1.other-namespace"+noteSuffix), `{}`)
	log, text := logs()
	if err := recoverAll(s, state, log); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) != 1 || left[0].Name() != "martlet1.other-namespace"+noteSuffix || !strings.Contains(text(), "cannot be read, and goes") {
		t.Errorf("%v, %v\n%s", left, err, text())
	}
}

// A plain file sends all names to its servers, and a person is told.
func TestFileCannotSplit(t *testing.T) {
	log, text := logs()
	s, path := etc(t, log)
	put(t, path, hostConf)
	h := begin(t, s, "", log)
	set(t, h, split())
	set(t, h, split())
	if n := strings.Count(text(), "warn all names go to the resolvers of the tunnel"); n != 1 {
		t.Errorf("said %d times:\n%s", n, text())
	}
	if got := get(t, path); !strings.Contains(got, "\nnameserver fd00:1::53\nsearch corp.example eu.corp.example\n") {
		t.Error(got)
	}
}

func TestFileThatCannotBeWrittenIsExplained(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	put(t, path, hostConf)
	if err := unix.Mount(filepath.Dir(path), filepath.Dir(path), "", unix.MS_BIND, ""); err != nil {
		t.Skip("no mounts without root: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Dir(path), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", filepath.Dir(path), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err := begin(t, s, "", zap.NewNop()).Set(everything())
	if err == nil || !strings.Contains(err.Error(), "read-only file system; mount it writable") {
		t.Errorf("%v", err)
	}
}

func TestFileTooLongToKeepIsLeft(t *testing.T) {
	s, path := etc(t, zap.NewNop())
	long := strings.Repeat("\n", maxConf/2)
	put(t, path, long)
	if err := begin(t, s, "", zap.NewNop()).Set(everything()); err == nil || !strings.Contains(err.Error(), "shorten it") {
		t.Errorf("%v", err)
	}
	if got := get(t, path); got != long {
		t.Errorf("%d octets", len(got))
	}
}

// Nothing is changed on the machine that runs the tests.
func TestThisHostIsDecidedAndLeft(t *testing.T) {
	log, text := logs()
	before, _ := readFormer("/etc/resolv.conf") // there may be none
	h, err := New(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	end(t, h)
	if n := strings.Count(text(), "info how the resolvers of this host will be set"); n != 1 {
		t.Errorf("said %d times:\n%s", n, text())
	}
	if err := Recover(t.TempDir(), nil); err != nil {
		t.Error(err)
	}
	if after, _ := readFormer("/etc/resolv.conf"); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}
