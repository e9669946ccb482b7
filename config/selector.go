package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// dynamic is the selector of an address that is known only later.
const dynamic = "dynamic"

// protocols are the names of IP protocols that a selector may use; others go by number.
var protocols = map[string]uint8{
	"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132, "udplite": 136,
}

// parseSelector reads "10.1.0.0/16", "10.1.0.1-10.1.0.9" or "10.1.0.1", each with an optional
// "[protocol/port]": tcp/443, udp/1000-2000, tcp, /53, icmp/8 (the type).
func parseSelector(text string) (Selector, error) {
	s := Selector{EndPort: 65535}
	addresses, rest, ok := strings.Cut(text, "[")
	if ok {
		what, ok := strings.CutSuffix(rest, "]")
		if !ok {
			return s, hinted(fmt.Sprintf("%q lacks the closing bracket", text), "write it as "+addresses+"[tcp/443]")
		}
		if err := s.setPorts(what); err != nil {
			return s, err
		}
	}
	r, err := parseRange(addresses)
	s.From, s.To = r.From, r.To
	return s, err
}

// setPorts reads protocol and ports of a selector.
func (s *Selector) setPorts(text string) error {
	protocol, port, hasPort := strings.Cut(text, "/")
	number, known := protocols[protocol]
	if !known && protocol != "" && protocol != "%any" {
		n, err := strconv.ParseUint(protocol, 10, 8)
		if err != nil {
			return hinted(fmt.Sprintf("unknown protocol %q", protocol), "write tcp, udp, icmp, icmpv6, sctp or a number")
		}
		number = uint8(n)
	}
	s.Protocol = number
	if !hasPort || port == "%any" {
		return nil
	}
	low, high, isRange := strings.Cut(port, "-")
	if !isRange {
		high = low
	}
	from, err := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || from > to {
		return hinted(fmt.Sprintf("expected a port or a range of ports, got %q", port), "write it as tcp/443 or udp/1000-2000")
	}
	if number == protocols["icmp"] || number == protocols["icmpv6"] {
		// RFC 7296 §3.13.1: the type is in the upper octet and the code in the lower.
		if to > 255 {
			return hinted(fmt.Sprintf("an ICMP type is at most 255, got %d", to), "")
		}
		from, to = from<<8, to<<8|0xff
	}
	s.StartPort, s.EndPort = uint16(from), uint16(to)
	return nil
}

// parseRange reads a prefix, a range or an address.
func parseRange(text string) (Range, error) {
	if low, high, ok := strings.Cut(text, "-"); ok {
		from, err := netip.ParseAddr(strings.TrimSpace(low))
		to, err2 := netip.ParseAddr(strings.TrimSpace(high))
		from, to = from.Unmap(), to.Unmap()
		switch {
		case err != nil || err2 != nil || from.Zone() != "" || to.Zone() != "":
			return Range{}, hinted(fmt.Sprintf("expected a range of addresses, got %q", text), "write it as 10.1.0.1-10.1.0.9")
		case from.Is4() != to.Is4():
			return Range{}, hinted(fmt.Sprintf("the range %q begins and ends in different families", text), "")
		case to.Less(from):
			return Range{}, hinted(fmt.Sprintf("the range %q ends before it begins", text), fmt.Sprintf("write it as %v-%v", to, from))
		}
		return Range{from, to}, nil
	}
	p, err := parsePrefix(text)
	if err != nil {
		return Range{}, err
	}
	return Range{p.Addr(), lastOf(p)}, nil
}

// parsePrefix reads a prefix; an address alone is the prefix of itself.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, hinted(fmt.Sprintf("expected a prefix, got %q", text), "write it as 10.1.0.0/16 or fd00::/8")
	}
	if p != p.Masked() {
		return netip.Prefix{}, hinted(fmt.Sprintf("%q has bits behind the prefix length", text), fmt.Sprintf("write %v, or %v for the one address", p.Masked(), p.Addr()))
	}
	return p, nil
}

// lastOf returns the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	octets := p.Addr().AsSlice()
	for i := p.Bits(); i < len(octets)*8; i++ {
		octets[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(octets)
	return last
}

// everything are the selectors of all addresses of the families wanted.
func everything(ipv4, ipv6 bool) []string {
	var all []string
	if ipv4 {
		all = append(all, "0.0.0.0/0")
	}
	if ipv6 {
		all = append(all, "::/0")
	}
	return all
}

// isEverything says whether s covers every address of its family.
func (s Selector) isEverything() bool {
	p, _ := s.From.Prefix(0)
	return s.From == p.Addr() && s.To == lastOf(p)
}
