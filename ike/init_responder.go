package ike

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"sort"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// initHash recognizes a repeated IKE_SA_INIT request before there is an SA for its
// sender (RFC 7296 §2.1).
type initHash [sha256.Size]byte

// hashOfInit tells senders apart too: who copies a request and is faster with it must not
// take the answer from its sender.
func hashOfInit(raw []byte, from netip.Addr) initHash {
	h := sha256.New()
	h.Write(raw)
	addr := from.Unmap().As16()
	h.Write(addr[:])
	return initHash(h.Sum(nil))
}

// initOffer is an IKE_SA_INIT request that has all that it must have.
type initOffer struct {
	path    Path
	header  message.Header
	raw     []byte
	ps      []message.Payload
	sa      *message.SA
	ke      *message.KE
	visitor visitor
	conds   condition
}

// initRequest takes an IKE_SA_INIT request. Up to the last line it keeps no state
// and computes nothing dear.
func (e *Engine) initRequest(p Path, h message.Header, raw []byte) {
	if !h.FromInitiator() || h.SPIr != 0 || h.SPIi == 0 || h.MessageID != 0 || len(raw) > maxInitLen {
		e.drop(DropMalformed)
		return
	}
	hash := hashOfInit(raw, p.Remote.Addr())
	if s := e.inits[hash]; s != nil {
		e.enter("repeated IKE_SA_INIT", s)
		s.repeatInit(p)
		return
	}
	o := initOffer{path: p, header: h, raw: raw}
	if !e.readOffer(&o) {
		return
	}
	if !e.admitted(&o) {
		return
	}
	candidates := e.candidatesFor(p)
	if len(candidates) == 0 {
		e.refuse(p, DropNoConnection, errNoConnection(p))
		e.answerStateless(&o, notify(message.NoProposalChosen))
		return
	}
	var ok bool
	if o.conds, ok = detectNAT(o.ps, h.SPIi, 0, p); !ok {
		e.refuse(p, DropNoNATT, errNoNATT())
		e.answerStateless(&o, notify(message.NoProposalChosen))
		return
	}
	conn, choice, err := o.choose(candidates)
	if err != nil {
		e.refuse(p, DropNoProposal, errRefusedOffer(err, candidates))
		e.answerStateless(&o, notify(message.NoProposalChosen))
		return
	}
	if e.redirectInit(&o, conn) {
		return
	}
	if group := choice.Suite.KE.ID; group != o.ke.Method || len(o.ke.Data) != kex.PublicLen(group) {
		if group == o.ke.Method {
			e.drop(DropMalformed)
			return
		}
		e.refuse(p, DropInvalidKE, nil)
		e.answerStateless(&o, invalidKE(group))
		return
	}
	e.openResponder(&o, hash, conn, candidates, choice)
}

// admitted asks the gate about a request, and answers with what it demands.
func (e *Engine) admitted(o *initOffer) bool {
	what, puzzle := e.gate.judge(e.now, &o.visitor)
	switch what {
	case pass:
		return true
	case full:
		e.refuse(o.path, DropHalfOpenLimit, nil)
		return false
	case badProof:
		e.refuse(o.path, DropCookieInvalid, nil)
	case demand:
		e.refuse(o.path, DropCookieRequired, nil)
	}
	answer := []message.Payload{notifyData(message.Cookie, e.gate.cookie(e.now, &o.visitor, puzzle))}
	if puzzle.Difficulty > 0 {
		answer = append(answer, notifyData(message.PuzzleDemand, puzzle.Append(nil)))
	}
	e.answerStateless(o, answer...)
	return false
}

