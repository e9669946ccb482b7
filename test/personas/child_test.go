package personas

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// child is a child SA: from is the side of the device, to is ours.
type child struct {
	spiIn, spiOut uint32
	suite         suite.Suite
	own, other    []message.Selector
	in            *esp.Inbound
	out           *esp.Outbound
	since         time.Time
	early         time.Duration
	initiator     bool // of the exchange that made it
	lowest        []byte
	replaced      bool
}

func (p *peer) kidByOut(spi uint32) *child {
	for _, c := range p.kids {
		if c.spiOut == spi {
			return c
		}
	}
	return nil
}

// adopt takes a child into use.
func (p *peer) adopt(c *child) {
	c.early = p.early()
	p.kids = append(p.kids, c)
}

// newChild has the keys of a child.
func (p *peer) newChild(got message.Proposal, spiIn, spiOut []byte, initiator bool, own, other []message.Selector, ni, nr, shared []byte, more [][]byte) *child {
	p.w.Helper()
	with, err := got.Suite()
	if err != nil {
		p.w.Fatal(err)
	}
	i, r, err := ike.DeriveChild(p.sa.prf, p.sa.keys.D, with, shared, ni, nr, more...)
	if err != nil {
		p.w.Fatal(err)
	}
	if !initiator {
		i, r = r, i
	}
	c := &child{
		spiIn: binary.BigEndian.Uint32(spiIn), spiOut: binary.BigEndian.Uint32(spiOut), suite: with,
		own: own, other: other, since: time.Now(), initiator: initiator, lowest: slices.MinFunc([][]byte{ni, nr}, bytes.Compare),
	}
	esn := with.ESN.ID == suite.ESNYes
	if c.out, err = esp.NewOutbound(esp.Keys{SPI: c.spiOut, Encr: with.Encr, Integ: with.Integ, EncrKey: i.Encr, IntegKey: i.Integ, ESN: esn}); err != nil {
		p.w.Fatal(err)
	}
	if c.in, err = esp.NewInbound(esp.Keys{SPI: c.spiIn, Encr: with.Encr, Integ: with.Integ, EncrKey: r.Encr, IntegKey: r.Integ, ESN: esn}, 64); err != nil {
		p.w.Fatal(err)
	}
	return c
}

// opened takes an answer to a request of its own for a child.
func (p *peer) opened(offered []message.Proposal, ps []message.Payload, ni, nr, shared []byte, more [][]byte) *child {
	p.w.Helper()
	answer, _ := message.Find[*message.SA](ps)
	tsi, tsr := message.FindTS(ps, false), message.FindTS(ps, true)
	got, why := chosen(offered, answer)
	if why != "" || len(got.SPI) != 4 || tsi == nil || tsr == nil || len(tsi.Selectors) == 0 || len(tsr.Selectors) == 0 {
		p.fails("the child: %s", why)
	}
	return p.newChild(got, offered[0].SPI, got.SPI, true, tsi.Selectors, tsr.Selectors, ni, nr, shared, more)
}

// openChild answers a request of the gateway for a child, of IKE_AUTH or (with a nonce in it)
// of CREATE_CHILD_SA, where old is the one that it replaces.
func (p *peer) openChild(ps []message.Payload, ni, nr []byte, old *child) []message.Payload {
	p.w.Helper()
	asked, _ := message.Find[*message.SA](ps)
	tsi, tsr := message.FindTS(ps, false), message.FindTS(ps, true)
	if asked == nil || tsi == nil || tsr == nil {
		p.fails("a child without SA, TSi or TSr is asked for")
	}
	own, other := tsr.Selectors, tsi.Selectors
	if p.narrow != nil {
		var ok bool
		if own, other, ok = p.narrow(p, own, other); !ok {
			return notify(message.TSUnacceptable)
		}
	}
	nonce, later := message.Find[*message.Nonce](ps)
	got, ok := p.pick(asked, p.espLikings(later))
	if !ok {
		return notify(message.NoProposalChosen)
	}
	theirs := got.SPI
	got.SPI = random(4)
	var answer []message.Payload
	var shared []byte
	if later {
		ni, nr = nonce.Data, random(p.nonce)
		answer = append(answer, &message.Nonce{Data: nr})
		if kes := got.KEs(); len(kes) > 0 && kes[0] != suite.KENone {
			ke, ok := message.Find[*message.KE](ps)
			if !ok || ke.Method != kes[0] {
				return notify(message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, kes[0])...)
			}
			public, secret, err := kex.Respond(ke.Method, ke.Data)
			if err != nil {
				p.w.Fatal(err)
			}
			shared = secret
			answer = append(answer, &message.KE{Method: ke.Method, Data: public})
		} else if p.pfs {
			return notify(message.NoProposalChosen)
		}
	}
	answer = append(answer, p.later(got, later, func(more [][]byte) {
		if old != nil {
			old.replaced = true
		}
		p.adopt(p.newChild(got, got.SPI, theirs, false, own, other, ni, nr, shared, more))
	})...)
	return append(append([]message.Payload{&message.SA{Proposals: []message.Proposal{got}}}, answer...),
		&message.TS{Selectors: other}, &message.TS{Responder: true, Selectors: own})
}

