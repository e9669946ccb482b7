package ike

import (
	"encoding/binary"
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
// peer that always wants it at once is served at our pace.
func (s *ikeSA) proveBy(within time.Duration) {
	at := s.at(within - within/10 - upTo(within/10))
	if soonest := s.since.Add(reauthFirst); !at.IsZero() && at.Before(soonest) {
		at = soonest
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
	return time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second, true
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
	next.replaces, next.afresh = s, true
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
	if old == nil || old.gone || old.state == stateClosed {
		s.replaces = nil
		return
	}
	opens := func(t task) bool { _, ok := t.(*createTask); return ok }
	if s.queued(opens) || slices.ContainsFunc(s.delayed, func(d delayed) bool { return opens(d.task) }) {
		return // the peer may be busy: then it is asked again
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
	if s.afresh && old.state == stateEstablished {
		old.unproven++
		old.set(dueReauth, s.e.now.Add(backoff(old.unproven, reauthFirst, reauthMost)))
	}
}
