package martlet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sort"
	"syscall"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/outside"
)

// needs are what a system wants of a host in place of marks, by which Linux knows the packets of our
// own sockets whomever they go to and whatever network they leave by.
type needs struct {
	routes bool // our packets stay out of the tunnel by a host route to each peer
	peers  bool // a kill switch is told whom our sockets speak to
	bound  bool // our sockets are bound to the interface that leads out
	again  bool // routes and rules hold for the network in which they were set
}

func needsOf(goos string) needs {
	n := needs{again: goos != "linux"}
	switch goos {
	case "darwin":
		n.bound, n.peers = true, true
	case "freebsd", "openbsd":
		n.routes, n.peers = true, true
	case "windows":
		n.bound = true
	}
	return n
}

// wayOf is how our own sockets stay out of the tunnel.
func wayOf(c *config.Config) outside.Way {
	return outside.Way{Mark: c.Node.Mark, Tunnel: c.Node.Device}
}

const (
	// reachFor is how long somebody counts to whom a socket was opened: longer than a peer takes
	// to become that of an SA, or to be given up.
	reachFor = 10 * time.Minute
	// maxReached bounds them; a peer may name others.
	maxReached = 64
)

// reached are those to whom our own sockets speak.
type reached struct {
	sas map[ike.SAID]netip.AddrPort // the peers of SAs
	// lately has those to whom sockets were opened, and when: servers, and gateways, whose
	// port is 0 and stands for all that connections have.
	lately map[netip.AddrPort]time.Time
}

// note notes that a socket is opened to somebody, in the place of who was longest ago if there
// are too many. It tells whether that is news.
func (r *reached) note(to netip.AddrPort, now time.Time) (news bool) {
	_, known := r.lately[to]
	if !known && len(r.lately) >= maxReached {
		delete(r.lately, slices.MinFunc(slices.Collect(maps.Keys(r.lately)), func(a, b netip.AddrPort) int {
			return r.lately[a].Compare(r.lately[b])
		}))
	}
	if r.lately == nil {
		r.lately = map[netip.AddrPort]time.Time{}
	}
	r.lately[to] = now
	return !known
}

// uses notes where the peer of an SA is. It tells whether that is news.
func (r *reached) uses(sa ike.SAID, peer netip.AddrPort) (news bool) {
	if r.sas == nil {
		r.sas = map[ike.SAID]netip.AddrPort{}
	}
	news = r.sas[sa] != peer
	r.sas[sa] = peer
	return news
}

func (r *reached) rekeyed(before, after ike.SAID) {
	if peer, ok := r.sas[before]; ok {
		delete(r.sas, before)
		r.sas[after] = peer
	}
}

func (r *reached) left(sa ike.SAID) { delete(r.sas, sa) }

// forget forgets those to whom no socket was opened for long.
func (r *reached) forget(now time.Time) {
	maps.DeleteFunc(r.lately, func(_ netip.AddrPort, at time.Time) bool { return now.Sub(at) > reachFor })
}

// gateways are the outer addresses of peers, in order.
func (r *reached) gateways() []netip.Addr {
	var out []netip.Addr
	for _, peer := range r.sas {
		out = append(out, peer.Addr())
	}
	for to := range r.lately {
		if to.Port() == 0 {
			out = append(out, to.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// all are all of them, gateways with each of the ports, in order.
func (r *reached) all(ports []uint16) []netip.AddrPort {
	out := slices.Collect(maps.Values(r.sas))
	for to := range r.lately {
		if to.Port() != 0 {
			out = append(out, to)
			continue
		}
		for _, port := range ports {
			out = append(out, netip.AddrPortFrom(to.Addr(), port))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Compare(out[j]) < 0 })
	return slices.Compact(out)
}

// peerPorts are those to which gateways are spoken.
func peerPorts(c *config.Config) []uint16 {
	out := []uint16{ikePort, natPort}
	for _, conn := range c.Connections {
		out = append(out, conn.Port, conn.TCPPort)
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(port uint16) bool { return port == 0 })
}

// outer is an address as routes and rules have it. What stays on this host needs neither.
func outer(to netip.AddrPort) (netip.AddrPort, bool) {
	a := to.Addr().Unmap().WithZone("")
	return netip.AddrPortFrom(a, to.Port()), a.IsValid() && !a.IsUnspecified() && !a.IsLoopback()
}

// reach lets our own sockets speak to somebody, before they do: a gateway if the port is 0, a
// server otherwise. On Linux and Windows they may without it.
func (h *host) reach(to netip.AddrPort) error {
	to, ok := outer(to)
	if !ok || !h.needs.routes && !h.needs.peers {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.excepts(to.Port() == 0):
		return nil
	case h.restored:
		return net.ErrClosed
	case h.fault != nil:
		return h.fault
	}
	if !h.reached.note(to, time.Now()) {
		return nil
	}
	if err := h.admit(); err != nil {
		delete(h.reached.lately, to) // so that the next socket asks again
		return fmt.Errorf("our own packets to %v would not leave this host: %w", to.Addr(), err)
	}
	return nil
}

// excepts tells whether routes or rules except those to whom our own sockets speak: gateways, or servers.
func (h *host) excepts(gateway bool) bool {
	return h.needs.routes && gateway || h.needs.peers && h.config.Node.KillSwitch
}

// uses follows the peer of an SA to where it is now.
func (h *host) uses(sa ike.SAID, peer netip.AddrPort) {
	peer, ok := outer(peer)
	if !ok || !h.needs.routes && !h.needs.peers {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.excepts(true) || h.restored || h.fault != nil || !h.reached.uses(sa, peer) {
		return
	}
	if err := h.admit(); err != nil {
		h.log.Error("our own packets to a peer may not leave this host", zap.Stringer("peer", peer), zap.Error(err))
	}
}

// admit sets what depends on whom our own sockets speak to. A kill switch is in force from the
// beginning, routes lead into the tunnel from begin on.
func (h *host) admit() error {
	if h.applied {
		return h.apply()
	}
	if h.config.Node.KillSwitch {
		return h.filter()
	}
	return nil
}

// control prepares a socket of a Host that is dialled to a server, which must answer before the
// tunnel stands.
func (n *Node) control(network, address string, c syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err == nil && n.host != nil {
		if err := n.host.reach(to); err != nil {
			return err
		}
	}
	return n.services.Control(network, address, c)
}

// follow has a Host's own packets leave by the network in which it is now.
func (n *Node) follow() {
	if n.host == nil {
		return
	}
	n.host.moved()
	if n.host.needs.bound {
		if err := n.sockets.bindAgain(); err != nil {
			n.log.Debug("sockets stay bound to the interface that led out before", zap.Error(err))
		}
	}
}

// bindAgain binds our sockets to the interface that leads out now. Streams end with their network.
func (s *sockets) bindAgain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sock := range s.open {
		if raw, ok := sock.raw.(interface{ ControlAgain() error }); ok {
			errs = append(errs, raw.ControlAgain())
		}
	}
	return errors.Join(errs...)
}
