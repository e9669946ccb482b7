package esp

import (
	"net/netip"
	"slices"
	"testing"
)

func TestSelectorMatches(t *testing.T) {
	net10 := selector("10.0.0.0/24")
	with := func(s Selector, proto uint8, from, to uint16) Selector {
		s.Protocol, s.StartPort, s.EndPort = proto, from, to
		return s
	}
	in, edge, out := addr("10.0.0.7"), addr("10.0.0.255"), addr("10.0.1.0")
	udp := Flow{Protocol: protoUDP}
	fragment := Flow{Protocol: protoUDP, NoPorts: true}
	hidden := Flow{Protocol: protoDestOptions, NoPorts: true, NoProtocol: true}
	icmp := Flow{Protocol: protoICMP}
	for _, test := range []struct {
		name string
		s    Selector
		addr netip.Addr
		port uint16
		f    Flow
		want bool
	}{
		{"inside", net10, in, 53, udp, true},
		{"last address", net10, edge, 53, udp, true},
		{"above", net10, out, 53, udp, false},
		{"below", net10, addr("9.255.255.255"), 53, udp, false},
		{"other family", net10, addr("2001:db8::1"), 53, udp, false},
		{"IPv4 in an IPv6 selector", selector("::/0"), in, 53, udp, false},
		{"protocol", with(net10, protoUDP, 0, 65535), in, 53, udp, true},
		{"other protocol", with(net10, protoTCP, 0, 65535), in, 53, udp, false},
		{"port", with(net10, protoUDP, 53, 53), in, 53, udp, true},
		{"first port", with(net10, protoUDP, 53, 60), in, 53, udp, true},
		{"last port", with(net10, protoUDP, 50, 53), in, 53, udp, true},
		{"port below", with(net10, protoUDP, 54, 60), in, 53, udp, false},
		{"port above", with(net10, protoUDP, 1, 52), in, 53, udp, false},
		{"port 0", with(net10, protoUDP, 0, 0), in, 0, udp, true},
		{"later fragment, any port", with(net10, protoUDP, 0, 65535), in, 0, fragment, true},
		{"later fragment, port", with(net10, protoUDP, 0, 53), in, 0, fragment, false},
		{"later fragment, opaque", with(net10, protoUDP, 65535, 0), in, 0, fragment, true},
		{"whole packet, opaque", with(net10, protoUDP, 65535, 0), in, 53, udp, false},
		{"protocol not seen, any", net10, in, 0, hidden, true},
		{"protocol not seen, one", with(net10, protoDestOptions, 0, 65535), in, 0, hidden, false},
		{"ICMP echo", with(net10, protoICMP, 8<<8, 8<<8|255), in, 8<<8 | 3, icmp, true},
		{"ICMP redirect", with(net10, protoICMP, 8<<8, 8<<8|255), in, 5 << 8, icmp, false},
		{"ICMP code", with(net10, protoICMP, 3<<8|4, 3<<8|4), in, 3<<8 | 1, icmp, false},
	} {
		if got := test.s.contains(test.addr, test.port, &test.f); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestSelectorPrefixes(t *testing.T) {
	for _, test := range []struct {
		from, to string
		want     []string
	}{
		{"10.0.0.0", "10.0.0.255", []string{"10.0.0.0/24"}},
		{"10.0.0.1", "10.0.0.1", []string{"10.0.0.1/32"}},
		{"0.0.0.0", "255.255.255.255", []string{"0.0.0.0/0"}},
		{"10.0.0.1", "10.0.0.6", []string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"}},
		{"255.255.255.254", "255.255.255.255", []string{"255.255.255.254/31"}},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", []string{"::/0"}},
		{"2001:db8::", "2001:db8::2", []string{"2001:db8::/127", "2001:db8::2/128"}},
	} {
		s := Selector{From: addr(test.from), To: addr(test.to), EndPort: 65535}
		var got []string
		for _, p := range s.prefixes() {
			got = append(got, p.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s to %s: %v, want %v", test.from, test.to, got, test.want)
		}
	}
	worst := Selector{From: addr("::1"), To: addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")}
	if n := len(worst.prefixes()); n != 254 {
		t.Errorf("worst range has %d prefixes, want 254", n)
	}
}

func TestSelectorCheck(t *testing.T) {
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	for name, s := range map[string]Selector{
		"no addresses":  {EndPort: 65535},
		"reversed":      {From: b, To: a, EndPort: 65535},
		"two families":  {From: a, To: addr("2001:db8::1"), EndPort: 65535},
		"IPv4-mapped":   {From: addr("::ffff:10.0.0.1"), To: addr("::ffff:10.0.0.2"), EndPort: 65535},
		"ports reverse": {From: a, To: b, StartPort: 2, EndPort: 1},
	} {
		if s.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	opaque := Selector{From: a, To: b, StartPort: 65535}
	if err := opaque.check(); err != nil {
		t.Errorf("opaque: %v", err)
	}
}

func TestSelectorString(t *testing.T) {
	net10 := selector("10.1.0.0/16")
	with := func(proto uint8, from, to uint16) Selector {
		s := net10
		s.Protocol, s.StartPort, s.EndPort = proto, from, to
		return s
	}
	for want, s := range map[string]Selector{
		"10.1.0.0/16":                     net10,
		"::/0":                            selector("::/0"),
		"10.0.0.1..10.0.0.9":              {From: addr("10.0.0.1"), To: addr("10.0.0.9"), EndPort: 65535},
		"10.1.0.0/16[tcp/443]":            with(protoTCP, 443, 443),
		"10.1.0.0/16[udp]":                with(protoUDP, 0, 65535),
		"10.1.0.0/16[udp/1024-2047]":      with(protoUDP, 1024, 2047),
		"10.1.0.0/16[any/53]":             with(0, 53, 53),
		"10.1.0.0/16[sctp/opaque]":        with(protoSCTP, 65535, 0),
		"10.1.0.0/16[icmp/8(0)]":          with(protoICMP, 8<<8, 8<<8),
		"10.1.0.0/16[icmpv6/3(0)-3(255)]": with(protoICMPv6, 3<<8, 3<<8|255),
		"10.1.0.0/16[47]":                 with(47, 0, 65535),
		"invalid IP..invalid IP":          {EndPort: 65535},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
