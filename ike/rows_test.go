package ike

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// The tests of this file are named after the rows of the list of what went wrong before
// (security.md section 1).

// halfOpen is a client that waits for the answer to IKE_AUTH and a gateway that waits
// for the request, which was not delivered: auth is it.
func halfOpen(t testing.TB, client, gateway *Connection) (w *world, a, b *host, auth []byte) {
	t.Helper()
	w, a, b = pair(t, client, gateway)
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && (h.Exchange == message.IKEAuth || h.Exchange == message.IKEIntermediate) {
			auth = s.Data
			return 0
		}
		return 1
	}
	a.initiate(client.Name, b)
	w.run(100 * time.Millisecond)
	if auth == nil || engineOf(b).state != stateConnecting {
		t.Fatal("not half-open")
	}
	return w, a, b, auth
}

// authPayloads is what the client would send in IKE_AUTH.
func authPayloads(t testing.TB, a *host) []message.Payload {
	t.Helper()
	s := engineOf(a)
	task, ok := s.active.(*authTask)
	if !ok {
		t.Fatal("not in IKE_AUTH")
	}
	octets := s.signedOctets(true, task.id)
	return task.payloads(s, []message.Payload{&message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, s.conn.Local.PSK, octets)}})
}

func TestRow01MessagesWithoutPayloads(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b, _ := halfOpen(t, client, gateway)
	sa := engineOf(a)
	// Announced and not there.
	for next := range 256 {
		for _, kind := range []message.ExchangeType{message.IKESAInit, message.IKEAuth, message.CreateChildSA, message.Informational, 38, 43} {
			m := message.Message{Header: message.Header{SPIi: sa.spii, SPIr: sa.spir, Exchange: kind, Flags: message.FlagInitiator, MessageID: 1}}
			if kind == message.IKESAInit {
				m.SPIr, m.MessageID = 0, 0
			}
			raw := m.Append(nil)
			raw[16] = byte(next)
			b.deliver(a, raw)
		}
	}
	if b.count(DropPanic) != 0 || engineOf(b).state != stateConnecting {
		t.Error("a message without payloads did something")
	}
	// Inside SK: nothing at all, and each payload missing in turn.
	whole := authPayloads(t, a)
	for missing := range whole {
		t.Run(whole[missing].Type().String(), func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b, _ := halfOpen(t, client, gateway)
			ps := slices.Delete(authPayloads(t, a), missing, missing+1)
			b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, ps...))
			w.run(time.Millisecond)
			optional := whole[missing].Type() == message.TypeIDr || whole[missing].Type() == message.TypeNotify
			if up := len(b.established()) == 1; up != optional {
				t.Errorf("without %v: established %v", whole[missing].Type(), up)
			}
			if len(sentOf(b, message.IKEAuth, true)) != 1 && !optional {
				t.Error("no answer")
			}
		})
	}
}

func TestRow07PlantedPanic(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness = -1
	gateway.Liveness = -1
	w := newWorld(t)
	b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway}})
	var clients []*host
	for i := range 100 {
		c := w.add(fmt.Sprint("client", i), fmt.Sprintf("192.0.2.%d", i+1), &Config{Connections: []*Connection{client}})
		clients = append(clients, c)
		c.initiate("home", b)
	}
	w.run(time.Second)
	if n := len(b.established()); n != 100 {
		t.Fatalf("%d SAs", n)
	}
	places := []string{"INFORMATIONAL", "CREATE_CHILD_SA", "task", "tick", "answer", "close child", "terminate"}
	for i, where := range places {
		victim := clients[i]
		s := engineOf(victim)
		mine := b.e.sas[s.spir]
		b.e.trap = func(at string, x *ikeSA) {
			if at == where && x == mine {
				var p *ikeSA
				_ = p.state // a nil dereference, as a real fault would be
			}
		}
		switch where {
		case "INFORMATIONAL":
			victim.handle(Terminate{})
		case "CREATE_CHILD_SA":
			b.deliver(victim, craft(t, s, message.CreateChildSA, s.nextID, 0))
		case "task":
			b.handle(CloseChild{mine.children[0].ID})
		case "tick":
			mine.set(dueLiveness, w.now)
			b.handle(Tick{})
		case "answer":
			mine.conn = &Connection{Name: "rw"}
			mine.set(dueLiveness, w.now)
			b.handle(Tick{})
			w.run(time.Millisecond)
		case "close child":
			b.handle(CloseChild{mine.children[0].ID})
		case "terminate":
			b.handle(Terminate{SA: mine.id()})
		}
		w.run(10 * time.Millisecond)
		b.e.trap = nil
		if got := b.count(DropPanic); got != uint64(i+1) {
			t.Errorf("%s: %d panics counted, want %d", where, got, i+1)
		}
		if n := len(b.established()); n != 99-i {
			t.Errorf("%s: %d SAs left, want %d", where, n, 99-i)
		}
		if n := len(b.installed); n != 99-i {
			t.Errorf("%s: %d children left, want %d", where, n, 99-i)
		}
	}
	for _, d := range found[Down](b) {
		if d.Err == nil || d.Err.Code != CodeInternal || d.Err.Detail == "" {
			t.Errorf("report %+v", d)
		}
	}
	// The others live.
	for _, c := range clients[len(places):] {
		c.poke((*ikeSA).check)
	}
	w.run(time.Second)
	if n := len(b.established()); n != 100-len(places) {
		t.Errorf("%d SAs left", n)
	}
	// One before there is an SA.
	b.e.trap = func(at string, _ *ikeSA) {
		if at == "IKE_SA_INIT request" {
			panic("planted")
		}
	}
	b.deliverOn(b.path(clients[0], false), initRequest(t, clients[0], b))
	if b.count(DropPanic) != uint64(len(places)+1) || len(b.established()) != 100-len(places) {
		t.Error("a panic at the door cost an SA")
	}
}

