package netstack

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// refusedAlways is where nobody goes by default, with why; each range by its first and its
// last address, and its neighbours where these are public.
var refusedAlways = []struct {
	addrs string
	why   Reason
}{
	{"0.0.0.0", Unspecified},
	{"0.0.0.1", Unspecified},
	{"0.255.255.255", Unspecified},
	{"10.0.0.0", Private},
	{"10.255.255.255", Private},
	{"100.64.0.0", Shared},
	{"100.127.255.255", Shared},
	{"100.100.100.200", Metadata},
	{"127.0.0.0", Loopback},
	{"127.0.0.1", Loopback},
	{"127.255.255.255", Loopback},
	{"169.254.0.0", LinkLocal},
	{"169.254.255.255", LinkLocal},
	{"169.254.169.254", Metadata},
	{"169.254.170.2", Metadata},
	{"169.254.170.23", Metadata},
	{"168.63.129.16", Metadata},
	{"192.0.0.192", Metadata},
	{"172.16.0.0", Private},
	{"172.31.255.255", Private},
	{"192.0.0.0", Reserved},
	{"192.0.0.255", Reserved},
	{"192.0.2.0", Documentation},
	{"192.0.2.255", Documentation},
	{"192.88.99.0", Reserved},
	{"192.88.99.255", Reserved},
	{"192.168.0.0", Private},
	{"192.168.255.255", Private},
	{"198.18.0.0", Reserved},
	{"198.19.255.255", Reserved},
	{"198.51.100.0", Documentation},
	{"198.51.100.255", Documentation},
	{"203.0.113.0", Documentation},
	{"203.0.113.255", Documentation},
	{"224.0.0.0", Multicast},
	{"239.255.255.255", Multicast},
	{"240.0.0.0", Reserved},
	{"255.255.255.254", Reserved},
	{"255.255.255.255", Broadcast},
	{"::", Unspecified},
	{"::1", Loopback},
	{"::2", Reserved},
	{"::8.8.8.8", Reserved},
	{"::10.0.0.1", Reserved},
	{"::ffff:10.0.0.1", Private},
	{"::ffff:127.0.0.1", Loopback},
	{"::ffff:169.254.169.254", Metadata},
	{"::ffff:0:8.8.8.8", Reserved},
	{"::ffff:0:10.0.0.1", Reserved},
	{"64:ff9b::10.0.0.1", Private},
	{"64:ff9b::127.0.0.1", Loopback},
	{"64:ff9b::169.254.169.254", Metadata},
	{"64:ff9b::255.255.255.255", Broadcast},
	{"64:ff9b::0.0.0.0", Unspecified},
	{"64:ff9b:1::8.8.8.8", Reserved},
	{"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Reserved},
	{"64:ff9b:0:0:0:1::", Reserved},
	{"100::", Reserved},
	{"100::ffff:ffff:ffff:ffff", Reserved},
	{"100:0:0:1::", Reserved},
	{"1fff:ffff::", Reserved},
	{"2001::", Unspecified},                   // the server of Teredo is 0.0.0.0
	{"2001:0:808:808:0:0:f5ff:fffe", Private}, // Teredo: 10.0.0.1
	{"2001:0:a00:1::f7f7:f7f7", Private},      // Teredo: by the server 10.0.0.1
	{"2001:0:808:808::80ff:fffe", Loopback},   // Teredo: 127.0.0.1
	{"2001:1::1", Reserved},
	{"2001:2::", Reserved},
	{"2001:10::", Reserved},
	{"2001:20::", Reserved},
	{"2001:1ff:ffff::", Reserved},
	{"2001:db8::", Documentation},
	{"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Documentation},
	{"2002:a00:1::1", Private},
	{"2002:7f00:1::1", Loopback},
	{"2002:a9fe:a9fe::1", Metadata},
	{"2002:c0a8:101::", Private},
	{"2a00:1450::5efe:10.0.0.1", Private},
	{"2a00:1450::200:5efe:192.168.1.1", Private}, // ISATAP
	{"3fff::", Documentation},
	{"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Documentation},
	{"4000::", Reserved},
	{"5f00::1", Reserved},
	{"8000::", Reserved},
	{"f000::", Reserved},
	{"fbff:ffff::", Reserved},
	{"fc00::", Private},
	{"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private},
	{"fd00:ec2::254", Metadata},
	{"fd00:ec2::23", Metadata},
	{"fd20:ce::254", Metadata},
	{"fe00::", Reserved},
	{"fe80::", LinkLocal},
	{"fe80::1%eth0", LinkLocal},
	{"febf:ffff::", LinkLocal},
	{"fec0::", Private},
	{"feff:ffff::", Private},
	{"ff00::", Multicast},
	{"ff02::1", Multicast},
	{"ffff::", Multicast},
}

var publicAddrs = []string{
	"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
	"128.0.0.0", "168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255",
	"192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
	"198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
	"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2000::", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff::", "2001:db9::",
	"2001:0:808:808::f7f7:f7f7", "2002:808:808::1", "2606:4700::1111", "2a00:1450::5efe:8.8.8.8", "3ffe:ffff::",
}

func TestJudge(t *testing.T) {
	p := newPolicy(Destinations{}, nil)
	for _, test := range refusedAlways {
		if got := p.judge(netip.MustParseAddr(test.addrs)); got != test.why {
			t.Errorf("%s: %s, want %s", test.addrs, got, test.why)
		}
	}
	for _, a := range publicAddrs {
		if got := p.judge(netip.MustParseAddr(a)); got != Allowed {
			t.Errorf("%s: %s", a, got)
		}
	}
	if got := p.judge(netip.Addr{}); got == Allowed {
		t.Error("no address is allowed")
	}
}

func TestJudgeLists(t *testing.T) {
	interfaces := prefixes("127.0.0.1/8", "::1/128", "10.1.2.3/24", "93.184.215.14/28", "93.184.216.0/31", "2a00:1::5/64", "2a00:2::/127", "fe80::5/64", "::ffff:77.1.1.1/120")
	wide := prefixes("0.0.0.0/0", "::/0")
	for _, test := range []struct {
		name  string
		d     Destinations
		wants map[string]Reason
	}{
		{"the host's own", Destinations{}, map[string]Reason{
			"127.0.0.1": Loopback, "10.1.2.3": Own, "93.184.215.14": Own, "93.184.215.13": Allowed, "93.184.215.15": Broadcast,
			"93.184.215.0": Broadcast, "93.184.216.0": Own, "93.184.216.1": Allowed, "2a00:1::5": Own, "2a00:1::": Own,
			"2a00:1::6": Allowed, "2a00:2::": Own, "2a00:2::1": Allowed, "77.1.1.1": Own, "77.1.1.255": Broadcast, "77.1.1.2": Allowed,
			"::ffff:93.184.215.14": Own, "64:ff9b::93.184.215.14": Own, "2002:5db8:d70e::1": Own, "10.1.2.255": Broadcast,
		}},
		{"all", Destinations{Allow: wide}, map[string]Reason{
			"10.0.0.1": Allowed, "192.168.1.1": Allowed, "100.64.0.1": Allowed, "192.0.2.1": Allowed, "240.0.0.1": Allowed, "fd00::1": Allowed,
			"10.1.2.3": Own, "127.0.0.1": Loopback, "127.0.0.2": Loopback, "169.254.1.1": LinkLocal, "169.254.169.254": Metadata,
			"168.63.129.16": Metadata, "100.100.100.200": Metadata, "fd00:ec2::254": Metadata, "224.0.0.1": Multicast,
			"255.255.255.255": Broadcast, "0.0.0.0": Unspecified, "10.1.2.255": Broadcast, "fe80::9": LinkLocal, "::1": Loopback,
			"64:ff9b:1::169.254.169.254": Metadata, "64:ff9b:1:a9fe:a9:fe00::": Metadata, "::127.0.0.1": Loopback,
			"64:ff9b:1::8.8.8.8": Allowed, "64:ff9b:1:808:8:800::": Allowed,
			"::ffff:0:10.1.2.3": Own, "64:ff9b::10.0.0.1": Allowed,
		}},
		{"by name", Destinations{Allow: prefixes("10.1.2.3/32", "127.0.0.0/8", "169.254.0.0/16", "169.254.169.254/32", "fe80::/10", "::1/128")}, map[string]Reason{
			"10.1.2.3": Allowed, "10.1.2.4": Private, "127.0.0.1": Loopback, "127.0.0.2": Allowed, "169.254.1.1": Allowed,
			"169.254.169.254": Allowed, "169.254.170.2": Metadata, "fe80::9": Allowed, "fe80::5": Own, "::1": Allowed,
		}},
		{"less than all", Destinations{Allow: wide, Deny: prefixes("10.5.0.0/16", "8.8.8.8/32", "::ffff:9.9.9.0/120"), Pools: prefixes("10.77.0.0/24", "fd77::/64")}, map[string]Reason{
			"10.5.1.1": Denied, "10.6.1.1": Allowed, "8.8.8.8": Denied, "9.9.9.9": Denied, "64:ff9b::8.8.8.8": Denied,
			"10.77.0.9": Pool, "fd77::9": Pool, "2002:a4d:9::": Pool,
		}},
		{"translators", Destinations{NAT64: prefixes("2a00:64::/96", "2a00:32::/32", "2a00:40::/40", "2a00:48::/48", "2a00:56::/56", "2a00:66::/64")}, map[string]Reason{
			"2a00:64::10.0.0.1": Private, "2a00:64::8.8.8.8": Allowed, "2a00:32:a00:1::": Private, "2a00:32:808:808::": Allowed,
			"2a00:40:a:0:1::": Private, "2a00:40:7:f7f7:7::": Allowed, "2a00:48:0:a00:0:100::": Private, "2a00:48:0:808:8:800::": Allowed,
			"2a00:56:0:a:0:1::": Private, "2a00:66:0:0:a:0:100:0": Private, "2a00:66:0:0:8:808:800:0": Allowed,
		}},
	} {
		p := newPolicy(test.d, interfaces)
		for a, want := range test.wants {
			if got := p.judge(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %s: %s, want %s", test.name, a, got, want)
			}
		}
	}
}

func TestReasonText(t *testing.T) {
	in := map[Reason]int{}
	for r := range reasons {
		in[r] = int(r)
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := map[Reason]int{}
	if err := json.Unmarshal(b, &out); err != nil || len(out) != int(reasons) {
		t.Errorf("%s: %v", b, err)
	}
	for r, n := range out {
		if int(r) != n || r.String() == "" {
			t.Errorf("%s: %d", r, n)
		}
	}
	var r Reason
	if r.UnmarshalText([]byte("whatever")) == nil || Reason(99).String() != "reason 99" {
		t.Error("took what is no reason")
	}
}

func TestHostAddresses(t *testing.T) {
	got, err := hostAddresses()
	if err != nil || len(got) == 0 {
		t.Skipf("this host has no addresses: %v", err)
	}
	for _, p := range got {
		if !p.IsValid() {
			t.Errorf("%s", p)
		}
		if why := newPolicy(Destinations{}, got).judge(p.Addr()); why == Allowed {
			t.Errorf("%s is allowed", p)
		}
	}
}

// Whatever the address, what the standard library knows to be no public host is refused, in
// every form.
func FuzzJudge(f *testing.F) {
	for _, test := range refusedAlways {
		f.Add(netip.MustParseAddr(test.addrs).AsSlice())
	}
	for _, a := range publicAddrs {
		f.Add(netip.MustParseAddr(a).AsSlice())
	}
	own := netip.MustParseAddr("93.184.215.14")
	nothing := newPolicy(Destinations{}, []netip.Prefix{netip.PrefixFrom(own, 24)})
	wide := newPolicy(Destinations{Allow: prefixes("0.0.0.0/0", "::/0")}, []netip.Prefix{netip.PrefixFrom(own, 24)})
	special := prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "2001:db8::/32")
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		plain := a.Unmap()
		forms := []netip.Addr{a}
		if plain.Is4() {
			v4 := plain.As4()
			forms = append(forms,
				netip.AddrFrom16(plain.As16()),
				netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: v4[0], v4[1], v4[2], v4[3]}),
				netip.AddrFrom16([16]byte{0x20, 2, v4[0], v4[1], v4[2], v4[3], 15: 1}),
				netip.AddrFrom16([16]byte{0x20, 1, 0, 0, 8, 8, 8, 8, 12: ^v4[0], ^v4[1], ^v4[2], ^v4[3]}))
		}
		closed := !plain.IsGlobalUnicast() || plain.IsPrivate() || plain == own || contains(special, plain)
		never := plain.IsUnspecified() || plain.IsMulticast() || plain.IsLoopback() || plain.IsLinkLocalUnicast() || plain == own
		for _, form := range forms {
			if got := nothing.judge(form); closed && got == Allowed {
				t.Errorf("%s (%s) is allowed", form, plain)
			}
			if got := wide.judge(form); never && got == Allowed {
				t.Errorf("%s (%s) is allowed with wide lists", form, plain)
			}
		}
	})
}
