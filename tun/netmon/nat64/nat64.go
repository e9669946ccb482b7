// Package nat64 makes IPv6 addresses of IPv4 ones and the reverse (RFC 6052), and finds out the
// prefixes with which the network at hand translates (RFC 7050). So a host in a network of IPv6
// alone reaches a gateway whose address is written down as an IPv4 one.
package nat64

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Prefix is a prefix of IPv6 addresses that a translator (NAT64) takes for IPv4 ones (RFC 6052
// §2). The zero value translates nothing. It can be compared.
type Prefix struct{ prefix netip.Prefix }

// lengths are those that a prefix may have (RFC 6052 §2.2), in the order of RFC 7050 §3.
var lengths = [...]int{96, 64, 56, 48, 40, 32}

// uOctet is octet 8, bits 64 to 71, of each address: zero, for it had a meaning once (RFC 6052
// §2.2).
const uOctet = 8

// WellKnown is 64:ff9b::/96 (RFC 6052 §2.1).
func WellKnown() Prefix { return Prefix{netip.PrefixFrom(wellKnown, 96)} }

var wellKnown = netip.AddrFrom16([16]byte{0: 0x00, 1: 0x64, 2: 0xff, 3: 0x9b})

// assigned is where a translator's prefix may lie: what IANA gave away for unicast, unique local
// addresses (RFC 4193), and what is set apart for translation (RFC 6052 §2.1, RFC 8215).
// Anywhere else addresses are of this host or link, of groups, or IPv4-mapped.
var assigned = [...]netip.Prefix{
	netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20}), 3),
	netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfc}), 7),
	netip.PrefixFrom(wellKnown, 96),
	netip.PrefixFrom(netip.AddrFrom16([16]byte{1: 0x64, 2: 0xff, 3: 0x9b, 5: 1}), 48),
}

// NewPrefix is a translator's prefix. It must be of 32, 40, 48, 56, 64 or 96 bits, with zero in bits
// 64 to 71, and lie where such a prefix may.
func NewPrefix(p netip.Prefix) (Prefix, error) {
	p = p.Masked()
	switch {
	case !p.IsValid() || !p.Addr().Is6():
		return Prefix{}, errors.New("nat64: the prefix is not one of IPv6: write one such as 64:ff9b::/96")
	case !slices.Contains(lengths[:], p.Bits()):
		return Prefix{}, fmt.Errorf("nat64: the prefix %v has %d bits: it must have 32, 40, 48, 56, 64 or 96", p, p.Bits())
	case p.Addr().As16()[uOctet] != 0:
		return Prefix{}, fmt.Errorf("nat64: the prefix %v has ones in its bits 64 to 71, which must be zero", p)
	case !slices.ContainsFunc(assigned[:], func(a netip.Prefix) bool { return a.Bits() <= p.Bits() && a.Contains(p.Addr()) }):
		return Prefix{}, fmt.Errorf("nat64: no translator can have the prefix %v: it is not of addresses for unicast", p)
	}
	return Prefix{p}, nil
}

// Prefix is it as a prefix of addresses; invalid for the zero value.
func (p Prefix) Prefix() netip.Prefix { return p.prefix }

// String is the prefix in the form of RFC 5952.
func (p Prefix) String() string { return p.prefix.String() }

// Synthesize is the IPv6 address by which the translator reaches an IPv4 address. There is none of
// addresses that mean something on one host or link alone, and by the well-known prefix none of
// private ones (RFC 6052 §3.1).
func (p Prefix) Synthesize(v4 netip.Addr) (_ netip.Addr, ok bool) {
	v4 = v4.Unmap()
	if !p.prefix.IsValid() || !v4.Is4() || !v4.IsGlobalUnicast() || v4.IsPrivate() && p == WellKnown() {
		return netip.Addr{}, false
	}
	out, octets := p.prefix.Addr().As16(), v4.As4()
	for i, at := range embedded(p.prefix.Bits()) {
		out[at] = octets[i]
	}
	return netip.AddrFrom16(out), true
}

// Extract is the IPv4 address that an IPv6 address stands for. There is none in addresses that the
// prefix is not of, that have ones in bits 64 to 71, or that Synthesize does not make. What comes
// behind the IPv4 address does not count: it is for later use (RFC 6052 §2.2).
func (p Prefix) Extract(v6 netip.Addr) (_ netip.Addr, ok bool) {
	if !p.prefix.IsValid() || v6.Zone() != "" || !p.prefix.Contains(v6) {
		return netip.Addr{}, false
	}
	octets := v6.As16()
	v4 := netip.AddrFrom4(at(octets, p.prefix.Bits()))
	if _, ok := p.Synthesize(v4); !ok || octets[uOctet] != 0 {
		return netip.Addr{}, false
	}
	return v4, true
}

// embedded says in which octets the IPv4 address stands behind a prefix of that many bits: the
// next ones, but for the u octet (RFC 6052 §2.2).
func embedded(bits int) (octets [4]int) {
	next := bits / 8
	for i := range octets {
		if next == uOctet {
			next++
		}
		octets[i] = next
		next++
	}
	return octets
}

// at is the IPv4 address behind a prefix of that many bits.
func at(v6 [16]byte, bits int) (v4 [4]byte) {
	for i, o := range embedded(bits) {
		v4[i] = v6[o]
	}
	return v4
}
