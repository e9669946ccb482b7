package esp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
)

// group is children with the same selectors that share their traffic (RFC 9611 §3). A flow
// stays on one of them, so that its packets keep their order; those of all flows are spread.
type group struct {
	id      uint64
	members []*child // guarded by Plane.mu
	// active are those in service, one for each slot, in the order of slots. Immutable.
	active atomic.Pointer[[]*child]
}

// pick returns the child of a flow; found is any of the group.
func (g *group) pick(f *Flow, found *child) *child {
	list := *g.active.Load()
	if len(list) == 0 { // all left while the packet loop held an older policy
		return found
	}
	return list[f.hash()%uint64(len(list))]
}

// settle finds out who is in service. While nobody is known to be, the oldest is.
func (g *group) settle() {
	var list []*child
	for _, ch := range g.members {
		if ch.serving == 0 {
			continue
		}
		at, found := slices.BinarySearchFunc(list, ch, func(a, b *child) int { return a.slot - b.slot })
		switch {
		case !found:
			list = slices.Insert(list, at, ch)
		case list[at].serving < ch.serving:
			list[at] = ch
		}
	}
	if len(list) == 0 && len(g.members) > 0 {
		list = g.members[:1:1]
	}
	g.active.Store(&list)
}

// join puts a child into its group. The first takes all of the traffic at once. The caller
// holds p.mu.
func (p *Plane) join(ch *child, id uint64) {
	if id == 0 {
		return
	}
	g := p.groups[id]
	if g == nil {
		g = &group{id: id}
		p.groups[id] = g
		ch.serving = ch.order
	}
	ch.group = g
	g.members = append(g.members, ch)
	g.settle()
}

// serve lets a child of a group carry traffic: the peer is known to have it. The caller holds
// p.mu.
func (p *Plane) serve(ch *child) {
	if ch.group == nil {
		return
	}
	p.orders++
	ch.serving = p.orders
	ch.group.settle()
}

// leave takes a child out of its group. The caller holds p.mu.
func (p *Plane) leave(ch *child) {
	g := ch.group
	if g == nil {
		return
	}
	g.members = slices.DeleteFunc(g.members, func(o *child) bool { return o == ch })
	g.settle()
	if len(g.members) == 0 && p.groups[g.id] == g {
		delete(p.groups, g.id)
	}
}

// hash is the same for all packets of a flow in one direction. Of ICMP, whose ports are
// types, all that two hosts send each other is one flow.
func (f *Flow) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15
	var h uint64
	mix := func(v uint64) {
		h = (h ^ v) * odd
		h ^= h >> 32
	}
	for _, a := range [2]netip.Addr{f.Src, f.Dst} {
		b := a.As16()
		mix(binary.LittleEndian.Uint64(b[:8]))
		mix(binary.LittleEndian.Uint64(b[8:]))
	}
	ports := uint64(f.SrcPort)<<16 | uint64(f.DstPort)
	if f.NoPorts || f.Protocol == protoICMP || f.Protocol == protoICMPv6 {
		ports = 0
	}
	mix(uint64(f.Protocol)<<32 | ports)
	return h
}