func TestRow10KEWithAllGroups(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := pair(t, client, gateway)
	raw := initRequest(t, a, b)
	m, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	ke, _ := message.Find[*message.KE](m.Payloads)
	good := *ke
	for group := range 65536 {
		if uint16(group) == good.Method {
			continue
		}
		ke.Method = uint16(group)
		b.deliverOn(b.path(a, false), m.Append(nil))
	}
	if b.count(DropInvalidKE) != 65535 || len(b.e.Statuses()) != 0 {
		t.Errorf("%d of 65535 other groups answered", b.count(DropInvalidKE))
	}
	for _, n := range []int{0, 1, 31, 33, 64, 2000} {
		*ke = message.KE{Method: good.Method, Data: make([]byte, n)}
		b.deliverOn(b.path(a, false), m.Append(nil))
	}
	if len(b.e.Statuses()) != 0 || b.count(DropPanic) != 0 {
		t.Error("a KE of the wrong length made state")
	}
}

func TestRow11PayloadTypes(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	for number := range 256 {
		sa := engineOf(a)
		known := message.PayloadType(number) >= 33 && message.PayloadType(number) <= 48 || number == 53 || number == 54 || number == 0
		if known {
			continue
		}
		b.sent = nil
		b.deliver(a, craft(t, sa, message.Informational, sa.nextID, 0, &message.Unknown{Number: message.PayloadType(number), Body: []byte{1}}))
		sa.nextID++
		if len(b.sent) != 1 {
			t.Fatalf("type %d, not critical: no answer", number)
		}
		b.sent = nil
		b.deliver(a, craft(t, sa, message.Informational, sa.nextID, 0, &message.Unknown{Number: message.PayloadType(number), Critical: true}))
		sa.nextID++
		_, e, text, err := message.Open(slices.Clone(b.sent[0].Data), sa.open)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := message.ParsePayloads(e.First, text)
		if err != nil {
			t.Fatal(err)
		}
		if n := message.FindNotify(ps, message.UnsupportedCriticalPayload); n == nil || !bytes.Equal(n.Data, []byte{byte(number)}) {
			t.Errorf("type %d, critical: answer %v", number, ps)
		}
	}
	w.run(time.Second)
	agree(t, a, b, 1)
	// IKEv1 on our port.
	v1 := sentOf(a, message.IKESAInit, false)[0]
	v1 = slices.Clone(v1)
	v1[17] = 0x10
	b.sent = nil
	b.deliverOn(b.path(a, false), v1)
	if len(b.sent) != 0 || b.count(DropVersion) != 1 {
		t.Error("IKEv1 was answered")
	}
}

func TestRow12ProposalsLackingTypes(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := pair(t, client, gateway)
	raw := initRequest(t, a, b)
	for _, missing := range []suite.TransformType{suite.TypeEncr, suite.TypePRF, suite.TypeKE} {
		m, err := message.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		sa, _ := message.Find[*message.SA](m.Payloads)
		sa.Proposals[0].Proposal = sa.Proposals[0].Without(missing)
		b.deliverOn(b.path(a, false), m.Append(nil))
		sa.Proposals[0].Transforms = nil
		b.deliverOn(b.path(a, false), m.Append(nil))
		sa.Proposals[0].Proposal = suite.Proposal{Protocol: suite.ProtocolESP, Transforms: client.Proposals[0].Transforms}
		sa.Proposals[0].SPI = make([]byte, 4)
		b.deliverOn(b.path(a, false), m.Append(nil))
	}
	if b.count(DropNoProposal) != 9 || len(b.e.Statuses()) != 0 {
		t.Errorf("%d of 9 refused", b.count(DropNoProposal))
	}
}

