package netstack

import (
	"net"
	"net/netip"
)

// Destinations says where clients may go. Without any list that is the public network:
// nothing that is special, private or this host's own, in whatever form it is
// written.
type Destinations struct {
	// Allow opens what is refused otherwise. A wide prefix opens private, shared,
	// documentation and reserved addresses in it. Loopback and link-local ones need a
	// prefix inside their range, and an address of this host or of a metadata service one of full
	// length: who writes 0.0.0.0/0 or 10.0.0.0/8 has seldom thought of these. Multicast,
	// broadcast, unspecified and pool addresses are never forwarded to.
	Allow []netip.Prefix
	// Deny is refused though Allow has it.
	Deny []netip.Prefix
	// Pools are the addresses of clients.
	Pools []netip.Prefix
	// NAT64 are the prefixes of translators that this host can reach, besides 64:ff9b::/96:
	// the addresses of IPv4 in them are judged.
	NAT64 []netip.Prefix
}

// policy is Destinations on this host: it does not change.
type policy struct {
	Destinations
	own, broadcasts map[netip.Addr]bool
}

func newPolicy(d Destinations, interfaces []netip.Prefix) *policy {
	p := &policy{
		Destinations: Destinations{Allow: unmapped(d.Allow), Deny: unmapped(d.Deny), Pools: unmapped(d.Pools), NAT64: unmapped(d.NAT64)},
		own:          map[netip.Addr]bool{},
		broadcasts:   map[netip.Addr]bool{},
	}
	for _, i := range unmapped(interfaces) {
		a := i.Addr()
		p.own[a] = true
		network := i.Masked()
		if !network.IsValid() || i.Bits() >= a.BitLen()-1 {
			continue // RFC 3021 §2.1: a network of two has no broadcast
		}
		if a.Is4() {
			// RFC 1122 §3.2.1.3(c), (e): with all bits set and, as of old, with none.
			p.broadcasts[network.Addr()] = true
			p.broadcasts[last(network)] = true
		} else {
			p.own[network.Addr()] = true // RFC 4291 §2.6.1: the routers', of which this may be one
		}
	}
	return p
}

// unmapped are the same prefixes, with those of IPv4 in their own form.
func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		a, bits := p.Addr().WithZone(""), p.Bits()
		if a.Is4In6() && bits >= 96 {
			a, bits = a.Unmap(), bits-96
		}
		if a.IsValid() {
			out = append(out, netip.PrefixFrom(a, bits))
		}
	}
	return out
}

// last is the last address of a network of IPv4.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// judge says whether a may be forwarded to, and if not, why. An address of IPv4 may come in
// its form for IPv6.
func (p *policy) judge(a netip.Addr) Reason {
	if !a.IsValid() {
		return Unspecified
	}
	a = a.Unmap().WithZone("")
	kind := kindOf(a)
	if kind == Unspecified || kind == Broadcast || kind == Multicast {
		return kind
	}
	switch {
	case p.broadcasts[a]:
		return Broadcast
	case contains(p.Deny, a):
		return Denied
	case contains(p.Pools, a):
		return Pool
	case p.own[a]:
		if p.allows(a, a.BitLen()) {
			return Allowed
		}
		if kind == Loopback {
			return Loopback
		}
		return Own
	}
	least := 0
	if kind == Metadata || kind == Loopback || kind == LinkLocal {
		least = bitsOf(a)
	}
	if kind != Allowed && !p.allows(a, least) {
		return kind
	}
	if a.Is4() || p.allows(a, a.BitLen()) {
		return Allowed
	}
	var inside [8]netip.Addr
	for _, v4 := range embedded(inside[:0], a, p.NAT64) {
		if reason := p.judge(v4); reason != Allowed {
			return reason
		}
	}
	return Allowed
}

// allows tells whether a prefix of Allow that is bits long or longer has a.
func (p *policy) allows(a netip.Addr, bits int) bool {
	for _, prefix := range p.Allow {
		if prefix.Bits() >= bits && prefix.Contains(a) {
			return true
		}
	}
	return false
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// kindOf is what the address is by itself; Allowed if nothing special.
func kindOf(a netip.Addr) Reason {
	for i := range special {
		if special[i].prefix.Contains(a) {
			return special[i].reason
		}
	}
	if a.Is6() && !nat64.Contains(a) && (!unicast.Contains(a) || protocols.Contains(a) && !teredo.Contains(a)) {
		return Reserved
	}
	return Allowed
}

// bitsOf is the length of the special prefix that has a; that of metadata services is full.
func bitsOf(a netip.Addr) int {
	for i := range special {
		if special[i].prefix.Contains(a) {
			return special[i].prefix.Bits()
		}
	}
	return 0
}

// hostAddresses are those of all interfaces of the host, with their networks.
func hostAddresses() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	out := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		bits, all := n.Mask.Size()
		ip = ip.Unmap()
		out = append(out, netip.PrefixFrom(ip, bits-all+ip.BitLen()))
	}
	return out, nil
}
