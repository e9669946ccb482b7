// Package netns gives tests network namespaces of their own.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with a thread of its own, which both end with the test.
type Namespace struct {
	t    testing.TB
	work chan func()
	fd   int
}

// New makes a namespace whose loopback is up. It skips the test where namespaces cannot be made.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		close(n.work)
		skip(t, err)
	}
	t.Cleanup(func() {
		close(n.work)
		if err := unix.Close(n.fd); err != nil {
			t.Error(err)
		}
	})
	n.IP("link set lo up")
	return n
}

// Enter moves the test's goroutine into a namespace that ends with it. It skips the test where
// namespaces cannot be made.
func Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread dies with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip(t, err)
	}
}

func skip(t testing.TB, err error) {
	t.Helper()
	t.Skipf("needs root for a network namespace: %v", err)
}

// Try runs f inside and returns what it returns. f must not end the test.
func (n *Namespace) Try(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

// Do runs f inside, which must succeed. f must not end the test itself.
func (n *Namespace) Do(f func() error) {
	n.t.Helper()
	if err := n.Try(f); err != nil {
		n.t.Fatal(err)
	}
}

// Run runs a program inside, which must succeed, and returns its output.
func (n *Namespace) Run(name string, args ...string) string {
	n.t.Helper()
	var out []byte
	n.Do(func() (err error) {
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
		}
		return nil
	})
	return string(out)
}

// IP runs the program ip inside.
func (n *Namespace) IP(command string) string {
	n.t.Helper()
	return n.Run("ip", strings.Fields(command)...)
}

// Sysctl writes a file below /proc/sys.
func (n *Namespace) Sysctl(name, value string) {
	n.t.Helper()
	n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0o600) })
}

// Cable joins two namespaces by a pair of interfaces, which are not up yet.
func (n *Namespace) Cable(own string, other *Namespace, theirs string) {
	n.t.Helper()
	// An interface is given to a namespace by a file of this process.
	n.IP(fmt.Sprintf("link add %s type veth peer name %s netns /proc/%d/fd/%d", own, theirs, syscall.Getpid(), other.fd))
}
