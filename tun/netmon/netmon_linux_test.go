package netmon

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
)

const inside = "MARTLET_NETMON_INSIDE"

func TestMonitor(t *testing.T) {
	inNamespace(t, watch)
}

// TestLookOut: where the kernel tells nothing, the same is found out.
func TestLookOut(t *testing.T) {
	inNamespace(t, lookOut)
}

// inNamespace runs the test that calls it again in a network namespace, and f there.
func inNamespace(t *testing.T, f func(*testing.T)) {
	if os.Getenv(inside) != "" {
		f(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
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
	ip(t, "link set eth mtu 1300")
	if mtu, ok := LinkMTU(want); !ok || mtu != 1300 {
		t.Errorf("the MTU of the link is %d, %v", mtu, ok)
	}
	if mtu, ok := LinkMTU(netip.MustParseAddr("192.0.2.9")); ok {
		t.Errorf("the MTU is %d of an address that nobody has", mtu)
	}
	ip(t, "route add default via 192.0.2.254")
	told("a default route")
	if name, index, ok := DefaultInterface(true, "own"); !ok || name != "eth" || index == 0 {
		t.Errorf("the default interface is %q, %d, %v", name, index, ok)
	}
	if name, _, ok := DefaultInterface(true, "eth"); ok {
		t.Errorf("the default interface is %q, where only the tunnel leads out", name)
	}
	if name, _, ok := DefaultInterface(false, "own"); ok {
		t.Errorf("the default interface of IPv6 is %q, and there is no route", name)
	}
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

// lookOut changes the namespace between two looks, on a clock that goes on when all have looked.
func lookOut(t *testing.T) {
	ip(t, "link set lo up", "link add eth type veth peer name far", "link add own type veth peer name wide")
	ip(t, "link set far up", "link set wide up", "link set eth up", "link set own up")
	for _, name := range []string{"eth", "own"} {
		for i := (&net.Interface{}); i.Flags&net.FlagRunning == 0; { // the kernel takes a moment
			var err error
			if i, err = net.InterfaceByName(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.WarnLevel)
		m := newMonitor("own", zap.New(core))
		in := make(chan news)
		m.tasks.Go(func() { m.lookOut(in, errors.ErrUnsupported) })
		synctest.Wait()
		m.begin(in)
		told := func() bool {
			time.Sleep(poll + hurry)
			synctest.Wait()
			select {
			case <-m.Changes():
				return true
			default:
				return false
			}
		}
		for _, c := range []struct {
			what, command string
			want          bool
		}{
			{"nothing", "link show", false},
			{"an address", "addr add 192.0.2.1/24 dev eth", true},
			{"an address of the tunnel", "addr add 10.1.2.3/24 dev own", false},
			{"a default route", "route add default via 192.0.2.254 metric 50", true},
			{"a default route of the tunnel", "route add default dev own", false},
			{"a route beside", "route add 10.8.0.0/16 via 192.0.2.254", false},
			{"no default route", "route del default via 192.0.2.254", true},
			{"a link that is down", "link set eth down", true},
		} {
			ip(t, c.command)
			if got := told(); got != c.want {
				t.Errorf("%s: told %v", c.what, got)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if n := logged.Len(); n != 1 {
			t.Errorf("%d lines of log, want one", n)
		}
	})
}
