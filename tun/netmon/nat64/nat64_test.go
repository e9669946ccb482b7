package nat64

import (
	"net/netip"
	"testing"
)

func mustPrefix(t testing.TB, s string) Prefix {
	t.Helper()
	p, err := NewPrefix(netip.MustParsePrefix(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestExamples are those of RFC 6052 §2.4.
func TestExamples(t *testing.T) {
	for _, c := range []struct{ prefix, v4, v6 string }{
		{"2001:db8::/32", "192.0.2.33", "2001:db8:c000:221::"},
		{"2001:db8:100::/40", "192.0.2.33", "2001:db8:1c0:2:21::"},
		{"2001:db8:122::/48", "192.0.2.33", "2001:db8:122:c000:2:2100::"},
		{"2001:db8:122:300::/56", "192.0.2.33", "2001:db8:122:3c0:0:221::"},
		{"2001:db8:122:344::/64", "192.0.2.33", "2001:db8:122:344:c0:2:2100::"},
		{"2001:db8:122:344::/96", "192.0.2.33", "2001:db8:122:344::192.0.2.33"},
		{"64:ff9b::/96", "192.0.2.33", "64:ff9b::192.0.2.33"},
	} {
		p := mustPrefix(t, c.prefix)
		v4, v6 := netip.MustParseAddr(c.v4), netip.MustParseAddr(c.v6)
		if got, ok := p.Synthesize(v4); !ok || got != v6 {
			t.Errorf("%s by %s: %v, %v, want %s", c.v4, c.prefix, got, ok, c.v6)
		}
		if got, ok := p.Extract(v6); !ok || got != v4 {
			t.Errorf("%s by %s: %v, %v, want %s", c.v6, c.prefix, got, ok, c.v4)
		}
	}
	if p := mustPrefix(t, "64:ff9b::/96"); p != WellKnown() {
		t.Errorf("the well-known prefix is %v", WellKnown())
	}
}

func TestNewPrefix(t *testing.T) {
	for s, want := range map[string]bool{
		"2000::/32": true, "2a00:1450:4001::/48": true, "fd00:64::/96": true, "64:ff9b::/96": true,
		"64:ff9b:1::/48": true, "64:ff9b:1:fffe::/96": true, "2001:db8::1/96": true,

		"2001:db8::/33": false, "2001:db8::/128": false, "2001:db8::/0": false, "2001:db8::/72": false, // no such length
		"2001:db8:0:0:100::/96": false, "2001:db8:0:0:ff00::/96": false, // bits 64 to 71
		"::/96": false, "::ffff:0:0/96": false, "::/32": false, // mapped, compatible, loopback
		"ff0e::/32": false, "fe80::/64": false, "fec0::/64": false, "100::/64": false, "4000::/32": false,
		"64:ff9b::/32": false, "64:ff9c::/32": false, "64:ff9b:0:0:1::/96": false,
		"192.0.2.0/32": false, "10.0.0.0/8": false,
	} {
		if p, err := NewPrefix(netip.MustParsePrefix(s)); (err == nil) != want {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	if p, err := NewPrefix(netip.Prefix{}); err == nil {
		t.Errorf("no prefix: %v", p)
	}
}

func TestNotSynthesized(t *testing.T) {
	own := mustPrefix(t, "2001:db8:64::/96")
	for s, want := range map[string]struct{ own, wellKnown bool }{
		"198.51.100.7": {true, true}, "::ffff:198.51.100.7": {true, true},
		"10.1.2.3": {true, false}, "172.16.0.1": {true, false}, "192.168.178.1": {true, false}, // RFC 6052 §3.1
		"127.0.0.1": {}, "0.0.0.0": {}, "255.255.255.255": {}, "224.0.0.1": {}, "169.254.169.254": {},
		"2001:db8::1": {}, "::1": {},
	} {
		a := netip.MustParseAddr(s)
		if v6, ok := own.Synthesize(a); ok != want.own {
			t.Errorf("%s by %v: %v", s, own, v6)
		}
		if v6, ok := WellKnown().Synthesize(a); ok != want.wellKnown {
			t.Errorf("%s by %v: %v", s, WellKnown(), v6)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("198.51.100.7")} {
		if v6, ok := (Prefix{}).Synthesize(a); ok {
			t.Errorf("no prefix makes %v of %v", v6, a)
		}
	}
}

func TestNotExtracted(t *testing.T) {
	for _, c := range []struct{ prefix, v6 string }{
		{"2001:db8:122:344::/64", "2001:db8:122:345:c0:2:2100::"},
		{"2001:db8:122:344::/64", "2001:db8:122:344:1c0:2:2100::"}, // bits 64 to 71
		{"2001:db8::/32", "2001:db8:c000:221:100::"},
		{"64:ff9b::/96", "64:ff9b::127.0.0.1"},
		{"64:ff9b::/96", "64:ff9b::224.0.0.1"},
		{"64:ff9b::/96", "64:ff9b::10.0.0.1"},
		{"64:ff9b::/96", "192.0.2.33"},
		{"64:ff9b::/96", "::ffff:192.0.2.33"},
		{"fd00:64::/96", "fd00:64::c000:221%eth0"},
	} {
		if v4, ok := mustPrefix(t, c.prefix).Extract(netip.MustParseAddr(c.v6)); ok {
			t.Errorf("%s by %s: %v", c.v6, c.prefix, v4)
		}
	}
	if v4, ok := WellKnown().Extract(netip.Addr{}); ok {
		t.Errorf("no address: %v", v4)
	}
	if v4, ok := (Prefix{}).Extract(netip.MustParseAddr("64:ff9b::192.0.2.33")); ok {
		t.Errorf("no prefix: %v", v4)
	}
	// What comes behind is for later use.
	if v4, ok := mustPrefix(t, "2001:db8::/32").Extract(netip.MustParseAddr("2001:db8:c000:221:0:1:2:3")); !ok || v4 != netip.MustParseAddr("192.0.2.33") {
		t.Errorf("with a suffix: %v, %v", v4, ok)
	}
}

// FuzzExtract: what is extracted is of the prefix, and made again.
func FuzzExtract(f *testing.F) {
	f.Add(netip.MustParseAddr("64:ff9b::").AsSlice(), 96, netip.MustParseAddr("64:ff9b::192.0.2.33").AsSlice())
	f.Add(netip.MustParseAddr("2001:db8:122:344::").AsSlice(), 64, netip.MustParseAddr("2001:db8:122:344:c0:2:2100::").AsSlice())
	f.Add(netip.MustParseAddr("2001:db8:100::").AsSlice(), 40, netip.MustParseAddr("2001:db8:1c0:2:21::").AsSlice())
	f.Add(netip.MustParseAddr("::ffff:0.0.0.0").AsSlice(), 96, netip.MustParseAddr("::ffff:192.0.2.33").AsSlice())
	f.Fuzz(func(t *testing.T, prefix []byte, bits int, addr []byte) {
		base, _ := netip.AddrFromSlice(prefix)
		v6, _ := netip.AddrFromSlice(addr)
		p, err := NewPrefix(netip.PrefixFrom(base, bits))
		if err != nil && p != (Prefix{}) {
			t.Fatalf("%v in spite of %v", p, err)
		}
		v4, ok := p.Extract(v6)
		if !ok {
			return
		}
		again, made := p.Synthesize(v4)
		if !made || !p.Prefix().Contains(again) || !p.Prefix().Contains(v6) {
			t.Fatalf("%v of %v by %v becomes %v", v4, v6, p, again)
		}
		if back, ok := p.Extract(again); !ok || back != v4 {
			t.Fatalf("%v of %v, and %v of %v", v4, v6, back, again)
		}
	})
}
