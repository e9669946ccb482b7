package martlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
	"martlet/tun/firewall"
	"martlet/tun/privsep"
	"martlet/tun/route"
)

// host is the machine around the tunnel: the TUN device, its addresses, the routes into
// it and the packet filter. What it wants is always the union of what the SAs that
// stand need, and is set as a whole.
type host struct {
	serve    bool
	needs    needs // of the system
	log      *zap.Logger
	device   tun.Device
	services privsep.Services // of who has the rights of root
	router   route.Router
	firewall firewall.Firewall
	// resolvers are set last and put back first, while the device is there.
	resolvers *resolvers

	// failed is closed when a client's host could not be set up; fault says why.
	failed chan struct{}

	mu       sync.Mutex
	config   *config.Config
	fault    error
	applied  bool // what does not depend on peers is set
	restored bool // nothing is set any more
	rulesSet firewall.Rules
	// routesSet are in force, so that an SA in another's place does not wait for what is there.
	routesSet route.Config
	// holeUntil is when the kill switch closes that was opened for a login; zero: it is closed.
	holeUntil time.Time
	reached   reached
	leases    map[ike.SAID]ike.Lease
	children  map[ike.ChildID]hostChild
	traps     map[string][]hostChild // what waits for a packet, by connection
}

// hostChild is what a child adds to the host.
type hostChild struct {
	sa     ike.SAID
	local  []netip.Prefix // the selectors of our side
	routes []netip.Prefix
}

// openHost undoes what a crashed program left and opens the device with so many queues. For peers
// that may come it sets what does not depend on them; who connects has that done by begin, beside the
// rest. A kill switch comes before all of it, and stays in force after an error.
func openHost(c *config.Config, serve bool, queues int, services privsep.Services, resolvers *resolvers, log *zap.Logger) (h *host, err error) {
	if !services.Privileged() {
		return nil, noPrivilege(runtime.GOOS)
	}
	filter := services.Firewall()
	if c.Node.KillSwitch {
		if err := block(c, filter); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				log.Warn(stillBlocked)
				err = errors.Join(err, filter.Leave())
			}
		}()
	}
	if err := services.Recover(); err != nil {
		return nil, hostError(c, "what an earlier martlet left could not be undone", err)
	}
	device, err := services.OpenDevice(cmp.Or(c.Node.MTU, defaultMTU), queues)
	if err != nil {
		return nil, hostError(c, "the TUN device "+c.Node.Device+" could not be opened", err)
	}
	if d, ok := device.(interface{ Limits() []string }); ok {
		for _, limit := range d.Limits() {
			log.Info("slower than on other systems: "+limit, zap.String("device", device.Name()))
		}
	}
	h = &host{
		config:    c,
		serve:     serve,
		needs:     needsOf(runtime.GOOS),
		services:  services,
		log:       log,
		device:    device,
		router:    services.Router(),
		firewall:  filter,
		resolvers: resolvers,
		leases:    map[ike.SAID]ike.Lease{},
		children:  map[ike.ChildID]hostChild{},
		traps:     map[string][]hostChild{},
		failed:    make(chan struct{}),
	}
	if !serve {
		return h, nil
	}
	if h.begin(); h.fault != nil {
		return nil, errors.Join(h.fault, h.restore(true), device.Close())
	}
	return h, nil
}

// begin sets what does not depend on peers, if that was not done. Nobody waits for it: no packet goes
// into the tunnel before enter has set the addresses and routes of an SA, which it does after begin or for both.
func (h *host) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.applied || h.fault != nil {
		return
	}
	if err := h.apply(); err != nil {
		h.fault = hostError(h.config, "the host could not be set up", err)
		close(h.failed)
	}
}

// failure is closed when the host could not be set up.
func (h *host) failure() <-chan struct{} {
	if h == nil {
		return nil
	}
	return h.failed
}

// whyFailed is the error behind failure; nil while there is none.
func (h *host) whyFailed() error {
	select {
	case <-h.failure():
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.fault
	default:
		return nil
	}
}

