package esp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"martlet/esp/udpencap"
)

// child is an installed Child. What only one side of the plane writes lies in a struct
// of that side, allocated by itself, so that the directions share no cache line.
type child struct {
	id            uint64
	order         uint64 // of installation, ascending
	spi           uint32 // inbound
	local, remote []Selector
	narrow        int
	copyDSCP      bool
	keepMSS       bool
	installed     int64
	soft, hard    Volume
	retired       bool // guarded by Plane.mu
	group         *group
	slot          int
	serving       uint64 // when it came into service in its group, as order; 0 never; guarded by Plane.mu

	route atomic.Pointer[route]
	drops *drops
	tx    *sender
	rx    *receiver
}

// route is a path, the socket that it leads through, and the longest inner packet that passes in one
// outer packet, which holds until that time. Immutable.
type route struct {
	path   Path
	socket udpencap.Socket
	inner  int
	until  int64
}

// sender is the outbound side. mu gives it to one outbound loop at a time, from the first packet
// in a slab until all of it was written.
type sender struct {
	carried counter
	last    atomic.Int64

	mu    sync.Mutex
	out   *Outbound
	bytes uint64 // sealed so far
	soft  bool   // Expire was called
	hard  bool
}

// receiver is the inbound side. Two sockets may carry one SA for a moment, when the
// peer or we change address; mu gives window and cipher to one of them at a time.
// It is taken once for a run of packets, and is free at all other moments.
type receiver struct {
	carried counter
	last    atomic.Int64

	mu       sync.Mutex
	in       *Inbound
	bytes    uint64 // opened so far
	first    bool   // something authentic was received
	soft     bool   // Expire was called
	hard     bool
	remapped netip.AddrPort
	told     int64 // when Remapped was called
}

func newChild(c *Child) (*child, error) {
	if len(c.Local) == 0 || len(c.Remote) == 0 {
		return nil, errors.New("esp: child without selectors on one side: want at least one each")
	}
	for _, set := range [][]Selector{c.Local, c.Remote} {
		for i := range set {
			if err := set[i].check(); err != nil {
				return nil, fmt.Errorf("esp: %w", err)
			}
		}
	}
	if c.In.SPI < 256 || c.Out.SPI < 256 {
		// RFC 4303 §2.1: 1 to 255 are reserved, and 0 would read as an IKE message.
		return nil, fmt.Errorf("esp: SPIs %#x and %#x: want both above 255", c.In.SPI, c.Out.SPI)
	}
	out, err := NewOutbound(c.Out)
	if err != nil {
		return nil, err
	}
	out.pad = c.Pad
	in, err := NewInbound(c.In, c.Window)
	if err != nil {
		return nil, err
	}
	soft := c.Soft
	if soft.Packets == 0 || soft.Packets > softPackets {
		soft.Packets = softPackets
	}
	return &child{
		soft:     soft,
		hard:     c.Hard,
		id:       c.ID,
		spi:      c.In.SPI,
		local:    slices.Clone(c.Local),
		remote:   slices.Clone(c.Remote),
		narrow:   narrowness(c.Remote),
		copyDSCP: c.CopyDSCP,
		keepMSS:  c.KeepMSS,
		slot:     c.Slot,
		drops:    new(drops),
		tx:       &sender{out: out},
		rx:       &receiver{in: in},
	}, nil
}
