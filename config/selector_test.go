package config

import (
	"net/netip"
	"testing"
)

func TestParseSelector(t *testing.T) {
	a := netip.MustParseAddr
	for text, want := range map[string]Selector{
		"10.1.0.0/16":            {0, 0, 65535, a("10.1.0.0"), a("10.1.255.255")},
		"0.0.0.0/0":              {0, 0, 65535, a("0.0.0.0"), a("255.255.255.255")},
		"10.1.0.1":               {0, 0, 65535, a("10.1.0.1"), a("10.1.0.1")},
		"10.1.0.1-10.1.0.9":      {0, 0, 65535, a("10.1.0.1"), a("10.1.0.9")},
		"fd00::/9":               {0, 0, 65535, a("fd00::"), a("fd7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
		"fd00::1-fd00::f":        {0, 0, 65535, a("fd00::1"), a("fd00::f")},
		"10.1.0.0/16[tcp/443]":   {6, 443, 443, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[udp/1-9]":   {17, 1, 9, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[tcp]":       {6, 0, 65535, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[/53]":       {0, 53, 53, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[47]":        {47, 0, 65535, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[%any/%any]": {0, 0, 65535, a("10.1.0.0"), a("10.1.255.255")},
		"10.1.0.0/16[icmp/8]":    {1, 0x800, 0x8ff, a("10.1.0.0"), a("10.1.255.255")},
		"::/0[icmpv6/128-129]":   {58, 0x8000, 0x81ff, a("::"), a("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
	} {
		if got, err := parseSelector(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "10.1.0.0/33", "10.1.0.1/16", "10.1.0.0/16[", "10.1.0.0/16]", "fe80::1%eth0", "1-2", "10.1.0.0/16[256]", "10.1.0.0/16[tcp/65536]", "::ffff:10.1.0.0/112", "[tcp]"} {
		if got, err := parseSelector(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestPoolAddresses(t *testing.T) {
	for text, want := range map[string]struct{ gateway, from, to string }{
		"10.9.0.0/24":         {"10.9.0.1", "10.9.0.2", "10.9.0.254"},
		"10.9.0.0/30":         {"10.9.0.1", "10.9.0.2", "10.9.0.2"},
		"10.9.0.0/31":         {"10.9.0.0", "10.9.0.1", "10.9.0.1"},
		"10.9.0.7/32":         {"", "10.9.0.7", "10.9.0.7"},
		"10.9.0.7":            {"", "10.9.0.7", "10.9.0.7"},
		"10.9.0.10-10.9.0.20": {"", "10.9.0.10", "10.9.0.20"},
		"fd00::/120":          {"fd00::1", "fd00::2", "fd00::ff"},
		"fd00::/127":          {"fd00::", "fd00::1", "fd00::1"},
	} {
		p := &Pool{Addresses: []string{text}}
		f := newFaults("", "")
		f.pool(p, "pool.x")
		if err := f.err(); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		gateway := ""
		if p.Gateway.IsValid() {
			gateway = p.Gateway.String()
		}
		if r := p.Ranges[0]; gateway != want.gateway || r.From.String() != want.from || r.To.String() != want.to {
			t.Errorf("%s: gateway %q, %v; want %v", text, gateway, r, want)
		}
	}
}

func TestParent(t *testing.T) {
	for path, want := range map[string]string{
		`a.b.c`: "a.b", `a[1]`: "a", `a."b.c"`: "a", `a."b\".c".d`: `a."b\".c"`, `"x\\".y`: `"x\\"`, "a": "", `"a.b"`: "",
	} {
		if got := parent(path); got != want {
			t.Errorf("parent of %s is %s, want %s", path, got, want)
		}
	}
}
