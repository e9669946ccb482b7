package personas

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
)

// plainRekey is the order of RFC 7296 §1.3.3.
const plainRekey = "REKEY SA No KE TSi TSr"

// withoutKE takes the groups out of proposals.
func withoutKE(ps []message.Proposal) []message.Proposal {
	out := slices.Clone(ps)
	for i := range out {
		out[i].Proposal = out[i].WithoutKE()
	}
	return out
}

// rekeyProposals are those for a child in place of another.
func (p *peer) rekeyProposals(spi []byte) []message.Proposal {
	if p.rekeyESP != nil {
		return offer(suite.ProtocolESP, spi, p.rekeyESP...)
	}
	return offer(suite.ProtocolESP, spi, p.esp...)
}

// rekeyChild replaces a child: a new one, and then the old one is deleted.
func (p *peer) rekeyChild(old *child) {
	p.w.Helper()
	c, n := p.createChild(old)
	if n != nil {
		p.fails("the gateway does not let it replace a child: %v", n.Notify)
	}
	lost := slices.IndexFunc(p.kids, func(k *child) bool { return k != old && !k.initiator && old.replaced && k.since.After(old.since) })
	p.adopt(c)
	if lost >= 0 {
		// Both did it at once (RFC 7296 §2.8.1): the one with the lowest nonce is too much.
		rival := p.kids[lost]
		if string(c.lowest) < string(rival.lowest) {
			p.deleteChild(c)
			return // the gateway deletes the old one
		}
	}
	p.deleteChild(old)
}

// createChild asks for a child, in place of another where there is one.
func (p *peer) createChild(old *child) (*child, *message.Notify) {
	p.w.Helper()
	spi, ni := random(4), random(p.nonce)
	offered := p.rekeyProposals(spi)
	group := firstGroup(offered)
	tsi, tsr := p.tsi, p.tsr
	layout := p.rekey
	if layout == "" {
		layout = plainRekey
	}
	for {
		parts := map[string][]message.Payload{
			"REKEY": nil, "KE": nil, "CP": p.authParts(spi)["CP"],
			"SA": {&message.SA{Proposals: offered}}, "No": {&message.Nonce{Data: ni}},
		}
		if old != nil {
			tsi, tsr = old.own, old.other
			parts["REKEY"] = []message.Payload{&message.Notify{Protocol: suite.ProtocolESP, SPI: binary.BigEndian.AppendUint32(nil, old.spiIn), Notify: message.RekeySA}}
		}
		parts["TSi"] = []message.Payload{&message.TS{Selectors: tsi}}
		parts["TSr"] = []message.Payload{&message.TS{Responder: true, Selectors: tsr}}
		var pair kex.Initiator
		if group != 0 {
			var err error
			if pair, err = kex.Generate(group); err != nil {
				p.w.Fatal(err)
			}
			parts["KE"] = []message.Payload{&message.KE{Method: group, Data: pair.Public()}}
		}
		ps := p.ask(p.sa, message.CreateChildSA, p.lay(layout, parts)...)
		if n := message.FindNotify(ps, message.InvalidKEPayload); n != nil && !p.stubborn {
			if group = binary.BigEndian.Uint16(n.Data); !offersGroup(offered, group) {
				p.fails("the gateway wants the group %s for a child", suite.KEName(group))
			}
			continue
		}
		if n := message.FindError(ps); n != nil {
			return nil, n
		}
		nonce, _ := message.Find[*message.Nonce](ps)
		answer, _ := message.Find[*message.SA](ps)
		got, why := chosen(offered, answer)
		if why != "" {
			p.fails("the child: %s", why)
		}
		shared := p.secret(got, pair, ps)
		c := p.opened(offered, ps, ni, nonce.Data, shared, p.followUps(got, ps))
		if old != nil && (!slices.Equal(c.own, old.own) || !slices.Equal(c.other, old.other)) {
			p.fails("the selectors %v and %v become %v and %v", old.own, old.other, c.own, c.other)
		}
		return c, nil
	}
}

