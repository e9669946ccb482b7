package martlet

import (
	"net/netip"
	"slices"
	"sync"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
	"martlet/ike/aaa"
	"martlet/ike/message"
)

// registry holds what crosses engines: who is in, by authenticated identity, and the
// leases of the pools.
type registry struct {
	config *config.Config
	pools  map[string]*aaa.Pool

	mu sync.Mutex
	in map[ike.SAID]*guest
}

// guest is a peer that was let in.
type guest struct {
	connection string
	identity   pki.Identity
	leases     []lease
}

type lease struct {
	pool *aaa.Pool
	addr netip.Addr
}

func newRegistry(c *config.Config) *registry {
	r := &registry{config: c, pools: map[string]*aaa.Pool{}, in: map[ike.SAID]*guest{}}
	for name, p := range c.Pools {
		ranges := make([]aaa.Range, len(p.Ranges))
		for i, from := range p.Ranges {
			ranges[i] = aaa.Range(from)
		}
		r.pools[name] = aaa.NewPool(name, ranges, 0, p.Gateway)
	}
	return r
}

// admit answers an engine that has authenticated a peer, and tells which other SAs must
// go because the peer says that it has none (RFC 7296 §2.4). Only SAs of the same
// identity on the same connection can be meant.
func (r *registry) admit(q ike.Admit) (ike.Admission, []ike.SAID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var evict []ike.SAID
	if q.InitialContact {
		for sa, g := range r.in {
			if sa != q.SA && g.identity == q.Identity && g.connection == q.Connection {
				evict = append(evict, sa)
				r.release(sa)
			}
		}
		slices.Sort(evict)
	}
	g := &guest{connection: q.Connection, identity: q.Identity}
	r.in[q.SA] = g
	conn := r.config.Connections[q.Connection]
	if conn == nil || len(conn.Pool) == 0 || !q.WantIPv4 && !q.WantIPv6 {
		return ike.Admission{}, evict
	}
	admission := ike.Admission{Lease: ike.Lease{DNS: conn.DNS}}
	var full error
	for _, name := range conn.Pool {
		pool := r.pools[name]
		if pool == nil || pool.Is4() && !q.WantIPv4 || !pool.Is4() && !q.WantIPv6 || g.has(pool.Is4()) {
			continue
		}
		addr, err := pool.Acquire(q.Identity, netip.Addr{})
		if err != nil {
			full = err
			continue
		}
		g.leases = append(g.leases, lease{pool, addr})
		admission.Lease.Addresses = append(admission.Lease.Addresses, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if len(g.leases) == 0 && full != nil {
		r.release(q.SA)
		return ike.Admission{Refuse: full.Error(), Notify: message.InternalAddressFailure}, evict
	}
	return admission, evict
}

func (g *guest) has(v4 bool) bool {
	return slices.ContainsFunc(g.leases, func(l lease) bool { return l.addr.Is4() == v4 })
}

// leave gives back what an SA had.
func (r *registry) leave(sa ike.SAID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(sa)
}

// release wants mu.
func (r *registry) release(sa ike.SAID) {
	if g := r.in[sa]; g != nil {
		for _, l := range g.leases {
			l.pool.Release(l.addr)
		}
		delete(r.in, sa)
	}
}
