package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"martlet/ike"
	"martlet/ike/aaa"
)

// session is a guest's stay as RADIUS servers are told of it. It lasts over rekeys.
type session struct {
	name      string // Acct-Session-Id
	began     time.Time
	addresses []netip.Addr
	carried   aaa.Usage // by children that are gone
	children  map[ike.ChildID]bool
	interval  time.Duration
	update    *time.Timer // the next Interim-Update
	limit     *time.Timer // the end of its time, at until
	until     time.Time
	ending    aaa.Cause // why we end it; 0 while we do not
}

// newSession names a session; it wants mu.
func (r *registry) newSession() string {
	r.sessions++
	return fmt.Sprintf("%s-%d", r.epoch, r.sessions)
}

// established begins the session of a guest whose SA stands.
func (r *registry) established(st ike.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.in[st.SA]
	if g == nil || r.closed {
		return
	}
	s := &g.session
	s.began = time.Now()
	for _, l := range g.leases {
		s.addresses = append(s.addresses, l.addr)
	}
	if g.grant != nil && g.grant.SessionTimeout > 0 {
		r.limit(g, g.grant.SessionTimeout)
	}
	if !r.accounts() {
		return
	}
	r.radius.Account(r.record(g, aaa.RecordStart))
	s.interval = max(0, time.Duration(r.conf().RADIUS.Interim))
	if g.grant != nil && g.grant.InterimInterval > 0 {
		s.interval = g.grant.InterimInterval
	}
	if s.interval > 0 {
		s.update = time.AfterFunc(s.interval, func() { r.interim(g) })
	}
}

func (r *registry) accounts() bool { return r.radius != nil && r.conf().RADIUS.Accounting }

// limit sets the time that a session has from now on; it wants mu.
func (r *registry) limit(g *guest, left time.Duration) {
	if g.session.limit != nil {
		g.session.limit.Stop()
	}
	g.session.until = time.Now().Add(left)
	g.session.limit = time.AfterFunc(left, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if time.Now().Before(g.session.until) {
			return // it was given more just now
		}
		g.session.ending = aaa.CauseSessionTimeout
		r.endLocked(g, ike.Terminate{Reason: "the time that RADIUS gave it is over (Session-Timeout)"})
	})
}

// interim sends an update and sets the time of the next.
func (r *registry) interim(g *guest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.in[g.sa] != g {
		return
	}
	r.radius.Account(r.record(g, aaa.RecordInterim))
	g.session.update.Reset(g.session.interval)
}

// record makes an accounting record; it wants mu.
func (r *registry) record(g *guest, kind aaa.RecordKind) aaa.Record {
	s := &g.session
	rec := aaa.Record{
		Kind: kind, At: time.Now(), Caller: g.caller(), User: userOf(g), Addresses: s.addresses,
		Time: time.Since(s.began), Usage: s.carried, Cause: s.ending,
	}
	if g.grant != nil {
		rec.Class = g.grant.Class
	}
	for id := range s.children {
		rec.Usage = rec.Usage.Add(r.usage(id))
	}
	return rec
}

func (g *guest) caller() aaa.Caller { return callerOf(g.session.name, g.connection, g.path) }

func callerOf(session, connection string, path ike.Path) aaa.Caller {
	return aaa.Caller{Session: session, Connection: connection, Peer: path.Remote.Addr().Unmap(), Local: path.Local.Addr().Unmap()}
}

// userOf is the name of a guest for RADIUS: that by which it logged in.
func userOf(g *guest) string {
	if g.grant != nil {
		return g.grant.User
	}
	return g.identity.String()
}

// childUsage is what a child has carried; nothing if it is not installed.
func (n *Node) childUsage(id ike.ChildID) aaa.Usage {
	c, ok := n.plane.ChildStats(uint64(id))
	if !ok {
		return aaa.Usage{}
	}
	return usageOf(&c)
}

// childIn notes whose a child is that is being installed.
func (r *registry) childIn(c *ike.Child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.in[c.SA]; g != nil {
		if g.session.children == nil {
			g.session.children = map[ike.ChildID]bool{}
		}
		g.session.children[c.ID] = true
		r.children[c.ID] = g
	}
}

// childOut keeps what a child has carried that is about to be removed.
func (r *registry) childOut(id ike.ChildID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.children[id]; g != nil {
		g.session.carried = g.session.carried.Add(r.usage(id))
		delete(g.session.children, id)
		delete(r.children, id)
	}
}

// leave ends the session of an SA and gives back what it had.
func (r *registry) leave(h ike.Down) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLogin(h.SA)
	if h.Err == nil {
		r.void.end(h.Ticket, time.Now())
	}
	g := r.in[h.SA]
	if g == nil {
		return
	}
	if g.session.ending == 0 {
		g.session.ending = causeOf(h.Err)
	}
	r.depart(g)
}

func causeOf(err *Error) aaa.Cause {
	switch {
	case err == nil:
		return aaa.CauseUserRequest
	case errors.Is(err, &Error{Code: ike.CodePeerDead}):
		return aaa.CauseLostCarrier
	}
	return aaa.CauseNASError
}

// depart wants mu.
func (r *registry) depart(g *guest) {
	s := &g.session
	for _, timer := range []*time.Timer{s.update, s.limit} {
		if timer != nil {
			timer.Stop()
		}
	}
	if !s.began.IsZero() && r.accounts() {
		r.radius.Account(r.record(g, aaa.RecordStop))
	}
	r.release(g, s.ending == aaa.CauseLostCarrier)
	for id := range s.children {
		delete(r.children, id)
	}
	delete(r.in, g.sa)
}

// commanded notes that the SAs of a connection end by command.
func (r *registry) commanded(connection string, cause aaa.Cause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.in {
		if (connection == "" || g.connection == connection) && g.session.ending == 0 {
			g.session.ending = cause
		}
	}
}
