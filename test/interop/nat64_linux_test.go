package interop

import (
	"net/netip"
	"testing"
)

// TestIPv6Only: in a network of IPv6 alone whose resolvers tell of a translator (RFC 7050), a gateway
// that is written down as an IPv4 address is reached. In place of a translator the gateway itself has
// the address that one would take for it.
func TestIPv6Only(t *testing.T) {
	start(t)
	const network, at = "2001:db8:64::/96", "2001:db8:64::cb00:7102" // 203.0.113.2
	r := newRoads(t)
	join(r.warrior, "eth1 2001:db8:1::10/64", r.router, "road1 2001:db8:1::1/64")
	r.warrior.ip("route add default via 2001:db8:1::1 dev eth1")
	r.router.ip("addr add 2001:db8:2::1/64 dev office nodad")
	r.gateway.ip("addr add 2001:db8:2::2/64 dev eth0 nodad")
	r.gateway.ip("addr add " + at + "/128 dev eth0 nodad")
	r.gateway.ip("route add default via 2001:db8:2::1 dev eth0")
	r.router.ip("route add " + network + " via 2001:db8:2::2 dev office")
	r.warrior.resolvers("nameserver 2001:db8:1::1\n")
	names := &nameServer{zone: map[string][]netip.Addr{"ipv4only.arpa": {
		netip.MustParseAddr("192.0.0.170"), netip.MustParseAddr("192.0.0.171"),
		netip.MustParseAddr("2001:db8:64::c000:aa"), netip.MustParseAddr("2001:db8:64::c000:ab"),
	}}}
	names.serve(r.router, "2001:db8:1::1")

	g := r.gatewayNode("", netB4)
	g.serve()
	m := r.warriorNode("")
	m.up("office")
	s := m.awaitUp(1)
	if got := s.SAs[0].RemoteAddr.Addr().String(); got != at {
		t.Errorf("the gateway is at %s, want %s", got, at)
	}
	v4, _ := virtual(s)
	r.warrior.ping(v4, inB4)
	m.end()
	g.end()
}
