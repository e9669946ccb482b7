package probe

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

var (
	here  = netip.MustParseAddrPort("192.0.2.7:40000")
	there = netip.MustParseAddrPort("198.51.100.1:500")
)

var errSilent = errors.New("no answer")

// gateway is a responder that follows RFC 7296 §1.2 and keeps count.
type gateway struct {
	t      *testing.T
	accept []suite.Proposal
	says   []message.Payload // in an answer that opens an SA
	seen   netip.AddrPort    // where it sees the requests come from; zero: where we do
	own    netip.AddrPort    // its own address as it knows it; zero: as we do
	cookie []byte            // that it asks for, if any
	silent func(Question) bool
	to     message.GatewayID // where it sends those that can be sent

	asked, halfOpen int
}

func proposal(t *testing.T, s string) suite.Proposal {
	t.Helper()
	p, err := suite.ParseProposal(suite.ProtocolIKE, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask is Ask.
func (g *gateway) ask(q Question) (*Answer, error) {
	g.asked++
	r, err := NewRequest(q, here, there)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.silent != nil && g.silent(q) {
		return nil, errSilent
	}
	for {
		a, err := Read(r, g.answer(r.Append(nil)))
		if err != nil {
			g.t.Fatal(err)
		}
		if a.Kind != CookieAsked {
			return a, nil
		}
		if err := r.Repeat(a); err != nil {
			return nil, err
		}
	}
}

// answer is what it sends back.
func (g *gateway) answer(raw []byte) []byte {
	m, err := message.Parse(raw)
	if err != nil {
		g.t.Fatalf("the request does not parse: %v", err)
	}
	reply := func(spir message.SPI, ps ...message.Payload) []byte {
		return (&message.Message{
			Header:   message.Header{SPIi: m.SPIi, SPIr: spir, Exchange: m.Exchange, Flags: message.FlagResponse},
			Payloads: ps,
		}).Append(nil)
	}
	notify := func(n message.NotifyType, data []byte) *message.Notify {
		return &message.Notify{Notify: n, Data: data}
	}
	sa, _ := message.Find[*message.SA](m.Payloads)
	ke, _ := message.Find[*message.KE](m.Payloads)
	nonce, _ := message.Find[*message.Nonce](m.Payloads)
	if got := m.Notify(message.Cookie); g.cookie != nil && (got == nil || string(got.Data) != string(g.cookie)) {
		return reply(0, notify(message.Cookie, g.cookie))
	}
	if g.to != (message.GatewayID{}) && m.Notify(message.RedirectSupported) != nil {
		return reply(0, notify(message.Redirect, append(g.to.Append(nil), nonce.Data...)))
	}
	var offered []suite.Proposal
	for _, p := range sa.Proposals {
		offered = append(offered, p.Proposal)
	}
	choice, err := suite.Select(offered, g.accept, false)
	if err != nil {
		return reply(0, notify(message.NoProposalChosen, nil))
	}
	if !slices.ContainsFunc(offered, func(p suite.Proposal) bool { return slices.Contains(p.KEs(), ke.Method) }) {
		g.t.Errorf("a key exchange %s that is not offered", suite.KEName(ke.Method))
	}
	group := choice.Suite.KE.ID
	if ke.Method != group {
		return reply(0, notify(message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, group)))
	}
	public := make([]byte, 96)
	if group != Decoy {
		if public, _, err = kex.Respond(group, ke.Data); err != nil {
			g.t.Fatal(err)
		}
	}
	g.halfOpen++
	const spir = 0x5555
	seen, own := here, there
	if g.seen.IsValid() {
		seen = g.seen
	}
	if g.own.IsValid() {
		own = g.own
	}
	return reply(spir, slices.Concat([]message.Payload{
		&message.SA{Proposals: []message.Proposal{{Num: sa.Proposals[choice.Index].Num, Proposal: choice.Suite.Proposal()}}},
		&message.KE{Method: group, Data: public},
		&message.Nonce{Data: make([]byte, 32)},
		notify(message.NATDetectionSourceIP, message.NATDetection(m.SPIi, spir, own)),
		notify(message.NATDetectionDestinationIP, message.NATDetection(m.SPIi, spir, seen)),
	}, g.says)...)
}
