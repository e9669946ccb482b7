package simnet

import (
	"net/netip"
	"slices"
	"time"
)

// Link is a host's line to the network. What it says holds for each direction by
// itself: a path crosses the sender's link and then the receiver's. The zero value is
// perfect.
type Link struct {
	Latency time.Duration
	Jitter  time.Duration // up to so much more, for each datagram: overtaking happens
	Loss    float64       // share of datagrams that vanish, 0 to 1
	Dup     float64       // share that arrives twice
	Reorder float64       // share that is held back by up to ReorderBy
	// ReorderBy is the longest time that a datagram is held back.
	ReorderBy time.Duration
	// MTU is the longest IP packet in octets, headers included; 0 is no limit. What is
	// longer is dropped in silence, as where fragments are filtered.
	MTU  int
	Down bool // a blackout: nothing passes
}

// Host is an end of the network.
type Host struct {
	Name string

	net     *Net
	addrs   []netip.Addr
	link    Link
	nat     *NAT
	receive func(Datagram)
	sockets map[netip.AddrPort]*socket
}

// Host adds a host. Its addresses are public until it is put Behind a NAT.
func (n *Net) Host(name string, link Link, addrs ...netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{Name: name, net: n, addrs: addrs, link: link, sockets: map[netip.AddrPort]*socket{}}
	n.hosts = append(n.hosts, h)
	return h
}

// Behind puts the host into the private network of a NAT, or (nil) into the public one.
func (h *Host) Behind(nat *NAT) *Host {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.nat = nat
	return h
}

// Addr is the host's first address.
func (h *Host) Addr() netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.addrs[0]
}

// Addresses are all that the host has.
func (h *Host) Addresses() []netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return slices.Clone(h.addrs)
}

// Move gives the host other addresses, as when it goes to another network. Datagrams
// on their way to the old ones find nobody.
func (h *Host) Move(addrs ...netip.Addr) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.addrs = addrs
}

// SetLink changes the link for what is sent and arrives from now on.
func (h *Host) SetLink(l Link) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.link = l
}

// Blackout takes the link down, or up again.
func (h *Host) Blackout(on bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.link.Down = on
}

// OnReceive has f called with each datagram that arrives and that no socket of
// Listen takes. f owns the data and may call back.
func (h *Host) OnReceive(f func(Datagram)) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.receive = f
}

// Send sends a datagram; its data is copied. A From without address gets the host's
// first one of To's family; any other From is taken as it is, so that a test can
// spoof.
func (h *Host) Send(d Datagram) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !d.From.Addr().IsValid() || d.From.Addr().IsUnspecified() {
		i := slices.IndexFunc(h.addrs, func(a netip.Addr) bool { return a.Is4() == d.To.Addr().Is4() })
		if i < 0 {
			n.record(n.number, h.Name, d, NoRoute)
			return
		}
		d.From = netip.AddrPortFrom(h.addrs[i], d.From.Port())
	}
	d.Data = slices.Clone(d.Data)
	n.number++
	number := n.number
	n.record(number, h.Name, d, Sent)
	for _, c := range n.captures {
		c.write(n.clock(), d)
	}
	n.cross(h, d, number, func(d Datagram) { n.forward(h, d, number) })
}

// cross carries a datagram over a host's link, once, twice or never, and then calls
// arrived with n.mu held.
func (n *Net) cross(h *Host, d Datagram, number uint64, arrived func(Datagram)) {
	l := h.link
	switch {
	case l.Down:
		n.record(number, h.Name, d, Dark)
		return
	case l.MTU > 0 && packetLen(d) > l.MTU:
		n.record(number, h.Name, d, TooBig)
		return
	case n.chance(l.Loss):
		n.record(number, h.Name, d, Lost)
		return
	}
	copies := 1
	if n.chance(l.Dup) {
		n.record(number, h.Name, d, Duplicated)
		copies = 2
	}
	for range copies {
		delay := l.Latency + n.upTo(l.Jitter)
		if n.chance(l.Reorder) {
			delay += n.upTo(l.ReorderBy)
		}
		n.after(delay, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			arrived(d)
		})
	}
}

// forward is the middle of the network: from the sender's link to the receiver's.
func (n *Net) forward(from *Host, d Datagram, number uint64) {
	if to := n.find(from.nat, d.To.Addr()); to != nil {
		n.cross(to, d, number, func(d Datagram) { n.deliver(to, d, number) })
		return
	}
	if from.nat != nil {
		if d.To.Addr().Is4() != from.nat.external.Is4() {
			n.record(number, from.Name, d, NoRoute)
			return
		}
		d = from.nat.outbound(d)
	}
	if to := n.find(nil, d.To.Addr()); to != nil {
		n.cross(to, d, number, func(d Datagram) { n.deliver(to, d, number) })
		return
	}
	for _, nat := range n.nats {
		if nat.external != d.To.Addr() {
			continue
		}
		in, ok := nat.inbound(d)
		if !ok {
			n.record(number, from.Name, d, Filtered)
			return
		}
		if to := n.find(nat, in.To.Addr()); to != nil {
			n.cross(to, in, number, func(d Datagram) { n.deliver(to, d, number) })
			return
		}
	}
	n.record(number, from.Name, d, NoRoute)
}

// find returns the host with an address in a NAT's network, or (nil) in the public one.
func (n *Net) find(nat *NAT, a netip.Addr) *Host {
	for _, h := range n.hosts {
		if h.nat == nat && slices.Contains(h.addrs, a) {
			return h
		}
	}
	return nil
}

// deliver hands a datagram to a socket or to the host's function. The latter is
// called without the lock, from an event of its own.
func (n *Net) deliver(h *Host, d Datagram, number uint64) {
	if !slices.Contains(h.addrs, d.To.Addr()) { // it moved meanwhile
		n.record(number, h.Name, d, NoRoute)
		return
	}
	if s := h.socketFor(d.To); s != nil {
		fate := Delivered
		if !s.enqueue(d) {
			fate = NoSocket
		}
		n.record(number, h.Name, d, fate)
		return
	}
	if h.receive == nil {
		n.record(number, h.Name, d, NoSocket)
		return
	}
	n.record(number, h.Name, d, Delivered)
	f, own := h.receive, d
	own.Data = slices.Clone(d.Data)
	n.after(0, func() { f(own) })
}

func (n *Net) chance(share float64) bool { return share > 0 && n.rng.Float64() < share }

func (n *Net) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(n.rng.Int64N(int64(d)))
}
