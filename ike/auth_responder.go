package ike

import (
	"slices"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// authentication is IKE_AUTH on the responder, over all its rounds: verified, admitted,
// signed, answered.
type authentication struct {
	wanted   pki.Identity // IDr of the request, or zero
	child    *childRequest
	config   *message.Config
	initial  bool
	wantIPv4 bool
	wantIPv6 bool

	round    *Remote           // what the peer has to pass now
	idi      *message.ID       // its, in this round
	id       *message.ID       // ours; nil before our first answer
	proof    []message.Payload // of our identity, for the next answer
	refused  *Error            // why there will be no child, where that is known early
	answered bool              // our first answer has gone out

	eapIdentity string // who the peer is by EAP; empty without
}

// authRequest takes IKE_AUTH of an initiator (RFC 7296 §1.2, §2.15).
func (s *ikeSA) authRequest(ps []message.Payload) {
	s.takeCrashToken(ps)
	if s.auth == nil {
		s.firstAuthRequest(ps)
		return
	}
	s.nextRound(ps)
}

func (s *ikeSA) firstAuthRequest(ps []message.Payload) {
	idi := message.FindID(ps, false)
	auth, _ := message.Find[*message.Auth](ps)
	child, ok := s.readFirstChild(ps)
	if idi == nil || !ok {
		s.badRequest(errMissing("IKE_AUTH without IDi, SA, TSi or TSr"))
		return
	}
	a := &authentication{
		idi: idi, child: child,
		config:  findConfig(ps, message.ConfigRequest),
		initial: message.FindNotify(ps, message.InitialContact) != nil,
	}
	if idr := message.FindID(ps, true); idr != nil {
		a.wanted = identityOf(idr)
	}
	s.auth = a
	if fromWindows(a.config) {
		s.exts |= extWindows
	}
	s.readAuthOffers(ps)
	s.readCertReqs(ps)
	s.remote = identityOf(idi)
	if s.resumed != nil {
		if err := s.authenticateResumed(a, auth, ps); err != nil {
			s.refuseAuth(err)
			return
		}
		s.passed(a)
		return
	}
	var conn *Connection
	var err *Error
	if auth == nil {
		conn, err = s.eapConnection(a)
	} else {
		conn, err = s.authenticate(a, auth, ps)
	}
	if err != nil {
		s.refuseAuth(err)
		return
	}
	s.conn, a.round = conn, &conn.Remote
	if auth == nil {
		s.beginEAP(a)
		return
	}
	s.passed(a)
}

// nextRound takes every request behind the first: the rest of EAP, or a further round
// (RFC 4739 §2.2).
func (s *ikeSA) nextRound(ps []message.Payload) {
	a := s.auth
	if s.eap != nil && !s.eap.over {
		s.eapResponse(a, ps)
		return
	}
	if s.eap != nil {
		s.eapProven(a, ps)
		return
	}
	auth, _ := message.Find[*message.Auth](ps)
	idi := message.FindID(ps, false)
	if idi == nil {
		s.badRequest(errMissing("a further round of IKE_AUTH without IDi"))
		return
	}
	a.idi, s.remote = idi, identityOf(idi)
	if auth == nil {
		if a.round.Method != AuthEAP {
			s.refuseAuth(errWantsEAP(s))
			return
		}
		s.beginEAP(a)
		return
	}
	if err := s.verifyRound(a.round, s.conn, a.idi, auth, ps); err != nil {
		s.refuseAuth(err)
		return
	}
	s.passed(a)
}

// verifyRound checks the AUTH payload of a round, and what the request says of further
// ones.
func (s *ikeSA) verifyRound(r *Remote, c *Connection, idi *message.ID, auth *message.Auth, ps []message.Payload) *Error {
	return s.verifyWithPPK(r, c, auth, ps, func(auth *message.Auth) *Error {
		if err := s.verifyPeer(r, c, idi, auth, ps); err != nil {
			return err
		}
		return s.follows(r, ps)
	})
}

// follows tells whether the peer says, as it has to, that another round follows this
// one, or that none does.
func (s *ikeSA) follows(r *Remote, ps []message.Payload) *Error {
	if announced := message.FindNotify(ps, message.AnotherAuthFollows) != nil; announced != (r.Next != nil) {
		return errRounds(s, announced)
	}
	return nil
}

// verifyPeer checks the AUTH payload of a round.
func (s *ikeSA) verifyPeer(r *Remote, c *Connection, idi *message.ID, auth *message.Auth, ps []message.Payload) *Error {
	check, err := checkerOf(r)
	if err != nil {
		return err
	}
	return check.check(s, r, &peerProof{
		id: identityOf(idi), auth: auth, ps: ps, strict: c.StrictSignatures, octets: s.signedOctets(true, idi),
	})
}

// passed asks, when the peer has passed a round, whether its certificates are revoked.
func (s *ikeSA) passed(a *authentication) {
	s.vouch(func(err *Error) {
		if err != nil {
			s.refuseAuth(err)
			return
		}
		s.goOn(a)
	})
}

// goOn leads to the next round, or into the house.
func (s *ikeSA) goOn(a *authentication) {
	if a.round.Next == nil {
		if !s.redirectAuth(a) {
			s.admit(a)
		}
		return
	}
	a.round = a.round.Next
	s.sign(a, func() { s.answerRound(a, false) })
}

// answerRound sends what is to be proven of us, then ps, then the notifies of this answer.
func (s *ikeSA) answerRound(a *authentication, last bool, ps ...message.Payload) {
	all := append(a.proof, ps...)
	all = append(all, s.authAnswers(!a.answered, last)...)
	a.proof, a.answered = nil, true
	s.respond(all...)
}

// refuseAuth answers that the peer may not come in. The SA stays only to repeat that.
func (s *ikeSA) refuseAuth(err *Error) { s.refuseWith(message.AuthenticationFailed, err) }

func (s *ikeSA) refuseWith(n message.NotifyType, err *Error) {
	err.Notify = n
	s.respond(notify(n))
	s.linger(err.What, err)
}

// authenticate finds the connection that the peer belongs to: of those for its
// address and algorithms, those that have the identity it asks for go first (which it
// may leave out, as Windows does); the first whose demands it fulfils is taken. Which
// one it would have been tells the error.
func (s *ikeSA) authenticate(a *authentication, auth *message.Auth, ps []message.Payload) (*Connection, *Error) {
	var best *Error
	for _, c := range s.suited(a) {
		err := s.verifyRound(&c.Remote, c, a.idi, auth, ps)
		if err == nil {
			return c, nil
		}
		if best == nil || telling(err) > telling(best) {
			best = err
		}
	}
	if best == nil {
		best = errIdentity(s, s.remote, pki.Identity{})
	}
	return nil, best
}

// suited lists the candidates that can have the algorithms that were chosen, those with
// the identity that the peer asks for first.
func (s *ikeSA) suited(a *authentication) []*Connection {
	out := slices.DeleteFunc(slices.Clone(s.candidates), func(c *Connection) bool {
		return !slices.ContainsFunc(c.Proposals, s.suite.Narrows)
	})
	slices.SortStableFunc(out, func(x, y *Connection) int {
		return boolInt(!serves(x, a.wanted)) - boolInt(!serves(y, a.wanted))
	})
	return out
}

// telling ranks errors: the one from the connection whose demands were met furthest
// says most.
func telling(e *Error) int {
	switch e.Code {
	case CodeAuthMethod:
		return 0
	case CodeIdentity, CodePPK:
		return 1
	default:
		return 2
	}
}

// serves tells whether a connection may answer as the identity that the peer wants.
func serves(c *Connection, wanted pki.Identity) bool {
	switch {
	case wanted.IsZero() || c.Local.ID == wanted:
		return true
	case !c.Local.ID.IsZero():
		return c.Local.ID.Match(wanted)
	}
	return slices.ContainsFunc(c.Local.Credentials, func(x *pki.Credential) bool {
		return pki.MatchCert(wanted, x.Cert) == nil
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// admit asks the runner whether the peer may come in.
func (s *ikeSA) admit(a *authentication) {
	ipv4, ipv6 := wants(a.config)
	a.wantIPv4, a.wantIPv6 = ipv4, ipv6
	q := Admit{
		SA: s.id(), Connection: s.conn.Name, Identity: s.remote, EAPIdentity: a.eapIdentity, Claimed: identityOf(a.idi), Path: s.path,
		Wanted: named(a.config), WantIPv4: ipv4 && s.conn.Lease, WantIPv6: ipv6 && s.conn.Lease, InitialContact: a.initial,
	}
	if s.resumed != nil {
		q.Ticket, q.Binding = s.resumed.id, s.resumed.binding
	}
	s.ask(q, func(r Reply) {
		got, ok := r.(Admission)
		switch {
		case !ok:
			s.refuseAuth(errInternal(errWrongReply.Error()))
			return
		case got.Refuse != "" && got.Notify == message.InternalAddressFailure:
			a.refused = errLease(got.Refuse)
		case got.Refuse != "":
			n := got.Notify
			if n == 0 {
				n = message.AuthenticationFailed
			}
			s.refuseWith(n, errNotAdmitted(got.Refuse))
			return
		case (ipv4 || ipv6) && len(got.Lease.Addresses) == 0:
			a.refused = errLease("no address is given out on connection " + s.conn.Name)
		}
		s.lease, s.authLifetime, s.barred = got.Lease, s.authLifetimeOf(got.Lifetime), got.Barred
		s.noTicket, s.binding = got.NoTicket, got.Binding
		s.sign(a, func() { s.answerAuth(a) })
	})
}

// sign makes our own proof, with the first answer.
func (s *ikeSA) sign(a *authentication, then func()) {
	if a.id != nil {
		then()
		return
	}
	local := &s.conn.Local
	if s.resumed != nil {
		local = &Local{Method: authResumed}
	}
	p, err := proofOf(s.conn, local)
	if err == nil {
		s.local, err = p.identity(s, a.wanted)
	}
	if err != nil {
		s.refuseAuth(err)
		return
	}
	a.id = idPayload(true, s.local)
	switch {
	case s.eapOnly(a):
		a.proof = []message.Payload{a.id}
		then()
		return
	case local.Method == AuthEAP:
		s.refuseAuth(errEAPOnlyDemanded(s))
		return
	}
	p.prove(s, s.signedOctets(false, a.id), func(auth []message.Payload, err *Error) {
		if err != nil {
			s.refuseAuth(err)
			return
		}
		a.proof = append([]message.Payload{a.id}, auth...)
		then()
	})
}

// answerAuth opens the SA and its first child. The child is installed before the
// answer is sent, so that nothing that the peer sends on it is lost. Where only the
// child fails the IKE SA stands (RFC 7296 §1.2).
func (s *ikeSA) answerAuth(a *authentication) {
	ps, up := s.answerFirstChild(a)
	s.answerRound(a, true, ps...)
	s.establish()
	up()
	s.startNext()
}
