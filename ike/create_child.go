package ike

import (
	"encoding/binary"
	"slices"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// acquire opens a child on demand.
func (e *Engine) acquire(ev Acquire) {
	var found *ikeSA
	e.all(func(s *ikeSA) {
		if s.conn != nil && s.conn.Name == ev.Connection && s.state == stateEstablished {
			found = s
		}
	})
	if found == nil {
		e.report(Warned{Connection: ev.Connection, Text: "child " + ev.Child + " is wanted, but its connection is not established"})
		return
	}
	e.enter("acquire", found)
	i := slices.IndexFunc(found.conn.Children, func(c *ChildConfig) bool { return c.Name == ev.Child })
	if i < 0 {
		e.report(Warned{SA: found.id(), Connection: ev.Connection, Text: "child " + ev.Child + " is wanted, but not configured"})
		return
	}
	cfg := found.conn.Children[i]
	has := slices.ContainsFunc(found.children, func(c *child) bool { return c.cfg == cfg && !c.deleting })
	if has || found.queued(func(t task) bool { c, ok := t.(*createTask); return ok && c.cfg == cfg }) {
		return
	}
	found.enqueue(&createTask{cfg: cfg})
}

// createTask opens a further child (RFC 7296 §1.3.1).
type createTask struct {
	cfg      *ChildConfig
	offer    *childOffer
	pair     kex.Initiator // nil without perfect forward secrecy
	ni       []byte
	restarts int
}

func (*createTask) priority() priority { return prioCreateChild }

func (t *createTask) start(s *ikeSA) {
	groups := usableKEs(t.cfg.Proposals)
	if len(groups) == 0 {
		t.send(s)
		return
	}
	t.keyAndSend(s, groups[0])
}

func (t *createTask) keyAndSend(s *ikeSA, group uint16) {
	s.generate(group, func(pair kex.Initiator, err error) {
		if err != nil {
			t.fail(s, errInternal(err.Error()))
			return
		}
		t.pair = pair
		t.send(s)
	})
}

func (t *createTask) send(s *ikeSA) {
	if s.state != stateEstablished { // about to be deleted
		t.releaseOffer(s)
		s.done()
		return
	}
	if t.offer == nil {
		t.offer = s.offerChild(t.cfg, true)
	}
	t.ni = newNonce()
	between := []message.Payload{&message.Nonce{Data: t.ni}}
	if t.pair != nil {
		between = append(between, &message.KE{Method: t.pair.Method(), Data: t.pair.Public()})
	}
	s.request(message.CreateChildSA, t.offer.payloads(between...)...)
}

func (t *createTask) releaseOffer(s *ikeSA) {
	if t.offer != nil {
		s.e.releaseESPSPI(t.offer.spi)
		t.offer = nil
	}
}

func (t *createTask) expired(s *ikeSA) { s.peerDead() }

func (t *createTask) fail(s *ikeSA, err *Error) {
	t.releaseOffer(s)
	s.childFailed(t.cfg.Name, err)
	s.done()
}

func (t *createTask) response(s *ikeSA, ps []message.Payload) {
	if n := message.FindNotify(ps, message.InvalidKEPayload); n != nil {
		t.otherGroup(s, n)
		return
	}
	if n := message.FindError(ps); n != nil {
		t.fail(s, errChildRefused(s, t.offer, n))
		return
	}
	nonce, ok := message.Find[*message.Nonce](ps)
	if !ok {
		t.undo(s, ps, errChildIncomplete())
		return
	}
	a, err := s.acceptAnswer(t.offer, ps)
	if err != nil {
		t.undo(s, ps, err)
		return
	}
	ke, _ := message.Find[*message.KE](ps)
	if group := a.suite.KE.ID; group == suite.KENone {
		t.finish(s, a, nil, nonce.Data)
	} else if t.pair == nil || ke == nil || ke.Method != group || t.pair.Method() != group {
		t.undo(s, ps, errChildIncomplete())
	} else {
		s.finish(t.pair, ke.Data, func(shared []byte, err error) {
			if err != nil {
				t.undo(s, ps, errKeyExchange(err))
				return
			}
			t.finish(s, a, shared, nonce.Data)
		})
	}
}

// finish puts the child into service.
func (t *createTask) finish(s *ikeSA, a *childAnswer, shared, nr []byte) {
	if slices.Contains(s.early, a.spiOut) {
		t.fail(s, errChildDeleted(a))
		return
	}
	c, err := s.keyedChild(a, true, shared, t.ni, nr)
	if err != nil {
		t.fail(s, err)
		return
	}
	t.offer = nil
	s.install(c, a)
	s.childUp(c, a)
	s.done()
}

// undo gives up a child that the peer has and we cannot take, and deletes it there.
func (t *createTask) undo(s *ikeSA, ps []message.Payload, err *Error) {
	spi := t.offer.spi
	t.fail(s, err)
	if sa, ok := message.Find[*message.SA](ps); ok && len(sa.Proposals) > 0 {
		s.enqueue(&deleteChildTask{spi: spi})
	}
}

// otherGroup tries again with the group that the peer wants (RFC 7296 §1.3).
func (t *createTask) otherGroup(s *ikeSA, n *message.Notify) {
	group, ok := groupOf(n)
	if !ok || t.pair == nil || group == t.pair.Method() || t.restarts == maxRestarts ||
		!slices.Contains(usableKEs(t.cfg.Proposals), group) {
		t.fail(s, errForeignGroup(s, group))
		return
	}
	t.restarts++
	t.keyAndSend(s, group)
}

// createChildRequest takes CREATE_CHILD_SA of the peer: a further child. Rekeying is
// refused in a way that leaves the SA as it is (RFC 7296 §1.3).
func (s *ikeSA) createChildRequest(ps []message.Payload) {
	if s.state != stateEstablished {
		s.respond(notify(message.TemporaryFailure)) // RFC 7296 §2.25
		return
	}
	sa, ok := message.Find[*message.SA](ps)
	nonce, hasNonce := message.Find[*message.Nonce](ps)
	if !ok || !hasNonce {
		s.badRequest(errMissing("CREATE_CHILD_SA without SA or Nonce"))
		return
	}
	if n := message.FindNotify(ps, message.RekeySA); n != nil {
		s.refuseRekey(n)
		return
	}
	if sa.Proposals[0].Protocol == suite.ProtocolIKE {
		s.respond(notify(message.NoAdditionalSAs))
		return
	}
	r, ok := readChildRequest(ps, false)
	if !ok {
		s.badRequest(errMissing("CREATE_CHILD_SA without TSi or TSr"))
		return
	}
	if len(s.children) >= maxChildren {
		err := errTooManyChildren()
		s.childFailed("", err)
		s.respond(notify(err.Notify))
		return
	}
	s.openRequested(r, ps, nonce.Data)
}

// refuseRekey answers a request to rekey a child. CHILD_SA_NOT_FOUND tells a peer that
// is out of step with us to delete what it has.
func (s *ikeSA) refuseRekey(n *message.Notify) {
	known := n.Protocol == suite.ProtocolESP && len(n.SPI) == 4 && s.childByOut(binary.BigEndian.Uint32(n.SPI)) != nil
	if known {
		s.respond(notify(message.NoAdditionalSAs))
		return
	}
	answer := notify(message.ChildSANotFound)
	if len(n.SPI) == 4 {
		answer.Protocol, answer.SPI = suite.ProtocolESP, n.SPI
	}
	s.respond(answer)
}

// openRequested narrows, exchanges keys where the peer wants it, installs and
// answers.
func (s *ikeSA) openRequested(r *childRequest, ps []message.Payload, ni []byte) {
	a, num, err := s.answerChild(r)
	if err != nil {
		s.childFailed("", err)
		s.respond(notify(err.Notify))
		return
	}
	ke, _ := message.Find[*message.KE](ps)
	group := a.suite.KE.ID
	switch {
	case group == suite.KENone:
		s.finishRequested(a, num, nil, nil, ni)
		return
	case ke == nil || ke.Method != group:
		s.e.releaseESPSPI(a.spiIn)
		s.respond(invalidKE(group))
		return
	case len(ke.Data) != kex.PublicLen(group):
		s.e.releaseESPSPI(a.spiIn)
		s.badRequest(errMissing("a KE payload of the wrong length"))
		return
	}
	s.promised = a.spiIn
	s.exchangeKeys(group, ke.Data, func(public, shared []byte, err error) {
		s.promised = 0
		if s.state != stateEstablished {
			s.e.releaseESPSPI(a.spiIn)
			s.respond(notify(message.TemporaryFailure))
			return
		}
		if err != nil {
			s.e.releaseESPSPI(a.spiIn)
			s.badRequest(err)
			return
		}
		s.finishRequested(a, num, &message.KE{Method: group, Data: public}, shared, ni)
	})
}

// finishRequested installs the child and then answers.
func (s *ikeSA) finishRequested(a *childAnswer, num uint8, ke *message.KE, shared, ni []byte) {
	nr := newNonce()
	c, err := s.keyedChild(a, false, shared, ni, nr)
	if err != nil {
		s.e.releaseESPSPI(a.spiIn)
		s.childFailed(a.cfg.Name, err)
		s.respond(notify(message.NoProposalChosen))
		return
	}
	s.install(c, a)
	between := []message.Payload{&message.Nonce{Data: nr}}
	if ke != nil {
		between = append(between, ke)
	}
	s.respond(a.payloads(num, between...)...)
	s.childUp(c, a)
}
