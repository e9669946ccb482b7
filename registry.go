package martlet

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
	"martlet/ike/aaa"
	"martlet/ike/message"
)

// registry holds what crosses engines: who is in, by authenticated identity, the leases of
// the pools, and what RADIUS servers said of whom.
type registry struct {
	current atomic.Pointer[config.Config]
	log     *zap.Logger
	pools   map[string]*aaa.Pool
	fixed   *aaa.Pool   // of addresses outside of the pools that belong to somebody
	radius  *aaa.RADIUS // nil without servers
	orders  []*aaa.Orders
	// terminate ends an SA, later: the engine may be the one that asks just now.
	terminate func(ike.Terminate)
	// usage reads what a child that is installed has carried.
	usage func(ike.ChildID) aaa.Usage
	// vacated hears of addresses that nobody has any more; it must not call back.
	vacated func(netip.Addr)

	mu       sync.Mutex
	closed   bool
	in       map[ike.SAID]*guest
	children map[ike.ChildID]*guest
	logins   map[ike.SAID]*login
	void     tickets
	epoch    string // makes session names unlike those of earlier runs
	sessions uint64
}

// guest is a peer that was let in.
type guest struct {
	sa         ike.SAID
	connection string
	identity   pki.Identity // that it proved
	claimed    pki.Identity // its IDi
	path       ike.Path
	leases     []lease
	groups     []string
	addresses  []netip.Addr // that belong to it
	grant      *aaa.Grant   // of a RADIUS server; nil without
	session    session
}

type lease struct {
	pool *aaa.Pool
	addr netip.Addr
}

func newRegistry(c *config.Config, log *zap.Logger) *registry {
	r := &registry{
		log: log, pools: map[string]*aaa.Pool{}, fixed: aaa.NewPool("fixed", nil, 0),
		in: map[ike.SAID]*guest{}, children: map[ike.ChildID]*guest{}, logins: map[ike.SAID]*login{},
		epoch: fmt.Sprintf("%08x", uint32(time.Now().UnixNano()>>20)),
	}
	r.take(c)
	return r
}

// conf is the configuration that is in force.
func (r *registry) conf() *config.Config { return r.current.Load() }

// take puts a configuration in force. Addresses that peers have stay theirs, in a pool that is
// another one now as in one that is gone. It wants mu once the registry is in use.
func (r *registry) take(c *config.Config) {
	before := r.current.Swap(c)
	pools := map[string]*aaa.Pool{}
	for name, p := range c.Pools {
		if old := r.pools[name]; old != nil && before != nil && slices.Equal(before.Pools[name].Ranges, p.Ranges) &&
			before.Pools[name].Hold == p.Hold && reflect.DeepEqual(reserved(before, name), reserved(c, name)) {
			pools[name] = old
			continue
		}
		ranges := make([]aaa.Range, len(p.Ranges))
		for i, from := range p.Ranges {
			ranges[i] = aaa.Range(from)
		}
		pools[name] = aaa.NewPool(name, ranges, max(0, time.Duration(p.Hold)), reserved(c, name)...)
	}
	for _, g := range r.in {
		for i, l := range g.leases {
			for name, p := range pools {
				if r.pools[name] == p || !p.Contains(l.addr) || p.Claim(g.identity, l.addr) != nil {
					continue
				}
				l.pool.Release(l.addr, false)
				g.leases[i].pool = p
			}
		}
	}
	r.pools = pools
}

// reserved are the addresses of a pool that it gives to nobody by itself: the gateway's own, and
// those that belong to users.
func reserved(c *config.Config, pool string) []netip.Addr {
	out := []netip.Addr{c.Pools[pool].Gateway}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		out = append(out, c.Users[name].Address...)
	}
	return out
}

// reload is take for a registry in use.
func (r *registry) reload(c *config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(c)
}

// lastRound is how a peer proves itself in the last round.
func lastRound(conn *config.Connection) *config.Auth {
	if conn.Peer2.IsSet() {
		return &conn.Peer2
	}
	return &conn.Peer
}

// user gives a guest what the file says of the user that it proved to be, by EAP or by a
// certificate. A pre-shared key proves no name: whoever has it may claim any. Nor does a bare
// key, but for the one name that is configured beside it.
func (r *registry) user(conn *config.Connection, g *guest, q ike.Admit) {
	last := lastRound(conn)
	name := q.EAPIdentity
	if name == "" && last.Auth == "cert" && (len(last.Verifier.Keys) == 0 || last.Identity == q.Identity) {
		name = nameOf(q.Identity)
	}
	if u := r.conf().Users[name]; u != nil && name != "" {
		g.groups, g.addresses = u.Groups, u.Address
	}
}

