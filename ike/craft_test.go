package ike

import (
	"slices"
	"testing"

	"martlet/ike/message"
)

// craft seals payloads as the SA s would: what its peer takes for authentic.
func craft(t testing.TB, s *ikeSA, kind message.ExchangeType, id uint32, flags message.Flags, ps ...message.Payload) []byte {
	t.Helper()
	grams := message.Seal(s.header(kind, id, flags), ps, s.seal, s.nextIV, 0)
	if len(grams) != 1 {
		t.Fatal("payloads cannot be sealed")
	}
	return grams[0]
}

// deliver hands raw to h as if from had sent it on the encapsulating path.
func (h *host) deliver(from *host, raw []byte) {
	h.deliverOn(h.path(from, true), raw)
}

func (h *host) deliverOn(p Path, raw []byte) { h.handle(Datagram{Path: p, Data: slices.Clone(raw)}) }

// script is a peer played by hand: IKE_SA_INIT messages without an engine.
type script struct {
	t      testing.TB
	w      *world
	victim *host
	self   *host
}

// answerInit sends an unprotected response to the victim's IKE_SA_INIT.
func (x *script) answerInit(spir message.SPI, ps ...message.Payload) {
	x.t.Helper()
	s := x.victim.e.last
	m := message.Message{
		Header:   message.Header{SPIi: s.spii, SPIr: spir, Exchange: message.IKESAInit, Flags: message.FlagResponse},
		Payloads: ps,
	}
	x.victim.deliverOn(x.victim.path(x.self, false), m.Append(nil))
}

// lastInit is the last IKE_SA_INIT that h sent.
func lastInit(t testing.TB, h *host) *message.Message {
	t.Helper()
	for _, s := range slices.Backward(h.sent) {
		if m, err := message.Parse(s.Data); err == nil && m.Exchange == message.IKESAInit {
			return m
		}
	}
	t.Fatal("no IKE_SA_INIT was sent")
	return nil
}

// sentOf counts what h sent of one exchange and direction.
func sentOf(h *host, kind message.ExchangeType, response bool) (out [][]byte) {
	for _, s := range h.sent {
		if m, err := message.ParseHeader(s.Data); err == nil && !s.Keepalive && m.Exchange == kind && m.IsResponse() == response {
			out = append(out, s.Data)
		}
	}
	return out
}

// initRequest is a well-formed IKE_SA_INIT request of a new initiator, as h's engine
// would send it for the connection; nothing of it stays in the engine.
func initRequest(t testing.TB, h, to *host) []byte {
	t.Helper()
	acts := h.e.Handle(h.w.now, Initiate{Connection: "home", Path: h.path(to, false), Encap: h.path(to, true)})
	var raw []byte
	for _, a := range acts {
		if s, ok := a.(Send); ok {
			raw = s.Data
		}
	}
	h.e.unlink(h.e.last)
	if raw == nil {
		t.Fatal("no request was made")
	}
	return raw
}
