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
	"martlet/tun/netmon"
)

// defaultMTU is what the device has until an SA tells better: an inner packet of
// that length fits an outer one of 1500 with every algorithm.
const defaultMTU = 1400

// minMTU is the least MTU of IPv6 (RFC 8200 §5); a device never gets less.
const minMTU = 1280

// leases are what gateways gave this end by the SA that has it, from the time when the engine
// asks for it to be set up.
type leases struct {
	mu sync.Mutex
	of map[ike.SAID]ike.Lease
}

// expect notes that configure is going to be called for an SA. It is called by the
// engine, as saDown is, so that the order of the two is right.
func (n *Node) expect(sa ike.SAID) {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	if n.leases.of == nil {
		n.leases.of = map[ike.SAID]ike.Lease{}
	}
	n.leases.of[sa] = ike.Lease{}
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
		// The packet filter has the device's MTU in it.
		for _, c := range q.Children {
			n.fitMTU(c)
		}
		return n.host.enter(q)
	}
	n.leases.of[q.SA] = q.Lease
	return n.setAddresses()
}

// setAddresses gives the stack in this process the addresses that the SAs which stand have, those that
// a gateway has in its pools, and, where a peer gives none, those that the selectors name one by
// one. An Enclave gets the same, but for the pools. It wants leases.mu.
func (n *Node) setAddresses() error {
	if n.stack == nil && n.Enclave == nil {
		return nil
	}
	var all []netip.Prefix
	for _, pool := range n.conf().Pools {
		if n.stack != nil && pool.Gateway.IsValid() {
			all = append(all, netip.PrefixFrom(pool.Gateway, pool.Gateway.BitLen()))
		}
	}
	for _, sa := range slices.Sorted(maps.Keys(n.leases.of)) {
		all = append(all, n.leases.of[sa].Addresses...)
	}
	if n.forwarder == nil {
		all = append(all, n.ways.own(func(sa ike.SAID) bool { return len(n.leases.of[sa].Addresses) > 0 })...)
	}
	if n.Enclave != nil {
		return n.Enclave.apply(sortedPrefixes(all), n.resolversInside())
	}
	return n.stack.SetAddresses(all)
}

// opened notes where a child leads, before its peer can know that it is there.
func (n *Node) opened(c ike.ChildInfo) {
	if n.ways.up(c) {
		n.resetAddresses()
	}
}

// closed is opened undone.
func (n *Node) closed(id ike.ChildID) {
	if n.ways.down(id) {
		n.resetAddresses()
	}
}

// resetAddresses is setAddresses where a failure concerns nobody who waits. A Host has its own
// ways, and its set-up, behind the same lock, may take long.
func (n *Node) resetAddresses() {
	if n.host != nil {
		return
	}
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	if err := n.setAddresses(); err != nil {
		n.log.Warn("the addresses of the tunnel could not be set: " + err.Error())
	}
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
	n.ways.rekeyed(before, after)
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
	delete(n.leases.of, h.SA)
	if n.host != nil {
		n.host.leave(h.SA)
		return
	}
	if err := n.setAddresses(); err != nil {
		n.log.Warn("an address could not be taken away: " + err.Error())
	}
}

// fitted tells whether the device's MTU came from a child.
type fitted struct {
	mu  sync.Mutex
	yes bool
}

// fitMTU makes the device's MTU small enough for a child, unless the file says which
// it is. It never grows: another child may need what it is.
func (n *Node) fitMTU(c ike.ChildInfo) {
	if n.conf().Node.MTU != 0 {
		return
	}
	mtu := max(minMTU, mtuOf(c.Path, c.Suite))
	n.fitted.mu.Lock()
	defer n.fitted.mu.Unlock()
	if n.fitted.yes && mtu >= n.device.MTU() {
		return
	}
	n.fitted.yes = true
	if mtu == n.device.MTU() {
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
	if mtu, ok := netmon.LinkMTU(local); ok {
		return min(usual, mtu)
	}
	return usual
}
