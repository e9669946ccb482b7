package ike

import (
	"strings"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// authTask is IKE_AUTH of the initiator, with the first child
// (RFC 7296 §1.2, §2.15). We prove ourselves in one round or more (RFC 4739); the gateway
// does in its first answer.
type authTask struct {
	offer *childOffer
	round *Local      // under way
	id    *message.ID // ours in this round
	idr   *message.ID // the gateway's; nil before its first answer
}

func (*authTask) priority() priority { return prioSetup }

func (t *authTask) start(s *ikeSA) {
	if s.conn.Local.Next != nil && !s.supports(extMultipleAuth) {
		err := errOneRoundOnly(s)
		s.close(err.What, err)
		return
	}
	t.round = &s.conn.Local
	t.prove(s)
}

// prove begins a round.
func (t *authTask) prove(s *ikeSA) {
	p, err := proofOf(s.conn, t.round)
	if err == nil {
		s.local, err = p.identity(s, pki.Identity{})
	}
	cfg := firstChild(s.conn)
	if err == nil && cfg == nil {
		err = errInternal("connection " + s.conn.Name + " has no child")
	}
	if err != nil {
		t.giveUp(s, err)
		return
	}
	t.id = idPayload(false, s.local)
	p.prove(s, s.signedOctets(true, t.id), func(auth []message.Payload, err *Error) {
		if err != nil {
			t.giveUp(s, err)
			return
		}
		if t.idr == nil {
			t.offer = s.offerChild(cfg, false)
			s.request(message.IKEAuth, t.payloads(s, auth)...)
			return
		}
		s.request(message.IKEAuth, t.proof([]message.Payload{t.id}, auth)...)
	})
}

// giveUp ends an SA that cannot go on. The gateway learns it if it has heard of us in
// IKE_AUTH.
func (t *authTask) giveUp(s *ikeSA, err *Error) {
	if t.idr == nil {
		s.close(err.What, err)
		return
	}
	s.abandon(err, notify(message.AuthenticationFailed))
}

// payloads is the first request; auth is CERT and AUTH.
func (t *authTask) payloads(s *ikeSA, auth []message.Payload) []message.Payload {
	ps := []message.Payload{t.id}
	if s.isOnlySA() {
		ps = append(ps, notify(message.InitialContact))
	}
	var between []message.Payload
	between = append(between, certReqs([]*Connection{s.conn})...)
	if want := s.conn.Remote.ID; concrete(want) {
		between = append(between, idPayload(true, want))
	}
	ps = t.proof(ps, auth, between...)
	if cp := configRequest(s.conn); cp != nil {
		ps = append(ps, cp)
	}
	if t.offer != nil {
		ps = append(ps, t.offer.payloads()...)
	}
	return append(ps, s.authOffers()...)
}

// proof appends CERT and AUTH, with others between them, and says whether
// another round follows.
func (t *authTask) proof(ps, auth []message.Payload, between ...message.Payload) []message.Payload {
	ps = append(ps, auth[:len(auth)-1]...)
	ps = append(ps, between...)
	ps = append(ps, auth[len(auth)-1])
	if t.round.Next != nil {
		ps = append(ps, notify(message.AnotherAuthFollows))
	}
	return ps
}

// isOnlySA tells whether there is no other SA of this connection, so that the peer may
// drop what it still has of us (RFC 7296 §2.4).
func (s *ikeSA) isOnlySA() bool {
	only := true
	s.e.all(func(o *ikeSA) {
		if o != s && o.conn == s.conn && o.state != stateClosed {
			only = false
		}
	})
	return only
}

// concrete tells whether an identity that we demand can be asked for in IDr: a
// pattern cannot.
func concrete(id pki.Identity) bool {
	switch id.Type {
	case pki.IDFQDN, pki.IDRFC822Addr, pki.IDDERASN1DN:
		return !strings.Contains(id.Data, "*")
	case pki.IDIPv4Addr, pki.IDIPv6Addr, pki.IDKeyID:
		return true
	}
	return false
}

func (t *authTask) releaseOffer(s *ikeSA) {
	if t.offer != nil {
		s.e.releaseESPSPI(t.offer.spi)
		t.offer = nil
	}
}

func (t *authTask) expired(s *ikeSA) {
	err := errAuthUnanswered(s)
	s.close(err.What, err)
}

func (t *authTask) response(s *ikeSA, ps []message.Payload) {
	auth, _ := message.Find[*message.Auth](ps)
	if n := message.FindError(ps); n != nil && auth == nil && (t.idr == nil || t.round.Next != nil || fatalNotify(n.Notify)) {
		err := errAuthRefused(s, n)
		s.close(err.What, err)
		return
	}
	if t.idr != nil {
		t.goOn(s, ps, false)
		return
	}
	refuse := func(err *Error) {
		// RFC 7296 §2.21.2: the responder believes that the SA stands.
		s.abandon(err, notify(message.AuthenticationFailed))
	}
	if err := t.gateway(s, auth, ps); err != nil {
		refuse(err)
		return
	}
	s.vouch(func(err *Error) {
		if err != nil {
			refuse(err)
			return
		}
		t.goOn(s, ps, true)
	})
}

// goOn takes an answer of a gateway that has proven who it is: to the next round, or to
// the child.
func (t *authTask) goOn(s *ikeSA, ps []message.Payload, first bool) {
	last := t.round.Next == nil
	s.readAuthAnswers(ps, first, last)
	if !last {
		t.round = t.round.Next
		t.prove(s)
		return
	}
	s.lease = readConfig(s.conn, findConfig(ps, message.ConfigReply))
	s.establish()
	t.firstChild(s, ps)
}

// gateway verifies who the gateway is.
func (t *authTask) gateway(s *ikeSA, auth *message.Auth, ps []message.Payload) *Error {
	idr := message.FindID(ps, true)
	if _, eap := message.Find[*message.EAP](ps); eap || auth == nil || idr == nil {
		return errAuthIncomplete(eap)
	}
	t.idr, s.remote = idr, identityOf(idr)
	check, err := checkerOf(&s.conn.Remote)
	if err != nil {
		return err
	}
	return check.check(s, &s.conn.Remote, &peerProof{
		id: s.remote, auth: auth, ps: ps, strict: s.conn.StrictSignatures, octets: s.signedOctets(false, idr),
	})
}
