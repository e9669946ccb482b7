package martlet

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"martlet/config"
	"martlet/esp"
	"martlet/ike"
	"martlet/ike/message"
)

// demands are the connections and children that the first packet for them opens.
type demands struct {
	mu    sync.Mutex
	armed map[string]bool // connections that wait for packets
	busy  map[demanded]*demand
}

// demanded names what a packet wants: a child of a connection.
type demanded struct{ connection, child string }

// demand is a try to open it, or the pause after one that failed.
type demand struct {
	running bool
	tries   int
	next    time.Time
}

// arm lets packets open a connection or its children from now on, as far as that is what they
// are for. The routes for them are there from now on too.
func (n *Node) arm(conn *config.Connection) {
	waiting := conn.Keep == config.KeepOnDemand
	for _, child := range conn.Children {
		waiting = waiting || child.Keep == config.KeepOnDemand
	}
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	if !waiting || n.demands.armed[conn.Name] {
		return
	}
	if n.demands.armed == nil {
		n.demands.armed, n.demands.busy = map[string]bool{}, map[demanded]*demand{}
	}
	n.demands.armed[conn.Name] = true
	if n.host != nil {
		n.host.trap(conn, onDemand(conn))
	}
}

// disarm ends that for a connection; for all, if the name is empty.
func (n *Node) disarm(connection string) {
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	for name := range n.demands.armed {
		if connection == "" || connection == name {
			delete(n.demands.armed, name)
			if n.host != nil {
				n.host.untrap(name)
			}
		}
	}
}

// isArmed tells whether a connection waits for packets.
func (n *Node) isArmed(connection string) bool {
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	return n.demands.armed[connection]
}

// onDemand are the children of a connection that wait for packets, in the order of names. What
// belongs to a connection that is opened otherwise waits for packets only while that stands.
func onDemand(conn *config.Connection) []*config.Child {
	var out []*config.Child
	for _, name := range slices.Sorted(maps.Keys(conn.Children)) {
		child := conn.Children[name]
		if child.Keep == config.KeepOnDemand || child.Keep == "" && conn.Keep == config.KeepOnDemand {
			out = append(out, child)
		}
	}
	return out
}

// wanted opens what a packet is for that no child took.
func (n *Node) wanted(f esp.Flow) {
	n.open(func(c *config.Child) bool { return takes(c, &f) }, packetOf(f))
}

// summon opens the first child that leads to an address, for a program in this process that
// waits for it: before there is a virtual address it has none to send from.
func (n *Node) summon(to netip.Addr) {
	n.open(func(c *config.Child) bool { return leadsTo(c, to) }, ike.Packet{})
}

// open opens the first child of those that wait for packets which is the right one.
func (n *Node) open(right func(*config.Child) bool, packet ike.Packet) {
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.demands.armed)) {
		conn := n.conf().Connections[name]
		if conn == nil {
			continue // a reload takes it away
		}
		for _, child := range onDemand(conn) {
			if !right(child) {
				continue
			}
			key := demanded{name, child.Name}
			d := n.demands.busy[key]
			if d == nil {
				d = &demand{}
				n.demands.busy[key] = d
			}
			if d.running || time.Now().Before(d.next) {
				return
			}
			d.running = true
			n.tasks.Go(func() { n.satisfy(d, conn, want{child.Name, packet}) })
			return
		}
	}
}

// want is what a connection is opened for: a child, and the packet that is for it. The zero
// want is the connection's first child.
type want struct {
	child  string
	packet ike.Packet
}

// packetOf is a packet as selectors. Of ICMP all types are meant: what answers has another.
func packetOf(f esp.Flow) ike.Packet {
	side := func(a netip.Addr, port uint16) message.Selector {
		s := message.SelectorOf(netip.PrefixFrom(a, a.BitLen()))
		if f.NoProtocol {
			return s
		}
		s.Protocol = f.Protocol
		if icmp := f.Protocol == 1 || f.Protocol == 58; !f.NoPorts && !icmp {
			s.StartPort, s.EndPort = port, port
		}
		return s
	}
	return ike.Packet{Local: side(f.Src, f.SrcPort), Remote: side(f.Dst, f.DstPort)}
}

// satisfy opens a child, and its connection if need be.
func (n *Node) satisfy(d *demand, conn *config.Connection, w want) {
	var err error
	if conn.Keep == config.KeepOnDemand && len(conn.Remote) > 0 {
		err = n.connect(n.ctx, conn, w)
	}
	if _, up := n.established(conn.Name); up && err == nil {
		err = n.openChild(n.ctx, conn, w)
	}
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	d.running = false
	if err == nil || n.ctx.Err() != nil {
		d.tries = 0
		return
	}
	wait := pauseAfter(d.tries, err)
	d.next = time.Now().Add(wait)
	n.retries(conn.Name, d.tries, wait, err)
	d.tries++
}

// takes tells whether a packet is for a child. Our own side is not known before the peer has
// given an address.
func takes(child *config.Child, f *esp.Flow) bool {
	remote := espSelectors(messageSelectors(child.RemoteTS))
	local := espSelectors(messageSelectors(child.LocalTS))
	if child.LocalIsDyn {
		all := esp.Selector{From: f.Src, To: f.Src, EndPort: 65535}
		local = append(local, all)
	}
	return f.Within(local, remote)
}
