package ike

import (
	"encoding/binary"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// createChildRequest takes CREATE_CHILD_SA of the peer: a further child, one in place of
// another, or an IKE SA in place of this one.
func (s *ikeSA) createChildRequest(ps []message.Payload) {
	if s.state != stateEstablished {
		s.respond(notify(message.TemporaryFailure)) // RFC 7296 §2.25
		return
	}
	s.dropFollowUp()
	sa, ok := message.Find[*message.SA](ps)
	nonce, hasNonce := message.Find[*message.Nonce](ps)
	if !ok || !hasNonce {
		s.badRequest(errMissing("CREATE_CHILD_SA without SA or Nonce"))
		return
	}
	n := message.FindNotify(ps, message.RekeySA)
	if n == nil && sa.Proposals[0].Protocol == suite.ProtocolIKE {
		s.rekeyIKERequest(sa, nonce.Data, ps)
		return
	}
	o := &childOpening{ps: ps, ni: nonce.Data}
	if n != nil {
		if o.old = s.rekeyed(n); o.old == nil {
			s.refuseRekey(n)
			return
		}
	}
	if why := o.refusal(s); why != 0 {
		s.respond(notify(why))
		return
	}
	r, ok := readChildRequest(ps, false)
	if !ok {
		s.badRequest(errMissing("CREATE_CHILD_SA without TSi or TSr"))
		return
	}
	if len(s.children) >= maxChildren && o.old == nil {
		err := errTooManyChildren()
		s.childFailed("", err)
		s.respond(notify(err.Notify))
		return
	}
	o.answer(s, r)
}

// rekeyed is the child that REKEY_SA names, or nil. Its fields may be anything.
func (s *ikeSA) rekeyed(n *message.Notify) *child {
	if n.Protocol != suite.ProtocolESP || len(n.SPI) != 4 {
		return nil
	}
	return s.childByOut(binary.BigEndian.Uint32(n.SPI))
}

// refuseRekey answers a request to rekey a child that is not there. CHILD_SA_NOT_FOUND
// tells a peer that is out of step with us to delete what it has.
func (s *ikeSA) refuseRekey(n *message.Notify) {
	// It may be the one that we are opening: the answer that tells us is late.
	if _, opening := s.active.(childOfferer); opening || s.refusal() != 0 {
		s.respond(notify(message.TemporaryFailure))
		return
	}
	answer := notify(message.ChildSANotFound)
	if len(n.SPI) == 4 {
		answer.Protocol, answer.SPI = suite.ProtocolESP, n.SPI
	}
	s.respond(answer)
}

// childOpening is a CREATE_CHILD_SA request of the peer for a child on its way: narrowed,
// keys exchanged, installed, answered.
type childOpening struct {
	ps     []message.Payload
	old    *child // that is to be replaced; nil: none
	ni     []byte
	chosen *childAnswer
	num    uint8 // of the chosen proposal
}

func (o *childOpening) refusal(s *ikeSA) message.NotifyType {
	if o.old != nil {
		return s.refusalOfRekey(o.old)
	}
	return s.refusal()
}

// answer narrows, and exchanges keys where the peer wants it.
func (o *childOpening) answer(s *ikeSA, r *childRequest) {
	var err *Error
	if o.old != nil {
		o.chosen, o.num, err = s.answerRekey(r, o.old)
	} else {
		o.chosen, o.num, err = s.answerChild(r)
	}
	if err != nil {
		if o.old != nil {
			s.rekeyFailed(o.old.Name, errRekeyAsked(err, o.old))
		} else {
			s.childFailed("", err)
		}
		s.respond(notify(err.Notify))
		return
	}
	s.promised = o.chosen.spiIn
	s.answerExchange(o.chosen.suite, o.ps, o)
}

func (o *childOpening) payloads(_ *ikeSA, between ...message.Payload) []message.Payload {
	return o.chosen.payloads(o.num, between...)
}

func (o *childOpening) void(s *ikeSA) {
	if s.promised == o.chosen.spiIn {
		s.e.releaseESPSPI(s.promised)
		s.promised = 0
	}
}

// finish installs the child and then answers.
func (o *childOpening) finish(s *ikeSA, got *agreed) {
	a := o.chosen
	if o.old != nil {
		a.group, a.slot = o.old.Group, o.old.Slot
	} else {
		s.placeInGroup(a)
	}
	c, err := s.keyedChild(a, false, got.shared, o.ni, got.nr, got.more...)
	if err != nil {
		o.void(s)
		s.childFailed(a.cfg.Name, err)
		s.respond(notify(message.NoProposalChosen))
		return
	}
	s.promised = 0
	kept := s.install(c, a)
	s.respond(got.answer(s, o)...)
	lowest := lower(o.ni, got.nr)
	if o.old == nil {
		kept.lowest = lowest
		s.childUp(c, a, 0)
		s.settleTwins(kept)
		return
	}
	kept.inherit(o.old)
	o.old.successor = kept
	s.noteRival(o.old, kept, lowest)
	s.childUp(c, a, o.old.ID)
}
