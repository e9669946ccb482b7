package personas

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// device is what a kind of peer does. A layout is the payloads of a message in the order of the
// wire; those for which there is no reason in a conversation are left out.
type device struct {
	name string

	ike     []string // proposals
	init    string   // layout of IKE_SA_INIT
	nonce   int      // octets
	vendors []string // vendor IDs in hex
	rfc7427 bool     // announces and makes signatures with other hashes than SHA-1
	// stubborn gives up where its first group is not taken, instead of trying the other.
	stubborn bool

	auth     string // layout of the first IKE_AUTH
	esp      []string
	cp       []message.AttributeType
	certReqs int // hashes in CERTREQ; 0 sends none
	fragment int // octets of UDP payload of its fragments; 0: as much as fits a packet of 1280

	ephemeral bool // sends from a port of its own
	fakesNAT  bool // its NAT_DETECTION_SOURCE_IP is wrong on purpose

	rekey    string   // layout of CREATE_CHILD_SA for a child; empty: the order of RFC 7296 §1.3.3
	rekeyESP []string // its proposals; nil: those of esp
	// rekeyIKE are the proposals for an IKE SA in place of another; nil: all again.
	rekeyIKE func(p *peer) []message.Proposal
	// Ages at which it replaces SAs, and the silence after which it asks; 0 never.
	ikeAge, childAge, liveness time.Duration
	keepalive                  time.Duration
	// margin is how much earlier than that it may be, and fuzz more of the same at random;
	// edges are the ages at which it tears SAs down that nobody has replaced.
	margin, childEdge, ikeEdge time.Duration
	// childRekeyed answers a request of the gateway's to replace a child; nil replaces it.
	childRekeyed func(p *peer, ps []message.Payload) []message.Payload
	// pfs refuses further children and replacements without a key exchange.
	pfs bool
	// narrow says what it makes of selectors that are asked of it; nil takes all. The
	// first are its own.
	narrow func(p *peer, own, other []message.Selector) (a, b []message.Selector, ok bool)
	// picks are the proposals that it takes as a responder, the most liked first; nil:
	// those that it offers.
	picksIKE, picksESP []string
}

// peer is one device.
type peer struct {
	*device
	w     *world
	g     *gateway
	host  *simnet.Host
	port  uint16 // that it sends from, before and behind the move to 4500
	moved bool
	to    netip.AddrPort // where it sends to
	inbox chan simnet.Datagram

	id, serverID pki.Identity // IDi and IDr; the zero one is not sent
	user         string       // by EAP
	cred         *pki.Credential
	psk          string
	mistypes     bool               // the password
	tsi, tsr     []message.Selector // that it asks for

	sa     *sa   // the one in use, nil while there is none
	old    []*sa // replaced, and not deleted yet
	kids   []*child
	lease  []netip.Prefix
	dns    []netip.Addr
	domain []string
	server *x509.Certificate

	waits  *pending
	inside netip.Addr // of a router: a host behind it
	heard  time.Time
	inner  [][]byte // packets that came out of the tunnel
	sealed int      // of which packet is the last

	replacing bool // the IKE SA
	rival     *sa  // what the gateway made while the device replaced the IKE SA itself

	// What the other side did: how often it replaced children and IKE SAs, what it was told.
	childRekeys, ikeRekeys int
	told                   []message.NotifyType
	exchanges              []message.ExchangeType // of its requests
}

// sa is an IKE SA.
type sa struct {
	initiator    bool
	spii, spir   message.SPI
	num          uint8 // of the proposal that was chosen
	suite        suite.Suite
	prf          suite.PRF
	keys         ike.IKEKeys
	seal, open   suite.Cipher
	iv           uint64
	next, expect uint32
	reply        [][]byte
	parts        message.Reassembly
	fragmented   bool // both know RFC 7383
	ni, nr       []byte
	realI, realR []byte // IKE_SA_INIT
	extra        ike.IntAuth
	plain        []byte // the last message of the other side as message.Plain
	since        time.Time
	early        time.Duration // before the age of the device
	lowest       []byte        // nonce of the exchange that made it
}

