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
	// behind goes behind the AUTH of the last round.
	behind []message.Payload
	// proven: the gateway's AUTH was verified.
	proven bool
}

func (*authTask) priority() priority { return prioSetup }

func (t *authTask) start(s *ikeSA) {
	if s.resumed == nil && s.conn.Local.Next != nil && !s.supports(extMultipleAuth) {
		err := errOneRoundOnly(s)
		s.close(err.What, err)
		return
	}
	if s.conn.Childless == ChildlessForce && !s.supports(extChildless) {
		err := errNotChildless(s)
		s.close(err.What, err)
		return
	}
	if s.puzzled {
		s.puzzled = false
		s.solve(s.puzzle, s.puzzleOfAuth(), func(solution *message.PuzzleSolution) {
			s.solution = solution
			t.start(s)
		})
		return
	}
	t.round = &s.conn.Local
	if s.resumed != nil {
		t.round = &Local{Method: authResumed}
	}
	t.prove(s)
}

// prove begins a round. One of EAP begins without AUTH (RFC 7296 §2.16).
func (t *authTask) prove(s *ikeSA) {
	p, err := proofOf(s.conn, t.round)
	if err == nil {
		s.local, err = p.identity(s, pki.Identity{})
	}
	cfg := s.firstChild()
	if err == nil && cfg == nil {
		err = errInternal("connection " + s.conn.Name + " has no child")
	}
	if err != nil {
		t.giveUp(s, err)
		return
	}
	t.id = idPayload(false, s.local)
	if t.round.Method == AuthEAP {
		s.converse()
	}
	sign := func(then func([]message.Payload, *Error)) { p.prove(s, s.signedOctets(true, t.id), then) }
	send := func(auth, behind []message.Payload, err *Error) {
		if err != nil {
			t.giveUp(s, err)
			return
		}
		t.behind = behind
		if t.idr == nil {
			if !s.childless() {
				t.offer = s.offerChild(cfg, s.wholeOffer(cfg, s.purpose.packet), false)
			}
			s.request(message.IKEAuth, t.payloads(s, auth)...)
			return
		}
		s.request(message.IKEAuth, t.proof(s, []message.Payload{t.id}, auth)...)
	}
	if t.round.Next != nil || t.round.Method == AuthEAP || t.round.Method == authResumed {
		sign(func(auth []message.Payload, err *Error) { send(auth, nil, err) })
		return
	}
	s.withPPK(sign, send)
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
	ps = t.proof(s, ps, auth, between...)
	if cp := configRequest(s.conn, s.addressesBefore()); cp != nil {
		ps = append(ps, cp)
	}
	if t.offer != nil {
		ps = append(ps, t.offer.payloads()...)
	}
	return append(ps, s.authOffers()...)
}

// proof appends CERT and AUTH, with others between them, and says whether
// another round follows. Before EAP there is no AUTH.
func (t *authTask) proof(s *ikeSA, ps, auth []message.Payload, between ...message.Payload) []message.Payload {
	if len(auth) == 0 {
		return append(ps, between...)
	}
	ps = append(ps, auth[:len(auth)-1]...)
	ps = append(ps, between...)
	ps = append(ps, auth[len(auth)-1])
	if t.round.Next != nil {
		return append(ps, notify(message.AnotherAuthFollows))
	}
	return append(append(ps, t.behind...), s.e.crashToken(s.own(), s.initiator)...)
}

// isOnlySA tells whether there is no other SA of this connection, so that the peer may
// drop what it still has of us (RFC 7296 §2.4).
func (s *ikeSA) isOnlySA() bool {
	only := true
	s.e.all(func(o *ikeSA) {
		if o != s && o.conn != nil && o.conn.Name == s.conn.Name && o.state != stateClosed && o.state != stateReplaced {
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
	if t.idr != nil {
		err = errLoginUnanswered(s)
	}
	s.close(err.What, err)
}

func (t *authTask) response(s *ikeSA, ps []message.Payload) {
	auth, _ := message.Find[*message.Auth](ps)
	packet, isEAP := message.Find[*message.EAP](ps)
	first, last := t.idr == nil, t.round.Next == nil && (s.eap == nil || s.eap.over)
	if n := message.FindError(ps); n != nil && auth == nil && !isEAP && (first || !last || s.eap != nil || fatalNotify(n.Notify)) {
		if s.resumed != nil {
			t.releaseOffer(s)
			s.startOver()
			return
		}
		err := errAuthRefused(s, n)
		s.close(err.What, err)
		return
	}
	var err *Error
	if last {
		err = s.settlePPK(ps)
	}
	if first && err == nil {
		err = t.gateway(s, auth, ps)
	}
	away := message.FindNotify(ps, message.Redirect)
	switch {
	case err != nil:
	case away != nil && t.proven:
	case isEAP && (s.eap == nil || s.eap.over):
		err = errAuthIncomplete(true)
	case !isEAP && s.eap != nil && !s.eap.over:
		err = errEAPMissing(s)
	case s.eap != nil && s.eap.over:
		err = t.eapProven(s, auth)
	}
	if err != nil {
		t.refuse(s, err)
		return
	}
	s.vouch(func(err *Error) {
		if err != nil {
			t.refuse(s, err)
			return
		}
		if away != nil && t.proven {
			s.redirectedByAuth(away)
			return
		}
		s.readAuthAnswers(ps, first, last)
		switch {
		case isEAP:
			t.eapPacket(s, packet.Data)
		case !last:
			t.round = t.round.Next
			t.prove(s)
		default:
			s.lease = readConfig(s.conn, findConfig(ps, message.ConfigReply))
			s.establish()
			t.firstChild(s, ps)
		}
	})
}

// refuse ends an SA whose gateway did not prove who it is. RFC 7296 §2.21.2: the responder
// believes that the SA stands.
func (*authTask) refuse(s *ikeSA, err *Error) { s.abandon(err, notify(message.AuthenticationFailed)) }

// gateway verifies who the gateway is, or notes that EAP has to prove it.
func (t *authTask) gateway(s *ikeSA, auth *message.Auth, ps []message.Payload) *Error {
	idr := message.FindID(ps, true)
	if idr == nil {
		return errAuthIncomplete(false)
	}
	t.idr, s.remote = idr, identityOf(idr)
	remote := &s.conn.Remote
	if s.resumed != nil {
		remote = &Remote{Method: authResumed}
	}
	if s.eap != nil && (auth == nil || remote.Method == AuthEAP) {
		switch {
		case !s.conn.EAPOnly:
			return errEAPOnlyForbidden()
		case !remote.ID.Match(s.remote):
			return errIdentity(s, s.remote, remote.ID)
		}
		return nil
	}
	if auth == nil {
		_, eap := message.Find[*message.EAP](ps)
		return errAuthIncomplete(eap)
	}
	check, err := checkerOf(remote)
	if err == nil {
		err = check.check(s, remote, &peerProof{
			id: s.remote, auth: auth, ps: ps, strict: s.conn.StrictSignatures, octets: s.signedOctets(false, idr),
		})
	}
	t.proven = err == nil
	return err
}
