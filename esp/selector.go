package esp

import (
	"fmt"
	"net/netip"
	"strconv"
)

// contains tells whether one end of a packet is inside the selector.
func (s *Selector) contains(addr netip.Addr, port uint16, f *Flow) bool {
	if addr.Compare(s.From) < 0 || addr.Compare(s.To) > 0 {
		return false
	}
	if s.Protocol != 0 && (f.NoProtocol || s.Protocol != f.Protocol) {
		return false
	}
	switch {
	case s.anyPort():
		return true
	case f.NoPorts:
		return s.opaque()
	}
	return s.StartPort <= port && port <= s.EndPort
}

func (s *Selector) anyPort() bool { return s.StartPort == 0 && s.EndPort == 65535 }

func (s *Selector) opaque() bool { return s.StartPort == 65535 && s.EndPort == 0 }

// Within tells whether a packet comes from src and goes to dst (RFC 7296 §2.9).
func (f *Flow) Within(src, dst []Selector) bool {
	return containsAny(src, f.Src, f.SrcPort, f) && containsAny(dst, f.Dst, f.DstPort, f)
}

func containsAny(set []Selector, addr netip.Addr, port uint16, f *Flow) bool {
	for i := range set {
		if set[i].contains(addr, port, f) {
			return true
		}
	}
	return false
}

// narrowness orders children that cover the same addresses: the one that wants a
// protocol, or ports, is asked before the one that takes all.
func narrowness(set []Selector) int {
	least := 2
	for i := range set {
		n := 0
		if set[i].Protocol != 0 {
			n++
		}
		if !set[i].anyPort() {
			n++
		}
		least = min(least, n)
	}
	return least
}

// check tells what is wrong with a selector, if anything.
func (s *Selector) check() error {
	switch {
	case !s.From.IsValid() || !s.To.IsValid() || s.From.Is4In6() || s.To.Is4In6() || s.From.BitLen() != s.To.BitLen():
		return fmt.Errorf("selector from %v to %v: want two addresses of one family", s.From, s.To)
	case s.To.Less(s.From):
		return fmt.Errorf("selector from %v to %v: the first address lies above the last", s.From, s.To)
	case s.EndPort < s.StartPort && !s.opaque():
		return fmt.Errorf("selector %v: ports %d to %d: the first lies above the last", s.From, s.StartPort, s.EndPort)
	}
	return nil
}

// prefixes cuts the range of addresses into the fewest prefixes.
func (s *Selector) prefixes() []netip.Prefix {
	var list []netip.Prefix
	for from := s.From; ; {
		p := netip.PrefixFrom(from, from.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(from, p.Bits()-1)
			if wider.Masked().Addr() != from || s.To.Less(last(wider)) {
				break
			}
			p = wider
		}
		list = append(list, p)
		end := last(p)
		if end == s.To {
			return list
		}
		from = end.Next()
	}
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// String is the selector as strongSwan writes it: addresses as a prefix or a range,
// and protocol and ports in brackets where they are not any:
// 10.1.0.0/16[tcp/443], 10.0.0.1..10.0.0.9, 2001:db8::1/128[icmpv6/135(0)].
func (s Selector) String() string {
	text := s.From.String() + ".." + s.To.String()
	if s.check() == nil {
		if list := s.prefixes(); len(list) == 1 {
			text = list[0].String()
		}
	}
	if s.Protocol == 0 && s.anyPort() {
		return text
	}
	return text + "[" + protocolName(s.Protocol) + s.portsString() + "]"
}

func (s *Selector) portsString() string {
	switch {
	case s.anyPort():
		return ""
	case s.opaque():
		return "/opaque"
	case s.Protocol == protoICMP || s.Protocol == protoICMPv6:
		if s.StartPort == s.EndPort {
			return fmt.Sprintf("/%d(%d)", s.StartPort>>8, s.StartPort&255)
		}
		return fmt.Sprintf("/%d(%d)-%d(%d)", s.StartPort>>8, s.StartPort&255, s.EndPort>>8, s.EndPort&255)
	case s.StartPort == s.EndPort:
		return fmt.Sprintf("/%d", s.StartPort)
	}
	return fmt.Sprintf("/%d-%d", s.StartPort, s.EndPort)
}

func protocolName(proto uint8) string {
	switch proto {
	case 0:
		return "any"
	case protoICMP:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "icmpv6"
	case protoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}