// secret ends the key exchange of a child; nil where the gateway took the proposal without.
func (p *peer) secret(got message.Proposal, pair kex.Initiator, ps []message.Payload) []byte {
	p.w.Helper()
	ke, ok := message.Find[*message.KE](ps)
	if kes := got.KEs(); len(kes) == 0 || kes[0] == suite.KENone {
		if ok {
			p.fails("KE without a group")
		}
		return nil
	}
	if !ok || pair == nil || ke.Method != pair.Method() {
		p.fails("the answer has not the KE that was asked for")
	}
	shared, err := pair.Finish(ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	return shared
}

// followUps are the secrets of additional key exchanges (RFC 9370 §2.2.4).
func (p *peer) followUps(got message.Proposal, ps []message.Payload) [][]byte {
	p.w.Helper()
	with, err := got.Suite()
	if err != nil {
		p.w.Fatal(err)
	}
	var out [][]byte
	for _, method := range with.AddKEs() {
		link := message.FindNotify(ps, message.AdditionalKeyExchange)
		pair, err := kex.Generate(method)
		if err != nil || link == nil {
			p.fails("no link to the additional key exchange: %v", err)
		}
		ps = p.ask(p.sa, message.IKEFollowupKE, &message.KE{Method: method, Data: pair.Public()}, link)
		ke, ok := message.Find[*message.KE](ps)
		if !ok {
			p.fails("IKE_FOLLOWUP_KE is not answered")
		}
		shared, err := pair.Finish(ke.Data)
		if err != nil {
			p.w.Fatal(err)
		}
		out = append(out, shared)
	}
	return out
}

// deleteChild deletes a child.
func (p *peer) deleteChild(c *child) {
	p.w.Helper()
	ps := p.ask(p.sa, message.Informational, &message.Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{c.spiIn}})
	d, ok := message.Find[*message.Delete](ps)
	if !ok || !slices.Contains(d.SPIs, c.spiOut) {
		p.fails("the gateway does not delete its half of a child: %v", ps)
	}
	p.kids = slices.DeleteFunc(p.kids, func(k *child) bool { return k == c })
}

