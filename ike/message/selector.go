package message

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
)

// Selector is one traffic selector (RFC 7296 §3.13.1): a range of addresses of one
// family, a protocol (0 = any) and a range of ports. For ICMP the port holds type
// and code (RFC 7296 §3.13.1, RFC 4301 §4.4.1.1). StartPort 65535 with EndPort 0
// is OPAQUE. From and To belong to one family and From is not above To.
// It is comparable.
type Selector struct {
	Protocol           uint8
	StartPort, EndPort uint16
	From, To           netip.Addr
}

const maxPort = 65535

// SelectorOf is all traffic of p: any protocol, any port.
func SelectorOf(p netip.Prefix) Selector {
	return Selector{EndPort: maxPort, From: p.Masked().Addr(), To: lastAddr(p)}
}

// opaque tells whether only packets are meant whose ports cannot be seen, as those
// of fragments behind the first.
func (s Selector) opaque() bool { return s.StartPort == maxPort && s.EndPort == 0 }

func (s Selector) anyPort() bool { return s.StartPort == 0 && s.EndPort == maxPort }

// Contains tells whether all that o selects is selected by s too.
func (s Selector) Contains(o Selector) bool {
	i, ok := s.Intersect(o)
	return ok && i == o
}

// Intersect is what both select; it reports false where that is nothing. It narrows
// a proposed selector to a configured one (RFC 7296 §2.9).
func (s Selector) Intersect(o Selector) (Selector, bool) {
	if s.From.Is4() != o.From.Is4() {
		return Selector{}, false
	}
	switch {
	case s.Protocol == o.Protocol, o.Protocol == 0:
	case s.Protocol == 0:
		s.Protocol = o.Protocol
	default:
		return Selector{}, false
	}
	switch {
	case s.StartPort == o.StartPort && s.EndPort == o.EndPort, o.anyPort():
	case s.anyPort():
		// RFC 4301 §4.4.1.1: ANY encompasses OPAQUE.
		s.StartPort, s.EndPort = o.StartPort, o.EndPort
	case s.opaque() || o.opaque():
		return Selector{}, false
	default:
		s.StartPort, s.EndPort = max(s.StartPort, o.StartPort), min(s.EndPort, o.EndPort)
		if s.StartPort > s.EndPort {
			return Selector{}, false
		}
	}
	if s.From.Less(o.From) {
		s.From = o.From
	}
	if o.To.Less(s.To) {
		s.To = o.To
	}
	if s.To.Less(s.From) {
		return Selector{}, false
	}
	return s, true
}

// Prefixes is the smallest list of prefixes that covers exactly the addresses of s,
// in ascending order: at most 62 for IPv4 and 254 for IPv6.
func (s Selector) Prefixes() []netip.Prefix {
	if !s.From.IsValid() || s.From.Is4() != s.To.Is4() {
		return nil
	}
	var ps []netip.Prefix
	for from := s.From; ; {
		// The largest prefix that starts here and does not reach beyond the end.
		p := netip.PrefixFrom(from, from.BitLen()-trailingZeros(from))
		for s.To.Less(lastAddr(p)) {
			p = netip.PrefixFrom(from, p.Bits()+1)
		}
		ps = append(ps, p)
		from = lastAddr(p).Next()
		if !from.IsValid() || s.To.Less(from) {
			return ps
		}
	}
}

// String writes s as strongSwan does: 10.0.0.0/24, 10.0.0.0/24[tcp/443],
// 10.0.0.1..10.0.0.9[17/1024-65535].
func (s Selector) String() string {
	addrs := s.From.String() + ".." + s.To.String()
	if ps := s.Prefixes(); len(ps) == 1 {
		addrs = ps[0].String()
	}
	ports := s.ports()
	switch {
	case s.Protocol == 0 && ports == "":
		return addrs
	case ports == "":
		return addrs + "[" + protocolName(s.Protocol) + "]"
	}
	return addrs + "[" + protocolName(s.Protocol) + "/" + ports + "]"
}

func (s Selector) ports() string {
	switch {
	case s.anyPort():
		return ""
	case s.opaque():
		return "OPAQUE"
	case s.Protocol == protocolICMP || s.Protocol == protocolICMPv6:
		from, to := icmpString(s.StartPort), icmpString(s.EndPort)
		if s.StartPort>>8 == s.EndPort>>8 && s.StartPort&0xff == 0 && s.EndPort&0xff == 0xff {
			return strconv.Itoa(int(s.StartPort >> 8)) // all codes of one type
		}
		if from == to {
			return from
		}
		return from + "-" + to
	case s.StartPort == s.EndPort:
		return strconv.Itoa(int(s.StartPort))
	}
	return fmt.Sprintf("%d-%d", s.StartPort, s.EndPort)
}

// icmpString is the type and, in brackets, the code that a port field holds
// (RFC 7296 §3.13.1).
func icmpString(port uint16) string { return fmt.Sprintf("%d(%d)", port>>8, port&0xff) }

const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

func protocolName(p uint8) string {
	switch p {
	case protocolICMP:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case protocolICMPv6:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// lastAddr is the highest address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		host := min(max(8*(i+1)-p.Bits(), 0), 8) // host bits of this octet
		b[i] |= uint8(1<<host - 1)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// trailingZeros counts the zero bits at the end of a.
func trailingZeros(a netip.Addr) int {
	b := a.AsSlice()
	n := 0
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return n + bits.TrailingZeros8(b[i])
		}
		n += 8
	}
	return n
}
