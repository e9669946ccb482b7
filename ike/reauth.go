package ike

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"martlet/ike/message"
)

// Authenticating again (RFC 7296 §2.8.3, RFC 4478): who opened the connection opens another
// IKE SA on the same path, with all children, and closes the old one when the new one
// stands. Whoever is on the other side tells when, and ends an SA whose peer does not.

// What is kept of the time that a peer gave us: enough for a few tries.
const (
	reauthGrace  = 10 * time.Second // of a peer that is late
	reauthFirst  = 5 * time.Second  // between tries, and at least from one proof to the next
	reauthMost   = 10 * time.Minute
	reauthAtOnce = 2 * time.Second // from a command until it is done

	leastLifetime = time.Second // of a proof, that a peer can give
)

// limitAuth sets when an SA that was just established needs another proof.
func (s *ikeSA) limitAuth() {
	if s.opener {
		own := s.conn.Reauth
		s.proveBy(s.authLifetime)
		if at := s.at(max(own-upTo(own/10), 0)); !at.IsZero() && (s.authLifetime == 0 || at.Before(s.deadlines[dueReauth])) {
			s.set(dueReauth, at)
		}
		return
	}
	if s.authLifetime > 0 {
		s.set(dueReauth, s.e.now.Add(s.authLifetime+reauthGrace))
	}
}

// proveBy makes us authenticate again before a time that the peer set is over; 0 is never. A
// peer that always wants it at once is served at our pace: each proof costs both ends a
// signature, and a login perhaps a person's patience or an account that is locked.
func (s *ikeSA) proveBy(within time.Duration) {
	at := s.at(within - within/10 - upTo(within/10))
	if soonest := s.since.Add(reauthFirst); !at.IsZero() && at.Before(soonest) {
		at = soonest
		if !s.hurried {
			s.hurried = true
			s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: fmt.Sprintf(
				"the peer wants us to authenticate again within %v (AUTH_LIFETIME); we do so %v after the last time and not sooner, "+
					"so that it cannot keep us busy with nothing else; a longer time belongs into its configuration", within, reauthFirst)})
		}
	}
	s.set(dueReauth, at)
}

// authLifetimeOf is how long a peer's proof holds: what the runner says, or the connection. A
// Windows client cannot authenticate again, so that the connection's time, which would cut it
// off each time, is not for it.
func (s *ikeSA) authLifetimeOf(admitted time.Duration) time.Duration {
	own := max(s.conn.Reauth, 0)
	if s.supports(extWindows) {
		own = 0
	}
	if admitted <= 0 || own > 0 && own < admitted {
		return own
	}
	return admitted
}

// announceLifetime tells the peer until when it has to authenticate again. A Windows client
// does not understand it.
func (s *ikeSA) announceLifetime() []message.Payload {
	if s.authLifetime <= 0 || s.supports(extWindows) {
		return nil
	}
	seconds := min(max(int64(s.authLifetime/time.Second), 1), math.MaxUint32)
	return []message.Payload{notifyData(message.AuthLifetime, binary.BigEndian.AppendUint32(nil, uint32(seconds)))}
}

// readLifetime takes what a responder imposes, in IKE_AUTH or later (RFC 4478 §3).
func readLifetime(ps []message.Payload) (time.Duration, bool) {
	n := message.FindNotify(ps, message.AuthLifetime)
	if n == nil || len(n.Data) != 4 {
		return 0, false
	}
	// It is the time that is left, so that 0 is none and not "for ever".
	return max(time.Duration(binary.BigEndian.Uint32(n.Data))*time.Second, leastLifetime), true
}

// limitedLater takes an AUTH_LIFETIME of an SA that stands.
func (s *ikeSA) limitedLater(ps []message.Payload) {
	if within, ok := readLifetime(ps); ok && s.opener && s.state == stateEstablished {
		s.authLifetime = within
		s.proveBy(within)
	}
}

// reauthDue authenticates again, or ends an SA whose peer did not.
func (s *ikeSA) reauthDue() {
	if s.opener {
		s.reauthenticate()
		return
	}
	s.terminate("its peer did not authenticate again in time")
}

// reauthenticate opens an SA that takes the place of this one.
func (s *ikeSA) reauthenticate() {
	conn := s.e.connection(s.conn.Name)
	switch {
	case s.state != stateEstablished || conn == nil:
		return
	case s.moving || s.offline:
		s.after(dueReauth, reauthFirst)
		return
	}
	s.moving = true
	next := s.e.newInitiator(conn, s.path, s.path)
	next.replaces, next.afresh, next.hurried = s, true, s.hurried
	s.e.enter("reauthenticate", next)
	next.connect()
}

// reauth asks for another proof of who is at the other end of SAs, by command.
func (e *Engine) reauth(ev Reauth) {
	e.all(func(s *ikeSA) {
		if s.state != stateEstablished || ev.SA != 0 && s.id() != ev.SA || ev.Connection != "" && s.conn.Name != ev.Connection {
			return
		}
		e.enter("reauth", s)
		if s.opener {
			s.reauthenticate()
			return
		}
		s.limit(max(ev.Within, reauthAtOnce))
	})
}

