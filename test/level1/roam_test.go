package level1

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"martlet/ike"
	"martlet/test/simnet"
)

// espLen is the length of what stands for an ESP packet here: SPI and sequence number.
const espLen = 8

// pulseEvery is how often each child sends a packet.
const pulseEvery = 2 * time.Second

// sequence is what a data plane would keep of a child.
type sequence struct {
	sent, newest uint32
	heard        time.Time
}

// pulse has each child of both sides send a packet, now and again and again.
func (w *world) pulse() {
	for _, n := range []*node{w.a, w.b} {
		for _, id := range n.installed() {
			n.sendESP(n.children[id])
		}
	}
	w.net.After(pulseEvery, w.pulse)
}

func (n *node) sendESP(c *ike.Child) {
	q := n.esp[c.ID]
	q.sent++
	data := binary.BigEndian.AppendUint32(nil, c.SPIOut)
	n.host.Send(simnet.Datagram{From: c.Path.Local, To: c.Path.Remote, Data: binary.BigEndian.AppendUint32(data, q.sent)})
}

// receiveESP notes a packet, and says so when the newest came from elsewhere.
func (n *node) receiveESP(d simnet.Datagram) {
	if len(d.Data) != espLen {
		return // a keepalive
	}
	spi, number := binary.BigEndian.Uint32(d.Data), binary.BigEndian.Uint32(d.Data[4:])
	for _, id := range n.installed() {
		c, q := n.children[id], n.esp[id]
		if c.SPIIn != spi {
			continue
		}
		q.heard = n.w.net.Now()
		if number <= q.newest {
			continue
		}
		q.newest = number
		if c.Path.Remote != d.From {
			n.handle(ike.Remapped{Child: id, Path: ike.Path{Local: d.To, Remote: d.From, Encap: true}})
		}
	}
}

// deaf tells which child hears nothing of its peer, or "".
func (n *node) deaf() string {
	for _, id := range n.installed() {
		if ago := n.w.net.Now().Sub(n.esp[id].heard); ago > 2*pulseEvery+time.Second {
			return fmt.Sprintf("%s hears nothing on child %d, which sends on %v; ", n.name, id, n.children[id].Path)
		}
	}
	return ""
}

// move takes a node to another address.
func (n *node) move() {
	old := n.host.Addr()
	b := old.AsSlice()
	b[len(b)-1] = byte(10 + n.w.rng.IntN(200))
	addr, _ := netip.AddrFromSlice(b)
	n.w.note(n.name, "MOVE to %v", addr)
	n.host.Move(addr)
	n.handle(ike.Moved{Addresses: []netip.Addr{addr}, Woken: n.w.rng.IntN(4) == 0})
}
