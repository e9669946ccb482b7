package personas

import (
	"crypto/sha1" // RFC 7296 §2.23
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
)

// natHash is the data of a NAT_DETECTION notify (RFC 7296 §2.23).
func natHash(spii, spir message.SPI, at netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(spii))
	b = binary.BigEndian.AppendUint64(b, uint64(spir))
	b = append(b, at.Addr().AsSlice()...)
	h := sha1.Sum(binary.BigEndian.AppendUint16(b, at.Port()))
	return h[:]
}

// initParts are the payloads that its IKE_SA_INIT may have, beside SA, KE and nonce.
func (p *peer) initParts(spii, spir message.SPI) map[string][]message.Payload {
	source := natHash(spii, spir, p.local())
	if p.fakesNAT {
		source = random(20)
	}
	parts := map[string][]message.Payload{
		"NATD":         append(notify(message.NATDetectionSourceIP, source...), notify(message.NATDetectionDestinationIP, natHash(spii, spir, p.to)...)...),
		"FRAG":         notify(message.FragmentationSupported),
		"REDIRECT":     notify(message.RedirectSupported),
		"INTERMEDIATE": notify(message.IntermediateExchangeSupported),
		"HASHES":       notify(message.SignatureHashAlgorithms, 0, 2, 0, 3, 0, 4), // SHA-256, 384, 512
		"V":            nil,
	}
	for _, text := range p.vendors {
		id, err := hex.DecodeString(text)
		if err != nil {
			p.w.Fatal(err)
		}
		parts["V"] = append(parts["V"], &message.VendorID{Data: id})
	}
	return parts
}

// initiate makes IKE_SA_INIT, and IKE_INTERMEDIATE where an additional key exchange was
// agreed. What it returns is the refusal, or nil.
func (p *peer) initiate() *message.Notify {
	p.w.Helper()
	s := &sa{initiator: true, spii: newSPI(), ni: random(p.nonce), since: time.Now()}
	offered := offer(suite.ProtocolIKE, nil, p.ike...)
	group := firstGroup(offered)
	var cookie []message.Payload
	p.moved, p.to = false, netip.AddrPortFrom(gatewayAddr, 500)
	for range 4 {
		pair, err := kex.Generate(group)
		if err != nil {
			p.w.Fatal(err)
		}
		parts := p.initParts(s.spii, 0)
		parts["SA"] = []message.Payload{&message.SA{Proposals: offered}}
		parts["KE"] = []message.Payload{&message.KE{Method: group, Data: pair.Public()}}
		parts["No"] = []message.Payload{&message.Nonce{Data: s.ni}}
		m := message.Message{Header: s.header(message.IKESAInit, 0, false), Payloads: append(cookie, p.lay(p.init, parts)...)}
		s.realI = m.Append(nil)
		p.send(s.realI)
		answer := p.initAnswer(s)
		if n := message.FindNotify(answer.Payloads, message.Cookie); n != nil {
			cookie = []message.Payload{n}
			continue
		}
		if n := message.FindNotify(answer.Payloads, message.InvalidKEPayload); n != nil && !p.stubborn {
			group = binary.BigEndian.Uint16(n.Data)
			if !offersGroup(offered, group) {
				p.fails("the gateway wants the group %s, which it does not have", suite.KEName(group))
			}
			continue
		}
		if n := message.FindError(answer.Payloads); n != nil {
			return n
		}
		p.agree(s, offered, pair, answer)
		return nil
	}
	p.fails("IKE_SA_INIT never ends")
	return nil
}

// initAnswer waits for the answer to IKE_SA_INIT.
func (p *peer) initAnswer(s *sa) *message.Message {
	p.w.Helper()
	for until := time.Now().Add(10 * time.Second); ; {
		d, ok := p.receive(until)
		if !ok {
			p.fails("no answer to IKE_SA_INIT")
		}
		m, err := message.Parse(d.Data)
		if err == nil && m.Exchange == message.IKESAInit && m.SPIi == s.spii && m.IsResponse() {
			s.realR = d.Data
			return m
		}
	}
}

