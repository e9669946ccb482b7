package martlet

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"martlet/tun/netmon/nat64"
)

// translators are those of the network at hand that lead from IPv6 to IPv4 (NAT64).
type translators struct {
	mu      sync.Mutex
	network int // how many others there were before
	known   bool
	found   []nat64.Prefix
}

// translatorsWithin is how long the resolvers of a network may take to tell of them.
const translatorsWithin = 5 * time.Second

// reachable puts in the place of IPv4 addresses that this host has no way to those by which a
// translator of its network has one. A network of IPv6 alone does that by itself only where names
// are asked for, and not where an address is written down.
func (n *Node) reachable(ctx context.Context, all []netip.Addr) []netip.Addr {
	if n.Bind != nil || n.network == nil || slices.ContainsFunc(n.network.Addresses(), netip.Addr.Is4) {
		return all // the host has IPv4: what is cut off is not so for good
	}
	cut := func(a netip.Addr) bool {
		_, err := n.source(a)
		return err != nil
	}
	return translated(all, cut, func() []nat64.Prefix { return n.translate(ctx) })
}

// translated is reachable for a host that is cut off from addresses, in a network with translators.
func translated(all []netip.Addr, cut func(netip.Addr) bool, translators func() []nat64.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		if !a.Is4() || !cut(a) {
			out = append(out, a)
			continue
		}
		before := len(out)
		for _, p := range translators() {
			if to, ok := p.Synthesize(a); ok && !slices.Contains(all, to) {
				out = append(out, to)
			}
		}
		if len(out) == before {
			out = append(out, a) // whoever tries hears why it fails
		}
	}
	return out
}

// translate asks the network for its translators, until it is known which it has.
func (n *Node) translate(ctx context.Context) []nat64.Prefix {
	return n.translators.ask(func() ([]nat64.Prefix, error) {
		ctx, cancel := context.WithTimeout(ctx, translatorsWithin)
		defer cancel()
		return nat64.Discover(ctx, cmp.Or(n.outside, net.DefaultResolver))
	})
}

// ask is what is known of the network, or else what discover finds. Who comes to another network
// does not wait for that, and it is not kept for the other one.
func (t *translators) ask(discover func() ([]nat64.Prefix, error)) []nat64.Prefix {
	t.mu.Lock()
	found, known, network := t.found, t.known, t.network
	t.mu.Unlock()
	if known {
		return found
	}
	found, err := discover()
	if err != nil {
		return nil // asked again the next time
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.network == network {
		t.found, t.known = found, true
	}
	return found
}

// forget is for another network.
func (t *translators) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.network++
	t.found, t.known = nil, false
}