// inbound is a message that was opened.
type inbound struct {
	message.Header
	ps []message.Payload
}

// peer puts a device into the world: behind a NAT, or with a nat of nil in the open.
func (w *world) peer(d *device, g *gateway, addr netip.Addr, nat *simnet.NAT) *peer {
	w.Helper()
	p := &peer{device: d, w: w, g: g, port: 500, inbox: make(chan simnet.Datagram, 1000), tsi: everything(), tsr: everything()}
	if d.ephemeral {
		p.port = 40123
	}
	p.host = w.net.Host(d.name, usual, addr).Behind(nat)
	p.host.OnReceive(func(d simnet.Datagram) { p.inbox <- d })
	return p
}

// atHome puts it behind a NAT of its own, where most devices are.
func (w *world) atHome(d *device, g *gateway) *peer {
	w.Helper()
	return w.peer(d, g, privateAddr, w.net.NAT(natAddr, simnet.NATConfig{}))
}

// everything is what most clients ask for on both sides.
func everything() []message.Selector { return selectors("0.0.0.0/0", "::/0") }

func selectors(texts ...string) []message.Selector {
	var out []message.Selector
	for _, x := range texts {
		out = append(out, message.SelectorOf(netip.MustParsePrefix(x)))
	}
	return out
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// early is by how much it is ahead of its own times: once the margin, and at random up to
// once more.
func (p *peer) early() time.Duration {
	if p.margin == 0 {
		return 0
	}
	n := binary.BigEndian.Uint32(random(4))
	return p.margin + time.Duration(float64(n)/(1<<32)*float64(p.margin))
}

func newSPI() message.SPI { return message.SPI(binary.BigEndian.Uint64(random(8)) | 1) }

// local is where it sends from.
func (p *peer) local() netip.AddrPort {
	port := p.port
	if p.moved && !p.ephemeral {
		port = 4500
	}
	return netip.AddrPortFrom(p.host.Addr(), port)
}

// send sends an IKE message, marked on port 4500.
func (p *peer) send(raw []byte) {
	if p.moved {
		raw = append(make([]byte, 4), raw...)
	}
	p.host.Send(simnet.Datagram{From: p.local(), To: p.to, Data: raw})
}

// lay puts payloads into the order of a layout. What the parts have and the layout does
// not is a mistake of the table.
func (p *peer) lay(layout string, parts map[string][]message.Payload) []message.Payload {
	p.w.Helper()
	var out []message.Payload
	for word := range strings.FieldsSeq(layout) {
		ps, ok := parts[word]
		if !ok {
			p.w.Fatalf("%s: nobody knows what %s is", p.name, word)
		}
		out = append(out, ps...)
		delete(parts, word)
	}
	return out
}

func notify(t message.NotifyType, data ...byte) []message.Payload {
	return []message.Payload{&message.Notify{Notify: t, Data: data}}
}

// seal seals a message in fragments as the device makes them.
func (p *peer) seal(s *sa, h message.Header, ps []message.Payload) [][]byte {
	p.w.Helper()
	most := 0
	if s.fragmented {
		// The UDP payload has the non-ESP marker too.
		if most = p.fragment - 4; p.fragment == 0 {
			most = 1248
		}
	}
	grams := message.Seal(h, ps, s.seal, func() uint64 { s.iv++; return s.iv }, most)
	if grams == nil {
		p.w.Fatalf("%s: payloads cannot be sealed", p.name)
	}
	return grams
}

func (s *sa) header(kind message.ExchangeType, id uint32, response bool) message.Header {
	h := message.Header{SPIi: s.spii, SPIr: s.spir, Exchange: kind, MessageID: id}
	if s.initiator {
		h.Flags |= message.FlagInitiator
	}
	if response {
		h.Flags |= message.FlagResponse
	}
	return h
}

// receive takes the next datagram, until a time.
func (p *peer) receive(until time.Time) (simnet.Datagram, bool) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case d := <-p.inbox:
		return d, true
	case <-timer.C:
		return simnet.Datagram{}, false
	}
}

