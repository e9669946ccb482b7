package udpencap

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace with a thread of its own.
type namespace struct {
	t    testing.TB
	work chan func()
	fd   int
}

// newNamespace skips the test where namespaces cannot be made.
func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{t: t, work: make(chan func())}
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
		t.Skipf("needs root for a network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.work); unix.Close(n.fd) })
	n.ip("link set lo up")
	return n
}

// do runs f inside. f must not call t.FailNow; it returns what is wrong.
func (n *namespace) do(f func() error) {
	n.t.Helper()
	done := make(chan error)
	n.work <- func() { done <- f() }
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

func (n *namespace) ip(command string) {
	n.t.Helper()
	n.do(func() error {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", command, err, out)
		}
		return nil
	})
}

// address6 gives an interface an address, and returns when the kernel takes packets to it: a worker
// of its own sees to that some time after the address is there.
func (n *namespace) address6(address, device string) {
	n.t.Helper()
	n.ip("address add " + address + "/64 dev " + device + " nodad")
	n.do(func() error {
		for {
			out, err := exec.Command("ip", "-6", "route", "show", "table", "local", "type", "local", address).CombinedOutput()
			if err != nil || len(out) > 0 {
				return err
			}
			runtime.Gosched()
		}
	})
}

func (n *namespace) sysctl(name, value string) {
	n.t.Helper()
	n.do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0o600) })
}

// link joins two namespaces by a cable, which has an IPv4 and an IPv6 network.
func (n *namespace) link(name string, peer *namespace, mtu, network int) {
	n.t.Helper()
	n.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(peer.fd)})
	})
	for i, end := range []*namespace{n, peer} {
		end.ip(fmt.Sprintf("address add 10.0.%d.%d/24 dev %s", network, i+1, name))
		end.ip(fmt.Sprintf("link set %s mtu %d up", name, mtu))
	}
	for i, end := range []*namespace{n, peer} { // both ends must be up
		end.address6(fmt.Sprintf("fd00:%d::%d", network, i+1), name)
	}
}

// listen opens a socket inside.
func (n *namespace) listen(u *UDP, local string) *bound {
	n.t.Helper()
	var s Socket
	n.do(func() (err error) {
		s, err = u.Listen(netip.MustParseAddrPort(local), true)
		return err
	})
	return newBound(n.t, s)
}

// narrow is two hosts and the router between them, behind which only mtu octets pass.
func narrow(t testing.TB, mtu int) (left, right *namespace) {
	t.Helper()
	left, right = newNamespace(t), newNamespace(t)
	router := newNamespace(t)
	left.link("wide", router, 1500, 1)
	router.link("narrow", right, mtu, 2)
	router.sysctl("net/ipv4/ip_forward", "1")
	router.sysctl("net/ipv6/conf/all/forwarding", "1")
	left.ip("route add default via 10.0.1.2")
	left.ip("-6 route add default via fd00:1::2")
	right.ip("route add default via 10.0.2.1")
	right.ip("-6 route add default via fd00:2::1")
	return left, right
}
