package martlet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"martlet/config"
	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/ike/message"
)

// Marks do all of it on Linux. Elsewhere peers are excepted by routes, by rules, or by the interface to
// which sockets are bound, and what is excepted holds for one network.
func TestNeedsOfSystems(t *testing.T) {
	for goos, want := range map[string]needs{
		"linux":   {},
		"darwin":  {peers: true, bound: true, again: true},
		"freebsd": {routes: true, peers: true, again: true},
		"openbsd": {routes: true, peers: true, again: true},
		"windows": {bound: true, again: true},
	} {
		if got := needsOf(goos); got != want {
			t.Errorf("%s: %+v", goos, got)
		}
	}
}

// hostOn is a client's Node on a machine of a system, with a kill switch if that is wanted.
func hostOn(t *testing.T, goos string, killSwitch bool) (*Node, *machine) {
	t.Helper()
	n, m := hostNode(t)
	n.host.needs = needsOf(goos)
	n.host.config.Node.KillSwitch = killSwitch
	n.sockets = &sockets{node: n}
	return n, m
}

// takeAll brings a child up that takes all of IPv4.
func takeAll(n *Node) {
	n.host.childUp(ike.ChildInfo{ID: 1, SA: officeLease.SA, Connection: "office", Remote: []message.Selector{message.SelectorOf(all(4))}})
}