// dismissed tells whether a user that logged in once, by a password, has no account any more:
// who resumes an SA is not asked for the password again. Where it may have been a certificate
// as well, the peer proves itself anew.
func (r *registry) dismissed(conn *config.Connection, name string) bool {
	byPassword := slices.ContainsFunc(lastRound(conn).Methods, func(m string) bool { return m != "tls" })
	return name != "" && byPassword && r.conf().Users[name] == nil
}

// watched tells whether somebody may revoke what a peer proves itself by. Then it gets no
// ticket, by which it would come in again without that being asked.
func watched(conn *config.Connection) bool {
	return conn.Peer.Policy != pki.RevocationOff || conn.Peer2.Policy != pki.RevocationOff
}

// admit answers an engine that has authenticated a peer, and tells which other SAs must
// go for it.
func (r *registry) admit(q ike.Admit) (ike.Admission, []ike.Terminate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.void.use(q.Ticket, time.Now()) {
		return ike.Admission{Refuse: "the ticket by which it resumes an SA was used already, or that SA was closed in order"}, nil
	}
	g := &guest{sa: q.SA, connection: q.Connection, identity: q.Identity, claimed: q.Claimed, path: q.Path}
	conn := r.conf().Connections[q.Connection]
	r.grant(g)
	if conn == nil {
		return ike.Admission{Refuse: "connection " + q.Connection + " is gone: the configuration is another one now"}, nil
	}
	if g.grant == nil {
		r.user(conn, g, q)
	}
	binding := r.binding(conn, q)
	switch {
	case q.Ticket == (ike.TicketID{}):
	case r.dismissed(conn, q.EAPIdentity):
		return ike.Admission{Refuse: fmt.Sprintf("%v has no account any more", g.identity)}, nil
	case q.Binding != binding:
		return ike.Admission{Refuse: fmt.Sprintf("the ticket by which %v resumes an SA is void: the account or the pre-shared key has changed since it was given out", g.identity)}, nil
	}
	if !member(conn.Groups, g.groups) {
		return ike.Admission{Refuse: fmt.Sprintf("%v is in none of the groups %v that connection %s is for", g.identity, conn.Groups, conn.Name)}, nil
	}
	evict, refuse := r.unique(conn, g, q)
	if refuse != "" {
		return ike.Admission{Refuse: refuse}, nil
	}
	for _, t := range evict {
		r.release(r.in[t.SA], false)
	}
	r.in[q.SA] = g
	admission := ike.Admission{Barred: barred(conn, g.groups), NoTicket: g.grant != nil || watched(conn), Binding: binding}
	if g.grant != nil {
		admission.Lifetime = g.grant.SessionTimeout
	}
	if !q.WantIPv4 && !q.WantIPv6 {
		return admission, evict
	}
	if err := r.leaseAll(conn, g, q); err != nil {
		r.release(g, false)
		return ike.Admission{Refuse: err.Error(), Notify: message.InternalAddressFailure}, evict
	}
	admission.Lease.DNS, admission.Lease.Domains, admission.Lease.Anchors = conn.DNS, conn.Domains, anchorsOf(conn)
	admission.Lease.Subnets = subnets(conn, admission.Barred)
	if g.grant != nil && len(g.grant.DNS) > 0 {
		admission.Lease.DNS = g.grant.DNS
	}
	for _, l := range g.leases {
		admission.Lease.Addresses = append(admission.Lease.Addresses, netip.PrefixFrom(l.addr, l.addr.BitLen()))
	}
	return admission, evict
}

// subnets are the networks behind us that a peer may reach, unless that is everything.
func subnets(conn *config.Connection, barred []string) []netip.Prefix {
	var out []netip.Prefix
	for _, name := range slices.Sorted(maps.Keys(conn.Children)) {
		if !slices.Contains(barred, name) {
			out = append(out, prefixesOf(messageSelectors(conn.Children[name].LocalTS))...)
		}
	}
	if slices.ContainsFunc(out, everything) {
		return nil
	}
	return sortedPrefixes(out)
}

// member tells whether somebody in some groups may have what is for others; what is for no
// group is for all.
func member(of, groups []string) bool {
	return len(of) == 0 || slices.ContainsFunc(of, func(name string) bool { return slices.Contains(groups, name) })
}

// barred are the children that members of some groups may not open.
func barred(conn *config.Connection, groups []string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(conn.Children)) {
		if !member(conn.Children[name].Groups, groups) {
			out = append(out, name)
		}
	}
	return out
}

// again is how long a peer that authenticates again may keep the SA that it had.
const again = 10 * time.Second

