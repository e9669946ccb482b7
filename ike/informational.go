package ike

import (
	"cmp"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// informationalRequest takes INFORMATIONAL of the peer (RFC 7296 §1.4). An empty one
// is a liveness check. What is not known is ignored.
func (s *ikeSA) informationalRequest(ps []message.Payload) {
	if n := message.FindError(ps); n != nil && fatalNotify(n.Notify) {
		// RFC 7296 §2.21.2: what the initiator says that does not like our AUTH.
		s.respond()
		s.linger("the peer gave up", errPeerGaveUp(s, n))
		return
	}
	if n := message.FindNotify(ps, message.MSStatus); n != nil {
		s.warnWindows(n)
	}
	more := s.mobikeRequest(ps)
	var gone []*child
	for _, p := range ps {
		d, ok := p.(*message.Delete)
		if !ok {
			continue
		}
		if d.Protocol == suite.ProtocolIKE {
			s.respond()
			s.yield() // RFC 7296 §2.25.2: our own request to replace the SA is void
			s.linger("the peer deleted the SA", s.errDeleted())
			return
		}
		if d.Protocol != suite.ProtocolESP {
			continue
		}
		for _, spi := range d.SPIs {
			switch c := s.childByOut(spi); {
			case c == nil:
				s.deletedEarly(spi)
			case !slices.Contains(gone, c):
				gone = append(gone, c)
			}
		}
	}
	s.peerDeleted(gone, more)
	s.takeTicket(ps)
	s.limitedLater(ps)
	if n := message.FindNotify(ps, message.Redirect); n != nil {
		s.redirectedLater(n)
	}
}

// givenUp takes INFORMATIONAL between the rounds of IKE_AUTH. All that an initiator that is
// not verified may do by it is to go away.
func (s *ikeSA) givenUp(ps []message.Payload) {
	s.respond()
	if n := message.FindError(ps); n != nil && fatalNotify(n.Notify) {
		err := errPeerGaveUp(s, n)
		if why := s.eapReason(); why != nil {
			err = errEAP(s, why)
		}
		s.linger("the peer gave up", err)
		return
	}
	for _, p := range ps {
		if d, ok := p.(*message.Delete); ok && d.Protocol == suite.ProtocolIKE {
			var err *Error
			if why := s.eapReason(); why != nil {
				err = errEAP(s, why)
			}
			s.linger("the peer gave up", err)
			return
		}
	}
}

// fatalNotify tells whether an error in a request of the peer ends the SA.
func fatalNotify(t message.NotifyType) bool {
	return t == message.AuthenticationFailed || t == message.InvalidSyntax || t == message.UnsupportedCriticalPayload
}

// peerDeleted removes children that the peer deleted and answers with our half of
// each, but for those whose deletion we have asked for ourselves (RFC 7296 §1.4.1).
// The answer has more besides.
func (s *ikeSA) peerDeleted(gone []*child, more []message.Payload) {
	d := &message.Delete{Protocol: suite.ProtocolESP}
	for _, c := range gone {
		if !c.deleting {
			d.SPIs = append(d.SPIs, c.SPIIn)
		}
		if c.successor != nil {
			s.e.do(Switch{Child: c.successor.ID})
		}
		s.retire(c, "the peer deleted it")
	}
	if len(d.SPIs) == 0 {
		s.respond(more...)
		return
	}
	s.respond(append(more, d)...)
}

// deletedEarly notes that the peer deleted a child of which we do not know yet: the
// answer that opens it is late, or waits for the host.
func (s *ikeSA) deletedEarly(spi uint32) {
	if _, ok := s.active.(childOfferer); ok && len(s.early) < maxEarlyDeletes {
		s.early = append(s.early, spi)
	}
}

// childByOut finds a child by the SPI that the peer receives on.
func (s *ikeSA) childByOut(spi uint32) *child {
	for _, c := range s.children {
		if c.SPIOut == spi {
			return c
		}
	}
	return nil
}

// closeChild deletes one child.
func (e *Engine) closeChild(id ChildID) {
	c, ok := e.children[id]
	if !ok || c.deleting || c.sa.state != stateEstablished {
		return
	}
	e.enter("close child", c.sa)
	c.sa.enqueue(&deleteChildTask{spi: c.SPIIn, child: c})
}

// deleteChildTask deletes a child at the peer and then here; child is nil for one that
// never came to life here.
type deleteChildTask struct {
	spi        uint32 // inbound
	child      *child
	superseded bool // it is meant, and not the one that has its place by now
	reason     string
}

func (*deleteChildTask) priority() priority { return prioDeleteChild }

func (t *deleteChildTask) start(s *ikeSA) {
	if t.child != nil {
		for !t.superseded && t.child.successor != nil {
			t.child = t.child.successor
		}
		if t.child.sa != s || t.child.deleting {
			s.done()
			return
		}
		t.child.deleting = true
		t.spi = t.child.SPIIn
	}
	s.request(message.Informational, &message.Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{t.spi}})
}

func (t *deleteChildTask) response(s *ikeSA, _ []message.Payload) {
	if t.child != nil && t.child.sa == s {
		s.retire(t.child, cmp.Or(t.reason, "closed"))
	}
	s.done()
}

func (t *deleteChildTask) expired(s *ikeSA) { s.peerDead() }