// agree takes the answer to IKE_SA_INIT.
func (p *peer) agree(s *sa, offered []message.Proposal, pair kex.Initiator, m *message.Message) {
	p.w.Helper()
	answer, _ := message.Find[*message.SA](m.Payloads)
	ke, hasKE := message.Find[*message.KE](m.Payloads)
	nonce, hasNonce := message.Find[*message.Nonce](m.Payloads)
	got, why := chosen(offered, answer)
	if why != "" || !hasKE || !hasNonce || ke.Method != pair.Method() {
		p.fails("IKE_SA_INIT: %s", why)
	}
	if m.Notify(message.NATDetectionSourceIP) == nil || m.Notify(message.NATDetectionDestinationIP) == nil {
		p.fails("the gateway has no NAT traversal")
	}
	shared, err := pair.Finish(ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	s.spir, s.nr, s.num = m.SPIr, nonce.Data, got.Num
	s.fragmented = m.Notify(message.FragmentationSupported) != nil && message.FindNotify(p.lastInit(s), message.FragmentationSupported) != nil
	s.next = 1
	p.key(s, got, func(prf suite.PRF) suite.Secret { return ike.SKEYSEED(prf, s.ni, s.nr, shared) })
	p.sa, p.old, p.moved, p.to = s, nil, true, netip.AddrPortFrom(gatewayAddr, 4500)
	for _, method := range s.suite.AddKEs() {
		p.intermediate(s, method)
	}
}

// lastInit are the payloads of its own request.
func (p *peer) lastInit(s *sa) []message.Payload {
	m, err := message.Parse(s.realI)
	if err != nil {
		p.w.Fatal(err)
	}
	return m.Payloads
}

// key makes the keys of an SA.
func (p *peer) key(s *sa, got message.Proposal, seed func(prf suite.PRF) suite.Secret) {
	p.w.Helper()
	var err error
	if s.suite, err = got.Suite(); err != nil {
		p.w.Fatal(err)
	}
	if s.prf, err = suite.NewPRF(s.suite.PRF); err != nil {
		p.w.Fatal(err)
	}
	p.rekeyed(s, seed(s.prf))
}

// rekeyed gives an SA the keys of a seed.
func (p *peer) rekeyed(s *sa, seed suite.Secret) {
	p.w.Helper()
	keys, err := ike.DeriveIKE(s.suite, seed, s.ni, s.nr, s.spii, s.spir)
	if err != nil {
		p.w.Fatal(err)
	}
	i, err := suite.NewCipher(s.suite.Encr, s.suite.Integ, keys.Ei, keys.Ai)
	if err != nil {
		p.w.Fatal(err)
	}
	r, err := suite.NewCipher(s.suite.Encr, s.suite.Integ, keys.Er, keys.Ar)
	if err != nil {
		p.w.Fatal(err)
	}
	s.early = p.early()
	s.keys, s.seal, s.open = keys, r, i
	if s.initiator {
		s.seal, s.open = i, r
	}
}

// intermediate does an additional key exchange (RFC 9370 §2.2.2).
func (p *peer) intermediate(s *sa, method uint16) {
	p.w.Helper()
	pair, err := kex.Generate(method)
	if err != nil {
		p.w.Fatal(err)
	}
	request := []message.Payload{&message.KE{Method: method, Data: pair.Public()}}
	asked := message.Plain(s.header(message.IKEIntermediate, s.next, false), message.TypeKE, message.AppendPayloads(nil, request))
	ps := p.ask(s, message.IKEIntermediate, request...)
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != method {
		p.fails("IKE_INTERMEDIATE has no answer of its method")
	}
	shared, err := pair.Finish(ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	s.extra.Add(s.prf, s.keys.Pi, s.keys.Pr, asked, s.plain)
	p.rekeyed(s, ike.RekeyedSKEYSEED(s.prf, s.keys.D, s.ni, s.nr, shared))
}

// respond waits for IKE_SA_INIT of our gateway and answers it. Not before that the device
// does anything by itself.
func (p *peer) respond(until time.Time) {
	p.w.Helper()
	for p.sa == nil {
		d, ok := p.receive(until)
		if !ok {
			p.fails("no IKE_SA_INIT came")
		}
		m, err := message.Parse(d.Data)
		if err != nil || m.Exchange != message.IKESAInit || m.IsResponse() {
			continue
		}
		p.to = d.From
		p.answerInit(m, d.Data)
	}
}

// answerInit answers an IKE_SA_INIT request.
func (p *peer) answerInit(m *message.Message, raw []byte) {
	p.w.Helper()
	p.moved = false
	s := &sa{spii: m.SPIi, spir: newSPI(), nr: random(p.nonce), realI: raw, next: 0, expect: 1, since: time.Now()}
	answer := message.Message{Header: s.header(message.IKESAInit, 0, true)}
	refuse := func(ps []message.Payload) {
		answer.Payloads, answer.SPIr = ps, 0
		p.send(answer.Append(nil))
	}
	asked, _ := message.Find[*message.SA](m.Payloads)
	ke, _ := message.Find[*message.KE](m.Payloads)
	nonce, ok := message.Find[*message.Nonce](m.Payloads)
	if asked == nil || ke == nil || !ok {
		p.fails("IKE_SA_INIT without SA, KE or nonce")
	}
	got, ok := p.pick(asked, p.ikeLikings())
	if !ok {
		refuse(notify(message.NoProposalChosen))
		return
	}
	if group := got.KEs()[0]; group != ke.Method {
		refuse(notify(message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, group)...))
		return
	}
	public, shared, err := kex.Respond(ke.Method, ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	s.ni, s.num = nonce.Data, got.Num
	parts := p.initParts(s.spii, s.spir)
	parts["SA"] = []message.Payload{&message.SA{Proposals: []message.Proposal{got}}}
	parts["KE"] = []message.Payload{&message.KE{Method: ke.Method, Data: public}}
	parts["No"] = []message.Payload{&message.Nonce{Data: s.nr}}
	answer.Payloads = p.lay(p.init, parts)
	s.realR = answer.Append(nil)
	p.send(s.realR)
	s.fragmented = m.Notify(message.FragmentationSupported) != nil && message.FindNotify(answer.Payloads, message.FragmentationSupported) != nil
	p.key(s, got, func(prf suite.PRF) suite.Secret { return ike.SKEYSEED(prf, s.ni, s.nr, shared) })
	p.sa, p.old, p.moved, p.heard = s, nil, true, time.Now()
}

// ikeLikings are the IKE proposals that it takes as a responder.
func (p *peer) ikeLikings() []message.Proposal {
	if p.picksIKE != nil {
		return offer(suite.ProtocolIKE, nil, p.picksIKE...)
	}
	return offer(suite.ProtocolIKE, nil, p.ike...)
}

// pick chooses as a responder: the first of its own likings that an offer has, whatever
// the other side likes more.
func (p *peer) pick(asked *message.SA, likings []message.Proposal) (message.Proposal, bool) {
	var accept, offered []suite.Proposal
	for _, x := range likings {
		accept = append(accept, x.Proposal)
	}
	for _, x := range asked.Proposals {
		// A type of transforms that it does not know spoils the proposal (RFC 7296 §3.3.6).
		if x.Unknown || x.HasAddKE() && !slices.ContainsFunc(accept, suite.Proposal.HasAddKE) {
			x.Proposal = suite.Proposal{}
		}
		offered = append(offered, x.Proposal)
	}
	choice, err := suite.Select(offered, accept, false)
	if err != nil {
		return message.Proposal{}, false
	}
	x := asked.Proposals[choice.Index]
	return message.Proposal{Num: x.Num, SPI: x.SPI, Proposal: choice.Suite.Proposal()}, true
}
