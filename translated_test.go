package martlet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/tun/netmon/nat64"
)

// TestTranslatedAddresses: what is tried in a network that has no way to an IPv4 address.
func TestTranslatedAddresses(t *testing.T) {
	own, err := nat64.NewPrefix(netip.MustParsePrefix("2001:db8:64::/96"))
	if err != nil {
		t.Fatal(err)
	}
	both := []nat64.Prefix{own, nat64.WellKnown()}
	for name, c := range map[string]struct {
		cut         bool
		translators []nat64.Prefix
		all, want   []netip.Addr
	}{
		"IPv4 is there":     {false, both, addrs("203.0.113.2"), addrs("203.0.113.2")},
		"no translator":     {true, nil, addrs("203.0.113.2"), addrs("203.0.113.2")},
		"one translator":    {true, both[:1], addrs("203.0.113.2"), addrs("2001:db8:64::cb00:7102")},
		"two":               {true, both, addrs("203.0.113.2"), addrs("2001:db8:64::cb00:7102", "64:ff9b::cb00:7102")},
		"IPv6 as it is":     {true, both[:1], addrs("2001:db8::1", "203.0.113.2"), addrs("2001:db8::1", "2001:db8:64::cb00:7102")},
		"told by the names": {true, both[:1], addrs("2001:db8:64::cb00:7102", "203.0.113.2"), addrs("2001:db8:64::cb00:7102", "203.0.113.2")},
		"a private one":     {true, both[1:], addrs("10.1.1.1"), addrs("10.1.1.1")},
	} {
		t.Run(name, func(t *testing.T) {
			got := translated(c.all, func(netip.Addr) bool { return c.cut }, func() []nat64.Prefix { return c.translators })
			if diff := cmp.Diff(c.want, got, comparesAddresses); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTranslatorsOfTheNetworkAtHand: who comes to another network does not wait for what is asked in the one
// before, which is not taken for the other one's.
func TestTranslatorsOfTheNetworkAtHand(t *testing.T) {
	var of translators
	asked := 0
	ask := func(moves bool) []nat64.Prefix {
		return of.ask(func() ([]nat64.Prefix, error) {
			asked++
			if moves {
				of.forget()
			}
			return []nat64.Prefix{nat64.WellKnown()}, nil
		})
	}
	for i, moves := range []bool{true, false, false} {
		if got := ask(moves); len(got) != 1 {
			t.Errorf("%d: %v", i, got)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2: in each network once", asked)
	}
}
