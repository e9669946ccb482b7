package interop

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

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
}

func newRoads(t *testing.T) *roads {
	t.Helper()
	r := &roads{warrior: newNamespace(t, "w"), router: newNamespace(t, "r"), gateway: newNamespace(t, "g")}
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

// forgetful has the router forget what it translates after a second.
func (r *roads) forgetful() {
	r.router.sysctl("net.netfilter.nf_conntrack_udp_timeout", "1")
	r.router.sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "1")
}

// outage pings 20 times a second from one inside address to another, calls f, and tells for how
// many milliseconds there was no answer.
func (ns *namespace) outage(from, to string, f func()) int {
	ns.t.Helper()
	p := ns.spawn("ping", nil, "ping", "-n", "-D", "-I", from, "-i", "0.05", "-w", "30", to)
	p.says("icmp_seq=20 ")
	f()
	next := sequences(p.out.String())
	until(ns.t, "pings are answered again", func() bool { return sequences(p.out.String()) > next+40 })
	p.stop(2)
	longest, last := 0, 0
	for _, m := range icmpSeq.FindAllStringSubmatch(p.out.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			ns.t.Fatal(err)
		}
		longest = max(longest, n-last-1)
		last = n
	}
	return longest * 50
}

var icmpSeq = regexp.MustCompile(`icmp_seq=(\d+) ttl`)

// sequences counts the answers.
func sequences(out string) int { return len(icmpSeq.FindAllString(out, -1)) }

// outageLimit is the longest outage in milliseconds. The plan asks for a second; the rest
// is for machines with much else to do.
const outageLimit = 3000

// warriorNode is Martlet as road warrior.
func (r *roads) warriorNode(more string) *node {
	return newNode(r.warrior, "", fmt.Sprintf(`
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
`, officeAddr, more, martletID, secret, swanID, netB4))
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
		lost := r.warrior.outage(v4, inB4, func() { r.enter(place.addr) })
		t.Logf("on the way to %s there was no answer for %d ms", place.addr, lost)
		if lost > outageLimit {
			t.Error("that is too long")
		}
		until(t, "the gateway knows where the warrior is", func() bool { return strings.Contains(where(), place.seen) })
		if s := m.status(); s == nil || len(s.SAs) != 1 || s.SAs[0].LocalAddr.Addr().String() != place.addr {
			t.Errorf("in %s the warrior's status is %+v", place.addr, s)
		}
	}
	after := m.status()
	if now, _ := virtual(after); now != v4 || !sameSA(before, after) {
		t.Errorf("the tunnel is not the one that was: %+v, %+v", before.SAs, after.SAs)
	}
	download.says("iperf Done")
}

func sameSA(a, b *martlet.Status) bool {
	return a.SAs[0].SPIi == b.SAs[0].SPIi && a.SAs[0].SPIr == b.SAs[0].SPIr
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
	for _, c := range []struct{ name, warrior, gateway string }{
		{"with MOBIKE", "", ""},
		{"without MOBIKE", "no_mobike = true\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			g := newNode(r.gateway, "", fmt.Sprintf(`
[pool.four]
addresses = ["10.97.0.0/24"]
[connection.clients]
pool = ["four"]
[connection.clients.local]
auth = "psk"
id = %q
secret = %q
[connection.clients.peer]
auth = "psk"
[connection.clients.child.net]
local = [%q]
`, swanID, secret, netB4))
			g.serve()
			leaks := tap(r.router, "office", outside)
			m := r.warriorNode(c.warrior)
			r.journey(t, m, func() string { return g.status().SAs[0].RemoteAddr.String() })
			leaks.clean(t)
			m.end()
			g.awaitDown()
			g.end()
		})
	}
}