// TestRow14NotifyAndDeleteOfEveryProtocol: also the answers are made of hostile fields.
func TestRow14NotifyAndDeleteOfEveryProtocol(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	sa := engineOf(a)
	out := b.onlyChild().SPIOut
	child := (&childOffer{spi: 0x4711, proposals: client.Children[0].Proposals, tsi: client.Children[0].Local, tsr: client.Children[0].Remote}).payloads(&message.Nonce{Data: make([]byte, 32)})
	for protocol := range 256 {
		for _, size := range []int{0, 1, 3, 4, 5, 8, 255} {
			n := &message.Notify{Protocol: suite.Protocol(protocol), SPI: make([]byte, size), Notify: message.RekeySA}
			b.sent = nil
			b.deliver(a, craft(t, sa, message.CreateChildSA, sa.nextID, 0, append([]message.Payload{n}, child...)...))
			sa.nextID++
			if len(b.sent) != 1 {
				t.Fatalf("protocol %d, SPI of %d: %d answers", protocol, size, len(b.sent))
			}
		}
		if protocol != int(suite.ProtocolIKE) && protocol != int(suite.ProtocolESP) {
			b.deliver(a, craft(t, sa, message.Informational, sa.nextID, 0, &message.Delete{Protocol: suite.Protocol(protocol), SPIs: []uint32{out, 0, 1}}))
			sa.nextID++
		}
	}
	w.run(time.Second)
	agree(t, a, b, 1)
	// The same SPI many times in one delete is one child.
	b.deliver(a, craft(t, sa, message.Informational, sa.nextID, 0, &message.Delete{Protocol: suite.ProtocolESP, SPIs: slices.Repeat([]uint32{out}, 1000)}))
	if len(b.installed) != 0 || len(found[ChildDown](b)) != 1 {
		t.Error("not deleted once")
	}
}

func TestRow15ExchangesOutOfOrder(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b, auth := halfOpen(t, client, gateway)
	sa, sb := engineOf(a), engineOf(b)
	before := len(b.sent)
	for _, kind := range []message.ExchangeType{message.CreateChildSA, message.Informational, message.IKESessionResume, message.IKEIntermediate, message.IKEFollowupKE, 0, 255} {
		b.deliver(a, craft(t, sa, kind, 1, 0, &message.Delete{Protocol: suite.ProtocolIKE}))
		a.deliver(b, craft(t, sb, kind, 0, 0, &message.Delete{Protocol: suite.ProtocolIKE}))
	}
	if len(b.sent) != before || sb.state != stateConnecting || sa.state != stateConnecting {
		t.Error("an exchange before IKE_AUTH did something")
	}
	b.deliver(a, auth)
	if len(b.established()) != 0 {
		t.Error("established before Admit was answered")
	}
	b.w.run(time.Second)
	if len(b.established()) != 1 {
		t.Error("the right IKE_AUTH was spoilt")
	}
}

func TestRow17UnknownPayloadsBeforeSKF(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	w, a, b := up(t, client, gateway)
	sa := engineOf(a)
	fragment := message.Seal(sa.header(message.Informational, sa.nextID, 0), []message.Payload{&message.VendorID{Data: make([]byte, 1500)}}, sa.seal, sa.nextIV, 500)[0]
	for _, n := range []int{1, 99, 100, 255} {
		raw := slices.Clone(fragment[:message.HeaderLen])
		first := raw[16]
		raw[16] = 200
		for i := range n {
			next := byte(200)
			if i == n-1 {
				next = first
			}
			raw = append(raw, next, 0, 0, 4)
		}
		raw = append(raw, fragment[message.HeaderLen:]...)
		raw[24], raw[25], raw[26], raw[27] = 0, 0, byte(len(raw)>>8), byte(len(raw))
		b.deliver(a, raw)
	}
	if b.count(DropPanic) != 0 {
		t.Error("a panic")
	}
	w.run(time.Second)
	agree(t, a, b, 1)
}

func TestRow19LongIdentities(t *testing.T) {
	for _, kind := range []uint8{0, 1, 2, 3, 5, 9, 10, 11, 13, 255} {
		for _, n := range []int{0, 1, 4, 16, 1000, 60000} {
			client, gateway := pskPair(t)
			_, a, b, _ := halfOpen(t, client, gateway)
			ps := authPayloads(t, a)
			ps[0] = &message.ID{Kind: kind, Data: bytes.Repeat([]byte{0, '%', 's', '\n'}, (n+3)/4)[:n]}
			b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, ps...))
			if c := b.downCode(); c != CodeIdentity {
				t.Errorf("type %d, %d octets: code %s", kind, n, c)
			}
			text := found[Down](b)[0].Err.What
			if len(text) > 2000 || bytes.ContainsAny([]byte(text), "\n\x00") {
				t.Errorf("type %d, %d octets: shown as %d octets", kind, n, len(text))
			}
		}
	}
}

