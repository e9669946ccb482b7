package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"martlet"
)

// The addresses of a road warrior in three networks, of the gateway, and of the router
// between them. The third network is hidden by a NAT.
const (
	homeAddr, awayAddr, hotelAddr = "192.0.2.10", "198.51.100.10", "192.168.7.10"
	officeAddr, routerAddr        = "203.0.113.2", "203.0.113.1"
)

// roads is a road warrior, a router, and a gateway with a host behind it (its own address
// inside).
type roads struct {
	warrior, router, gateway *namespace
	links                    int
	id                       string // of the warrior
}

func newRoads(t *testing.T) *roads {
	t.Helper()
	r := &roads{warrior: newNamespace(t, "w"), router: newNamespace(t, "r"), gateway: newNamespace(t, "g"), id: martletID}
	join(r.gateway, "eth0 "+officeAddr+"/24", r.router, "office "+routerAddr+"/24")
	r.gateway.ip("route add default via " + routerAddr)
	r.gateway.ip("addr add " + inB4 + "/32 dev lo")
	r.router.forward()
	r.router.nft(`
table ip nat {
	chain post { type nat hook postrouting priority srcnat; oifname "office" ip saddr 192.168.7.0/24 masquerade random; }
}
`)
	return r
}

// enter gives the warrior a new interface with an address of the network, and takes the one
// before away.
func (r *roads) enter(addr string) {
	r.links++
	router := addr[:strings.LastIndex(addr, ".")] + ".1"
	device := fmt.Sprintf("eth%d", r.links)
	join(r.warrior, device+" "+addr+"/24", r.router, fmt.Sprintf("road%d %s/24", r.links, router))
	r.warrior.ip("route replace default via " + router)
	if r.links > 1 {
		r.warrior.ip(fmt.Sprintf("link del eth%d", r.links-1))
	}
}

// restartNAT has the router forget what it translates.
func (r *roads) restartNAT(t *testing.T) {
	t.Helper()
	ns, err := netns.GetFromName(r.router.name)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
}

// onTheRoad is what the router may see: besides, it tells the gateway that a network is gone.
const onTheRoad = outside + " or (icmp[icmptype] == icmp-unreach and src host " + routerAddr + ")"

// outageLimit is the longest outage in milliseconds. The plan asks for a second; the rest
// is for machines with much else to do.
const outageLimit = 3000

// warriorNode is Martlet as road warrior.
func (r *roads) warriorNode(more string) *node { return r.warriorOf("", more) }

// warriorOf is warriorNode with some more of the program itself.
func (r *roads) warriorOf(program, more string) *node {
	return r.officeNode(program, officeAddr, more, secret, netB4)
}

// officeNode is a road warrior whose gateway, password and network are named.
func (r *roads) officeNode(program, gateway, more, secret, network string) *node {
	return newNode(r.warrior, program, fmt.Sprintf(`
[connection.office]
remote = [%q]
request = ["ipv4"]
%s
[connection.office.local]
auth = "psk"
id = %q
secret = %q
[connection.office.peer]
auth = "psk"
id = %q
[connection.office.child.net]
remote = [%q]
`, gateway, more, r.id, secret, swanID, network))
}

// gatewayNode is Martlet as the gateway to a network.
func (r *roads) gatewayNode(more, network string) *node {
	return newNode(r.gateway, "", fmt.Sprintf(`
[pool.four]
addresses = ["10.97.0.0/24"]
[connection.clients]
pool = ["four"]
%s
[connection.clients.local]
auth = "psk"
id = %q
secret = %q
[connection.clients.peer]
auth = "psk"
[connection.clients.child.net]
local = [%q]
`, more, swanID, secret, network))
}

// swanWarrior is strongSwan as the road warrior, up.
func (r *roads) swanWarrior(t *testing.T, more string) *swan {
	t.Helper()
	s := startSwan(r.warrior, swanSettings{lines: "make_before_break = yes"}, "", fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	proposals = aes256gcm16-prfsha256-x25519
	vips = 0.0.0.0
	%s
	local { auth = psk
		id = %s }
	remote { auth = psk
		id = %s }
	children { net { remote_ts = %s
		esp_proposals = aes256gcm16,aes256gcm16-x25519 } } } }