// unique tells which SAs of the same identity must go, or why the new one may not come in.
// Only those of the same authenticated identity and connection can be meant (RFC 7296
// §2.4).
func (r *registry) unique(conn *config.Connection, g *guest, q ike.Admit) (evict []ike.Terminate, refuse string) {
	for _, other := range r.in {
		if other.sa == q.SA || other.identity != g.identity || other.connection != g.connection {
			continue
		}
		// A peer that authenticates again opens the new SA before it deletes the old one.
		device := other.claimed == g.claimed && other.path.Remote.Addr() == g.path.Remote.Addr()
		switch {
		case q.InitialContact && conn.Unique != "never" && (other.claimed == g.claimed || conn.Unique != "contact"):
			evict = append(evict, ike.Terminate{SA: other.sa, Replaced: true, Reason: "the peer came again and says it has no other (INITIAL_CONTACT)"})
		case conn.Unique == "keep" && !device:
			return nil, fmt.Sprintf("%v is in already, from %v, and connection %s keeps the first", g.identity, other.path.Remote, conn.Name)
		case conn.Unique == "replace" && device:
			time.AfterFunc(again, func() { r.end(other, ike.Terminate{Replaced: true, Reason: "the peer came again"}) })
		case conn.Unique == "replace":
			evict = append(evict, ike.Terminate{SA: other.sa, Replaced: true, Reason: "the same identity came from elsewhere, and the connection allows it once"})
		}
	}
	sort.Slice(evict, func(i, j int) bool { return evict[i].SA < evict[j].SA })
	return evict, ""
}

// end ends a guest's SA if it still stands.
func (r *registry) end(g *guest, t ike.Terminate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(g, t)
}

func (r *registry) endLocked(g *guest, t ike.Terminate) {
	if r.closed || r.in[g.sa] != g {
		return
	}
	t.SA = g.sa
	r.terminate(t)
}

// leaseAll gives a guest an address of each family that it wants: the one that belongs to
// it, else one of the pools. It is an error if there is none at all.
func (r *registry) leaseAll(conn *config.Connection, g *guest, q ike.Admit) error {
	var failed error
	for _, v4 := range []bool{true, false} {
		if v4 && !q.WantIPv4 || !v4 && !q.WantIPv6 {
			continue
		}
		own, err := r.own(g, v4)
		if err != nil {
			return err // not another one instead: something else relies on this one
		}
		if own {
			continue
		}
		if err := r.fromPools(conn, g, v4, q.Wanted); err != nil {
			failed = err
		}
	}
	if len(g.leases) > 0 {
		return nil
	}
	return failed
}

// own gives a guest the address of a family that belongs to it.
func (r *registry) own(g *guest, v4 bool) (bool, error) {
	for _, addr := range g.addresses {
		if addr.Is4() != v4 {
			continue
		}
		pool := r.fixed
		for _, p := range r.pools {
			if p.Contains(addr) {
				pool = p
			}
		}
		if err := pool.Claim(g.identity, addr); err != nil {
			return false, err
		}
		g.leases = append(g.leases, lease{pool, addr})
		return true, nil
	}
	return false, nil
}

// fromPools gives a guest an address of a family from the first pool that has one.
func (r *registry) fromPools(conn *config.Connection, g *guest, v4 bool, wanted []netip.Addr) error {
	named := r.again(g, v4, wanted)
	var full error
	for _, name := range r.poolsOf(conn, g, v4) {
		pool := r.pools[name]
		addr, err := pool.Acquire(g.identity, named)
		if err != nil {
			full = err
			continue
		}
		g.leases = append(g.leases, lease{pool, addr})
		return nil
	}
	return full
}

// rekeyed notes that a peer's SA has another name.
func (r *registry) rekeyed(before, after ike.SAID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.in[before]; g != nil {
		delete(r.in, before)
		r.in[after], g.sa = g, after
	}
}

// poolsOf names the pools of a family that are for a guest: those that RADIUS names, if we
// have them, else those of the connection that are for its groups.
func (r *registry) poolsOf(conn *config.Connection, g *guest, v4 bool) []string {
	family := func(name string) bool { return r.pools[name] != nil && r.pools[name].Is4() == v4 }
	var out []string
	if g.grant != nil {
		out = slices.DeleteFunc(slices.Clone(g.grant.Pools), func(name string) bool { return !family(name) })
	}
	if len(out) > 0 {
		return out
	}
	return slices.DeleteFunc(slices.Clone(conn.Pool), func(name string) bool {
		return !family(name) || !member(r.conf().Pools[name].Groups, g.groups)
	})
}

// again is the address of a family that a guest names and has already, on an SA of the same
// device that it is about to leave; invalid if there is none.
func (r *registry) again(g *guest, v4 bool, wanted []netip.Addr) netip.Addr {
	for _, other := range r.in {
		if other.identity != g.identity || other.claimed != g.claimed || other.connection != g.connection {
			continue
		}
		for _, l := range other.leases {
			if l.addr.Is4() == v4 && slices.Contains(wanted, l.addr) {
				return l.addr
			}
		}
	}
	return netip.Addr{}
}

// release gives back what a guest had; it wants mu.
func (r *registry) release(g *guest, vanished bool) {
	for _, l := range g.leases {
		if l.pool.Release(l.addr, vanished) && r.vacated != nil {
			r.vacated(l.addr)
		}
	}
	g.leases = nil
}
