package martlet

import (
	"net/netip"

	"martlet/tun/netstack"
)

// openForwarding makes the stack of a gateway whose clients' connections this process makes in
// their place.
func (n *Node) openForwarding(mtu int) (*netstack.Stack, error) {
	cfg := netstack.ForwardConfig{
		Destinations: n.destinations(),
		Map:          n.conf().Userspace.Mapped,
		Warn:         func(text string) { n.log.Warn(text) },
	}
	if n.footprint.Small {
		cfg.MaxTCP, cfg.MaxTCPEach, cfg.MaxHandshakes, cfg.MaxHandshakesEach = 256, 128, 128, 64
		cfg.MaxUDP, cfg.MaxUDPEach, cfg.MaxEchoes, cfg.MaxEchoesEach = 256, 128, 256, 64
	}
	stack, forwarder, err := netstack.NewForwarding(mtu, n.footprint.tcpBuffers(), cfg)
	if err != nil {
		return nil, err
	}
	n.forwarder = forwarder
	return stack, nil
}

// destinations is where clients may go.
func (n *Node) destinations() netstack.Destinations {
	c := n.conf()
	d := netstack.Destinations{Allow: c.Userspace.Allow, Deny: c.Userspace.Deny}
	for _, pool := range c.Pools {
		d.Pools = append(d.Pools, poolPrefixes(pool)...)
	}
	return d
}

// vacated ends what the peer had open whose address is free now.
func (n *Node) vacated(addr netip.Addr) {
	if n.forwarder != nil {
		n.forwarder.Drop(addr)
	}
}
