package netmon

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

const inside = "MARTLET_NETMON_INSIDE"

// TestMonitor runs this test again in a network namespace.
func TestMonitor(t *testing.T) {
	if os.Getenv(inside) != "" {
		watch(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMonitor$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("needs root for a network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", c, err, out)
		}
	}
}

// watch changes the namespace in every way that counts, and in some that do not.
func watch(t *testing.T) {
	ip(t, "link set lo up", "link add own type veth peer name far", "link set own up", "link set far up")
	m, err := New("own", zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	told := func(what string) {
		t.Helper()
		select {
		case c := <-m.Changes():
			if c.Woken {
				t.Errorf("%s: it is said that the host slept", what)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nothing was told", what)
		}
	}
	// What does not count is not told before what does.
	quiet := func() {
		t.Helper()
		select {
		case <-m.Changes():
			t.Error("something was told that does not concern us")
		case <-time.After(2 * hurry):
		}
	}
	ip(t, "link add eth type veth peer name peer", "link set peer up", "link set eth up", "addr add 192.0.2.1/24 dev eth")
	told("an interface with an address")
	quiet()
	want := netip.MustParseAddr("192.0.2.1")
	if got := m.Addresses(); !slices.Contains(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	ip(t, "route add default via 192.0.2.254")
	told("a default route")
	ip(t, "addr add 10.1.2.3/24 dev own", "route add 10.9.0.0/16 dev own", "route add 0.0.0.0/0 dev own table 99", "route add 10.8.0.0/16 via 192.0.2.254")
	quiet()
	if slices.Contains(m.Addresses(), netip.MustParseAddr("10.1.2.3")) {
		t.Error("the tunnel's own address is listed")
	}
	ip(t, "addr add 192.0.2.2/24 dev eth", "addr del 192.0.2.1/24 dev eth")
	told("another address")
	ip(t, "link set eth down")
	told("the link is down")
	if got := m.Addresses(); slices.Contains(got, want) {
		t.Errorf("addresses %v of a link that is down", got)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, open := <-m.Changes(); open {
		t.Error("something is told after the end")
	}
}
