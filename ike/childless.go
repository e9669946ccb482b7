package ike

import (
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Childless is how a connection holds it with IKE SAs that are opened without a child, whose
// children come by CREATE_CHILD_SA, each with keys of its own (RFC 6023 §3).
type Childless uint8

const (
	ChildlessAllow  Childless = iota // to the peer; we open the first child with the IKE SA
	ChildlessPrefer                  // we do it where the peer can
	ChildlessForce                   // we open no other
	ChildlessNever                   // nor may the peer
)

// childless tells whether we open the SA without a child.
func (s *ikeSA) childless() bool {
	want := s.conn.Childless == ChildlessPrefer || s.conn.Childless == ChildlessForce
	return want && s.supports(extChildless)
}

// readFirstChild is the child of IKE_AUTH, nil where the initiator leaves it out and may.
func (s *ikeSA) readFirstChild(ps []message.Payload) (*childRequest, bool) {
	_, sa := message.Find[*message.SA](ps)
	if !sa && message.FindTS(ps, false) == nil && message.FindTS(ps, true) == nil {
		return nil, s.conn.Childless != ChildlessNever
	}
	return readChildRequest(ps, true)
}

// withoutChild goes on when the gateway has opened the SA without a child.
func (t *authTask) withoutChild(s *ikeSA, ps []message.Payload) {
	fail := func(err *Error) { s.abandon(err, &message.Delete{Protocol: suite.ProtocolIKE}) }
	if n := message.FindError(ps); n != nil {
		fail(errAuthRefused(s, n))
		return
	}
	if (s.conn.RequestIPv4 || s.conn.RequestIPv6) && len(s.lease.Addresses) == 0 {
		fail(errNoAddress(s))
		return
	}
	s.ask(Configure{SA: s.id(), Connection: s.conn.Name, Lease: s.lease}, func(r Reply) {
		done, ok := r.(Configured)
		if !ok {
			done.Err = errWrongReply
		}
		switch {
		case s.state != stateEstablished:
		case done.Err != nil:
			fail(errHost(done.Err))
			return
		default:
			s.openRest(nil)
		}
		s.done()
	})
}