func TestRow21Fragments(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b := up(t, client, gateway)
	sa, sb := engineOf(a), engineOf(b)
	part := func(id uint32, number, total uint16, size int) {
		// A fragment is made from an SKF message of two, with other numbers. The
		// numbers are authenticated, so that they are set before it is sealed.
		raw := craftFragment(sa, id, number, total, size)
		b.deliver(a, raw)
	}
	for _, c := range [][2]uint16{{0, 0}, {0, 1}, {2, 1}, {1, 65}, {1, 65535}, {65535, 65535}, {65, 65}} {
		part(sa.nextID, c[0], c[1], 100)
		if _, pending := sb.requests.Pending(); pending {
			t.Errorf("fragment %d of %d is kept", c[0], c[1])
			sb.requests.Reset()
		}
	}
	part(sa.nextID, 1, 2, 100)
	part(sa.nextID, 2, 3, 0)   // total changes: begun anew
	part(sa.nextID, 1, 2, 100) // late
	part(sa.nextID+1, 1, 2, 1) // another message, ahead of the window
	for i := range uint16(64) {
		part(sa.nextID, i+1, 64, 2000) // more than is put together
	}
	if sb.expectID != sa.nextID {
		t.Error("one of these was taken for a whole message")
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.run(time.Minute)
	if len(b.established()) != 1 || b.count(DropPanic) != 0 {
		t.Error("the SA suffered")
	}
}

// craftFragment seals an SKF payload of any numbers around size octets.
func craftFragment(s *ikeSA, id uint32, number, total uint16, size int) []byte {
	h := s.header(message.Informational, id, 0)
	raw := (&message.Message{Header: h}).Append(nil)
	raw[16] = byte(message.TypeSKF)
	raw = append(raw, 0, 0, 0, 0, byte(number>>8), byte(number), byte(total>>8), byte(total))
	head := len(raw)
	raw = append(raw, make([]byte, s.seal.IVLen()+size+1+s.seal.ICVLen())...)
	n := len(raw) - message.HeaderLen
	raw[message.HeaderLen+2], raw[message.HeaderLen+3] = byte(n>>8), byte(n)
	raw[26], raw[27] = byte(len(raw)>>8), byte(len(raw))
	s.seal.Seal(raw, head, s.nextIV(), suite.ESN{})
	return raw
}

func TestRow23NothingLeaks(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	raw := initRequest(t, a, b)
	auth := sentOf(a, message.IKEAuth, false)[0]
	hostile := func(rounds int) {
		for i := range rounds {
			x := slices.Clone(raw)
			x[30+i%(len(x)-30)] ^= byte(1 + i%255)
			x[0] = byte(i)
			b.deliverOn(b.path(a, false), x)
			y := slices.Clone(auth)
			y[i%len(y)] ^= byte(1 + i%255)
			b.deliver(a, y)
			b.sent, b.reports, b.asked, w.wires, w.trace = nil, nil, nil, nil, nil
		}
		w.run(40 * time.Second)
		b.sent, b.reports, w.wires, w.trace = nil, nil, nil, nil
		a.sent, a.reports = nil, nil
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	hostile(2000)
	before := heap()
	hostile(20000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("heap grew by %d octets", after-before)
	}
	if len(b.e.sas) != 1 || len(b.e.inits) != 0 || len(b.e.asks) != 0 || b.e.gate.total != 0 {
		t.Errorf("left: %d SAs, %d inits, %d asks, %d half-open", len(b.e.sas), len(b.e.inits), len(b.e.asks), b.e.gate.total)
	}
	agree(t, a, b, 1)
}

// TestRow27Established: only with both AUTH verified, whatever comes before.
func TestRow27Established(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	w, a, b := pair(t, client, gateway)
	check := func(h *host) {
		s := h.e.first
		if s == nil || s.state != stateEstablished {
			return
		}
		if len(found[Established](h)) == 0 {
			t.Error("established without a report")
		}
		if s.remote.IsZero() || s.local.IsZero() || s.realI != nil {
			t.Error("established without IKE_AUTH")
		}
	}
	a.initiate("home", b)
	for w.step(w.now.Add(time.Second)) {
		check(a)
		check(b)
		for _, h := range []*host{a, b} {
			other := b
			if h == b {
				other = a
			}
			if s := h.e.first; s != nil && s.seal != nil && s.state == stateConnecting {
				// A rekeying and a child before IKE_AUTH.
				for _, flags := range []message.Flags{0, message.FlagResponse} {
					other.deliver(h, craft(t, s, message.CreateChildSA, 1, flags, &message.Nonce{Data: make([]byte, 32)}))
				}
			}
		}
	}
	agree(t, a, b, 1)
}