secrets { ike-1 { secret = "%s" } }
`, officeAddr, more, r.id, swanID, netB4, secret))
	if out, err := s.initiate("net"); err != nil {
		t.Fatalf("swanctl --initiate: %v\n%s", err, out)
	}
	return s
}

// journey takes a Martlet from network to network and sees that the tunnel, the virtual
// address and a TCP connection inside stay. where tells where the gateway thinks it is.
func (r *roads) journey(t *testing.T, m *node, where func() string) {
	t.Helper()
	m.up("office")
	before := m.awaitUp(1)
	v4, _ := virtual(before)
	r.warrior.ping(v4, inB4)
	download := r.transfer(v4)
	for _, place := range []struct{ addr, seen string }{{awayAddr, awayAddr}, {hotelAddr, routerAddr}, {homeAddr, homeAddr}} {
		lost := r.warrior.outage(v4, func() { r.enter(place.addr) })
		t.Logf("on the way to %s there was no answer for %d ms", place.addr, lost)
		if lost > outageLimit {
			t.Error("that is too long")
		}
		until(t, "the gateway knows where the warrior is", func() bool { return strings.Contains(where(), place.seen) })
		if s := m.status(); s == nil || len(s.SAs) != 1 || s.SAs[0].LocalAddr.Addr().String() != place.addr {
			t.Errorf("in %s the warrior's status is %+v", place.addr, s)
		}
	}
	after := m.now()
	if now, _ := virtual(after); now != v4 || !sameSA(before, after) {
		t.Errorf("the tunnel is not the one that was: %+v, %+v", before.SAs, after.SAs)
	}
	download.says("iperf Done")
}

func sameSA(a, b *martlet.Status) bool {
	return len(a.SAs) == 1 && len(b.SAs) == 1 && a.SAs[0].SPIi == b.SAs[0].SPIi && a.SAs[0].SPIr == b.SAs[0].SPIr
}

// transfer keeps a TCP connection busy for a while, which must outlive all changes.
func (r *roads) transfer(from string) *process {
	s := r.gateway.spawn("iperf3", nil, "iperf3", "-s", "-1", "-B", inB4, "--forceflush")
	s.says("Server listening")
	return r.warrior.spawn("iperf3", nil, "iperf3", "-c", inB4, "-B", from, "-t", "15", "-b", "1M", "--forceflush")
}

// TestRoaming: from a network to another, behind a NAT and back, the old interface gone each
// time.
func TestRoaming(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, warrior, gateway string }{
		{"with MOBIKE", "", ""},
		{"without MOBIKE", "no_mobike = true\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			g := r.gatewayNode("", netB4)
			g.serve()
			leaks := tap(r.router, "any", onTheRoad)
			m := r.warriorNode(c.warrior)
			r.journey(t, m, func() string { return g.now().SAs[0].RemoteAddr.String() })
			leaks.clean(t)
			m.end()
			g.awaitDown()
			g.end()
		})
	}
}

// swanGateway is strongSwan as the gateway of roads.
func (r *roads) swanGateway(more string) *swan {
	return startSwan(r.gateway, swanSettings{}, "", fmt.Sprintf(`
connections { c { version = 2
	proposals = aes256gcm16-prfsha256-x25519,default
	pools = four
	%s
	local { auth = psk
		id = %s }
	remote { auth = psk
		id = *.test }
	children { net { local_ts = %s
		esp_proposals = aes256gcm16,aes256gcm16-x25519 } } } }