// limit gives the peer a time within which it must have authenticated again.
func (s *ikeSA) limit(within time.Duration) {
	s.authLifetime = within
	s.set(dueReauth, s.e.now.Add(within+reauthGrace))
	if ps := s.announceLifetime(); ps != nil {
		s.enqueue(&lifetimeTask{ps})
	}
}

// lifetimeTask tells the peer of an SA that stands when it has to authenticate again.
type lifetimeTask struct{ ps []message.Payload }

func (*lifetimeTask) priority() priority { return prioRedirect }

func (t *lifetimeTask) start(s *ikeSA) { s.request(message.Informational, t.ps...) }

func (*lifetimeTask) response(s *ikeSA, _ []message.Payload) { s.done() }

func (*lifetimeTask) expired(s *ikeSA) { s.peerDead() }

// newest is the SA that has the place of s by now: s itself, unless it was rekeyed.
func (s *ikeSA) newest() *ikeSA {
	for s != nil && s.successor != nil {
		s = s.successor
	}
	return s
}

// takeOver makes s, a successor that has its first child, open what else the old SA has, and
// then ends that one: nothing is sent on it any more before the peer hears of its end.
func (s *ikeSA) takeOver() {
	old := s.replaces.newest()
	opens := func(t task) bool { _, ok := t.(*createTask); return ok }
	if s.queued(opens) || slices.ContainsFunc(s.delayed, func(d delayed) bool { return opens(d.task) }) {
		return // the peer may be busy: then it is asked again
	}
	if old == nil || old.gone || old.state == stateClosed {
		s.replaces = nil
		s.reopenLeft()
		return
	}
	for _, c := range old.children {
		cfg := s.configOf(c.Name)
		if cfg == nil || c.deleting || c.successor != nil || slices.Contains(s.reopened, c.ID) {
			continue
		}
		s.reopened = append(s.reopened, c.ID) // it is tried once
		t := &createTask{cfg: cfg}
		if s.has(cfg) {
			// Some of it may be what the packet of the old one was about.
			part := s.sameAs(c, cfg)
			if len(part.local) == 0 || len(part.remote) == 0 || s.holds(cfg, part.local, part.remote) {
				continue
			}
			t.fixed = &part
		}
		s.enqueue(t)
		return
	}
	if len(s.children) == 0 && len(old.children) > 0 {
		s.terminate("none of the children could be opened again")
		return
	}
	// It may have been on its way into the place of a third one.
	s.replaces, old.replaces = old.replaces, nil
	for _, c := range s.children {
		s.e.do(Switch{Child: c.ID})
	}
	reason := "authenticated again"
	if s.trial {
		reason = "UDP passes again"
	}
	if s.redirectedFrom != (message.GatewayID{}) {
		reason = "redirected to " + s.path.Remote.Addr().String()
	}
	s.e.enter("taken over", old)
	old.superseded = true
	old.terminate(reason)
	s.e.enter("taken over", s)
	if s.replaces != nil {
		s.takeOver()
	}
}

// leaveTo tells the SA that is about to take the place of s, which ends now, what it has to
// open by itself, and reports whether there is one.
func (s *ikeSA) leaveTo() (coming bool) {
	if !s.moving {
		return false
	}
	s.e.all(func(n *ikeSA) {
		if n == s || n.replaces.newest() != s || n.state != stateConnecting && n.state != stateEstablished {
			return
		}
		coming = true
		for _, c := range s.children {
			if c.successor == nil && !slices.Contains(n.left, c.Name) {
				n.left = append(n.left, c.Name)
			}
		}
	})
	return coming
}

// reopenLeft opens what an SA had that ended before s could take it over.
func (s *ikeSA) reopenLeft() {
	names := s.left
	s.left = nil
	for _, name := range names {
		if cfg := s.configOf(name); cfg != nil && !s.has(cfg) {
			s.enqueue(&createTask{cfg: cfg})
		}
	}
}

// sameAs is what an older child has, as far as that is configured now. A side that follows an
// address is as it is now.
func (s *ikeSA) sameAs(c *child, cfg *ChildConfig) selectorOffer {
	o := selectorOffer{s.localSelectors(cfg), s.remoteSelectors(cfg)}
	if !cfg.LocalDynamic {
		o.local = narrow(c.Local, o.local)
	}
	if !cfg.RemoteDynamic {
		o.remote = narrow(c.Remote, o.remote)
	}
	return o
}

// configOf is the configuration of a child by name, nil if there is none.
func (s *ikeSA) configOf(name string) *ChildConfig {
	for _, c := range s.conn.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// notTakenOver lets the SA that was to be replaced stand, since its successor came to nothing.
// Where it needs another proof, the next try comes in a while.
func (s *ikeSA) notTakenOver() {
	old := s.replaces.newest()
	if old == nil {
		return
	}
	old.moving = false
	if s.trial && old.state == stateEstablished {
		old.returns++
		old.armReturn()
		return
	}
	if s.afresh && old.state == stateEstablished {
		old.unproven++
		old.set(dueReauth, s.e.now.Add(backoff(old.unproven, reauthFirst, reauthMost)))
	}
}
