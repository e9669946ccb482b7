package martlet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"martlet/config"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// add notes a child's routes: those of its selectors, or those of the file.
func (h *host) add(c ike.ChildInfo) error {
	conn := h.config.Connections[c.Connection]
	var routes []netip.Prefix
	if conn != nil {
		var err error
		if routes, err = routesOf(conn, c.Remote); err != nil {
			return err
		}
	}
	h.children[c.ID] = hostChild{sa: c.SA, local: prefixesOf(c.Local), routes: routes}
	return nil
}

func routesOf(conn *config.Connection, remote []message.Selector) ([]netip.Prefix, error) {
	switch {
	case conn.Routes.None:
		return nil, nil
	case len(conn.Routes.List) > 0:
		return conn.Routes.List, nil
	}
	routes := prefixesOf(remote)
	if len(conn.Request) == 0 && slices.ContainsFunc(routes, everything) {
		return nil, fmt.Errorf("connection %q takes everything and has no virtual address: its routes must be a list", conn.Name)
	}
	return routes, nil
}

// all are the children that there are and those that may come, in a fixed order.
func (h *host) all() []hostChild {
	var out []hostChild
	for _, id := range slices.Sorted(maps.Keys(h.children)) {
		out = append(out, h.children[id])
	}
	for _, name := range slices.Sorted(maps.Keys(h.traps)) {
		out = append(out, h.traps[name]...)
	}
	return out
}

// childRoutes are the routes of all children.
func (h *host) childRoutes() []netip.Prefix {
	var out []netip.Prefix
	for _, child := range h.all() {
		out = append(out, child.routes...)
	}
	return out
}

func everything(p netip.Prefix) bool { return p.Bits() == 0 }

// routes is what the host needs around the device.
func (h *host) routes() route.Config {
	c := route.Config{
		Device:  h.device.Name(),
		Mark:    h.config.Node.Mark,
		Table:   h.config.Node.Table,
		Forward: h.forwards(),
		Sources: h.sources(),
	}
	for _, l := range h.leases {
		c.Addresses = append(c.Addresses, l.Addresses...)
	}
	for _, p := range h.config.Pools {
		if h.serve && p.Gateway.IsValid() {
			c.Addresses = append(c.Addresses, netip.PrefixFrom(p.Gateway, p.Gateway.BitLen()))
		}
		if h.serve {
			c.Routes = append(c.Routes, poolPrefixes(p)...)
		}
	}
	pools := c.Routes
	for _, route := range h.childRoutes() {
		if !slices.ContainsFunc(pools, func(pool netip.Prefix) bool { return within(route, pool) }) {
			c.Routes = append(c.Routes, route)
		}
	}
	c.Addresses = sortedPrefixes(c.Addresses)
	c.Routes = sortedPrefixes(c.Routes)
	c.Unreachable = unreachable(c, h.serve)
	c.Outside = excluded(h.config, h.device.Name(), c.Routes)
	if h.needs.routes {
		c.Outside = sortedPrefixes(append(c.Outside, h.pastTunnel(c)...))
	}
	return c
}

// pastTunnel are the outer addresses of peers to which our own packets would take a route of the tunnel.
func (h *host) pastTunnel(c route.Config) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range h.reached.gateways() {
		if slices.ContainsFunc(slices.Concat(c.Routes, c.Unreachable), func(p netip.Prefix) bool { return p.Contains(a) }) {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// excluded is what the user keeps out of the tunnel though its routes cover it.
func excluded(c *config.Config, device string, routes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, conn := range c.Connections {
		out = append(out, conn.Exclude...)
		if conn.AllowLAN {
			out = append(out, beside(lan(device), routes)...)
		}
	}
	return sortedPrefixes(out)
}

// beside leaves out those local networks that meet what a route of the tunnel names, short of most of a
// family: a network says itself which it is, and may say that of hosts behind the gateway.
func beside(local, routes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(local, func(p netip.Prefix) bool {
		return slices.ContainsFunc(routes, func(route netip.Prefix) bool { return route.Bits() >= 8 && route.Overlaps(p) })
	})
}

// unreachable is the whole of a family that a client has no way for in its tunnel, while it sends all
// of the other one there. What goes past the tunnel by the family that somebody forgot is seen by all.
func unreachable(c route.Config, serve bool) []netip.Prefix {
	var out []netip.Prefix
	all4, all6 := slices.Contains(c.Routes, all(4)), slices.Contains(c.Routes, all(6))
	if !serve && all4 && !all6 {
		out = append(out, all(6))
	}
	if !serve && all6 && !all4 {
		out = append(out, all(4))
	}
	return out
}

// all is the whole of a family.
func all(version int) netip.Prefix {
	if version == 4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// within tells whether a prefix is a part of another. What the route of a pool covers needs none
// for each of its clients.
func within(part, whole netip.Prefix) bool {
	return part.Bits() >= whole.Bits() && whole.Contains(part.Addr())
}

// poolPrefixes is the addresses of a pool as prefixes.
func poolPrefixes(p *config.Pool) []netip.Prefix {
	var out []netip.Prefix
	for i, text := range p.Addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, prefix.Masked())
			continue
		}
		run := message.Selector{From: p.Ranges[i].From, To: p.Ranges[i].To, EndPort: 65535}
		out = append(out, run.Prefixes()...)
	}
	return out
}

