package martlet

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/tun/dns"
)

var comparesAddresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// TestWhoIsAskedForNames: which resolvers this host gets, for what a gateway gives and the file says.
func TestWhoIsAskedForNames(t *testing.T) {
	inside, other, outside := "10.77.0.53", "10.77.0.54", "192.0.2.53"
	for name, c := range map[string]struct {
		leases []ike.Lease
		file   config.DNS
		want   dns.Config
	}{
		"nothing given":              {[]ike.Lease{{}}, config.DNS{}, dns.Config{}},
		"all names":                  {[]ike.Lease{{DNS: addrs(inside)}}, config.DNS{}, dns.Config{Servers: addrs(inside)}},
		"some names":                 {[]ike.Lease{{DNS: addrs(inside), Domains: []string{"corp.example"}}}, config.DNS{}, dns.Config{Servers: addrs(inside), Domains: []string{"corp.example"}}},
		"outside of the tunnel":      {[]ike.Lease{{DNS: addrs(outside)}}, config.DNS{}, dns.Config{}},
		"one of them outside":        {[]ike.Lease{{DNS: addrs(outside, inside)}}, config.DNS{}, dns.Config{Servers: addrs(inside)}},
		"the host keeps its own":     {[]ike.Lease{{DNS: addrs(inside)}}, config.DNS{Keep: true}, dns.Config{}},
		"others than the gateway's":  {[]ike.Lease{{DNS: addrs(inside)}}, config.DNS{Inside: []netip.AddrPort{netip.MustParseAddrPort(other + ":0")}}, dns.Config{Servers: addrs(other)}},
		"others, and none given":     {[]ike.Lease{{}}, config.DNS{Inside: []netip.AddrPort{netip.MustParseAddrPort(other + ":0")}}, dns.Config{Servers: addrs(other)}},
		"a port that nobody can ask": {[]ike.Lease{{}}, config.DNS{Inside: []netip.AddrPort{netip.MustParseAddrPort(other + ":5353")}}, dns.Config{}},
		"other names than told":      {[]ike.Lease{{DNS: addrs(inside), Domains: []string{"corp.example"}}}, config.DNS{Tunnel: []string{"lab.example"}}, dns.Config{Servers: addrs(inside), Domains: []string{"lab.example"}}},
		"all names, though told":     {[]ike.Lease{{DNS: addrs(inside), Domains: []string{"corp.example"}}}, config.DNS{Tunnel: []string{"."}}, dns.Config{Servers: addrs(inside)}},
		"two gateways, one for all":  {[]ike.Lease{{DNS: addrs(inside), Domains: []string{"corp.example"}}, {DNS: addrs(other)}}, config.DNS{}, dns.Config{Servers: addrs(inside, other)}},
		"two gateways, each for some": {
			[]ike.Lease{{DNS: addrs(inside), Domains: []string{"a.example"}}, {DNS: addrs(other), Domains: []string{"b.example"}}},
			config.DNS{},
			dns.Config{Servers: addrs(inside, other), Domains: []string{"a.example", "b.example"}},
		},
		"short names": {[]ike.Lease{{DNS: addrs(inside)}}, config.DNS{Search: []string{"corp.example"}}, dns.Config{Servers: addrs(inside), Search: []string{"corp.example"}}},
	} {
		t.Run(name, func(t *testing.T) {
			n, m := hostNode(t)
			n.host.config.DNS = c.file
			for i, l := range c.leases {
				q := ike.Configure{SA: ike.SAID(i + 1), Connection: "office", Lease: l, Children: []ike.ChildInfo{{
					ID: ike.ChildID(i + 1), SA: ike.SAID(i + 1), Connection: "office",
					Remote: []message.Selector{message.SelectorOf(netip.MustParsePrefix("10.77.0.0/24"))},
				}}}
				n.expect(q.SA)
				if err := n.configure(q); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.host.settled(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got dns.Config
			if len(m.names) > 0 {
				got = m.names[len(m.names)-1]
			}
			got.Device = ""
			if diff := cmp.Diff(c.want, got, comparesAddresses, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for i := range c.leases {
				n.saDown(ike.Down{SA: ike.SAID(i + 1)})
			}
			if err := n.host.settled(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(m.names) > 0 && len(m.names[len(m.names)-1].Servers) > 0 {
				t.Errorf("left behind: %v", m.names)
			}
		})
	}
}

// TestResolversThatCannotBeSet: the tunnel stands all the same, the status tells, what was done is
// undone, and the next occasion is another try.
func TestResolversThatCannotBeSet(t *testing.T) {
	m := &machine{nameless: errors.New("resolved says no")}
	r := m.resolvers()
	c := dns.Config{Device: "martlet0", Servers: addrs("10.77.0.53")}
	for try := range 2 {
		r.wish(c)
		if err := r.settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.status(); s == nil || s.Err != "resolved says no" {
			t.Errorf("status %+v", s)
		}
		if len(m.names) != try+1 {
			t.Errorf("set %v", m.names)
		}
	}
	if err := r.close(); err != nil || len(m.names) != 3 {
		t.Errorf("%v, set %v", err, m.names)
	}
}

// TestLastWishCounts: while one is carried out others come and go.
func TestLastWishCounts(t *testing.T) {
	m := &machine{}
	began, goOn := make(chan struct{}), make(chan struct{})
	r := newResolvers(func() (dns.Host, error) {
		close(began)
		<-goOn
		return namesOf{m}, nil
	}, zap.NewNop())
	first, second, third := dns.Config{Servers: addrs("10.0.0.1")}, dns.Config{Servers: addrs("10.0.0.2")}, dns.Config{Servers: addrs("10.0.0.3")}
	r.wish(first)
	<-began
	r.wish(second)
	r.wish(third)
	if r.status() != nil {
		t.Error("a status before anything is done")
	}
	close(goOn)
	if err := r.settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(m.names) != 2 || m.names[1].Servers[0] != third.Servers[0] {
		t.Errorf("set %v", m.names)
	}
	r.wish(third)
	if err := r.close(); err != nil || len(m.names) != 3 || len(m.names[2].Servers) != 0 {
		t.Errorf("%v, set %v", err, m.names)
	}
	r.wish(first)
	if err := r.settled(t.Context()); err != nil || len(m.names) != 3 {
		t.Error("set after the end")
	}
}

// TestWishAtTheEndOfAnother: one that comes when the one before it is just done is carried out too.
func TestWishAtTheEndOfAnother(t *testing.T) {
	m := &machine{}
	r := m.resolvers()
	for round := range 50000 {
		var wishes sync.WaitGroup
		for i := range 3 {
			c := dns.Config{Servers: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(round), byte(round >> 8), byte(i)})}}
			wishes.Go(func() { r.wish(c) })
		}
		wishes.Wait()
		if err := r.settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := m.names[len(m.names)-1]; got.Servers[0] != r.wanted.Servers[0] {
			t.Fatalf("round %d: %v are set, not the %v that were wished last", round, got.Servers, r.wanted.Servers)
		}
		m.names = m.names[:0]
	}
}
