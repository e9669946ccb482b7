package martlet

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/tun"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// host is the machine around the tunnel: the TUN device, its addresses, the routes into
// it and the packet filter. What it wants is always the union of what the SAs that
// stand need, and is set as a whole.
type host struct {
	serve    bool
	mark     uint32
	log      *zap.Logger
	device   tun.Device
	router   route.Router
	firewall firewall.Firewall

	mu       sync.Mutex
	config   *config.Config
	restored bool // nothing is set any more
	rulesSet firewall.Rules
	leases   map[ike.SAID][]netip.Prefix
	children map[ike.ChildID]hostChild
	traps    map[string][]hostChild // what waits for a packet, by connection
}

// hostChild is what a child adds to the host.
type hostChild struct {
	sa     ike.SAID
	local  []netip.Prefix // the selectors of our side
	routes []netip.Prefix
}

// openHost undoes what a crashed program left, opens the device and sets what does not
// depend on peers.
func openHost(c *config.Config, serve bool, log *zap.Logger) (h *host, err error) {
	if !mayConfigureHost() {
		return nil, &Error{
			Code: ike.CodeHost,
			What: "this host may not be set up by this user",
			Why:  "devices, routes and the packet filter need CAP_NET_ADMIN, which this process does not have",
			Hint: "run it as root, with sudo for example; a container needs the capability NET_ADMIN",
		}
	}
	if err := errors.Join(route.Recover(c.Node.State, log), firewall.Recover(log)); err != nil {
		return nil, hostError(c, "what an earlier martlet left could not be undone", err)
	}
	mtu := c.Node.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	device, err := tun.Open(c.Node.Device, mtu)
	if err != nil {
		return nil, hostError(c, "the TUN device "+c.Node.Device+" could not be opened", err)
	}
	h = &host{
		config:   c,
		serve:    serve,
		mark:     c.Node.Mark,
		log:      log,
		device:   device,
		router:   route.New(c.Node.State, log),
		firewall: firewall.New(log),
		leases:   map[ike.SAID][]netip.Prefix{},
		children: map[ike.ChildID]hostChild{},
		traps:    map[string][]hostChild{},
	}
	h.mu.Lock()
	err = h.apply()
	h.mu.Unlock()
	if err != nil {
		return nil, errors.Join(hostError(c, "the host could not be set up", err), h.restore(), device.Close())
	}
	return h, nil
}

func hostError(c *config.Config, what string, err error) error {
	e := &Error{
		Code: ike.CodeHost,
		What: what,
		Why:  strings.ReplaceAll(err.Error(), "\n", "; "),
		Hint: "this needs /dev/net/tun, and nftables in the kernel",
	}
	path, ok := errors.AsType[*fs.PathError](err)
	switch {
	case ok && c.Node.State != "" && strings.HasPrefix(path.Path, c.Node.State):
		e.Hint = "set node.state to a folder that root may write; what must be undone after a crash stands there"
	case errors.Is(err, syscall.EBUSY):
		e.Hint = "end the other program, or set node.device to a name of your own"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "this needs root outside of a restricted container: CAP_NET_ADMIN, /dev/net/tun and a writable /proc/sys"
	}
	return e
}

// restore undoes all of it, for good: engines and what runs beside them may still be at
// work. The device goes by itself when it is closed.
func (h *host) restore() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restored = true
	return errors.Join(h.router.Close(), h.firewall.Clear())
}

// reload takes another configuration.
func (h *host) reload(c *config.Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = c
	h.reapply()
}

// enter sets addresses and routes for an SA before its children carry anything.
func (h *host) enter(q ike.Configure) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.restored {
		return net.ErrClosed
	}
	h.leases[q.SA] = q.Lease.Addresses
	for _, c := range q.Children {
		if err := h.add(c); err != nil {
			return err
		}
	}
	return h.apply()
}

// leave takes away what an SA had.
func (h *host) leave(sa ike.SAID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.leases, sa)
	for id, c := range h.children {
		if c.sa == sa {
			delete(h.children, id)
		}
	}
	h.reapply()
}

