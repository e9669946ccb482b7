package ike

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// saboteur is one end of a session: an engine that knows SK_*, and on its way out all that
// it says is changed, held back, repeated, and mixed with what it never said.
type saboteur struct {
	r        *rand.Rand
	w        *world
	self     *host
	victim   *host
	share    float64           // of its messages that are tampered with
	seen     []message.Payload // of either side, to be said again
	genuine  map[string]bool   // AUTH that its engine made
	proven   map[string]bool   // of them, what reached the victim as it was
	tampered int
}

func (m *saboteur) one(n int) bool { return m.r.IntN(n) == 0 }

// fate is world.fate.
func (m *saboteur) fate(from *host, s Send) int {
	h, err := message.ParseHeader(s.Data)
	if err != nil || from != m.self {
		return 1
	}
	m.note(h, s.Data, m.genuine)
	copies, before := 1, m.w.delay
	if m.r.Float64() < m.share {
		m.tampered++
		switch m.r.IntN(8) {
		case 0:
			copies = 0
		case 1:
			copies = 2 + m.r.IntN(2)
		case 2, 3: // late, so that others overtake it
			m.w.delay += m.upTo(3000)
		default:
			s.Data = m.changed(h, s.Data)
		}
	}
	m.note(h, s.Data, m.proven)
	for range copies {
		m.w.carry(s)
	}
	m.w.delay = before
	return 0
}

// own is the saboteur's SA that a message belongs to; nil: none that has keys.
func (m *saboteur) own(h message.Header) *ikeSA {
	spi := h.SPIr
	if h.FromInitiator() {
		spi = h.SPIi
	}
	if s := m.self.e.sas[spi]; s != nil && s.seal != nil && h.Exchange != message.IKESAInit && h.Exchange != message.IKESessionResume {
		return s
	}
	return nil
}

// inside is what a message of the saboteur's says, if it is whole and protected.
func (m *saboteur) inside(h message.Header, raw []byte) (ps []message.Payload, ok bool) {
	s := m.own(h)
	if s == nil {
		return nil, false
	}
	_, e, text, err := message.Open(slices.Clone(raw), s.seal)
	if err != nil || e == nil || e.Fragment != 0 {
		return nil, false
	}
	ps, err = message.ParsePayloads(e.First, text)
	return ps, err == nil
}

// note puts the AUTH of a message into to.
func (m *saboteur) note(h message.Header, raw []byte, to map[string]bool) {
	if h.Exchange != message.IKEAuth {
		return
	}
	ps, _ := m.inside(h, raw)
	if a, ok := message.Find[*message.Auth](ps); ok {
		to[string(a.Data)] = true
	}
}

// changed is another message than raw.
func (m *saboteur) changed(h message.Header, raw []byte) []byte {
	s := m.own(h)
	if s == nil { // not protected
		msg, err := message.Parse(raw)
		if err != nil || !m.one(4) {
			return raw
		}
		msg.Payloads = m.mutate(msg.Payloads, nil)
		return msg.Append(nil)
	}
	ps, ok := m.inside(h, raw)
	if !ok {
		raw = slices.Clone(raw)
		raw[m.r.IntN(len(raw))] ^= 1 << m.r.IntN(8)
		return raw
	}
	m.seen = append(m.seen, ps...)
	if len(m.seen) > 60 {
		m.seen = m.seen[30:]
	}
	ps = m.mutate(ps, s)
	return m.sealed(s, h.Exchange, h.MessageID, h.Flags&message.FlagResponse, ps)
}

// sealed is a message of an SA's; now and then its payloads are damaged in octets.
func (m *saboteur) sealed(s *ikeSA, kind message.ExchangeType, id uint32, flags message.Flags, ps []message.Payload) []byte {
	first, text := message.FirstType(ps), message.AppendPayloads(nil, ps)
	if len(text) > 0 {
		switch m.r.IntN(16) {
		case 0:
			text[m.r.IntN(len(text))] ^= 1 << m.r.IntN(8)
		case 1:
			text = text[:m.r.IntN(len(text))]
		case 2:
			first = message.PayloadType(m.r.IntN(256))
		}
	}
	return craftRaw(s, kind, id, flags, first, text)
}

// mutate makes something else of payloads; s is nil where there are no keys.
func (m *saboteur) mutate(ps []message.Payload, s *ikeSA) []message.Payload {
	ps = slices.Clone(ps)
	for range 1 + m.r.IntN(3) {
		i := m.r.IntN(len(ps) + 1)
		switch m.r.IntN(8) {
		case 0:
			if i < len(ps) {
				ps = slices.Delete(ps, i, i+1)
			}
		case 1:
			if i < len(ps) {
				ps = slices.Insert(ps, i, ps[i])
			}
		case 2:
			m.r.Shuffle(len(ps), func(a, b int) { ps[a], ps[b] = ps[b], ps[a] })
		case 3, 4:
			if i < len(ps) {
				ps[i] = m.altered(ps[i], s)
			}
		case 5:
			if len(m.seen) > 0 {
				ps = slices.Insert(ps, i, m.seen[m.r.IntN(len(m.seen))])
			}
		default:
			ps = slices.Insert(ps, i, m.invented(s))
		}
	}
	return ps
}

