package ike

import (
	"encoding/binary"
	"errors"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// datagram takes an IKE message. It touches SAs only after the ICV was found right,
// with the exception of IKE_SA_INIT, which has none.
func (e *Engine) datagram(p Path, raw []byte) {
	h, err := message.ParseHeader(raw)
	if err != nil {
		if _, ok := errors.AsType[*message.VersionError](err); ok {
			e.answerVersion(p, h, len(raw))
			return
		}
		e.drop(DropMalformed)
		return
	}
	if h.Exchange == message.IKESAInit && !h.IsResponse() {
		e.enter("IKE_SA_INIT request", nil)
		e.initRequest(p, h, raw)
		return
	}
	if h.Exchange == message.IKESessionResume && !h.IsResponse() && h.SPIr == 0 {
		e.enter("IKE_SESSION_RESUME request", nil)
		e.resumeRequest(p, h, raw)
		return
	}
	own, peer := h.SPIi, h.SPIr
	if h.FromInitiator() {
		own, peer = h.SPIr, h.SPIi
	}
	s, ok := e.sas[own]
	if !ok || s.initiator == h.FromInitiator() {
		e.drop(DropUnknownSPI)
		switch {
		case ok: // of an SA that stands nothing is said
		case own == 0 && h.Exchange == message.Informational:
			e.invalidSPI(p, raw)
		default:
			e.unknownSA(p, h, raw)
		}
		return
	}
	e.enter(h.Exchange.String(), s)
	switch h.Exchange {
	case message.IKESAInit:
		s.initResponse(h, raw)
		return
	case message.IKESessionResume:
		s.resumeResponse(h, raw)
		return
	}
	switch {
	case s.open == nil:
		e.drop(DropState)
	case peer != s.peer():
		e.drop(DropUnknownSPI)
	default:
		s.protected(p, h, raw)
	}
}

// protected takes a message that has to be encrypted.
func (s *ikeSA) protected(p Path, h message.Header, raw []byte) {
	var repeated bool
	if h.IsResponse() {
		if r := s.pending; r == nil || r.id != h.MessageID || r.exchange != h.Exchange {
			s.e.drop(DropUnsolicited)
			s.unprotectedHint(raw)
			return
		}
	} else {
		var due bool
		if due, repeated = s.admitRequest(h); !due && !repeated {
			return
		}
	}
	if !repeated && h.Exchange == message.IKEAuth && s.unsolved(raw) {
		s.e.drop(DropState)
		return
	}
	open := s.open
	if repeated {
		open = s.replyOpen // IKE_INTERMEDIATE changes the keys
	}
	_, enc, text, err := message.Open(raw, open)
	if enc == nil {
		switch {
		case errors.Is(err, message.ErrICV):
			s.e.drop(DropICV)
		case s.unprotectedHint(raw):
			s.e.drop(DropUnprotected)
		default:
			s.e.drop(DropMalformed)
		}
		return
	}
	if repeated {
		s.repeat(p, enc)
		return
	}
	s.heardNow()
	switch {
	case !s.expects(h):
		s.e.drop(DropState)
		return
	case enc.Fragment != 0 && !s.supports(extFragmentation):
		s.e.drop(DropMalformed)
		return
	}
	var ps []message.Payload
	if err == nil {
		first, chain, whole := s.assemble(h, enc, text)
		if !whole {
			return
		}
		if h.Exchange == message.IKEIntermediate {
			s.received = message.Plain(h, first, chain)
		}
		ps, err = message.ParsePayloads(first, chain)
	}
	if err == nil {
		err = message.CheckCritical(ps)
	}
	if h.IsResponse() {
		s.takeResponse(p, ps, err)
	} else {
		s.takeRequest(p, h, ps, err)
	}
	s.freshIDs()
}

// deletesSA tells whether a request ends the IKE SA.
func deletesSA(ps []message.Payload) bool {
	return slices.ContainsFunc(ps, func(p message.Payload) bool {
		d, ok := p.(*message.Delete)
		return ok && d.Protocol == suite.ProtocolIKE
	})
}

// expects tells whether the exchange is due in the state of the SA.
func (s *ikeSA) expects(h message.Header) bool {
	if h.IsResponse() {
		return true
	}
	switch s.state {
	case stateConnecting:
		if s.intermediate() {
			return !s.initiator && h.Exchange == message.IKEIntermediate
		}
		// Between the rounds of IKE_AUTH an initiator may give up.
		return !s.initiator && (h.Exchange == message.IKEAuth || h.Exchange == message.Informational && s.auth != nil)
	case stateEstablished, stateDeleting, stateReplaced:
		return h.Exchange == message.CreateChildSA || h.Exchange == message.Informational || h.Exchange == message.IKEFollowupKE
	case stateClosed:
		return s.awaitsDelete && h.Exchange == message.Informational
	}
	return false
}

// takeResponse hands a response to the task that waits for it.
func (s *ikeSA) takeResponse(p Path, ps []message.Payload, err error) {
	s.answer = answer{path: p, via: s.pending.via, tries: s.pending.tries}
	s.answered()
	s.follow(p)
	s.wayAnswered(p)
	if s.state == stateClosed {
		s.closedResponse(ps)
		return
	}
	if err != nil {
		// RFC 7296 §2.21.3: a peer whose protected messages are malformed is
		// beyond repair.
		s.abandon(errSyntax(err), notify(message.InvalidSyntax))
		return
	}
	s.active.response(s, ps)
}

// takeRequest answers a request of the peer, or begins to.
func (s *ikeSA) takeRequest(p Path, h message.Header, ps []message.Payload, err error) {
	s.serving = &exchange{id: h.MessageID, kind: h.Exchange, path: p}
	s.requests.Reset()
	if s.inPlaceOf != nil && err == nil && !deletesSA(ps) {
		// The peer uses this one: it knows already that it stays.
		s.inPlaceOf.yield()
	}
	s.follow(p)
	if critical, ok := errors.AsType[*message.UnsupportedCriticalError](err); ok {
		s.respond(&message.Notify{Notify: message.UnsupportedCriticalPayload, Data: []byte{uint8(critical.Number)}})
		if s.state == stateConnecting {
			s.linger("unsupported critical payload", errSyntax(err))
		}
		return
	}
	if err != nil {
		s.badRequest(err)
		return
	}
	switch h.Exchange {
	case message.IKEIntermediate:
		s.intermediateRequest(ps)
	case message.IKEAuth:
		s.authRequest(ps)
	case message.CreateChildSA:
		s.createChildRequest(ps)
	case message.IKEFollowupKE:
		s.followUpRequest(ps)
	case message.Informational:
		switch s.state {
		case stateConnecting:
			s.givenUp(ps)
		case stateClosed:
			s.respond()
		case stateEstablished, stateDeleting, stateReplaced:
			s.informationalRequest(ps)
		}
	}
}

// badRequest answers a protected request that is malformed, which ends the SA on
// both sides (RFC 7296 §2.21.3, §3.10.1).
func (s *ikeSA) badRequest(err error) {
	s.respond(notify(message.InvalidSyntax))
	s.linger("malformed message", errSyntax(err))
}

// unprotectedHint looks at a message for this SA that is not encrypted. Nothing that
// it says is believed; INVALID_IKE_SPI makes us ask the peer, seldom. It reports
// whether the message was such a one.
func (s *ikeSA) unprotectedHint(raw []byte) bool {
	m, err := message.Parse(raw)
	if err != nil {
		return false
	}
	if _, sealed := message.Find[*message.Encrypted](m.Payloads); sealed {
		return false
	}
	if m.Notify(message.InvalidIKESPI) != nil && !s.crashed(m.Payloads) {
		s.hint()
	}
	return true
}

// answerVersion answers a request of a higher major version (RFC 7296 §2.5). IKEv1
// would not understand it.
func (e *Engine) answerVersion(p Path, h message.Header, size int) {
	e.drop(DropVersion)
	if h.Major <= 2 || h.IsResponse() {
		return
	}
	m := message.Message{
		Header:   message.Header{SPIi: h.SPIi, SPIr: h.SPIr, Exchange: h.Exchange, Flags: message.FlagResponse, MessageID: h.MessageID},
		Payloads: []message.Payload{notify(message.InvalidMajorVersion)},
	}
	if b := m.Append(nil); len(b) <= size && e.gate.mayAnswer(e.now) {
		e.do(Send{Path: p, Data: b})
	}
}

// notify is a Notify payload without data.
func notify(t message.NotifyType) *message.Notify { return &message.Notify{Notify: t} }

// notifyData is one with data.
func notifyData(t message.NotifyType, data []byte) *message.Notify {
	return &message.Notify{Notify: t, Data: data}
}

// invalidKE asks for another group.
func invalidKE(group uint16) *message.Notify {
	return notifyData(message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, group))
}
