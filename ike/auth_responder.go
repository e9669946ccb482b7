package ike

import (
	"slices"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// admission is an IKE_AUTH request on its way through the responder: verified,
// admitted, signed, answered.
type admission struct {
	idi      *message.ID
	wanted   pki.Identity // IDr of the request, or zero
	child    *childRequest
	config   *message.Config
	id       *message.ID // ours
	answer   *childAnswer
	num      uint8 // of the proposal chosen for the child
	refused  *Error
	initial  bool
	wantIPv4 bool
	wantIPv6 bool
}

// authRequest takes IKE_AUTH of an initiator (RFC 7296 §1.2, §2.15).
func (s *ikeSA) authRequest(ps []message.Payload) {
	idi := message.FindID(ps, false)
	auth, _ := message.Find[*message.Auth](ps)
	child, ok := readChildRequest(ps, true)
	if idi == nil || !ok {
		s.badRequest(errMissing("IKE_AUTH without IDi, SA, TSi or TSr"))
		return
	}
	a := &admission{
		idi: idi, child: child,
		config:  findConfig(ps, message.ConfigRequest),
		initial: message.FindNotify(ps, message.InitialContact) != nil,
	}
	if idr := message.FindID(ps, true); idr != nil {
		a.wanted = identityOf(idr)
	}
	if message.FindNotify(ps, message.MOBIKESupported) != nil {
		s.exts |= extMOBIKE
	}
	if message.FindNotify(ps, message.EAPOnlyAuthentication) != nil {
		s.exts |= extEAPOnly
	}
	s.caHashes = readCertReqs(ps)
	s.remote = identityOf(idi)
	if auth == nil {
		s.refuseAuth(errWantsEAP(s))
		return
	}
	conn, err := s.authenticate(a, auth, ps)
	if err != nil {
		s.refuseAuth(err)
		return
	}
	s.conn = conn
	s.admit(a)
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
func (s *ikeSA) authenticate(a *admission, auth *message.Auth, ps []message.Payload) (*Connection, *Error) {
	candidates := slices.DeleteFunc(slices.Clone(s.candidates), func(c *Connection) bool {
		return !slices.ContainsFunc(c.Proposals, s.suite.Narrows)
	})
	slices.SortStableFunc(candidates, func(x, y *Connection) int {
		return boolInt(!serves(x, a.wanted)) - boolInt(!serves(y, a.wanted))
	})
	p := &peerProof{
		id: s.remote, auth: auth, ps: ps,
		octets: SignedOctets(s.prf, s.realI, s.nr, s.keys.Pi, a.idi.Body()),
	}
	var best *Error
	for _, c := range candidates {
		p.strict = c.StrictSignatures
		check, err := checkerOf(&c.Remote)
		if err == nil {
			err = check.check(s, &c.Remote, p)
		}
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

// telling ranks errors: the one from the connection whose demands were met furthest
// says most.
func telling(e *Error) int {
	switch e.Code {
	case CodeAuthMethod:
		return 0
	case CodeIdentity:
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
func (s *ikeSA) admit(a *admission) {
	ipv4, ipv6 := wants(a.config)
	a.wantIPv4, a.wantIPv6 = ipv4, ipv6
	s.ask(Admit{
		SA: s.id(), Connection: s.conn.Name, Identity: s.remote, Path: s.path,
		WantIPv4: ipv4 && s.conn.Lease, WantIPv6: ipv6 && s.conn.Lease, InitialContact: a.initial,
	}, func(r Reply) {
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
		s.lease = got.Lease
		s.sign(a)
	})
}

// sign makes our own AUTH.
func (s *ikeSA) sign(a *admission) {
	p, err := proofOf(s.conn)
	if err == nil {
		s.local, err = p.identity(s, a.wanted)
	}
	if err != nil {
		s.refuseAuth(err)
		return
	}
	a.id = idPayload(true, s.local)
	octets := SignedOctets(s.prf, s.realR, s.ni, s.keys.Pr, a.id.Body())
	p.prove(s, octets, func(auth []message.Payload, err *Error) {
		if err != nil {
			s.refuseAuth(err)
			return
		}
		s.answerAuth(a, auth)
	})
}

// answerAuth opens the SA and its first child. The child is installed before the
// answer is sent, so that nothing that the peer sends on it is lost. Where only the
// child fails the IKE SA stands (RFC 7296 §1.2).
func (s *ikeSA) answerAuth(a *admission, auth []message.Payload) {
	ps := append([]message.Payload{a.id}, auth...)
	var c *Child
	failed := a.refused
	if failed == nil {
		a.answer, a.num, failed = s.answerChild(a.child)
	}
	if failed == nil {
		if c, failed = s.keyedChild(a.answer, false, nil, s.ni, s.nr); failed != nil {
			s.e.releaseESPSPI(a.answer.spiIn)
		}
	}
	if failed != nil {
		ps = append(ps, notify(failed.Notify))
	} else {
		if a.wantIPv4 || a.wantIPv6 {
			ps = append(ps, configReply(s.lease))
		}
		ps = append(ps, a.answer.payloads(a.num)...)
		s.install(c, a.answer)
	}
	s.respond(ps...)
	s.establish()
	if failed != nil {
		s.childFailed("", failed)
		return
	}
	s.childUp(c, a.answer)
	s.startNext()
}