// altered is p with another content.
func (m *saboteur) altered(p message.Payload, s *ikeSA) message.Payload {
	flip := func(b []byte) []byte {
		b = slices.Clone(b)
		switch {
		case len(b) == 0 || m.one(6):
			return m.noise(40)
		case m.one(4):
			return b[:m.r.IntN(len(b))]
		}
		b[m.r.IntN(len(b))] ^= 1 << m.r.IntN(8)
		return b
	}
	switch p := p.(type) {
	case *message.Auth:
		a := *p
		a.Data = flip(a.Data)
		if m.one(3) {
			a.Method = message.AuthMethod(m.r.IntN(16))
		}
		return &a
	case *message.ID:
		id := *p
		if m.one(2) {
			id.Kind = uint8(m.r.IntN(14))
		} else {
			id.Data = flip(id.Data)
		}
		return &id
	case *message.EAP:
		data := flip(p.Data)
		for len(data) < 4 {
			data = append(data, 0)
		}
		binary.BigEndian.PutUint16(data[2:], uint16(len(data)))
		return &message.EAP{Data: data}
	case *message.KE:
		return &message.KE{Method: p.Method, Data: flip(p.Data)}
	case *message.Nonce:
		return &message.Nonce{Data: append(flip(p.Data), m.noise(20)...)}
	case *message.Cert:
		return &message.Cert{Encoding: p.Encoding, Data: flip(p.Data)}
	case *message.Notify:
		n := *p
		n.Data = flip(n.Data)
		return &n
	case *message.SA:
		sa := &message.SA{Proposals: slices.Clone(p.Proposals)}
		i := m.r.IntN(len(sa.Proposals))
		sa.Proposals[i].SPI = m.spi(s)
		if m.one(2) {
			sa.Proposals[i].Num = uint8(m.r.IntN(4))
		}
		return sa
	case *message.TS:
		return m.selectors(p.Responder)
	}
	return m.invented(s)
}

func (m *saboteur) noise(most int) []byte {
	b := make([]byte, m.r.IntN(most+1))
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	return b
}

// spi is one of 4 octets that may be of a child, or of another length.
func (m *saboteur) spi(s *ikeSA) []byte {
	if m.one(4) {
		return m.noise(9)
	}
	return binary.BigEndian.AppendUint32(nil, m.childSPI(s))
}

func (m *saboteur) childSPI(s *ikeSA) uint32 {
	if s == nil || len(s.children) == 0 || m.one(4) {
		return m.r.Uint32()
	}
	c := s.children[m.r.IntN(len(s.children))]
	if m.one(3) {
		return c.SPIOut
	}
	return c.SPIIn
}

func (m *saboteur) selectors(responder bool) message.Payload {
	ts := &message.TS{Responder: responder}
	for range m.r.IntN(4) {
		net := []string{"10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0", "::/0", "10.3.0.0/16", "10.1.2.3/32"}[m.r.IntN(6)]
		sel := message.SelectorOf(netip.MustParsePrefix(net))
		if m.one(3) {
			sel.Protocol, sel.StartPort, sel.EndPort = uint8(m.r.IntN(20)), uint16(m.r.Uint32()), uint16(m.r.Uint32())
		}
		ts.Selectors = append(ts.Selectors, sel)
	}
	return ts
}

var protocols = []suite.Protocol{0, suite.ProtocolIKE, suite.ProtocolESP, 2, 200}

// invented is a payload out of nothing.
func (m *saboteur) invented(s *ikeSA) message.Payload {
	switch m.r.IntN(12) {
	case 0:
		d := &message.Delete{Protocol: protocols[m.r.IntN(3)]}
		for range m.r.IntN(3) {
			d.SPIs = append(d.SPIs, m.childSPI(s))
		}
		return d
	case 1:
		return &message.KE{Method: uint16(m.r.IntN(40)), Data: m.noise(70)}
	case 2:
		return &message.Nonce{Data: append(make([]byte, 16), m.noise(30)...)}
	case 3:
		return m.selectors(m.one(2))
	case 4:
		return &message.Unknown{Number: message.PayloadType(128 + m.r.IntN(128)), Critical: m.one(2), Body: m.noise(20)}
	case 5:
		return &message.EAP{Data: []byte{byte(m.r.IntN(6)), byte(m.r.IntN(256)), 0, 4}}
	case 6:
		return &message.Config{Kind: message.ConfigType(m.r.IntN(5)), Attributes: []message.Attribute{{Type: message.AttributeType(m.r.IntN(30)), Value: m.noise(20)}}}
	case 7: // AUTH by what it knows
		if s != nil && s.keys.Pi != nil && len(s.realI) > 0 {
			key := [][]byte{s.keys.Pi, s.keys.Pr, {}}[m.r.IntN(3)]
			id := idPayload(!s.initiator, s.local)
			return &message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, key, s.signedOctets(s.initiator, id))}
		}
		return &message.Auth{Method: message.AuthMethod(m.r.IntN(16)), Data: m.noise(40)}
	case 8:
		return idPayload(m.one(2), pki.Identity{Type: pki.IDFQDN, Data: "eve.example.org"})
	case 9:
		return &message.SA{Proposals: []message.Proposal{{Num: 1, SPI: m.spi(s), Proposal: m.self.e.cfg.Connections[0].Children[0].Proposals[0]}}}
	}
	n := &message.Notify{Protocol: protocols[m.r.IntN(len(protocols))], Data: m.noise(40)}
	switch m.r.IntN(3) {
	case 0:
		n.Notify = message.NotifyType(m.r.IntN(50))
	case 1:
		n.Notify = message.InitialContact + message.NotifyType(m.r.IntN(70))
	default:
		kinds := []message.NotifyType{message.RekeySA, message.AnotherAuthFollows, message.Redirect, message.AdditionalKeyExchange, message.UpdateSAAddresses, message.Cookie2}
		n.Notify = kinds[m.r.IntN(len(kinds))]
	}
	if n.Protocol != 0 {
		n.SPI = m.spi(s)
	}
	return n
}