// readOffer finds what an IKE_SA_INIT request must have.
func (e *Engine) readOffer(o *initOffer) bool {
	m, err := message.Parse(o.raw)
	if err != nil {
		e.drop(DropMalformed)
		return false
	}
	o.ps = m.Payloads
	if critical, ok := errors.AsType[*message.UnsupportedCriticalError](message.CheckCritical(o.ps)); ok {
		e.drop(DropMalformed)
		e.answerStateless(o, notifyData(message.UnsupportedCriticalPayload, []byte{uint8(critical.Number)}))
		return false
	}
	var ok1, ok2, ok3 bool
	var nonce *message.Nonce
	o.sa, ok1 = message.Find[*message.SA](o.ps)
	o.ke, ok2 = message.Find[*message.KE](o.ps)
	nonce, ok3 = message.Find[*message.Nonce](o.ps)
	if !ok1 || !ok2 || !ok3 {
		e.drop(DropMalformed)
		return false
	}
	o.visitor = visitor{remote: o.path.Remote.Addr(), spii: o.header.SPIi, ni: nonce.Data, prfs: puzzlePRFs(o.sa)}
	o.visitor.solution, _ = message.Find[*message.PuzzleSolution](o.ps)
	if n := m.Notify(message.Cookie); n != nil {
		o.visitor.cookie = n.Data
	}
	return true
}

// answerStateless answers an IKE_SA_INIT request without keeping anything. The answer
// is never longer than the request.
func (e *Engine) answerStateless(o *initOffer, ps ...message.Payload) {
	m := message.Message{
		Header:   message.Header{SPIi: o.header.SPIi, Exchange: o.header.Exchange, Flags: message.FlagResponse},
		Payloads: ps,
	}
	b := m.Append(nil)
	n := message.FindError(ps)
	if len(b) > len(o.raw) || n != nil && n.Notify != message.InvalidKEPayload && !e.gate.mayAnswer(e.now) {
		return
	}
	e.do(Send{Path: o.path, Data: b})
}

// candidatesFor lists the connections that take requests from an address, those for
// the fewest addresses first.
func (e *Engine) candidatesFor(p Path) []*Connection {
	type candidate struct {
		conn *Connection
		bits int
	}
	remote := p.Remote.Addr().Unmap().WithZone("")
	var found []candidate
	for _, c := range e.cfg.Connections {
		if !c.Respond {
			continue
		}
		best := -1
		if len(c.From) == 0 {
			best = 0
		}
		for _, from := range c.From {
			if from.Contains(remote) {
				best = max(best, from.Bits()+1)
			}
		}
		if best >= 0 {
			found = append(found, candidate{c, best})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].bits > found[j].bits })
	out := make([]*Connection, len(found))
	for i, f := range found {
		out[i] = f.conn
	}
	return out
}

// choose picks the first candidate that accepts one of the offered proposals. What
// can be had with the group of the KE payload goes first: it saves a round trip, and
// some initiators, Windows among them, never try another group. The error tells what all
// of them would have accepted.
func (o *initOffer) choose(candidates []*Connection) (*Connection, suite.Choice, error) {
	// RFC 7296 §3.3.1: in the first exchange a proposal has no SPI.
	offered := plainProposals(o.sa, func(p message.Proposal) bool { return len(p.SPI) == 0 })
	// RFC 9370 §2.2.1: without IKE_INTERMEDIATE there are no additional key exchanges.
	intermediate := message.FindNotify(o.ps, message.IntermediateExchangeSupported) != nil
	var accepted []suite.Proposal
	for _, c := range candidates {
		supported := supportedKEs(c.Proposals)
		if !intermediate {
			supported = classic(supported)
		}
		choice, err := suite.Select(offered, slices.Concat(onlyGroup(supported, o.ke.Method), supported), false)
		if err == nil {
			return c, choice, nil
		}
		accepted = append(accepted, c.Proposals...)
	}
	return nil, suite.Choice{}, &suite.MismatchError{Offered: offered, Accepted: accepted}
}

// classic is what is left of proposals for a peer that knows no additional key
// exchanges.
func classic(proposals []suite.Proposal) []suite.Proposal {
	var out []suite.Proposal
	for _, p := range proposals {
		if q, ok := p.Classic(); ok {
			out = append(out, q)
		}
	}
	return out
}