// ask makes an exchange and gives the answer; meanwhile it does what it is asked. A device
// that gets no answer has lost, and so has the test.
func (p *peer) ask(s *sa, kind message.ExchangeType, ps ...message.Payload) []message.Payload {
	p.w.Helper()
	id := s.next
	s.next++
	for _, raw := range p.seal(s, s.header(kind, id, false), ps) {
		p.send(raw)
	}
	for until := time.Now().Add(10 * time.Second); ; {
		d, ok := p.receive(until)
		if !ok {
			p.w.Fatalf("%s: no answer to %v %d; the gateway says %v", p.name, kind, id, p.g.failures())
		}
		if m := p.take(d); m != nil && m.IsResponse() && m.MessageID == id && m.Exchange == kind && m.SPIi == s.spii {
			return m.ps
		}
	}
}

// take does with a datagram what is due, and gives answers back.
func (p *peer) take(d simnet.Datagram) *inbound {
	p.w.Helper()
	raw := d.Data
	if d.From.Port() == 4500 || d.To.Port() == 4500 {
		switch {
		case len(raw) == 1:
			return nil // a NAT keepalive
		case binary.BigEndian.Uint32(raw) != 0:
			p.takeESP(raw)
			return nil
		}
		raw = raw[4:]
	}
	m, s := p.open(raw)
	if m != nil {
		p.to = d.From
	}
	if m == nil || m.IsResponse() {
		return m
	}
	p.serve(s, m)
	return nil
}

// open opens a message of any of its SAs; nil for what is not for it, or not yet whole.
func (p *peer) open(raw []byte) (*inbound, *sa) {
	p.w.Helper()
	h, err := message.ParseHeader(raw)
	if err != nil {
		p.w.Fatalf("%s: %v", p.name, err)
	}
	i := slices.IndexFunc(p.sas(), func(s *sa) bool { return s.spii == h.SPIi && s.spir == h.SPIr })
	if h.Exchange == message.IKESAInit || i < 0 {
		return nil, nil
	}
	s := p.sas()[i]
	h, e, text, err := message.Open(slices.Clone(raw), s.open)
	if err != nil {
		p.w.Fatalf("%s: %v: %v", p.name, h.Exchange, err)
	}
	p.heard = time.Now()
	first := e.First
	if e.Fragment != 0 {
		if !s.fragmented {
			p.w.Fatalf("%s: got fragments without having said that it knows them", p.name)
		}
		var done bool
		if first, text, done = s.parts.Add(h.MessageID, e, text); !done {
			return nil, nil
		}
	}
	ps, err := message.ParsePayloads(first, text)
	if err != nil {
		p.w.Fatalf("%s: %v: %v", p.name, h.Exchange, err)
	}
	s.plain = message.Plain(h, first, text)
	return &inbound{h, ps}, s
}

func (p *peer) sas() []*sa {
	if p.sa == nil {
		return p.old
	}
	return append([]*sa{p.sa}, p.old...)
}

// serve answers a request of the gateway.
func (p *peer) serve(s *sa, m *inbound) {
	p.w.Helper()
	if m.MessageID+1 == s.expect {
		for _, raw := range s.reply {
			p.send(raw)
		}
		return
	}
	if m.MessageID != s.expect {
		p.w.Fatalf("%s: request %d came, %d was due", p.name, m.MessageID, s.expect)
	}
	s.expect++
	p.exchanges = append(p.exchanges, m.Exchange)
	for _, x := range m.ps {
		if n, ok := x.(*message.Notify); ok {
			p.told = append(p.told, n.Notify)
		}
	}
	var answer []message.Payload
	var after func()
	switch m.Exchange {
	case message.Informational:
		answer, after = p.informed(s, m.ps)
	case message.CreateChildSA:
		answer = p.created(s, m.ps)
	case message.IKEFollowupKE:
		answer = p.followedUp(m.ps)
	case message.IKEAuth:
		answer = p.authAnswer(s, m.ps)
	default:
		p.w.Fatalf("%s: the gateway asks %v", p.name, m.Exchange)
	}
	s.reply = p.seal(s, s.header(m.Exchange, m.MessageID, true), answer)
	for _, raw := range s.reply {
		p.send(raw)
	}
	if after != nil {
		after()
	}
}