func addrPorts(list ...string) []netip.AddrPort {
	out := []netip.AddrPort{}
	for _, a := range list {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

// A route of the tunnel that covers a gateway does not take our own packets to it, from before the
// first one on and for as long as it is the peer.
func TestGatewaysStayOutsideByRoutes(t *testing.T) {
	n, m := hostOn(t, "freebsd", false)
	outside := func(want ...string) {
		t.Helper()
		if got := m.routes.Outside; !slices.Equal(got, prefixes(want...)) {
			t.Errorf("outside are %v, want %v", got, want)
		}
	}
	reach := func(to string) {
		t.Helper()
		if err := n.host.reach(netip.MustParseAddrPort(to)); err != nil {
			t.Error(err)
		}
	}
	reach("192.0.2.1:0")
	if len(m.sets) != 0 {
		t.Errorf("before there is a route: %v", m.sets)
	}
	n.expect(officeLease.SA)
	if err := n.configure(officeLease); err != nil {
		t.Fatal(err)
	}
	outside()
	takeAll(n)
	outside("192.0.2.1/32")
	reach("198.51.100.7:0")
	reach("[2001:db8::7]:0") // no packet by IPv6 finds a way past the tunnel
	outside("192.0.2.1/32", "198.51.100.7/32", "2001:db8::7/128")
	done := len(m.sets)
	reach("198.51.100.7:0")
	reach("198.51.100.53:53") // a server, which our sockets ask through the tunnel while that stands
	if len(m.sets) != done {
		t.Errorf("set for one that is known, or for none: %v", m.sets[done:])
	}

	n.sockets.uses(officeLease.SA, ike.Path{Remote: netip.MustParseAddrPort("192.0.2.1:4500")})
	for to := range n.host.reached.lately {
		n.host.reached.lately[to] = time.Now().Add(-reachFor - time.Second)
	}
	n.host.moved()
	outside("192.0.2.1/32")
	n.host.rekeyed(officeLease.SA, 8)
	n.sockets.uses(8, ike.Path{Remote: netip.MustParseAddrPort("203.0.113.9:61000")})
	outside("203.0.113.9/32")
	n.host.leave(8)
	outside()
}

// A kill switch lets pass what our own sockets exchange, from the first packet on, and nothing that
// stays on this host anyway.
func TestKillSwitchKnowsPeers(t *testing.T) {
	for goos, tells := range map[string]bool{"darwin": true, "freebsd": true, "openbsd": true, "linux": false, "windows": false} {
		t.Run(goos, func(t *testing.T) {
			n, m := hostOn(t, goos, true)
			n.host.config.Connections["other"] = &config.Connection{Port: 4510, TCPPort: 443}
			if _, err := n.host.source(netip.MustParseAddr("192.0.2.1")); err != nil && !errors.Is(err, syscall.ENETUNREACH) {
				t.Error(err)
			}
			for _, to := range []string{"198.51.100.53:53", "[fe80::1%1]:53", "[::ffff:198.51.100.80]:80", "127.0.0.53:53", "[::1]:53"} {
				if err := n.host.reach(netip.MustParseAddrPort(to)); err != nil {
					t.Error(err)
				}
			}
			n.sockets.uses(7, ike.Path{Remote: netip.MustParseAddrPort("192.0.2.1:61000")})
			if !tells {
				if len(m.sets) != 0 || len(n.host.reached.lately) != 0 || len(n.host.reached.sas) != 0 {
					t.Errorf("set %v, of %+v", m.sets, n.host.reached)
				}
				return
			}
			want := addrPorts("192.0.2.1:443", "192.0.2.1:500", "192.0.2.1:4500", "192.0.2.1:4510", "192.0.2.1:61000",
				"198.51.100.53:53", "198.51.100.80:80", "[fe80::1]:53")
			if !slices.Equal(m.rules.Peers, want) {
				t.Errorf("peers are %v, want %v", m.rules.Peers, want)
			}
			if slices.Contains(m.sets, "routes") || !m.rules.KillSwitch {
				t.Errorf("set %v, kill switch %v", m.sets, m.rules.KillSwitch)
			}
		})
	}
	n, m := hostOn(t, "darwin", false)
	if err := n.host.reach(netip.MustParseAddrPort("192.0.2.1:0")); err != nil || len(m.sets) != 0 {
		t.Errorf("without a kill switch: %v, %v", m.sets, err)
	}
	n.host.begin()
	m.sets = nil
	if err := n.host.reach(netip.MustParseAddrPort("192.0.2.2:0")); err != nil || len(m.sets) != 0 {
		t.Errorf("without a kill switch, later: %v, %v", m.sets, err)
	}
}

// Who could not be let through is asked for again.
func TestReachThatFails(t *testing.T) {
	n, m := hostOn(t, "openbsd", true)
	to := netip.MustParseAddrPort("192.0.2.1:0")
	m.before = func(string) error { return syscall.ENOMEM }
	for range 2 {
		if err := n.host.reach(to); !errors.Is(err, syscall.ENOMEM) {
			t.Errorf("got %v", err)
		}
	}
	m.before = nil
	if err := n.host.reach(to); err != nil || len(m.rules.Peers) == 0 {
		t.Errorf("peers %v, %v", m.rules.Peers, err)
	}
	if err := n.host.restore(false); err != nil {
		t.Fatal(err)
	}
	if err := n.host.reach(netip.MustParseAddrPort("192.0.2.2:0")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// However many a peer names, few count, and those that were asked last.
func TestReachedIsBounded(t *testing.T) {
	var r reached
	start := time.Now()
	first := netip.MustParseAddr("198.51.100.0")
	for i, a := 0, first; i < 3*maxReached; i, a = i+1, a.Next() {
		at := start.Add(time.Duration(i) * time.Second)
		if !r.note(netip.AddrPortFrom(a, 80), at) || r.note(netip.AddrPortFrom(a, 80), at) {
			t.Errorf("%v is news twice, or never", a)
		}
		r.note(netip.AddrPortFrom(first, 0), at)
	}
	all := r.all(nil)
	if len(r.lately) != maxReached || len(all) != maxReached-1 || all[0].Addr() == first {
		t.Errorf("%d count, the first of them %v", len(r.lately), all[0])
	}
	if !slices.Equal(r.gateways(), []netip.Addr{first}) {
		t.Errorf("gateways are %v", r.gateways())
	}
	r.forget(start.Add(3*maxReached*time.Second + reachFor))
	if len(r.lately) != 0 {
		t.Errorf("%d are not forgotten", len(r.lately))
	}
}

// In another network all is set again that was found for one, and sockets are bound again.
func TestHostFollowsToAnotherNetwork(t *testing.T) {
	for goos, want := range map[string]struct {
		sets  []string
		bound int
	}{
		"linux":   {[]string{"routes"}, 1},
		"freebsd": {[]string{"rules", "routes"}, 1},
		"darwin":  {[]string{"rules", "routes"}, 2},
		"windows": {[]string{"rules", "routes"}, 2},
	} {
		n, m := hostOn(t, goos, false)
		n.host.begin()
		m.sets = nil
		bound := 0
		udp := &udpencap.UDP{Control: func(string, string, syscall.RawConn) error { bound++; return nil }}
		raw, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		n.sockets.open = []*socket{{Socket: raw, raw: raw}}
		n.follow()
		if !reflect.DeepEqual(m.sets, want.sets) || bound != want.bound {
			t.Errorf("%s: set %v, bound %d times", goos, m.sets, bound)
		}
	}
}

// A server is let through before it is asked: a resolver for the name of a gateway, and who has lists
// of revoked certificates.
func TestServersAreReached(t *testing.T) {
	n, m := hostOn(t, "darwin", true)
	n.Host, n.Config.Node.Mark = true, 0 // a mark would need a right
	for to, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"198.51.100.53:53": outsideResolver(n.control, m.resolvers()).Dial, "198.51.100.80:80": n.outsideDialer(),
	} {
		conn, err := dial(t.Context(), "udp", to) // which sends nothing
		if err == nil {
			conn.Close()
		} else if !errors.Is(err, syscall.ENETUNREACH) {
			t.Fatal(err)
		}
		if !slices.Contains(m.rules.Peers, netip.MustParseAddrPort(to)) {
			t.Errorf("%s may not be asked: %v", to, m.rules.Peers)
		}
	}
	m.before = func(string) error { return syscall.EPERM }
	if _, err := n.outsideDialer()(t.Context(), "udp", "198.51.100.1:80"); !errors.Is(err, syscall.EPERM) {
		t.Errorf("asked whom the kill switch stops: %v", err)
	}
}
