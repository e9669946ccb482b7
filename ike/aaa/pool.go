// Package aaa decides what an authenticated peer gets: virtual addresses from pools.
// Unlike the engine it holds state that all engines share, and it locks.
package aaa

import (
	"fmt"
	"net/netip"
	"sync"

	"martlet/crypto/pki"
)

// Range is a run of addresses of one family, both ends included.
type Range struct{ From, To netip.Addr }

// Pool hands out the addresses of some ranges. An identity gets the address again
// that it had last, as long as nobody else needs it. It is safe for concurrent use.
type Pool struct {
	name     string
	ranges   []Range
	reserved netip.Addr // the gateway's own

	mu     sync.Mutex
	taken  map[netip.Addr]pki.Identity // addresses in use
	former map[pki.Identity]netip.Addr // of addresses that were used once
	owner  map[netip.Addr]pki.Identity // the inverse of former
	next   netip.Addr                  // where the search for a fresh address goes on
}

// NewPool makes a pool; reserved, if valid, is never handed out.
func NewPool(name string, ranges []Range, reserved netip.Addr) *Pool {
	return &Pool{
		name:     name,
		ranges:   ranges,
		reserved: reserved,
		taken:    map[netip.Addr]pki.Identity{},
		former:   map[pki.Identity]netip.Addr{},
		owner:    map[netip.Addr]pki.Identity{},
	}
}

// Is4 reports the pool's family.
func (p *Pool) Is4() bool { return len(p.ranges) > 0 && p.ranges[0].From.Is4() }

// Acquire takes an address for an identity until Release. An identity that comes
// several times at once gets several addresses. It fails when all are in use.
func (p *Pool) Acquire(id pki.Identity) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	addr, ok := p.former[id]
	if _, busy := p.taken[addr]; !ok || busy {
		addr = p.fresh()
	}
	if !addr.IsValid() {
		return netip.Addr{}, fmt.Errorf("aaa: pool %q: all %d addresses are in use", p.name, len(p.taken))
	}
	if was, ok := p.owner[addr]; ok && was != id && p.former[was] == addr {
		delete(p.former, was)
	}
	p.taken[addr] = id
	p.former[id] = addr
	p.owner[addr] = id
	return addr, nil
}

// Release gives an address back. One that is not in use is ignored.
func (p *Pool) Release(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, addr)
}

// InUse is the number of addresses that are handed out.
func (p *Pool) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken)
}

// fresh finds a free address, preferably one that nobody had, going round the
// ranges once; the zero Addr means none.
func (p *Pool) fresh() netip.Addr {
	var used netip.Addr // free now, but somebody may come back for it
	first := p.next
	if !first.IsValid() {
		if len(p.ranges) == 0 {
			return netip.Addr{}
		}
		first = p.ranges[0].From
	}
	for addr := first; ; {
		_, busy := p.taken[addr]
		_, had := p.owner[addr]
		if !busy && addr != p.reserved {
			if !had {
				p.next = p.after(addr)
				return addr
			}
			if !used.IsValid() {
				used = addr
			}
		}
		if addr = p.after(addr); addr == first {
			return used
		}
	}
}

// after is the address that follows addr in the ring of all ranges.
func (p *Pool) after(addr netip.Addr) netip.Addr {
	for i, r := range p.ranges {
		if addr.Compare(r.From) < 0 || addr.Compare(r.To) > 0 {
			continue
		}
		if addr != r.To {
			return addr.Next()
		}
		return p.ranges[(i+1)%len(p.ranges)].From
	}
	return p.ranges[0].From
}