// rekeyed notes that an SA has another name. What is set stays.
func (h *host) rekeyed(before, after ike.SAID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if had, ok := h.leases[before]; ok {
		delete(h.leases, before)
		h.leases[after] = had
	}
	for id, c := range h.children {
		if c.sa == before {
			c.sa = after
			h.children[id] = c
		}
	}
}

func (h *host) childUp(c ike.ChildInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.add(c); err != nil {
		h.log.Warn("no route for a child", zap.String("conn", c.Connection), zap.Error(err))
		return
	}
	h.reapply()
}

func (h *host) childDown(id ike.ChildID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.children, id)
	h.reapply()
}

func (h *host) reapply() {
	if err := h.apply(); err != nil {
		h.log.Error("the host's routes could not be set", zap.Error(err))
	}
}

// trap sets the routes of children that are opened by the first packet for them.
func (h *host) trap(conn *config.Connection, children []*config.Child) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range children {
		routes, err := routesOf(conn, messageSelectors(c.RemoteTS))
		if err != nil {
			h.log.Warn("no route for a child", zap.String("conn", conn.Name), zap.Error(err))
			continue
		}
		h.traps[conn.Name] = append(h.traps[conn.Name], hostChild{local: prefixesOf(messageSelectors(c.LocalTS)), routes: routes})
	}
	h.reapply()
}

func (h *host) untrap(connection string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.traps, connection)
	h.reapply()
}

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

func everything(p netip.Prefix) bool { return p.Bits() == 0 }

// apply sets what all SAs together need.
func (h *host) apply() error {
	if h.restored {
		return nil
	}
	c := route.Config{
		Device:  h.device.Name(),
		Mark:    h.config.Node.Mark,
		Table:   h.config.Node.Table,
		Forward: h.forwards(),
		Sources: h.sources(),
	}
	for _, addresses := range h.leases {
		c.Addresses = append(c.Addresses, addresses...)
	}
	for _, p := range h.config.Pools {
		if h.serve && p.Gateway.IsValid() {
			c.Addresses = append(c.Addresses, netip.PrefixFrom(p.Gateway, p.Gateway.BitLen()))
		}
		if h.serve {
			c.Routes = append(c.Routes, poolPrefixes(p)...)
		}
	}
	for _, child := range h.all() {
		c.Routes = append(c.Routes, child.routes...)
	}
	c.Addresses = sortedPrefixes(c.Addresses)
	c.Routes = sortedPrefixes(c.Routes)
	if rules := h.rules(); !reflect.DeepEqual(rules, h.rulesSet) {
		if err := h.firewall.Set(rules); err != nil {
			return err
		}
		h.rulesSet = rules
	}
	return h.router.Set(c)
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
			if len(h.leases[c.sa]) > 0 || len(local) == 0 || len(c.routes) == 0 {
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

// rules is what the packet filter must do.
func (h *host) rules() firewall.Rules {
	r := firewall.Rules{
		Device:         h.device.Name(),
		Mark:           h.config.Node.Mark,
		RestoreMark:    true,
		IsolateClients: true,
		ClampMSS:       h.device.MTU(),
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
	for _, addresses := range h.leases {
		r.ProtectAddresses = append(r.ProtectAddresses, addresses...)
	}
	r.Masquerade = sortedPrefixes(r.Masquerade)
	r.ProtectAddresses = sortedPrefixes(r.ProtectAddresses)
	return r
}

func sortedPrefixes(in []netip.Prefix) []netip.Prefix {
	slices.SortFunc(in, netip.Prefix.Compare)
	return slices.Compact(in)
}

// source is the address from which marked packets to a peer leave. The socket has the
// tunnel's mark, so that a tunnel that takes everything does not answer for itself.
func (h *host) source(remote netip.Addr) (netip.Addr, error) {
	dialer := net.Dialer{Control: markControl(h.mark)}
	conn, err := dialer.Dial("udp", netip.AddrPortFrom(remote, natPort).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