// informed answers INFORMATIONAL.
func (p *peer) informed(s *sa, ps []message.Payload) (answer []message.Payload, after func()) {
	for _, x := range ps {
		switch x := x.(type) {
		case *message.Notify:
			if x.Notify == message.Cookie2 {
				answer = append(answer, x)
			}
		case *message.Delete:
			if x.Protocol == suite.ProtocolIKE {
				return nil, func() { p.forget(s) }
			}
			var own []uint32
			for _, spi := range x.SPIs {
				if c := p.kidByOut(spi); c != nil {
					own = append(own, c.spiIn)
					p.kids = slices.DeleteFunc(p.kids, func(k *child) bool { return k == c })
				}
			}
			if len(own) > 0 {
				answer = append(answer, &message.Delete{Protocol: suite.ProtocolESP, SPIs: own})
			}
		}
	}
	return answer, nil
}

// forget forgets an SA, and all of it where it was the one in use.
func (p *peer) forget(s *sa) {
	p.old = slices.DeleteFunc(p.old, func(x *sa) bool { return x == s })
	if p.sa == s {
		p.sa, p.kids = nil, nil
	}
}

// hangUp deletes the SA, as the person who uses the device does.
func (p *peer) hangUp() {
	p.w.Helper()
	s := p.sa
	if ps := p.ask(s, message.Informational, &message.Delete{Protocol: suite.ProtocolIKE}); len(ps) != 0 {
		p.w.Errorf("%s: the answer to DELETE has %v", p.name, ps)
	}
	p.forget(s)
}

// live lets time go by, and does what the device does then.
func (p *peer) live(d time.Duration) {
	p.w.Helper()
	end := time.Now().Add(d)
	kept := time.Now()
	for {
		next := end
		due := func(from time.Time, age time.Duration) time.Time {
			if at := from.Add(age); age > 0 && at.Before(next) {
				next = at
			}
			return from.Add(age)
		}
		var ikeAt, askAt, keepAt time.Time
		if p.sa != nil {
			ikeAt, askAt, keepAt = due(p.sa.since, p.ikeAge-p.sa.early), due(p.heard, p.liveness), due(kept, p.keepalive)
			for _, c := range p.kids {
				due(c.since, p.childAge-c.early)
				due(c.since, p.childEdge)
			}
			due(p.sa.since, p.ikeEdge)
		}
		if d, ok := p.receive(next); ok {
			p.take(d)
			continue
		}
		now := time.Now()
		if p.sa != nil && (p.ikeEdge > 0 && now.Sub(p.sa.since) >= p.ikeEdge || p.childEdge > 0 && slices.ContainsFunc(p.kids, func(c *child) bool { return now.Sub(c.since) >= p.childEdge })) {
			p.fails("nobody has replaced an SA in time, and it is torn down")
		}
		passed := func(at time.Time, age time.Duration) bool { return age > 0 && !now.Before(at) }
		if !now.Before(end) {
			return
		}
		switch i := slices.IndexFunc(p.kids, func(c *child) bool { return passed(c.since.Add(p.childAge-c.early), p.childAge) }); {
		case i >= 0:
			p.rekeyChild(p.kids[i])
		case passed(ikeAt, p.ikeAge):
			p.rekeyIKESA()
		case passed(askAt, p.liveness):
			p.ask(p.sa, message.Informational)
		case passed(keepAt, p.keepalive):
			kept = now
			p.host.Send(simnet.Datagram{From: p.local(), To: p.to, Data: []byte{0xff}})
		}
	}
}

// fails stops the test with what the device would show.
func (p *peer) fails(format string, args ...any) {
	p.w.Helper()
	p.w.Fatalf("%s: %s; the gateway says %v", p.name, fmt.Sprintf(format, args...), p.g.failures())
}
