package ike

import (
	"martlet/ike/eap"
	"martlet/ike/message"
)

// EAP on the responder (RFC 7296 §2.16).

// beginEAP starts the conversation of a round and sends the first request, after our own
// proof where that has not gone out.
func (s *ikeSA) beginEAP(a *authentication) {
	s.after(dueLifetime, s.e.cfg.HalfOpen.eapLifetime())
	s.sign(a, func() {
		c, r := s.converse(), &a.round.EAP
		if r.Relay {
			// The server is not asked for this one: a RADIUS request needs a name.
			c.id = byte(randomUint64())
			s.answerRound(a, false, &message.EAP{Data: []byte{1, c.id, 0, 5, byte(eap.TypeIdentity)}})
			return
		}
		cfg := eap.ServerConfig{
			Methods: r.Methods, Inner: r.Inner, Credentials: r.Credentials,
			Verifier: r.Verifier, MinTLS: r.MinTLS, MaxTLS: r.MaxTLS,
			Revocation: a.round.Revocation,
		}
		cfg.Verifier.Now = s.e.now
		server := eap.NewServer(cfg)
		c.end = server
		s.eapStep(a, server, server.Start())
	})
}

// eapResponse takes the peer's next EAP packet.
func (s *ikeSA) eapResponse(a *authentication, ps []message.Payload) {
	p, ok := message.Find[*message.EAP](ps)
	if !ok {
		s.refuseAuth(errEAPMissing(s))
		return
	}
	if a.round.EAP.Relay {
		s.relay(a, p.Data)
		return
	}
	server := s.eap.end.(*eap.Server)
	s.eapStep(a, server, server.Handle(p.Data))
}

// eapStep does what our server wants next.
func (s *ikeSA) eapStep(a *authentication, server *eap.Server, st eap.Step) {
	c := s.eap
	switch {
	case !s.seat():
		s.refuseWith(message.NoAdditionalSAs, errTooManyLogins())
	case st.Work != nil:
		s.eapWork(c, st.Work, func(st eap.Step) { s.eapStep(a, server, st) })
	case st.Vouch != nil:
		s.eapVouch(c, a.round.Revocation, st.Vouch, func(st eap.Step) { s.eapStep(a, server, st) })
	case st.Lookup != "":
		name := a.userName(st.Lookup)
		s.ask(Account{SA: s.id(), Connection: s.conn.Name, Name: name}, func(r Reply) {
			if s.eap != c {
				return
			}
			got, _ := r.(AccountReply)
			s.eapStep(a, server, server.Account(got.Account))
		})
	case st.Done && st.Err != nil:
		s.refuseEAP(a, st.Send, errEAP(s, st.Err))
	case st.Done:
		s.succeed(c)
		c.identity = a.userName(server.Identity())
		s.answerRound(a, false, &message.EAP{Data: st.Send})
	default:
		s.answerRound(a, false, &message.EAP{Data: st.Send})
	}
}

// userName is the name of an account as the connection wants it.
func (a *authentication) userName(name string) string {
	if a.round.EAP.StripDomain {
		return eap.BareName(name)
	}
	return name
}

// eapReason is why a peer that leaves has failed, as far as our server knows.
func (s *ikeSA) eapReason() error {
	if s.eap == nil {
		return nil
	}
	server, ok := s.eap.end.(*eap.Server)
	if !ok {
		return nil
	}
	return server.Reason()
}

// refuseEAP answers EAP-Failure. No error notify is beside it: clients would show that
// instead.
func (s *ikeSA) refuseEAP(a *authentication, failure []byte, err *Error) {
	if len(failure) == 0 {
		s.refuseAuth(err)
		return
	}
	err.Notify = message.AuthenticationFailed
	s.answerRound(a, false, &message.EAP{Data: failure})
	s.linger(err.What, err)
}

