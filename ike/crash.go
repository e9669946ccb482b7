package ike

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Quick crash detection (RFC 6290 §2): each side gives the other a token for the SA, which
// it can make again from a secret that survives its crash. Whoever shows the token without
// an SA has lost it.

// Lengths of a token in octets (RFC 6290 §4.1). Ours is as short as may be, so that an
// answer with it is no longer than the shortest request.
const (
	crashTokenLen    = 16
	maxCrashTokenLen = 128
	crashesPerSec    = 20 // tokens that are compared, of all SAs
	crashesBurst     = 50
)

// makeCrashToken is our token for an SA. The role is in it: else somebody who sends a living
// SA's SPIs with the roles swapped would be given its token.
func (e *Engine) makeCrashToken(own message.SPI, initiator bool) []byte {
	h := hmac.New(sha256.New, e.cfg.CrashSecret)
	role := byte('r')
	if initiator {
		role = 'i'
	}
	h.Write(binary.BigEndian.AppendUint64([]byte{role}, uint64(own)))
	return h.Sum(nil)[:crashTokenLen]
}

func crashNotify(token []byte) *message.Notify {
	return &message.Notify{Protocol: suite.ProtocolIKE, Notify: message.QuickCrashDetection, Data: token}
}

// crashToken is the notify with our token for an SA, nothing where we could not make it
// again. It goes with what opens an SA: our last AUTH, and the rekeying of an IKE SA.
func (e *Engine) crashToken(own message.SPI, initiator bool) []message.Payload {
	if len(e.cfg.CrashSecret) == 0 {
		return nil
	}
	return []message.Payload{crashNotify(e.makeCrashToken(own, initiator))}
}

// takeCrashToken keeps the peer's token.
func (s *ikeSA) takeCrashToken(ps []message.Payload) {
	n := message.FindNotify(ps, message.QuickCrashDetection)
	if n != nil && len(n.Data) >= crashTokenLen && len(n.Data) <= maxCrashTokenLen {
		s.peerToken = n.Data
	}
}

// unknownSA answers a protected request for which there is no SA with the token that we gave
// the peer with it, if it was ours (RFC 6290 §4.5). Without a secret we are silent.
func (e *Engine) unknownSA(p Path, h message.Header, raw []byte) {
	own, peer := h.SPIi, h.SPIr
	if h.FromInitiator() {
		own, peer = h.SPIr, h.SPIi
	}
	if len(e.cfg.CrashSecret) == 0 || h.IsResponse() || own == 0 || peer == 0 {
		return
	}
	m, err := message.Parse(raw)
	if err != nil {
		return
	}
	if _, sealed := message.Find[*message.Encrypted](m.Payloads); !sealed {
		return
	}
	flags := message.FlagResponse
	if !h.FromInitiator() {
		flags |= message.FlagInitiator
	}
	answer := message.Message{
		Header: message.Header{SPIi: h.SPIi, SPIr: h.SPIr, Exchange: h.Exchange, Flags: flags, MessageID: h.MessageID},
		Payloads: []message.Payload{
			notify(message.InvalidIKESPI),
			crashNotify(e.makeCrashToken(own, !h.FromInitiator())),
		},
	}
	if b := answer.Append(nil); len(b) <= len(raw) && e.gate.mayAnswer(e.now) {
		e.do(Send{Path: p, Data: b})
	}
}

// crashed ends an SA whose peer shows the token that it gave us with it, and tells whether
// it did. The peer has nothing left of the SA, so there is nobody to whom a DELETE could go.
func (s *ikeSA) crashed(ps []message.Payload) bool {
	if s.peerToken == nil || s.state != stateEstablished && s.state != stateDeleting || !s.e.tokens.allow(s.e.now, crashesPerSec, crashesBurst) {
		return false
	}
	for _, p := range ps {
		n, ok := p.(*message.Notify)
		if ok && n.Notify == message.QuickCrashDetection && hmac.Equal(n.Data, s.peerToken) {
			s.close("the peer has lost the SA", errCrashed(s))
			return true
		}
	}
	return false
}

// unknownESP asks who sends ESP for which there is no SA to look whether his peer is still
// there (RFC 7296 §1.5).
func (e *Engine) unknownESP(p Path, spi uint32) {
	if !e.gate.mayAnswer(e.now) {
		return
	}
	m := message.Message{
		Header:   message.Header{Exchange: message.Informational, Flags: message.FlagInitiator},
		Payloads: []message.Payload{notifyData(message.InvalidSPI, binary.BigEndian.AppendUint32(nil, spi))},
	}
	e.do(Send{Path: p, Data: m.Append(nil)})
}

// invalidSPI takes the hint that a peer does not know one of our children.
func (e *Engine) invalidSPI(p Path, raw []byte) {
	m, err := message.Parse(raw)
	if err != nil {
		return
	}
	n := m.Notify(message.InvalidSPI)
	if n == nil || len(n.Data) != 4 || !e.mayHint() {
		return
	}
	spi := binary.BigEndian.Uint32(n.Data)
	e.all(func(s *ikeSA) {
		if s.path.Remote == p.Remote && s.childByOut(spi) != nil {
			e.enter("invalid SPI", s)
			s.hint()
		}
	})
}
