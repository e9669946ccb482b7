package martlet

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"martlet/tun/route"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// TestLocalNetworks: what of the networks that a host is attached to a user means by the local one.
func TestLocalNetworks(t *testing.T) {
	for text, local := range map[string]bool{
		"192.168.1.0/24": true, "10.7.0.0/16": true, "172.16.5.0/24": true, "fd12:3456:789a::/48": true, "fd12:3456:789a:1::/64": true,
		"10.0.0.0/8":       false, // would take what is behind the gateway
		"172.16.0.0/12":    false,
		"198.51.100.0/24":  false, // CVE-2023-36672
		"0.0.0.0/0":        false,
		"192.168.0.0/15":   false, // half of it is not private
		"fd00::/8":         false,
		"2001:db8:1::/64":  false,
		"172.32.0.0/24":    false,
		"192.169.0.0/24":   false,
		"fe80::/64":        false, // has a place of its own
		"100.64.0.0/24":    false, // a carrier's
		"10.200.30.40/32":  true,
		"192.168.77.0/30":  true,
		"fdff:ffff::1/128": true,
	} {
		if got := len(privateOf(prefixes(text))) == 1; got != local {
			t.Errorf("%s: %v, want %v", text, got, local)
		}
	}
}

// TestNoFamilyIsForgotten: a tunnel for all of one family has no way beside it for the other.
func TestNoFamilyIsForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		routes []netip.Prefix
		serve  bool
		want   []netip.Prefix
	}{
		"both":           {prefixes("0.0.0.0/0", "::/0"), false, nil},
		"IPv4 only":      {prefixes("0.0.0.0/0"), false, prefixes("::/0")},
		"IPv6 only":      {prefixes("::/0"), false, prefixes("0.0.0.0/0")},
		"some of IPv6":   {prefixes("0.0.0.0/0", "fd00::/8"), false, prefixes("::/0")},
		"a split tunnel": {prefixes("10.0.0.0/8"), false, nil},
		"nothing":        {nil, false, nil},
		"a gateway":      {prefixes("0.0.0.0/0"), true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := unreachable(route.Config{Routes: c.routes}, c.serve)
			if diff := cmp.Diff(c.want, got, comparesAddresses, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWhatStaysOutside: the networks that connections name, and the local ones if they say so.
func TestWhatStaysOutside(t *testing.T) {
	n, m := hostNode(t)
	n.host.config.Connections["office"].Exclude = prefixes("192.0.2.0/24", "10.99.0.0/16")
	n.host.begin()
	if diff := cmp.Diff(prefixes("10.99.0.0/16", "192.0.2.0/24"), m.routes.Outside, comparesAddresses); diff != "" {
		t.Error(diff)
	}
	n.host.config.Connections["office"].AllowLAN = true
	n.host.moved()
	for _, p := range onLink {
		if !slices.Contains(m.routes.Outside, p) {
			t.Errorf("%v is not outside", p)
		}
	}
}

// TestLocalNetworkDoesNotTakeWhatTheTunnelNames: a foreign network with the addresses of hosts behind the
// gateway gets no packet for them (CVE-2023-36672).
func TestLocalNetworkDoesNotTakeWhatTheTunnelNames(t *testing.T) {
	local := prefixes("192.168.1.0/24", "10.1.2.0/24", "169.254.0.0/16")
	for name, c := range map[string]struct{ routes, want []netip.Prefix }{
		"no tunnel":              {nil, local},
		"all":                    {prefixes("0.0.0.0/0"), local},
		"all, in halves":         {prefixes("0.0.0.0/1", "128.0.0.0/1"), local},
		"other networks":         {prefixes("10.2.0.0/16"), local},
		"a network around it":    {prefixes("10.1.0.0/16"), prefixes("192.168.1.0/24", "169.254.0.0/16")},
		"a host in it":           {prefixes("0.0.0.0/0", "10.1.2.9/32"), prefixes("192.168.1.0/24", "169.254.0.0/16")},
		"another of the same /8": {prefixes("10.0.0.0/8"), prefixes("192.168.1.0/24", "169.254.0.0/16")},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, beside(slices.Clone(local), c.routes), comparesAddresses); diff != "" {
				t.Error(diff)
			}
		})
	}
}
