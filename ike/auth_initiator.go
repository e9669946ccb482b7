package ike

import (
	"slices"
	"strings"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// authTask is IKE_AUTH of the initiator, with the first child
// (RFC 7296 §1.2, §2.15).
type authTask struct {
	offer *childOffer
	id    *message.ID // ours
}

func (*authTask) priority() priority { return prioSetup }

func (t *authTask) start(s *ikeSA) {
	p, err := proofOf(s.conn)
	if err != nil {
		s.close(err.What, err)
		return
	}
	if s.local, err = p.identity(s, pki.Identity{}); err != nil {
		s.close(err.What, err)
		return
	}
	cfg := firstChild(s.conn)
	if cfg == nil {
		err := errInternal("connection " + s.conn.Name + " has no child")
		s.close(err.What, err)
		return
	}
	t.id = idPayload(false, s.local)
	octets := SignedOctets(s.prf, s.realI, s.nr, s.keys.Pi, t.id.Body())
	p.prove(s, octets, func(auth []message.Payload, err *Error) {
		if err != nil {
			s.close(err.What, err)
			return
		}
		t.offer = s.offerChild(cfg, false)
		s.request(message.IKEAuth, t.payloads(s, auth)...)
	})
}

// payloads is the request; auth is CERT and AUTH.
func (t *authTask) payloads(s *ikeSA, auth []message.Payload) []message.Payload {
	ps := []message.Payload{t.id}
	if s.isOnlySA() {
		ps = append(ps, notify(message.InitialContact))
	}
	ps = append(ps, auth[:len(auth)-1]...)
	if req := certReq([]*Connection{s.conn}); req != nil {
		ps = append(ps, req)
	}
	if want := s.conn.Remote.ID; concrete(want) {
		ps = append(ps, idPayload(true, want))
	}
	ps = append(ps, auth[len(auth)-1])
	if cp := configRequest(s.conn); cp != nil {
		ps = append(ps, cp)
	}
	return append(ps, t.offer.payloads()...)
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

// firstChild is the child that is opened with the IKE SA.
func firstChild(c *Connection) *ChildConfig {
	if len(c.Children) == 0 {
		return nil
	}
	if i := slices.IndexFunc(c.Children, func(x *ChildConfig) bool { return !x.OnRequest }); i >= 0 {
		return c.Children[i]
	}
	return c.Children[0]
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
	idr := message.FindID(ps, true)
	if n := message.FindError(ps); n != nil && auth == nil {
		err := errAuthRefused(s, n)
		s.close(err.What, err)
		return
	}
	if _, eap := message.Find[*message.EAP](ps); eap || auth == nil || idr == nil {
		err := errAuthIncomplete(eap)
		s.abandon(err, notify(message.AuthenticationFailed))
		return
	}
	s.remote = identityOf(idr)
	check, err := checkerOf(&s.conn.Remote)
	if err == nil {
		err = check.check(s, &s.conn.Remote, &peerProof{
			id: s.remote, auth: auth, ps: ps, strict: s.conn.StrictSignatures,
			octets: SignedOctets(s.prf, s.realR, s.ni, s.keys.Pr, idr.Body()),
		})
	}
	if err != nil {
		// RFC 7296 §2.21.2: the responder believes that the SA stands.
		s.abandon(err, notify(message.AuthenticationFailed))
		return
	}
	s.lease = readConfig(s.conn, findConfig(ps, message.ConfigReply))
	s.establish()
	t.firstChild(s, ps)
}

// firstChild takes the child of IKE_AUTH. Without it an SA that we opened is of no
// use.
func (t *authTask) firstChild(s *ikeSA, ps []message.Payload) {
	a, err := t.childAnswer(s, ps)
	if err != nil {
		t.giveUp(s, err)
		return
	}
	c, err := s.keyedChild(a, true, nil, s.ni, s.nr)
	if err != nil {
		t.giveUp(s, err)
		return
	}
	s.ask(Configure{SA: s.id(), Connection: s.conn.Name, Lease: s.lease, Children: []ChildInfo{c.ChildInfo}}, func(r Reply) {
		done, ok := r.(Configured)
		if !ok {
			done.Err = errWrongReply
		}
		switch {
		case s.state != stateEstablished: // about to be deleted
			t.releaseOffer(s)
			s.done()
			return
		case done.Err != nil:
			t.giveUp(s, errHost(done.Err))
			return
		case slices.Contains(s.early, a.spiOut):
			t.giveUp(s, errChildDeleted(a))
			return
		}
		t.offer = nil
		s.install(c, a)
		s.childUp(c, a)
		s.openRest(a.cfg)
		s.done()
	})
}

func (t *authTask) childAnswer(s *ikeSA, ps []message.Payload) (*childAnswer, *Error) {
	if n := message.FindError(ps); n != nil {
		return nil, errChildRefused(s, t.offer, n)
	}
	if (s.conn.RequestIPv4 || s.conn.RequestIPv6) && len(s.lease.Addresses) == 0 {
		return nil, errNoAddress(s)
	}
	return s.acceptAnswer(t.offer, ps)
}

// giveUp ends an SA whose only child could not be opened.
func (t *authTask) giveUp(s *ikeSA, err *Error) {
	s.childFailed(t.offer.cfg.Name, err)
	s.abandon(err, &message.Delete{Protocol: suite.ProtocolIKE})
}

// openRest opens the other children that belong to the connection from the start.
func (s *ikeSA) openRest(first *ChildConfig) {
	for _, cfg := range s.conn.Children {
		if cfg != first && !cfg.OnRequest {
			s.enqueue(&createTask{cfg: cfg})
		}
	}
}
