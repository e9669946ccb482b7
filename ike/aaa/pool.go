package aaa

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"martlet/crypto/pki"
)

// Range is a run of addresses of one family, both ends included.
type Range struct{ From, To netip.Addr }

// Pool hands out the addresses of some ranges. An identity gets the address again
// that it had last, as long as nobody else needs it. It is safe for concurrent use.
type Pool struct {
	name     string
	ranges   []Range
	hold     time.Duration
	reserved map[netip.Addr]bool

	mu     sync.Mutex
	leases map[netip.Addr]*lease       // of addresses that somebody has or had
	former map[pki.Identity]netip.Addr // what an identity had last
	idle   *list.List                  // of *lease that nobody has now, longest unused first
	held   *list.List                  // of *lease that wait for the one who had them, in order of time
	inUse  int
	next   netip.Addr // the first address that nobody had yet; invalid when all were had
}

// lease is an address that somebody has, or had.
type lease struct {
	addr  netip.Addr
	id    pki.Identity
	users int           // SAs of the identity that have it
	since time.Time     // when it was held
	in    *list.List    // Pool.idle or Pool.held while users is 0, else nil
	at    *list.Element // of in
}

// maxIdle bounds how many former leases a pool remembers.
const maxIdle = 1 << 16

// NewPool makes a pool. Reserved addresses (the gateway's own, those that belong to
// somebody) are handed out only by Claim. Hold is how long the address of one who vanished
// waits for him.
func NewPool(name string, ranges []Range, hold time.Duration, reserved ...netip.Addr) *Pool {
	p := &Pool{
		name:     name,
		ranges:   ranges,
		hold:     hold,
		reserved: map[netip.Addr]bool{},
		leases:   map[netip.Addr]*lease{},
		former:   map[pki.Identity]netip.Addr{},
		idle:     list.New(),
		held:     list.New(),
	}
	for _, addr := range reserved {
		p.reserved[addr] = true
	}
	if len(ranges) > 0 {
		p.next = ranges[0].From
	}
	return p
}

// Is4 reports the pool's family.
func (p *Pool) Is4() bool { return len(p.ranges) > 0 && p.ranges[0].From.Is4() }

// Contains reports whether an address lies in the pool's ranges.
func (p *Pool) Contains(addr netip.Addr) bool {
	for _, r := range p.ranges {
		if addr.Compare(r.From) >= 0 && addr.Compare(r.To) <= 0 {
			return true
		}
	}
	return false
}

// Acquire takes an address for an identity until Release. An identity that names the
// address that it has already on another SA shares it: so a peer that authenticates again
// keeps its address (RFC 7296 §2.8.3). Otherwise an identity that comes several times at once
// gets several addresses. It fails when all are in use, or held for those who had them.
func (p *Pool) Acquire(id pki.Identity, wanted netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.leases[wanted]; l != nil && l.id == id && !p.reserved[wanted] {
		p.take(l, id)
		return wanted, nil
	}
	if l := p.leases[p.former[id]]; l != nil && l.users == 0 {
		p.take(l, id)
		return l.addr, nil
	}
	if l := p.fresh(); l != nil {
		p.take(l, id)
		return l.addr, nil
	}
	return netip.Addr{}, fmt.Errorf("aaa: pool %q: all %d addresses are in use, or wait for somebody who vanished just now", p.name, p.inUse+p.held.Len())
}

// Claim takes one address for an identity that it belongs to, in the pool or not. Several
// SAs of the identity may have it. It fails while another identity has it.
func (p *Pool) Claim(id pki.Identity, addr netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leases[addr]
	if l == nil {
		l = &lease{addr: addr}
		p.leases[addr] = l
	}
	if l.users > 0 && l.id != id {
		return fmt.Errorf("aaa: address %v is in use by %v", addr, l.id)
	}
	p.take(l, id)
	return nil
}

// Release gives an address back, once for each Acquire or Claim. Vanished says that its
// identity did not mean to, and may be back soon. It tells whether nobody has the address
// any more; one that is not in use is ignored.
func (p *Pool) Release(addr netip.Addr, vanished bool) (free bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leases[addr]
	if l == nil || l.users == 0 {
		return false
	}
	if l.users--; l.users > 0 {
		return false
	}
	p.inUse--
	switch {
	case p.reserved[addr] || !p.Contains(addr):
		delete(p.leases, addr)
	case vanished:
		l.since = time.Now()
		p.put(l, p.held)
	default:
		p.put(l, p.idle)
	}
	return true
}

// put moves a lease to the end of a list, or, if that is nil, out of all.
func (p *Pool) put(l *lease, to *list.List) {
	if l.in != nil {
		l.in.Remove(l.at)
	}
	l.in, l.at = to, nil
	if to != nil {
		l.at = to.PushBack(l)
	}
}

// InUse is the number of addresses that are handed out.
func (p *Pool) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse
}

// take gives a lease to an identity.
func (p *Pool) take(l *lease, id pki.Identity) {
	if l.users++; l.users == 1 {
		p.inUse++
	}
	p.put(l, nil)
	if l.id != id && p.former[l.id] == l.addr {
		delete(p.former, l.id)
	}
	l.id = id
	if !p.reserved[l.addr] && p.Contains(l.addr) {
		p.former[id] = l.addr
	}
}

// fresh finds a free address: one that nobody had, else the one that was given back the
// longest time ago; nil is none.
func (p *Pool) fresh() *lease {
	for e := p.held.Front(); e != nil && time.Since(e.Value.(*lease).since) >= p.hold; e = p.held.Front() {
		p.put(e.Value.(*lease), p.idle)
	}
	if p.idle.Len() < maxIdle {
		if addr := p.untouched(); addr.IsValid() {
			l := &lease{addr: addr}
			p.leases[addr] = l
			return l
		}
	}
	if front := p.idle.Front(); front != nil {
		return front.Value.(*lease)
	}
	return nil
}

// untouched is the next address that nobody had; invalid if there is none.
func (p *Pool) untouched() netip.Addr {
	for p.next.IsValid() {
		addr := p.next
		p.next = p.after(addr)
		if p.leases[addr] == nil && !p.reserved[addr] {
			return addr
		}
	}
	return netip.Addr{}
}

// after is the address that follows addr in the ranges; invalid behind the last.
func (p *Pool) after(addr netip.Addr) netip.Addr {
	for i, r := range p.ranges {
		switch {
		case addr == r.To && i+1 < len(p.ranges):
			return p.ranges[i+1].From
		case addr == r.To:
			return netip.Addr{}
		case addr.Compare(r.From) >= 0 && addr.Compare(r.To) < 0:
			return addr.Next()
		}
	}
	return netip.Addr{}
}