// settled waits for what is set beside the rest: the resolvers.
func (h *host) settled(ctx context.Context) error {
	if h == nil {
		return nil
	}
	return h.resolvers.settled(ctx)
}

// restore undoes all of it, for good: engines and what runs beside them may still be at
// work. The device goes by itself when it is closed. If blocked is set a kill switch stays.
func (h *host) restore(blocked bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restored = true
	names := h.resolvers.close()
	if blocked && h.config.Node.KillSwitch {
		return errors.Join(names, h.router.Close(), h.firewall.Leave())
	}
	return errors.Join(names, h.router.Close(), h.firewall.Clear())
}

// reload takes another configuration.
func (h *host) reload(c *config.Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = c
	h.reapply()
}

// moved follows the host to another network, whose local one may stay outside of the tunnel.
func (h *host) moved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.applied {
		return
	}
	h.routesSet = route.Config{} // a link that went took its routes along
	if h.needs.again {
		h.rulesSet = firewall.Rules{}
	}
	h.reapply()
}

// enter sets addresses and routes for an SA before its children carry anything.
func (h *host) enter(q ike.Configure) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.restored:
		return net.ErrClosed
	case h.fault != nil:
		return h.fault
	}
	h.leases[q.SA] = q.Lease
	h.holeUntil = time.Time{} // the network lets us through
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
	h.reached.left(sa)
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
	h.reached.rekeyed(before, after)
	for id, c := range h.children {
		if c.sa == before {
			c.sa = after
			h.children[id] = c
		}
	}
}

// childUp adds a child. For one that enter has set up already nothing is left to do.
func (h *host) childUp(c ike.ChildInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, entered := h.children[c.ID]
	if err := h.add(c); err != nil {
		h.log.Warn("no route for a child", zap.String("conn", c.Connection), zap.Error(err))
		return
	}
	if entered && reflect.DeepEqual(before, h.children[c.ID]) && reflect.DeepEqual(h.rules(), h.rulesSet) {
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

// apply sets what all SAs together need.
func (h *host) apply() error {
	if h.restored {
		return nil
	}
	h.reached.forget(time.Now())
	if err := h.filter(); err != nil {
		return err
	}
	if err := h.route(); err != nil {
		return err
	}
	h.resolvers.wish(h.names())
	h.applied = true
	return nil
}

// route sets addresses and routes, unless they are in force.
func (h *host) route() error {
	routes := h.routes()
	if reflect.DeepEqual(routes, h.routesSet) {
		return nil
	}
	h.routesSet = route.Config{}
	if err := h.router.Set(routes); err != nil {
		return err
	}
	h.routesSet = routes
	return nil
}

// filter sets the rules of the packet filter, unless they are in force.
func (h *host) filter() error {
	rules := h.rules()
	if reflect.DeepEqual(rules, h.rulesSet) {
		return nil
	}
	h.rulesSet = firewall.Rules{} // an error may leave a part
	if err := h.firewall.Set(rules); err != nil {
		return err
	}
	h.rulesSet = rules
	return nil
}

// source is the address from which our own packets to a peer leave, which they may from then on. The
// socket is kept out of the tunnel, so that one that takes everything does not answer for itself.
func (h *host) source(remote netip.Addr) (netip.Addr, error) {
	if err := h.reach(netip.AddrPortFrom(remote, 0)); err != nil {
		return netip.Addr{}, err
	}
	dialer := net.Dialer{Control: h.services.Control}
	conn, err := dialer.Dial("udp", netip.AddrPortFrom(remote, natPort).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	source := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if h.isVirtual(source) {
		return netip.Addr{}, fmt.Errorf("the route to %v leads into the tunnel itself: was it added without a device while the tunnel stood?", remote)
	}
	return source, nil
}

// isVirtual tells whether an address is one that a gateway gave.
func (h *host) isVirtual(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.leases {
		if slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}
