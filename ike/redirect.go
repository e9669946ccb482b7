package ike

import (
	"bytes"
	"slices"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Redirection to another gateway (RFC 5685 §3), on both sides: in IKE_SA_INIT, in IKE_AUTH
// and of an SA that stands. The new gateway has to pass the same checks as the old one.

// At most so many redirects of a connection in so long are followed (RFC 5685 §3).
const (
	maxRedirects   = 5
	redirectWindow = 300 * time.Second
)

// followsRedirects tells whether we go where a gateway sends us.
func (s *ikeSA) followsRedirects() bool { return s.opener && !s.conn.IgnoreRedirects }

// redirectOffer is what an initiator says of redirection in IKE_SA_INIT.
func (s *ikeSA) redirectOffer() []message.Payload {
	switch {
	case !s.followsRedirects():
		return nil
	case s.redirectedFrom != (message.GatewayID{}):
		// It tells by itself that we can be redirected (RFC 5685 §10.3).
		return []message.Payload{notifyData(message.RedirectedFrom, s.redirectedFrom.Append(nil))}
	}
	return []message.Payload{notify(message.RedirectSupported)}
}

// gatewayHere names the gateway that an initiator talks to.
func (s *ikeSA) gatewayHere() message.GatewayID {
	return message.GatewayID{Addr: s.path.Remote.Addr().Unmap().WithZone("")}
}

// mayRedirect counts a redirect of a connection that is about to be followed.
func (e *Engine) mayRedirect(conn *Connection) bool {
	recent := slices.DeleteFunc(e.redirects[conn.Name], func(t time.Time) bool { return e.now.Sub(t) >= redirectWindow })
	allowed := len(recent) < maxRedirects
	if allowed {
		recent = append(recent, e.now)
	}
	e.redirects[conn.Name] = recent
	return allowed
}

// reach asks the runner for the way to another gateway.
func (s *ikeSA) reach(to message.GatewayID, then func(Reached)) {
	s.ask(Reach{SA: s.id(), Connection: s.conn.Name, To: to, Stream: s.path.Stream}, func(r Reply) {
		got, ok := r.(Reached)
		if !ok {
			got.Err = errWrongReply
		}
		then(got)
	})
}

// redirected begins IKE_SA_INIT anew with another gateway. Nothing protects that we are sent
// there, but for our nonce, which has to come back: that only somebody on the way could
// know (RFC 5685 §5).
func (t *initTask) redirected(s *ikeSA, n *message.Notify) {
	to, nonce, ok := message.ParseRedirect(n.Data)
	switch {
	case !ok, !bytes.Equal(nonce, s.ni), !s.followsRedirects():
		s.e.drop(DropMalformed)
		return
	case !s.e.mayRedirect(s.conn):
		t.suspect(s, errRedirects(s, to))
		return
	}
	t.waiting, t.early = true, nil
	s.set(dueInitError, time.Time{})
	s.forgetRequest()
	s.reach(to, func(got Reached) {
		t.waiting = false
		if got.Err != nil {
			s.close("the other gateway cannot be reached", errRedirect(to, got.Err))
			return
		}
		s.e.report(Redirected{SA: s.id(), New: s.id(), Connection: s.conn.Name, Path: s.path, To: to.String()})
		s.redirectedFrom = s.gatewayHere()
		s.startAt(got.Path)
		s.encapPath = got.Encap
		s.ni = newNonce()
		t.cookie, t.solution, t.restarts = nil, nil, 0
		t.keyAndSend(s, t.groups[0])
	})
}

// redirectedByAuth leaves a gateway that sends us away in IKE_AUTH, after it has proven
// who it is (RFC 5685 §6).
func (s *ikeSA) redirectedByAuth(n *message.Notify) {
	to, _, ok := message.ParseRedirect(n.Data)
	if !ok || !s.followsRedirects() {
		s.abandon(errRedirect(to, nil), &message.Delete{Protocol: suite.ProtocolIKE})
		return
	}
	s.moveTo(to, func(err *Error) {
		reason := "redirected to " + to.String()
		if err != nil {
			reason = err.What
		}
		s.end(reason, err)
		s.lastRequest(&message.Delete{Protocol: suite.ProtocolIKE})
	})
}

// redirectedLater follows a gateway's request to go elsewhere. The SA stands until the one
// with the other gateway does (RFC 5685 §7).
func (s *ikeSA) redirectedLater(n *message.Notify) {
	to, _, ok := message.ParseRedirect(n.Data)
	if ok && s.followsRedirects() && !s.moving && s.state == stateEstablished {
		s.leave(to)
	}
}

// leave opens an SA with another gateway in place of this one.
func (s *ikeSA) leave(to message.GatewayID) {
	s.moving, s.leaving = true, &to
	s.moveTo(to, func(err *Error) {
		s.leaving = nil
		if err != nil {
			s.moving = false
			s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: err.What + ": " + err.Why})
		}
	})
}

