package ike

import (
	"cmp"

	"martlet/ike/eap"
	"martlet/ike/message"
)

// EAP on the initiator (RFC 7296 §2.16). Nothing of it is answered before the gateway has
// proven who it is, unless it is to do so by EAP alone (RFC 5998 §3).

// eapPacket takes the gateway's next EAP packet.
func (t *authTask) eapPacket(s *ikeSA, packet []byte) {
	c := s.eap
	c.refused = packet[0] == eapFailure
	if c.end != nil {
		t.eapStep(s, c.end.Handle(packet))
		return
	}
	t.credential(s, func(user string, r CredentialReply) {
		if s.eap != c {
			return
		}
		cfg, err := t.peerConfig(s, user, r)
		if err != nil {
			t.giveUp(s, err)
			return
		}
		c.end = eap.NewPeer(cfg)
		t.eapStep(s, c.end.Handle(packet))
	})
}

// credential gets name and password, from a person where the configuration has none.
func (t *authTask) credential(s *ikeSA, then func(user string, r CredentialReply)) {
	p := &t.round.EAP
	have := CredentialReply{User: p.User, Password: p.Password}
	if !needsPassword(p.Methods) || p.User != "" && len(p.Password) > 0 {
		then(p.User, have)
		return
	}
	s.ask(Credential{SA: s.id(), Connection: s.conn.Name, Gateway: s.remote, User: p.User}, func(r Reply) {
		got, ok := r.(CredentialReply)
		switch {
		case !ok:
			t.giveUp(s, errInternal(errWrongReply.Error()))
		case got.Err != nil || len(got.Password) == 0 || cmp.Or(p.User, got.User) == "":
			t.giveUp(s, errNoPassword(s, got.Err))
		default:
			then(cmp.Or(p.User, got.User), got)
		}
	})
}

func needsPassword(methods []eap.Type) bool {
	for _, m := range methods {
		if m != eap.TypeTLS {
			return true
		}
	}
	return false
}

// peerConfig says in the words of package eap how we log in.
func (t *authTask) peerConfig(s *ikeSA, user string, r CredentialReply) (eap.PeerConfig, *Error) {
	p := &t.round.EAP
	cfg := eap.PeerConfig{
		Identity: p.Identity, Username: user, Password: r.Password,
		Methods: p.Methods, Inner: p.Inner,
		Verifier: p.Verifier, ServerName: p.ServerName, MinTLS: p.MinTLS, MaxTLS: p.MaxTLS,
		Revocation: s.conn.Remote.Revocation,
	}
	cfg.Verifier.Now = s.e.now
	if len(t.round.Credentials) > 0 {
		cfg.Credential = t.round.Credentials[0]
	}
	if t.proven {
		return cfg, nil
	}
	cfg.Methods = mutualOnly(cfg.Methods)
	if cfg.ServerName.IsZero() && concrete(s.conn.Remote.ID) {
		cfg.ServerName = s.conn.Remote.ID
	}
	if len(cfg.Methods) == 0 || cfg.ServerName.IsZero() {
		return cfg, errEAPOnlyUnsafe()
	}
	return cfg, nil
}

// eapStep does what the conversation wants next.
func (t *authTask) eapStep(s *ikeSA, st eap.Step) {
	c := s.eap
	switch {
	case !s.seat():
		t.giveUp(s, errTooManyLogins())
	case st.Work != nil:
		s.eapWork(c, st.Work, func(st eap.Step) { t.eapStep(s, st) })
	case st.Vouch != nil:
		s.eapVouch(c, s.conn.Remote.Revocation, st.Vouch, func(st eap.Step) { t.eapStep(s, st) })
	case st.Done && st.Err != nil:
		err := errEAP(s, st.Err)
		if c.refused {
			// The gateway has ended the SA, whoever of us found the fault.
			s.close(err.What, err)
			return
		}
		t.giveUp(s, err)
	case st.Done && !t.proven && (!c.end.Mutual() || len(c.end.MSK()) == 0):
		t.giveUp(s, errEAPOnlyUnsafe())
	case st.Done:
		s.succeed(c)
		t.proveEAP(s)
	default:
		s.request(message.IKEAuth, &message.EAP{Data: st.Send})
	}
}

// proveEAP sends our AUTH after EAP.
func (t *authTask) proveEAP(s *ikeSA) {
	sign := func(then func([]message.Payload, *Error)) { then([]message.Payload{s.eapAuth(true, t.id)}, nil) }
	send := func(auth, behind []message.Payload, _ *Error) {
		t.behind = behind
		s.request(message.IKEAuth, t.proof(s, nil, auth)...)
	}
	if t.round.Next != nil {
		sign(func(auth []message.Payload, err *Error) { send(auth, nil, err) })
		return
	}
	s.withPPK(sign, send)
}

// eapProven verifies the gateway's AUTH after EAP, which binds the conversation to this
// SA.
func (t *authTask) eapProven(s *ikeSA, auth *message.Auth) *Error {
	if err := s.checkEAPAuth(t.idr, auth); err != nil {
		return err
	}
	t.proven = true
	s.stopEAP()
	return nil
}
