package interop

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come. It is far beyond what anything
// takes, so that a slow machine fails no test.
const patience = 60 * time.Second

// process is a program in a namespace. Its output is kept.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	out  lockedBuffer
	done chan struct{} // closed when it has ended
	err  error         // how, once done
}

// lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// spawn starts a program, which is stopped at the end of the test at the latest. Its
// output is shown if the test fails.
func (ns *namespace) spawn(name string, env []string, args ...string) *process {
	ns.t.Helper()
	argv := ns.argv(args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return ns.watch(name, cmd, cmd.Start)
}

// watch has cmd started, and is as spawn.
func (ns *namespace) watch(name string, cmd *exec.Cmd, start func() error) *process {
	ns.t.Helper()
	p := &process{t: ns.t, name: name + " in " + ns.name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if err := start(); err != nil {
		ns.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	ns.t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if ns.t.Failed() {
			ns.t.Logf("%s said:\n%s", p.name, tail(p.out.String(), 120))
		}
	})
	return p
}

// stop ends the process by a signal, and by force if that does not help.
func (p *process) stop(sig syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience / 2):
		p.t.Errorf("%s does not end by %v", p.name, sig)
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.done
	}
}

// wait waits for the end and returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end:\n%s", p.name, tail(p.out.String(), 60))
	}
	return p.cmd.ProcessState.ExitCode()
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// says waits until the output has a text.
func (p *process) says(text string) {
	p.t.Helper()
	until(p.t, p.name+" says "+text, func() bool {
		if strings.Contains(p.out.String(), text) {
			return true
		}
		if p.ended() {
			p.t.Fatalf("%s ended without saying %q:\n%s", p.name, text, tail(p.out.String(), 60))
		}
		return false
	})
}

// until asks again and again until something holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		<-tick.C
	}
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func readFile(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