// supportedKEs leaves out of proposals the key exchange methods that we cannot do.
func supportedKEs(proposals []suite.Proposal) []suite.Proposal {
	out := make([]suite.Proposal, len(proposals))
	for i, p := range proposals {
		out[i] = suite.Proposal{Protocol: p.Protocol, Transforms: slices.DeleteFunc(slices.Clone(p.Transforms), func(t suite.Transform) bool {
			return t.Type == suite.TypeKE && t.ID != suite.KENone && !kex.Supported(t.ID)
		})}
	}
	return out
}

// onlyGroup leaves those proposals that have the key exchange method, with no other.
func onlyGroup(proposals []suite.Proposal, group uint16) []suite.Proposal {
	var out []suite.Proposal
	for _, p := range proposals {
		if slices.Contains(p.KEs(), group) {
			p = p.Without(suite.TypeKE)
			p.Transforms = append(p.Transforms, suite.Transform{Type: suite.TypeKE, ID: group})
			out = append(out, p)
		}
	}
	return out
}

// openResponder makes the SA and, once the key exchange is done, the answer.
func (e *Engine) openResponder(o *initOffer, hash initHash, conn *Connection, candidates []*Connection, choice suite.Choice) {
	s := &ikeSA{
		spii: o.header.SPIi, spir: e.newIKESPI(), conn: conn, candidates: candidates,
		created: e.now, stageAt: e.now, suite: choice.Suite, conds: o.conds,
		ni: o.visitor.ni, nr: newNonce(), realI: bytes.Clone(o.raw), asked: hash,
	}
	s.startAt(o.path)
	e.link(s)
	e.inits[hash] = s
	e.enter("responder", s)
	s.puzzle, s.puzzled = e.gate.second(e.now, &o.visitor)
	s.place = e.gate.take(e.now, &o.visitor)
	s.after(dueLifetime, e.cfg.HalfOpen.lifetime())
	s.readExtensions(o.ps)
	s.serving = &exchange{id: 0, kind: message.IKESAInit, path: o.path}
	num := o.sa.Proposals[choice.Index].Num
	s.exchangeKeys(o.ke.Method, o.ke.Data, func(public, shared []byte, err error) {
		if err != nil {
			// A value that is no group element: nobody honest sends it.
			e.refuse(o.path, DropMalformed, errKeyExchange(err))
			e.unlink(s)
			return
		}
		if err := s.keyed(shared); err != nil {
			s.close("no keys", errInternal(err.Error()))
			return
		}
		s.answerInit(num, public)
	})
}

func (s *ikeSA) answerInit(num uint8, public []byte) {
	ps := []message.Payload{
		&message.SA{Proposals: []message.Proposal{{Num: num, Proposal: s.suite.Proposal()}}},
		&message.KE{Method: s.suite.KE.ID, Data: public},
		&message.Nonce{Data: s.nr},
	}
	ps = append(ps, initExtras(s.spii, s.spir, s.serving.path, s.exts)...)
	if s.conn.Childless != ChildlessNever {
		ps = append(ps, notify(message.ChildlessIKEv2Supported))
	}
	ps = append(ps, certReqs(s.candidates)...)
	ps = append(ps, announceMethods(s.candidates)...)
	if s.puzzled {
		ps = append(ps, notifyData(message.PuzzleDemand, s.puzzle.Append(nil)))
	}
	if slices.ContainsFunc(s.candidates, func(c *Connection) bool { return c.Remote.Next != nil }) {
		ps = append(ps, notify(message.MultipleAuthSupported))
	}
	m := message.Message{Header: s.header(message.IKESAInit, 0, message.FlagResponse), Payloads: ps}
	s.realR = m.Append(nil)
	if s.realR == nil {
		s.close("answer does not fit a message", errInternal("the answer to IKE_SA_INIT does not fit a message"))
		return
	}
	s.stageDone(StageInit)
	s.respondWith([][]byte{s.realR})
}

// repeatInit answers a repeated IKE_SA_INIT with the same bytes, as long as nothing
// came after it.
func (s *ikeSA) repeatInit(p Path) {
	s.e.drop(DropRepeated)
	if (s.replyExchange == message.IKESAInit || s.replyExchange == message.IKESessionResume) && s.state == stateConnecting {
		s.send(p, s.reply)
	}
}
