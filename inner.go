package martlet

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/ike"
)

// defaultMTU is what the device has until an SA tells better: an inner packet of
// that length fits an outer one of 1500 with every algorithm.
const defaultMTU = 1400

// minMTU is the least MTU of IPv6 (RFC 8200 §5); a device never gets less.
const minMTU = 1280

// leases are the virtual addresses of this end by the SA that has them, from the time
// when the engine asks for them to be set up.
type leases struct {
	mu sync.Mutex
	of map[ike.SAID][]netip.Prefix
}

// expect notes that configure is going to be called for an SA. It is called by the
// engine, as saDown is, so that the order of the two is right.
func (n *Node) expect(sa ike.SAID) {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	if n.leases.of == nil {
		n.leases.of = map[ike.SAID][]netip.Prefix{}
	}
	n.leases.of[sa] = nil
}

// configure sets up addresses and routes for what a gateway gave, before the children
// carry anything. It runs beside the engine: for an SA that is down by now nothing is
// set up.
func (n *Node) configure(q ike.Configure) error {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	if _, ok := n.leases.of[q.SA]; !ok {
		return fmt.Errorf("martlet: set up the host: %w", net.ErrClosed)
	}
	if n.host != nil {
		return n.host.enter(q)
	}
	n.leases.of[q.SA] = q.Lease.Addresses
	return n.setStack()
}

// setStack gives the stack in this process the addresses that the SAs which stand have,
// and those that a gateway has in its pools. It wants leases.mu.
func (n *Node) setStack() error {
	if n.stack == nil {
		return nil
	}
	var all []netip.Prefix
	for _, pool := range n.conf().Pools {
		if pool.Gateway.IsValid() {
			all = append(all, netip.PrefixFrom(pool.Gateway, pool.Gateway.BitLen()))
		}
	}
	for _, sa := range slices.Sorted(maps.Keys(n.leases.of)) {
		all = append(all, n.leases.of[sa]...)
	}
	return n.stack.SetAddresses(all)
}

// childUp adapts device and host to a child that was installed.
func (n *Node) childUp(c ike.ChildInfo) {
	n.fitMTU(c)
	if n.host != nil {
		n.host.childUp(c)
	}
}

func (n *Node) childDown(id ike.ChildID) {
	if n.host != nil {
		n.host.childDown(id)
	}
}

// saRekeyed notes that what an SA's peer gave is another SA's by now.
func (n *Node) saRekeyed(before, after ike.SAID) {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	if had, ok := n.leases.of[before]; ok {
		delete(n.leases.of, before)
		n.leases.of[after] = had
	}
	if n.host != nil {
		n.host.rekeyed(before, after)
	}
}

// saDown takes away what an SA's peer had given.
func (n *Node) saDown(h ike.Down) {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	_, expected := n.leases.of[h.SA]
	delete(n.leases.of, h.SA)
	if n.host != nil {
		n.host.leave(h.SA)
		return
	}
	if !expected {
		return
	}
	if err := n.setStack(); err != nil {
		n.log.Warn("an address could not be taken away: " + err.Error())
	}
}

// fitMTU makes the device's MTU small enough for a child, unless the file says which
// it is. It never grows: another child may need what it is.
func (n *Node) fitMTU(c ike.ChildInfo) {
	if n.conf().Node.MTU != 0 {
		return
	}
	mtu := max(minMTU, mtuOf(c.Path, c.Suite))
	if n.fitted.Swap(true) && mtu >= n.device.MTU() {
		return
	}
	if err := n.device.SetMTU(mtu); err != nil {
		n.log.Warn("the MTU could not be set: " + err.Error())
	}
}

// mtuOf is the longest inner packet that fits the link on which a path starts.
func mtuOf(path ike.Path, s suite.Suite) int {
	outer := linkMTU(path.Local.Addr())
	if path.Stream {
		outer -= esp.StreamOverhead
	}
	return esp.InnerMTU(outer, path.Remote.Addr().Is6(), s.Encr, s.Integ)
}

// linkMTU is the MTU of the interface that has an address; 1500 if none has. Longer
// ones than that are not believed, since a path is seldom as wide as its first link.
func linkMTU(local netip.Addr) int {
	const usual = 1500
	links, err := net.Interfaces()
	if err != nil {
		return usual
	}
	for _, link := range links {
		addrs, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == local.WithZone("") {
				return min(usual, link.MTU)
			}
		}
	}
	return usual
}