// moveTo opens an SA of the same connection with another gateway, which replaces this one
// when it has its child; then is told whether it was begun.
func (s *ikeSA) moveTo(to message.GatewayID, then func(*Error)) {
	if !s.e.mayRedirect(s.conn) {
		then(errRedirects(s, to))
		return
	}
	s.reach(to, func(got Reached) {
		if got.Err != nil {
			then(errRedirect(to, got.Err))
			return
		}
		if s.state != stateConnecting && s.state != stateEstablished {
			return
		}
		next := s.e.newInitiator(s.conn, got.Path, got.Encap)
		next.redirectedFrom, next.replaces = s.gatewayHere(), s
		if s.state == stateConnecting && s.replaces != nil {
			next.takeover, s.takeover = s.takeover, takeover{}
		}
		s.e.report(Redirected{SA: s.id(), New: next.id(), Connection: s.conn.Name, Path: s.path, To: to.String()})
		then(nil)
		s.e.enter("redirected", next)
		next.connect()
	})
}

// redirectable tells whether the sender of IKE_SA_INIT can be redirected, and from where
// it was.
func redirectable(ps []message.Payload) (from message.GatewayID, ok bool) {
	if n := message.FindNotify(ps, message.RedirectedFrom); n != nil {
		from, _, ok = message.ParseRedirect(n.Data)
		return from, ok
	}
	return from, message.FindNotify(ps, message.RedirectSupported) != nil
}

// isHere tells whether a path ends where a redirect would lead: a gateway can have several
// addresses.
func isHere(p Path, to message.GatewayID) bool {
	return to.Addr.IsValid() && p.Local.Addr().Unmap() == to.Addr
}

// redirectInit sends the sender of IKE_SA_INIT elsewhere, if that is what the connection is
// for. Who comes from there is not sent back.
func (e *Engine) redirectInit(o *initOffer, c *Connection) bool {
	from, ok := redirectable(o.ps)
	if !ok || c.Redirect == (message.GatewayID{}) || c.RedirectLate || from == c.Redirect || isHere(o.path, c.Redirect) {
		return false
	}
	e.refuse(o.path, DropRedirected, nil)
	e.answerStateless(o, notifyData(message.Redirect, append(c.Redirect.Append(nil), o.visitor.ni...)))
	return true
}

// redirectAuth sends an initiator that has proven who it is elsewhere (RFC 5685 §6). No SA
// comes of it; the initiator says goodbye by a DELETE.
func (s *ikeSA) redirectAuth(a *authentication) bool {
	to := s.conn.Redirect
	if !s.supports(extRedirect) || to == (message.GatewayID{}) || !s.conn.RedirectLate || s.redirectedFrom == to || isHere(s.path, to) {
		return false
	}
	s.sign(a, func() {
		s.respond(append(a.proof, notifyData(message.Redirect, to.Append(nil)))...)
		s.awaitsDelete = true
		s.linger("redirected to "+to.String(), nil)
	})
	return true
}

// redirectPeers sends those whose SAs stand and who can be sent to another gateway.
func (e *Engine) redirectPeers(ev RedirectPeers) {
	e.all(func(s *ikeSA) {
		switch {
		case s.state != stateEstablished, s.opener, !s.supports(extRedirect):
		case ev.SA != 0 && s.id() != ev.SA, ev.Connection != "" && s.conn.Name != ev.Connection:
		default:
			e.enter("redirect", s)
			s.enqueue(&redirectTask{to: ev.To})
		}
	})
}

// redirectTask sends an initiator to another gateway (RFC 5685 §7). It deletes the SA itself.
type redirectTask struct{ to message.GatewayID }

func (*redirectTask) priority() priority { return prioRedirect }

func (t *redirectTask) start(s *ikeSA) {
	s.request(message.Informational, notifyData(message.Redirect, t.to.Append(nil)))
}

func (*redirectTask) response(s *ikeSA, _ []message.Payload) { s.done() }

func (*redirectTask) expired(s *ikeSA) { s.peerDead() }
