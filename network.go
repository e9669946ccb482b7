package martlet

import (
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/netmon"
)

// watchNetwork begins to tell the engines when this host's network changes. A Listener that
// is not the operating system's may know itself, with a method Network; without one nothing
// changes.
func (n *Node) watchNetwork() error {
	switch bind := n.Bind.(type) {
	case nil:
		var err error
		if n.network, err = netmon.New(n.device.Name(), n.log.Named("netmon")); err != nil {
			return fmt.Errorf("martlet: %w", err)
		}
	case interface{ Network() netmon.Monitor }:
		n.network = bind.Network()
	default:
		return nil
	}
	n.engines.everywhere(ike.Moved{Addresses: n.addresses()})
	n.tasks.Go(func() {
		for change := range n.network.Changes() {
			addresses := n.addresses()
			n.blocked.forget()
			n.translators.forget()
			n.log.Debug("the network of this host changed", zap.Bool("woken", change.Woken), zap.Stringers("addresses", addresses))
			n.follow()
			n.engines.everywhere(ike.Moved{Addresses: addresses, Woken: change.Woken})
			if len(addresses) > 0 {
				n.keepers.hurry()
			}
		}
	})
	return nil
}

// addresses are those on which peers can reach this host; of one that serves on some
// addresses only, those.
func (n *Node) addresses() []netip.Addr {
	all := n.network.Addresses()
	listen := n.conf().Node.Listen
	if !n.Serve || slices.ContainsFunc(listen, netip.Addr.IsUnspecified) {
		return all
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !slices.Contains(listen, a) })
}

// maxPaths bounds the ways to a peer that are tried.
const maxPaths = 8

// findPaths finds the ways to a peer and opens the sockets for them: first from the address
// that the host would take for each of the peer's, then from its others.
func (n *Node) findPaths(q ike.FindPaths) ike.PathsFound {
	var found ike.PathsFound
	conn, port := n.conf().Connections[q.Connection], q.Path.Remote.Port()
	if q.Path.Stream {
		port = natPort
		if conn != nil && conn.Port != 0 && conn.Port != ikePort {
			port = conn.Port
		}
	}
	add := func(source, remote netip.Addr) {
		p, err := n.path(conn, source, netip.AddrPortFrom(remote, port), true)
		if err != nil {
			n.log.Debug("no socket for a path", zap.Stringer("from", source), zap.Stringer("to", remote), zap.Error(err))
		} else if len(found.Paths) < maxPaths && !slices.Contains(found.Paths, p) {
			found.Paths = append(found.Paths, p)
		}
	}
	var ways []netip.Addr
	for _, remote := range n.reachable(n.ctx, q.Remotes) {
		if source, err := n.source(remote); err == nil {
			add(source, remote)
			ways = append(ways, remote)
		}
	}
	if n.network == nil {
		return found
	}
	addresses := n.network.Addresses()
	if slices.Contains(ways, q.Path.Remote.Addr()) && slices.Contains(addresses, q.Path.Local.Addr()) {
		add(q.Path.Local.Addr(), q.Path.Remote.Addr())
	}
	for _, remote := range ways {
		for _, source := range addresses {
			if source.Is4() == remote.Is4() {
				add(source, remote)
			}
		}
	}
	return found
}

// path opens a socket to a peer from an address of this host.
func (n *Node) path(conn *config.Connection, source netip.Addr, remote netip.AddrPort, encap bool) (ike.Path, error) {
	local := uint16(0)
	if encap && conn != nil {
		local = conn.LocalPort // a configured port belongs to the socket that lasts
	}
	sock, err := n.sockets.dial(source, remote.Addr(), encap, local)
	if err != nil {
		return ike.Path{}, err
	}
	return ike.Path{Local: netip.AddrPortFrom(source, sock.LocalAddr().Port()), Remote: remote, Encap: encap}, nil
}