// rekeyIKESA replaces the IKE SA.
func (p *peer) rekeyIKESA() {
	p.w.Helper()
	old, spi := p.sa, newSPI()
	p.replacing = true
	defer func() { p.replacing = false }()
	n := &sa{initiator: true, spii: spi, ni: random(p.nonce), since: time.Now(), fragmented: old.fragmented}
	raw := binary.BigEndian.AppendUint64(nil, uint64(spi))
	offered := offer(suite.ProtocolIKE, raw, p.ike...)
	if p.rekeyIKE != nil {
		offered = p.rekeyIKE(p)
		for i := range offered {
			offered[i].SPI = raw
		}
	}
	group := old.suite.KE.ID
	pair, err := kex.Generate(group)
	if err != nil {
		p.w.Fatal(err)
	}
	ps := p.ask(old, message.CreateChildSA, &message.SA{Proposals: offered}, &message.Nonce{Data: n.ni}, &message.KE{Method: group, Data: pair.Public()})
	if e := message.FindError(ps); e != nil {
		p.fails("the gateway does not let it replace the IKE SA: %v", e.Notify)
	}
	answer, _ := message.Find[*message.SA](ps)
	nonce, _ := message.Find[*message.Nonce](ps)
	ke, ok := message.Find[*message.KE](ps)
	got, why := chosen(offered, answer)
	if why != "" || nonce == nil || !ok || ke.Method != group || len(got.SPI) != 8 {
		p.fails("the IKE SA in place of the old one: %s", why)
	}
	shared, err := pair.Finish(ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	more := p.followUps(got, ps)
	n.nr, n.num, n.spir = nonce.Data, got.Num, message.SPI(binary.BigEndian.Uint64(got.SPI))
	p.key(n, got, func(suite.PRF) suite.Secret {
		return ike.RekeyedSKEYSEED(old.prf, old.keys.D, n.ni, n.nr, shared, more...)
	})
	n.lowest = slices.MinFunc([][]byte{n.ni, n.nr}, bytes.Compare)
	rival := p.rival
	p.rival = nil
	if rival != nil && bytes.Compare(n.lowest, rival.lowest) < 0 {
		// RFC 7296 §2.8.2: its own is too much, the gateway deletes the old one.
		p.old = append(p.old, n)
		p.ask(n, message.Informational, &message.Delete{Protocol: suite.ProtocolIKE})
		p.forget(n)
		return
	}
	if rival != nil {
		p.old = append(p.old, rival)
	} else {
		p.old = append(p.old, old)
	}
	p.sa = n
	p.ask(old, message.Informational, &message.Delete{Protocol: suite.ProtocolIKE})
	p.forget(old)
}

// created answers CREATE_CHILD_SA of the gateway.
func (p *peer) created(s *sa, ps []message.Payload) []message.Payload {
	p.w.Helper()
	asked, ok := message.Find[*message.SA](ps)
	if !ok {
		p.fails("CREATE_CHILD_SA without SA")
	}
	if asked.Proposals[0].Protocol == suite.ProtocolIKE {
		p.ikeRekeys++
		return p.rekeyedByGateway(s, asked, ps)
	}
	n := message.FindNotify(ps, message.RekeySA)
	if n == nil {
		return p.openChild(ps, nil, nil, nil)
	}
	p.childRekeys++
	if p.childRekeyed != nil {
		return p.childRekeyed(p, ps)
	}
	old := p.kidByOut(binary.BigEndian.Uint32(n.SPI))
	if old == nil {
		return notify(message.ChildSANotFound)
	}
	tsi, tsr := message.FindTS(ps, false), message.FindTS(ps, true)
	if !slices.Equal(tsi.Selectors, old.other) || !slices.Equal(tsr.Selectors, old.own) {
		p.fails("the gateway replaces a child for %v and %v by one for %v and %v", old.other, old.own, tsi.Selectors, tsr.Selectors)
	}
	return p.openChild(ps, nil, nil, old)
}

// rekeyedByGateway answers a request for an IKE SA in place of this one.
func (p *peer) rekeyedByGateway(s *sa, asked *message.SA, ps []message.Payload) []message.Payload {
	p.w.Helper()
	nonce, _ := message.Find[*message.Nonce](ps)
	ke, ok := message.Find[*message.KE](ps)
	got, fits := p.pick(asked, p.ikeLikings())
	switch {
	case !ok || nonce == nil:
		p.fails("an IKE SA without KE or nonce is asked for")
	case !fits || p.stubborn && got.KEs()[0] != ke.Method:
		return notify(message.NoProposalChosen)
	case got.KEs()[0] != ke.Method:
		return notify(message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, got.KEs()[0])...)
	}
	public, shared, err := kex.Respond(ke.Method, ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	n := &sa{spii: message.SPI(binary.BigEndian.Uint64(got.SPI)), spir: newSPI(), ni: nonce.Data, nr: random(p.nonce), num: got.Num, since: time.Now(), fragmented: s.fragmented}
	got.SPI = binary.BigEndian.AppendUint64(nil, uint64(n.spir))
	link := p.later(got, true, func(more [][]byte) {
		p.key(n, got, func(suite.PRF) suite.Secret {
			return ike.RekeyedSKEYSEED(s.prf, s.keys.D, n.ni, n.nr, shared, more...)
		})
		n.lowest = slices.MinFunc([][]byte{n.ni, n.nr}, bytes.Compare)
		if p.replacing {
			p.rival = n
		}
		p.sa, p.old = n, append(p.old, s)
	})
	return append([]message.Payload{&message.SA{Proposals: []message.Proposal{got}}, &message.Nonce{Data: n.nr}, &message.KE{Method: ke.Method, Data: public}}, link...)
}

// pending is what waits for additional key exchanges that the gateway is to make.
type pending struct {
	todo []uint16
	more [][]byte
	link []byte
	then func(more [][]byte)
}

// later does at once what needs no additional key exchange, or asks for the next one; may is
// whether there can be any in this exchange.
func (p *peer) later(got message.Proposal, may bool, then func(more [][]byte)) []message.Payload {
	p.w.Helper()
	with, err := got.Suite()
	if err != nil {
		p.w.Fatal(err)
	}
	if todo := with.AddKEs(); may && len(todo) > 0 {
		p.waits = &pending{todo: todo, link: random(8), then: then}
		return notify(message.AdditionalKeyExchange, p.waits.link...)
	}
	then(nil)
	return nil
}

// followedUp answers IKE_FOLLOWUP_KE.
func (p *peer) followedUp(ps []message.Payload) []message.Payload {
	p.w.Helper()
	ke, ok := message.Find[*message.KE](ps)
	link := message.FindNotify(ps, message.AdditionalKeyExchange)
	if x := p.waits; x == nil || !ok || link == nil || string(link.Data) != string(x.link) || ke.Method != x.todo[0] {
		p.fails("IKE_FOLLOWUP_KE that nothing waits for")
	}
	public, shared, err := kex.Respond(ke.Method, ke.Data)
	if err != nil {
		p.w.Fatal(err)
	}
	x := p.waits
	x.more, x.todo = append(x.more, shared), x.todo[1:]
	answer := []message.Payload{&message.KE{Method: ke.Method, Data: public}}
	if len(x.todo) > 0 {
		return append(answer, notify(message.AdditionalKeyExchange, x.link...)...)
	}
	p.waits = nil
	x.then(x.more)
	return answer
}
