package martlet

import (
	"net"
	"net/netip"

	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/ike"
)

// defaultMTU is what the device has until an SA tells better: an inner packet of
// that length fits an outer one of 1500 with every algorithm.
const defaultMTU = 1400

// minMTU is the least MTU of IPv6 (RFC 8200 §5); a device never gets less.
const minMTU = 1280

// configure sets up addresses and routes for what a gateway gave, before the children
// carry anything.
func (n *Node) configure(q ike.Configure) error {
	if n.stack != nil {
		for _, p := range q.Lease.Addresses {
			if err := n.stack.AddAddress(p.Addr()); err != nil {
				return err
			}
		}
		return nil
	}
	if n.host != nil {
		return n.host.enter(q)
	}
	return nil
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

// saDown takes away what an SA's peer had given.
func (n *Node) saDown(h ike.Down) {
	if n.host != nil {
		n.host.leave(h.SA)
	}
}

// fitMTU makes the device's MTU small enough for a child, unless the file says which
// it is. It never grows: another child may need what it is.
func (n *Node) fitMTU(c ike.ChildInfo) {
	if n.Config.Node.MTU != 0 {
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
	return esp.InnerMTU(linkMTU(path.Local.Addr()), path.Remote.Addr().Is6(), s.Encr, s.Integ)
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
