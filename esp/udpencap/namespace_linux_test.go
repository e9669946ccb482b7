package udpencap

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"testing"

	"martlet/test/netns"
)

// namespace is a host of its own.
type namespace struct {
	*netns.Namespace
	t testing.TB
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	return &namespace{netns.New(t), t}
}

// address6 gives an interface an address, and returns when the kernel takes packets to it: a worker
// of its own sees to that some time after the address is there.
func (n *namespace) address6(address, device string) {
	n.t.Helper()
	n.IP("address add " + address + "/64 dev " + device + " nodad")
	n.Do(func() error {
		for {
			out, err := exec.Command("ip", "-6", "route", "show", "table", "local", "type", "local", address).CombinedOutput()
			if err != nil || len(out) > 0 {
				return err
			}
			runtime.Gosched()
		}
	})
}

// link joins two namespaces by a cable, which has an IPv4 and an IPv6 network.
func (n *namespace) link(name string, peer *namespace, mtu, network int) {
	n.t.Helper()
	n.Cable(name, peer.Namespace, name)
	for i, end := range []*namespace{n, peer} {
		end.IP(fmt.Sprintf("address add 10.0.%d.%d/24 dev %s", network, i+1, name))
		end.IP(fmt.Sprintf("link set %s mtu %d up", name, mtu))
	}
	for i, end := range []*namespace{n, peer} { // both ends must be up
		end.address6(fmt.Sprintf("fd00:%d::%d", network, i+1), name)
	}
}

// listen opens a socket inside.
func (n *namespace) listen(u *UDP, local string) *bound {
	n.t.Helper()
	var s Socket
	n.Do(func() (err error) {
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
	router.Sysctl("net/ipv4/ip_forward", "1")
	router.Sysctl("net/ipv6/conf/all/forwarding", "1")
	left.IP("route add default via 10.0.1.2")
	left.IP("-6 route add default via fd00:1::2")
	right.IP("route add default via 10.0.2.1")
	right.IP("-6 route add default via fd00:2::1")
	return left, right
}