pools { four { addrs = 10.97.0.0/24 } }
secrets { ike-1 { secret = "%s" } }
`, more, swanID, netB4, secret))
}

// TestRoamingToStrongSwan: the same with strongSwan as gateway. Its ESP in user space cannot move
// an SA: it replaces the child each time.
func TestRoamingToStrongSwan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, gateway string }{{"with MOBIKE", "mobike = yes"}, {"without MOBIKE", "mobike = no"}} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			g := r.swanGateway(c.gateway)
			leaks := tap(r.router, "any", onTheRoad)
			m := r.warriorNode("")
			r.journey(t, m, g.sas)
			leaks.clean(t)
			m.end()
		})
	}
}

// peerAddress is the virtual address of the gateway's only peer.
func (m *node) peerAddress(t *testing.T) string {
	t.Helper()
	var addr string
	until(t, "a peer has a virtual address", func() bool {
		s := m.status()
		if s == nil {
			return false
		}
		for _, sa := range s.SAs {
			for _, c := range sa.Children {
				addr, _, _ = strings.Cut(c.Remote[0], "/")
			}
		}
		return strings.HasPrefix(addr, "10.97.0.")
	})
	return addr
}

// TestStrongSwanRoams: strongSwan is the road warrior, and Martlet the gateway.
func TestStrongSwanRoams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, warrior, gateway string }{
		{"with MOBIKE", "mobike = yes", ""},
		{"without MOBIKE", "mobike = yes", "no_mobike = true\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			g := r.gatewayNode(c.gateway, netB4)
			g.serve()
			// strongSwan itself lets some packets out in the open while it moves.
			leaks := tap(r.router, "office", onTheRoad)
			r.swanWarrior(t, c.warrior)
			v4 := g.peerAddress(t)
			r.warrior.ping(v4, inB4)
			for _, place := range []struct{ addr, seen string }{{awayAddr, awayAddr}, {hotelAddr, routerAddr}, {homeAddr, homeAddr}} {
				lost := r.warrior.outage(v4, func() { r.enter(place.addr) })
				t.Logf("on the way to %s there was no answer for %d ms", place.addr, lost)
				until(t, "the gateway knows where the warrior is", func() bool {
					s := g.status()
					return s != nil && len(s.SAs) > 0 && s.SAs[0].RemoteAddr.Addr().String() == place.seen
				})
			}
			if now := g.peerAddress(t); now != v4 {
				t.Errorf("the virtual address is %s, and was %s", now, v4)
			}
			leaks.clean(t)
			g.end()
		})
	}
}

// TestNATRestarts: the NAT forgets its mapping and makes another. The first packet tells the
// gateway.
func TestNATRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		warrior, swan bool // strongSwan is the warrior, or the gateway
		limit         int  // of the outage in milliseconds
	}{
		{"martlet", false, false, outageLimit},
		{"strongSwan is the warrior", true, false, outageLimit},
		// It does not look where packets come from. The warrior asks when nothing comes back.
		{"strongSwan is the gateway", false, true, 20000},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(hotelAddr)
			var where func() string
			var g *node
			if c.swan {
				where = r.swanGateway("").sas
			} else {
				g = r.gatewayNode("", netB4)
				g.serve()
				where = func() string { return g.awaitUp(1).SAs[0].RemoteAddr.String() }
			}
			var v4 string
			if c.warrior {
				r.swanWarrior(t, "")
				v4 = g.peerAddress(t)
			} else {
				m := r.warriorNode("")
				m.up("office")
				v4, _ = virtual(m.awaitUp(1))
			}
			r.warrior.ping(v4, inB4)
			for range 2 {
				before := mapped.FindString(where())
				lost := r.warrior.outage(v4, func() { r.restartNAT(t) })
				t.Logf("there was no answer for %d ms", lost)
				if lost > c.limit {
					t.Error("that is too long")
				}
				r.gateway.ping(inB4, v4)
				if after := mapped.FindString(where()); before == "" || after == before {
					t.Errorf("the warrior was behind %q and is behind %q: the test does not test it", before, after)
				}
			}
		})
	}
}

// mapped is the NAT's port, in words of either program.
var mapped = regexp.MustCompile(regexp.QuoteMeta(routerAddr) + `[:\[](\d+)`)