// sources are the addresses that this host's own packets into the tunnel should have
// where it has no virtual one: of its others, those that the selectors allow. Otherwise
// the kernel would take the outer address, which no peer accepts.
func (h *host) sources() []netip.Addr {
	var out []netip.Addr
	for _, v4 := range []bool{true, false} {
		for _, c := range h.all() {
			local := slices.DeleteFunc(slices.Clone(c.local), func(p netip.Prefix) bool { return p.Addr().Is4() != v4 })
			if len(h.leases[c.sa].Addresses) > 0 || len(local) == 0 || len(c.routes) == 0 {
				continue
			}
			if a, err := route.SourceWithin(local); err == nil && a.IsValid() {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

// forwards reports whether packets of others pass this host: a gateway's peers with virtual
// addresses, or networks on our side.
func (h *host) forwards() bool {
	for _, conn := range h.config.Connections {
		if h.serve && len(conn.Pool) > 0 {
			return true
		}
		for _, child := range conn.Children {
			if len(child.LocalTS) > 0 {
				return true
			}
		}
	}
	return false
}

// names is what the resolvers of the tunnel are for; without servers there is nobody to ask. One that
// is outside of the tunnel would be asked in the open, and is left out.
func (h *host) names() dns.Config {
	c := dns.Config{Device: h.device.Name(), Search: h.config.DNS.Search}
	if h.config.DNS.Keep {
		return c
	}
	all := len(h.leases) == 0
	for _, sa := range slices.Sorted(maps.Keys(h.leases)) {
		l := h.leases[sa]
		c.Servers = append(c.Servers, l.DNS...)
		c.Domains = append(c.Domains, l.Domains...)
		all = all || len(l.DNS) > 0 && len(l.Domains) == 0
	}
	if all {
		c.Domains = nil
	}
	if len(h.config.DNS.Inside) > 0 {
		c.Servers = askable(h.config.DNS.Inside)
	}
	if len(h.config.DNS.Tunnel) > 0 {
		c.Domains = h.config.DNS.Tunnel
	}
	if slices.Contains(c.Domains, ".") {
		c.Domains = nil
	}
	children := h.all()
	c.Servers = slices.DeleteFunc(c.Servers, func(a netip.Addr) bool {
		leads := func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }
		return !slices.ContainsFunc(children, func(c hostChild) bool { return slices.ContainsFunc(c.routes, leads) })
	})
	return c
}

// rules is what the packet filter must do.
func (h *host) rules() firewall.Rules {
	r := firewall.Rules{
		Device:         h.device.Name(),
		Mark:           h.config.Node.Mark,
		RestoreMark:    true,
		IsolateClients: true,
		KillSwitch:     h.config.Node.KillSwitch,
		ClampMSS:       h.device.MTU(),
	}
	if r.KillSwitch {
		// A whole family that stays outside is no network that a kill switch could leave.
		r.Local = slices.DeleteFunc(excluded(h.config, h.device.Name(), h.childRoutes()), everything)
		r.HoleUntil = h.holeUntil
	}
	if r.KillSwitch && h.needs.peers {
		r.Peers = h.reached.all(peerPorts(h.config))
	}
	if h.serve {
		r.Ports = []uint16{h.config.Node.IKEPort, h.config.Node.NATPort}
		if port := h.config.Node.TCPPort; port != 0 {
			r.TCPPorts = []uint16{port}
		}
		if len(h.config.Pools) > 0 {
			r.OuterAddresses = slices.DeleteFunc(slices.Clone(h.config.Node.Listen), netip.Addr.IsUnspecified)
		}
	}
	for _, conn := range h.config.Connections {
		if conn.PeerToPeer {
			r.IsolateClients = false
		}
		if conn.Masquerade {
			for _, name := range conn.Pool {
				r.Masquerade = append(r.Masquerade, poolPrefixes(h.config.Pools[name])...)
			}
		}
	}
	for _, l := range h.leases {
		r.ProtectAddresses = append(r.ProtectAddresses, l.Addresses...)
	}
	r.Masquerade = sortedPrefixes(r.Masquerade)
	r.ProtectAddresses = sortedPrefixes(r.ProtectAddresses)
	return r
}

func sortedPrefixes(in []netip.Prefix) []netip.Prefix {
	slices.SortFunc(in, netip.Prefix.Compare)
	return slices.Compact(in)
}
