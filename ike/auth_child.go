package ike

import (
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// purpose is what a connection was opened for, if that is known: a child, and a packet.
type purpose struct {
	child  string
	packet Packet
}

// firstChild is the child that is opened with the IKE SA.
func (s *ikeSA) firstChild() *ChildConfig {
	c := s.conn
	if len(c.Children) == 0 {
		return nil
	}
	if wanted := s.configOf(s.purpose.child); wanted != nil {
		return wanted
	}
	if i := slices.IndexFunc(c.Children, func(x *ChildConfig) bool { return !x.OnRequest }); i >= 0 {
		return c.Children[i]
	}
	return c.Children[0]
}

// firstChild takes the child of IKE_AUTH on the initiator. Without it an SA that we
// opened is of no use.
func (t *authTask) firstChild(s *ikeSA, ps []message.Payload) {
	if t.offer == nil {
		t.withoutChild(s, ps)
		return
	}
	a, err := t.childAnswer(s, ps)
	switch {
	case err == nil:
	case err.Remote && refusesSelectors(err.Notify) && (len(t.offer.tsi) > 1 || len(t.offer.tsr) > 1):
		t.firstChildAlone(s, err.Notify)
		return
	default:
		t.useless(s, err)
		return
	}
	s.placeInGroup(a)
	c, err := s.keyedChild(a, true, nil, s.ni, s.nr)
	if err != nil {
		t.useless(s, err)
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
			t.useless(s, errHost(done.Err))
			return
		case slices.Contains(s.early, a.spiOut):
			t.useless(s, errChildDeleted(a))
			return
		}
		t.offer = nil
		kept := s.install(c, a)
		if s.replaces == nil {
			// The peer has this one, which of another is not sure: it may have called at the same
			// time, and not know yet that it has an SA.
			s.e.do(Switch{Child: c.ID})
		}
		s.childUp(c, a, 0)
		s.setOf(a.cfg).more = a.more
		s.openMore(a.cfg)
		s.fill(kept)
		s.openRest(a.cfg)
		s.done()
	})
}

// firstChildAlone opens the first child by a request of its own: the peer takes one pair of
// selectors for an SA, or none of those that came together.
func (t *authTask) firstChildAlone(s *ikeSA, why message.NotifyType) {
	next := &createTask{cfg: t.offer.cfg, packet: s.purpose.packet, further: true, first: true}
	t.releaseOffer(s)
	next.single(s, why)
	s.ask(Configure{SA: s.id(), Connection: s.conn.Name, Lease: s.lease}, func(r Reply) {
		done, ok := r.(Configured)
		if !ok {
			done.Err = errWrongReply
		}
		switch {
		case s.state != stateEstablished: // about to be deleted
		case done.Err != nil:
			s.childFailed(next.cfg.Name, errHost(done.Err))
			s.abandon(errHost(done.Err), &message.Delete{Protocol: suite.ProtocolIKE})
			return
		default:
			s.enqueue(next)
			s.openRest(next.cfg)
		}
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

// useless ends an SA whose only child could not be opened.
func (t *authTask) useless(s *ikeSA, err *Error) {
	s.childFailed(t.offer.cfg.Name, err)
	s.abandon(err, &message.Delete{Protocol: suite.ProtocolIKE})
}

// answerFirstChild makes and installs the child of IKE_AUTH on the responder and returns what
// the answer says of it; up is called when the SA stands, to report it.
func (s *ikeSA) answerFirstChild(a *authentication) (ps []message.Payload, up func()) {
	var reply []message.Payload
	if a.wantIPv4 || a.wantIPv6 {
		reply = append(reply, configReply(s.lease, a.config))
	}
	if a.child == nil && a.refused == nil {
		return reply, func() {}
	}
	answer, num, failed := (*childAnswer)(nil), uint8(0), a.refused
	if failed == nil {
		answer, num, failed = s.answerChild(a.child)
	}
	var c *Child
	if failed == nil {
		s.placeInGroup(answer)
		if c, failed = s.keyedChild(answer, false, nil, s.ni, s.nr); failed != nil {
			s.e.releaseESPSPI(answer.spiIn)
		}
	}
	if failed != nil {
		return []message.Payload{notify(failed.Notify)}, func() { s.childFailed("", failed) }
	}
	s.install(c, answer)
	return append(reply, answer.payloads(num)...), func() { s.childUp(c, answer, 0) }
}

// openRest opens the other children that belong to the connection from the start.
func (s *ikeSA) openRest(first *ChildConfig) {
	for _, cfg := range s.conn.Children {
		if wanted := cfg.Name == s.purpose.child; (first == nil || cfg.Name != first.Name) && (wanted || !cfg.OnRequest) {
			t := &createTask{cfg: cfg}
			if wanted {
				t.packet = s.purpose.packet
			}
			s.enqueue(t)
		}
	}
}