// relay passes an EAP packet of the peer on, once it has given a name.
func (s *ikeSA) relay(a *authentication, packet []byte) {
	c := s.eap
	if packet[0] != eapResponse {
		s.refuseEAP(a, resultOf(packet, false), errEAP(s, errNoResponse))
		return
	}
	if c.identity == "" {
		// Code, identifier, length and type stand before the name (RFC 3748 §5.1).
		if len(packet) < 6 || packet[1] != c.id || packet[4] != byte(eap.TypeIdentity) {
			s.refuseAuth(errEAPMissing(s))
			return
		}
		c.identity = string(packet[5:])
	}
	s.ask(Relay{SA: s.id(), Connection: s.conn.Name, Path: s.path, Identity: c.identity, Packet: packet}, func(r Reply) {
		if s.eap != c {
			return
		}
		got, ok := r.(Relayed)
		if !ok {
			got.Err = errWrongReply
		}
		answer := got.Packet
		switch {
		case got.Err != nil:
			s.refuseEAP(a, resultOf(packet, false), errRelay(s, got.Err))
			return
		case got.Reject:
			if len(answer) == 0 {
				answer = resultOf(packet, false)
			}
			s.refuseEAP(a, answer, errRelayRejected(s, c.identity))
			return
		case got.Accept:
			if len(answer) == 0 || answer[0] != eapSuccess {
				answer = resultOf(packet, true)
			}
			c.over, c.msk = true, got.MSK
			if got.Identity != "" {
				c.identity = got.Identity
			}
			c.identity = a.userName(c.identity)
		case len(answer) < 5 || answer[0] != 1:
			s.refuseEAP(a, resultOf(packet, false), errRelay(s, errNoRequest))
			return
		}
		s.answerRound(a, false, &message.EAP{Data: answer})
	})
}

// resultOf is EAP-Success or EAP-Failure to a response (RFC 3748 §4.2).
func resultOf(response []byte, success bool) []byte {
	code := byte(eapFailure)
	if success {
		code = eapSuccess
	}
	return []byte{code, response[1], 0, 4}
}

// eapProven takes the peer's AUTH after EAP. From here on it is the user that logged in,
// whatever IDi says: Windows puts its private address there.
func (s *ikeSA) eapProven(a *authentication, ps []message.Payload) {
	auth, _ := message.Find[*message.Auth](ps)
	err := s.verifyWithPPK(a.round, s.conn, auth, ps, func(auth *message.Auth) *Error { return s.checkEAPAuth(a.idi, auth) })
	if err == nil && len(s.eap.msk) == 0 && s.eapOnly(a) {
		err = errEAPOnlyUnsafe()
	}
	if err == nil {
		s.remote, a.eapIdentity = eapIdentity(s.eap.identity), s.eap.identity
		if !a.round.ID.Match(s.remote) {
			err = errIdentity(s, s.remote, a.round.ID)
		}
	}
	if err == nil {
		err = s.follows(a.round, ps)
	}
	if err != nil {
		s.refuseAuth(err)
		return
	}
	a.proof = []message.Payload{s.eapAuth(false, a.id)}
	s.stopEAP()
	s.passed(a)
}

// eapConnection finds the connection of a peer that begins EAP: its IDi says nothing
// about the user yet.
func (s *ikeSA) eapConnection(a *authentication) (*Connection, *Error) {
	for _, c := range s.suited(a) {
		if c.Remote.Method != AuthEAP {
			continue
		}
		if c.PPKRequired && !s.supports(extPPK) {
			return nil, errPPKMissing(s)
		}
		return c, nil
	}
	return nil, errWantsEAP(s)
}

// eapOnly tells whether our own proof can wait for the end of EAP (RFC 5998 §3). A peer that
// asks for it gets it only where every method that we offer allows it.
func (s *ikeSA) eapOnly(a *authentication) bool {
	if a.round == nil || a.round.Method != AuthEAP || !s.supports(extEAPOnly) || !s.conn.EAPOnly {
		return false
	}
	r := &a.round.EAP
	return r.Relay || len(mutualOnly(r.Methods)) == len(r.Methods)
}
