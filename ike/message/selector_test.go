package message_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	. "martlet/ike/message"
)

func addrs(from, to string) Selector {
	return Selector{EndPort: 65535, From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
}

func (s selectorEdit) of(protocol uint8, start, end uint16) Selector {
	s.Protocol, s.StartPort, s.EndPort = protocol, start, end
	return s.Selector
}

type selectorEdit struct{ Selector }

func TestSelectorString(t *testing.T) {
	net := selectorEdit{SelectorOf(netip.MustParsePrefix("10.0.0.0/24"))}
	for want, s := range map[string]Selector{
		"10.0.0.0/24":                   net.Selector,
		"10.0.0.0/24[tcp/443]":          net.of(6, 443, 443),
		"10.0.0.0/24[udp/1024-65535]":   net.of(17, 1024, 65535),
		"10.0.0.0/24[tcp]":              net.of(6, 0, 65535),
		"10.0.0.0/24[tcp/OPAQUE]":       net.of(6, 65535, 0),
		"10.0.0.0/24[icmp/8]":           net.of(1, 8<<8, 8<<8|255),
		"10.0.0.0/24[icmp/8(0)]":        net.of(1, 8<<8, 8<<8),
		"10.0.0.0/24[icmp/3(1)-11(0)]":  net.of(1, 3<<8|1, 11<<8),
		"10.0.0.0/24[47]":               net.of(47, 0, 65535),
		"10.0.0.0/24[0/53]":             net.of(0, 53, 53),
		"10.0.0.0/24[ipv6-icmp]":        net.of(58, 0, 65535),
		"10.0.0.0/24[sctp]":             net.of(132, 0, 65535),
		"10.0.0.1..10.0.0.5":            addrs("10.0.0.1", "10.0.0.5"),
		"10.0.0.1/32":                   addrs("10.0.0.1", "10.0.0.1"),
		"0.0.0.0/0":                     SelectorOf(netip.MustParsePrefix("0.0.0.0/0")),
		"::/0":                          SelectorOf(netip.MustParsePrefix("::/0")),
		"2001:db8::/33":                 SelectorOf(netip.MustParsePrefix("2001:db8::1/33")),
		"2001:db8::1..2001:db8::4":      addrs("2001:db8::1", "2001:db8::4"),
		"invalid IP..invalid IP":        {EndPort: 65535},
		"invalid IP..invalid IP[0/0]":   {},
		"10.0.0.0..::[0/0]":             {From: netip.MustParseAddr("10.0.0.0"), To: netip.IPv6Unspecified()},
		"255.255.255.254/31[tcp/65535]": {6, 65535, 65535, netip.MustParseAddr("255.255.255.254"), netip.MustParseAddr("255.255.255.255")},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSelectorPrefixes(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"10.0.0.0", "10.0.0.255", []string{"10.0.0.0/24"}},
		{"10.0.0.1", "10.0.0.6", []string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"}},
		{"0.0.0.0", "255.255.255.255", []string{"0.0.0.0/0"}},
		{"255.255.255.255", "255.255.255.255", []string{"255.255.255.255/32"}},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", []string{"::/0"}},
		{"2001:db8::", "2001:db8::2", []string{"2001:db8::/127", "2001:db8::2/128"}},
	} {
		var got []string
		for _, p := range addrs(c.from, c.to).Prefixes() {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s to %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if n := len(addrs("0.0.0.1", "255.255.255.254").Prefixes()); n != 62 {
		t.Errorf("worst case of IPv4: %d prefixes, want 62", n)
	}
	if n := len(addrs("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").Prefixes()); n != 254 {
		t.Errorf("worst case of IPv6: %d prefixes, want 254", n)
	}
}

// Prefixes of random ranges are adjacent, begin and end where the range does.
func TestSelectorPrefixesCover(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		from := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		to := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if to.Less(from) {
			from, to = to, from
		}
		next := from
		for _, p := range addrs(from.String(), to.String()).Prefixes() {
			if p.Addr() != next || p != p.Masked() {
				t.Fatalf("%v to %v: prefix %v, want one at %v", from, to, p, next)
			}
			next = SelectorOf(p).To.Next()
		}
		if next.Prev() != to {
			t.Fatalf("%v to %v: prefixes end at %v", from, to, next.Prev())
		}
	}
}

func TestSelectorIntersect(t *testing.T) {
	net := selectorEdit{SelectorOf(netip.MustParsePrefix("10.0.0.0/24"))}
	host := selectorEdit{SelectorOf(netip.MustParsePrefix("10.0.0.7/32"))}
	none := Selector{}
	for _, c := range []struct{ a, b, want Selector }{
		{net.Selector, host.Selector, host.Selector},
		{net.of(6, 0, 65535), host.Selector, host.of(6, 0, 65535)},
		{net.of(6, 0, 65535), host.of(17, 0, 65535), none},
		{net.of(6, 80, 90), host.of(6, 85, 443), host.of(6, 85, 90)},
		{net.of(6, 80, 90), host.of(6, 91, 443), none},
		{net.of(6, 80, 90), host.of(0, 85, 85), host.of(6, 85, 85)},
		{net.of(6, 65535, 0), host.Selector, host.of(6, 65535, 0)},
		{net.of(6, 65535, 0), host.of(6, 65535, 0), host.of(6, 65535, 0)},
		{net.of(6, 65535, 0), host.of(6, 1, 65535), none},
		{addrs("10.0.0.1", "10.0.0.9"), addrs("10.0.0.5", "10.0.0.20"), addrs("10.0.0.5", "10.0.0.9")},
		{addrs("10.0.0.1", "10.0.0.4"), addrs("10.0.0.5", "10.0.0.20"), none},
		{addrs("0.0.0.0", "255.255.255.255"), addrs("::", "::ffff"), none},
		{addrs("::", "::ffff"), addrs("::5", "ff::"), addrs("::5", "::ffff")},
	} {
		for _, pair := range [][2]Selector{{c.a, c.b}, {c.b, c.a}} {
			got, ok := pair[0].Intersect(pair[1])
			if got != c.want || ok != (c.want != none) {
				t.Errorf("%v and %v: %v, %v; want %v", pair[0], pair[1], got, ok, c.want)
			}
			if ok && (!pair[0].Contains(got) || !pair[1].Contains(got)) {
				t.Errorf("%v and %v: neither contains %v", pair[0], pair[1], got)
			}
		}
	}
}

func TestSelectorContains(t *testing.T) {
	net := selectorEdit{SelectorOf(netip.MustParsePrefix("10.0.0.0/24"))}
	host := selectorEdit{SelectorOf(netip.MustParsePrefix("10.0.0.7/32"))}
	for _, c := range []struct {
		a, b Selector
		want bool
	}{
		{net.Selector, net.Selector, true},
		{net.Selector, host.of(6, 80, 80), true},
		{net.Selector, host.of(6, 65535, 0), true},
		{net.of(6, 80, 80), host.of(6, 80, 80), true},
		{net.of(6, 80, 80), host.of(0, 80, 80), false},
		{net.of(6, 80, 80), host.of(6, 80, 81), false},
		{net.of(6, 65535, 0), host.of(6, 0, 65535), false},
		{host.Selector, net.Selector, false},
	} {
		if got := c.a.Contains(c.b); got != c.want {
			t.Errorf("%v contains %v: %v", c.a, c.b, got)
		}
	}
}
