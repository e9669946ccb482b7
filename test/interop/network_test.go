package interop

import "testing"

// The networks inside the two ends, on their loopback interfaces.
const (
	inA4, inB4   = "10.98.1.1", "10.98.2.1"
	inA6, inB6   = "fd98:1::1", "fd98:2::1"
	netA4, netB4 = "10.98.1.0/24", "10.98.2.0/24"
	netA6, netB6 = "fd98:1::/64", "fd98:2::/64"
)

// network is two hosts, A and B, and a wire between them on which tcpdump listens.
type network struct {
	a, b         *namespace
	addrA, addrB string // by which each finds the other
	ownA, ownB   string // which each has on its interface
	wire         *namespace
	wireName     string // the interface
}

// direct joins the hosts by one wire, in the family asked for.
func direct(t testing.TB, six bool) *network {
	t.Helper()
	n := &network{a: newNamespace(t, "a"), b: newNamespace(t, "b")}
	n.addrA, n.addrB = "10.99.1.1", "10.99.1.2"
	bits := "/24"
	if six {
		n.addrA, n.addrB, bits = "fd99:1::1", "fd99:1::2", "/64"
	}
	n.ownA, n.ownB = n.addrA, n.addrB
	join(n.a, "eth0 "+n.addrA+bits, n.b, "eth0 "+n.addrB+bits)
	n.wire, n.wireName = n.b, "eth0"
	n.inside()
	return n
}

// behindNATs puts each host behind a router that hides its network. The routers choose
// new ports, and B's lets the ports of IKE in.
func behindNATs(t testing.TB) *network {
	t.Helper()
	n := &network{a: newNamespace(t, "a"), b: newNamespace(t, "b")}
	ra, rb := newNamespace(t, "ra"), newNamespace(t, "rb")
	n.ownA, n.ownB = "192.168.1.10", "192.168.2.10"
	n.addrA, n.addrB = "203.0.113.1", "203.0.113.2"
	join(n.a, "eth0 "+n.ownA+"/24", ra, "in 192.168.1.1/24")
	join(n.b, "eth0 "+n.ownB+"/24", rb, "in 192.168.2.1/24")
	join(ra, "out "+n.addrA+"/24", rb, "out "+n.addrB+"/24")
	n.a.ip("route add default via 192.168.1.1")
	n.b.ip("route add default via 192.168.2.1")
	ra.forward()
	rb.forward()
	const masquerade = `
table ip nat {
	chain post { type nat hook postrouting priority srcnat; oifname "out" masquerade random; }
	chain pre { type nat hook prerouting priority dstnat;
		iifname "out" udp dport { 500, 4500 } dnat to `
	ra.nft(masquerade + n.ownA + "; }\n}\n")
	rb.nft(masquerade + n.ownB + "; }\n}\n")
	n.wire, n.wireName = rb, "out"
	n.inside()
	return n
}

// inside gives each host its address inside.
func (n *network) inside() {
	n.a.ip("addr add " + inA4 + "/32 dev lo")
	n.a.ip("addr add " + inA6 + "/128 dev lo nodad")
	n.b.ip("addr add " + inB4 + "/32 dev lo")
	n.b.ip("addr add " + inB6 + "/128 dev lo nodad")
}
