package privsep

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lookAround tries what a child may and may not.
func lookAround(f found, note func(string, error), paths []string) {
	status, err := os.ReadFile("/proc/self/status")
	note("status", err)
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	open := func(what, path string, flags int) {
		file, err := os.OpenFile(path, flags, 0)
		note(what, err)
		if err == nil {
			_ = file.Close()
		}
	}
	open("hosts", "/etc/hosts", os.O_RDONLY)
	open("shadow", "/etc/shadow", os.O_RDONLY)
	open("a file of all", paths[0], os.O_RDONLY)
	open("a file that all may write", paths[0], os.O_WRONLY)
	open("null", os.DevNull, os.O_RDWR)
	file, err := os.CreateTemp(paths[1], "new")
	note("a new file", err)
	if err == nil {
		_ = file.Close()
	}
	note("a signal", syscall.Kill(os.Getppid(), 0))
	conn, err := net.Dial("unix", paths[2])
	note("an abstract socket", err)
	if err == nil {
		_ = conn.Close()
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	note("dumpable", err)
	f["dumpable"] = strconv.Itoa(dumpable)
	note("its own capabilities", unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_CHOWN, 0, 0, 0))
	note("another user", syscall.Setuid(0))
}

// TestConfined: a child has no right, and reaches nothing of this host that it does not need.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, nil, 0o666); err != nil { //nolint:gosec // so that only Landlock is in the way
		t.Fatal(err)
	}
	for _, path := range []string{open, dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o777); err != nil { //nolint:gosec // the same
			t.Fatal(err)
		}
	}
	abstract, err := net.Listen("unix", "@privsep-test-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	f, c := child(t, (&machine{}).server(testSettings), order{Do: "look around", Paths: []string{open, dir, abstract.Addr().String()}})
	for what, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "", "NoNewPrivs": "1", "dumpable": "0",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
		"hosts": "done", "null": "done",
	} {
		if f[what] != want {
			t.Errorf("%s: %q, want %q", what, f[what], want)
		}
	}
	denied := []string{"shadow", "a signal", "another user", "its own capabilities"}
	if abi, err := landlock(); err == nil {
		denied = append(denied, "a file of all", "a file that all may write", "a new file")
		if abi >= 6 {
			denied = append(denied, "an abstract socket")
		}
	}
	for _, what := range denied {
		if !strings.Contains(f[what], "permission denied") && !strings.Contains(f[what], "not permitted") {
			t.Errorf("%s: %q", what, f[what])
		}
	}
	<-c.Done()
	if status, clean, how, err := c.Finish(); status != 0 || !clean || err != nil {
		t.Errorf("it ended by %s: %d, in order %v, %v", how, status, clean, err)
	}
}

// TestEndsWithItsParent: who kills the parent has killed the child.
func TestEndsWithItsParent(t *testing.T) {
	needRoot(t)
	cmd := run(self)
	cmd.Env = append(os.Environ(), parentVariable+"=wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out) // whose other end the child has too, as long as it lives
	line, err := r.ReadString('\n')
	if pid, atoi := strconv.Atoi(strings.TrimSpace(line)); err != nil || atoi != nil || pid == 0 {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
	_ = cmd.Wait() // it was killed
}

// TestWithoutSetuid: where the system lets nobody become another user the child stays root, and has no right all the same.
func TestWithoutSetuid(t *testing.T) {
	needRoot(t)
	cmd := run(self)
	cmd.Env = append(os.Environ(), parentVariable+"=look around")
	started := make(chan []byte)
	var err error
	go func() {
		runtime.LockOSThread() // never unlocked
		for _, c := range []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP} {
			err = errors.Join(err, unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0))
		}
		out, e := cmd.Output()
		err = errors.Join(err, e)
		started <- out
	}()
	out := <-started
	var f found
	if err := errors.Join(err, json.Unmarshal(out, &f)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for what, want := range map[string]string{
		"user": "root", "Uid": "0 0 0 0", "NoNewPrivs": "1", "dumpable": "0", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		if f[what] != want {
			t.Errorf("%s: %q, want %q", what, f[what], want)
		}
	}
	for _, want := range []string{"may not become nobody", "bounding set"} {
		if !strings.Contains(f["limits"], want) {
			t.Errorf("limits %q do not tell of %q", f["limits"], want)
		}
	}
	if f["a new file"] == "done" {
		t.Errorf("%q", f)
	}
}

// TestSignals: a child hears the signals that its parent tells it of, and not those of a terminal, which go to both.
func TestSignals(t *testing.T) {
	s := (&machine{}).server(testSettings)
	heard := make(chan string, 4)
	s.More["signal"] = func(body json.RawMessage) (any, []*os.File, error) { heard <- string(body); return nil, nil, nil }
	_, c := child(t, s, order{Do: "signals"})
	for _, number := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if err := c.cmd.Process.Signal(number); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(number); err != nil {
			t.Fatal(err)
		}
		if got, want := <-heard, strconv.Quote(number.String()); got != want {
			t.Errorf("it heard %s, want %s", got, want)
		}
	}
	if len(heard) > 0 {
		t.Errorf("it heard %s too", <-heard)
	}
}