// espLikings are the ESP proposals that it takes as a responder. In IKE_AUTH there is no key
// exchange, later it goes without where it does not insist on one.
func (p *peer) espLikings(later bool) []message.Proposal {
	texts := p.picksESP
	if texts == nil {
		texts = p.esp
	}
	if later && p.rekeyESP != nil {
		texts = p.rekeyESP
	}
	all := offer(suite.ProtocolESP, nil, texts...)
	switch {
	case !later:
		return withoutKE(all)
	case p.pfs:
		return all
	}
	return append(all, withoutKE(all)...)
}

// takeESP opens a packet of the tunnel.
func (p *peer) takeESP(raw []byte) {
	p.w.Helper()
	spi := binary.BigEndian.Uint32(raw)
	for _, c := range p.kids {
		if c.spiIn == spi {
			inner, err := c.in.Open(slices.Clone(raw))
			if err != nil {
				p.fails("ESP: %v", err)
			}
			p.heard = time.Now()
			p.inner = append(p.inner, slices.Clone(inner))
			return
		}
	}
	p.fails("ESP of a child that it does not have: %08x", spi)
}

// current is the child that packets take: the youngest that may carry them.
func (p *peer) current(from, to netip.Addr) *child {
	p.w.Helper()
	has := func(all []message.Selector, a netip.Addr) bool {
		return slices.ContainsFunc(all, func(s message.Selector) bool { return s.From.Compare(a) <= 0 && a.Compare(s.To) <= 0 })
	}
	for _, c := range slices.Backward(p.kids) {
		if has(c.own, from) && has(c.other, to) {
			return c
		}
	}
	p.fails("no child is for packets from %v to %v", from, to)
	return nil
}

// talks checks that packets pass both ways between the device, at from, and a host behind
// the gateway.
func (p *peer) talks(from, to netip.Addr) {
	p.w.Helper()
	for range 3 {
		p.sealed++
		out := packet(from, to, p.sealed)
		next := uint8(4)
		if from.Is6() {
			next = 41
		}
		raw, err := p.current(from, to).out.Seal(nil, out, next)
		if err != nil {
			p.w.Fatal(err)
		}
		p.host.Send(simnet.Datagram{From: p.local(), To: p.to, Data: raw})
		p.live(50 * time.Millisecond)
		select {
		case got := <-p.g.tun.Packets():
			if !bytes.Equal(got, out) {
				p.fails("another packet came out at the gateway: %x", got)
			}
		default:
			p.fails("no packet came out at the gateway: %v", p.g.Status().Drops)
		}
		back := packet(to, from, p.sealed)
		p.inner = nil
		if !p.g.tun.Inject(back) {
			p.w.Fatal("no room in the device")
		}
		p.live(50 * time.Millisecond)
		if len(p.inner) != 1 || !bytes.Equal(p.inner[0], back) {
			p.fails("%d packets came back through the tunnel: %v", len(p.inner), p.g.Status().Drops)
		}
	}
}

// browses is talks from its own address to the server behind the gateway.
func (p *peer) browses() {
	p.w.Helper()
	p.talks(p.address(), serverAddr)
}
