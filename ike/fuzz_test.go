package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// FuzzEngine lets bytes decide what happens to a client and a gateway: what the
// network loses, repeats and damages, what strangers send, and what a peer sends that
// has the keys. Nothing may panic, and after the end nothing may be left.
func FuzzEngine(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 3, 0, 0, 2, 9, 0, 0, 5, 30, 1, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 7, 3, 41, 40, 0, 0, 0, 8, 3, 4, 64, 9, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 7, 2, 33, 60, 44, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 0, 0, 8, 0})
	f.Add([]byte{2, 0, 0, 6, 4, 35, 20, 41, 0, 0, 12, 2, 0, 0, 0, 1, 0, 5, 9, 0, 6, 0, 6, 10, 0})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 48, 8, 0, 0, 0, 8, 2, 1, 0, 4, 0, 0, 0, 0})
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0})
	f.Add([]byte{3, 0, 0, 11, 40, 0, 0, 12, 7, 7, 7, 0, 0, 0, 5, 200, 8, 0, 8, 1, 9, 0})
	f.Add([]byte{4, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 7, 43, 34, 8, 0, 0, 0, 0, 0, 0, 7, 44, 34, 8, 41, 0, 0, 0, 0})
	client, gateway := certPair(f, pki.ECDSAP256, pki.ECDSAP256)
	client.Children = append(client.Children, &ChildConfig{Name: "more", Proposals: espProposals(f, "aes256gcm16-ecp256"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16")})
	client.FragmentSize = 500
	pskClient, pskGateway := pskPair(f)
	virtualPair(pskClient, pskGateway)
	pskClient.Proposals = ikeProposals(f, "aes128-sha256-ecp256-x25519", "aes256gcm16-prfsha256-x25519")
	eapClient, eapGateway := eapPair(f)
	hybridClient, hybridGateway := hybridChildren(f)
	hybridClient.PPKs, hybridGateway.PPKs = ppks("k"), ppks("j", "k")
	twiceClient, twiceGateway := certPair(f, pki.ECDSAP256, pki.ECDSAP256)
	login, serve := eapPair(f, eap.TypeTTLS)
	twiceClient.Local.Next, twiceGateway.Remote.Next = &login.Local, &serve.Remote
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		in := &fuzzInput{data: data}
		c, g := client, gateway
		switch in.byte() % 5 {
		case 1:
			c, g = pskClient, pskGateway
		case 2:
			c, g = eapClient, eapGateway
		case 3:
			c, g = twiceClient, twiceGateway
		case 4:
			c, g = hybridClient, hybridGateway
		}
		w, a, b := eapHosts(t, c, g)
		b.admit = func(Admit) Admission { return Admission{Lease: testLease} }
		a.initiate("home", b)
		for ops := 0; len(in.data) > 0 && ops < 200; ops++ {
			in.act(w, a, b)
			if a.count(DropPanic)+b.count(DropPanic) != 0 {
				for _, h := range w.nodes {
					for _, d := range found[Down](h) {
						if d.Err != nil && d.Err.Code == CodeInternal {
							t.Errorf("%s: %s\n%s", h.name, d.Err.What, d.Err.Detail)
						}
					}
				}
				t.Fatal("a panic")
			}
			for _, h := range w.nodes {
				for s := h.e.first; s != nil; s = s.next {
					if s.state == stateEstablished && (s.remote.IsZero() || s.keys.D == nil) {
						t.Fatal("established without AUTH")
					}
				}
			}
		}
		w.fate = nil
		for range 2 {
			for _, h := range w.nodes {
				h.handle(Terminate{})
			}
			w.run(5 * time.Minute)
		}
		empty(t, a, b)
	})
}

// fuzzInput is bytes that are used up.
type fuzzInput struct{ data []byte }

func (in *fuzzInput) byte() byte {
	if len(in.data) == 0 {
		return 0
	}
	x := in.data[0]
	in.data = in.data[1:]
	return x
}

// some is as many of the bytes as the next one says, up to a limit.
func (in *fuzzInput) some() []byte {
	n := min(int(in.byte()), len(in.data))
	x := in.data[:n]
	in.data = in.data[n:]
	return x
}

// act does one thing.
func (in *fuzzInput) act(w *world, a, b *host) {
	op := in.byte()
	h, far := a, b
	if op&0x80 != 0 {
		h, far = b, a
	}
	switch op & 0x7f % 13 {
	case 0, 1: // go on
		w.step(w.now.Add(10 * time.Second))
	case 2: // lose
		if len(w.wires) > 0 {
			w.wires = slices.DeleteFunc(w.wires, func(f *flight) bool { _, ok := f.ev.(Datagram); return ok && f == w.wires[0] })
		}
	case 3: // repeat
		if len(w.wires) > 0 {
			if d, ok := w.wires[0].ev.(Datagram); ok {
				w.post(time.Duration(in.byte())*time.Millisecond, w.wires[0].to, Datagram{d.Path, slices.Clone(d.Data)})
			}
		}
	case 4: // damage
		if len(w.wires) > 0 {
			if d, ok := w.wires[0].ev.(Datagram); ok {
				d.Data[(int(in.byte())<<8|int(in.byte()))%len(d.Data)] ^= in.byte() | 1
			}
		}
	case 5: // time passes
		w.run(time.Duration(in.byte()) * 200 * time.Millisecond)
	case 6: // a stranger's bytes
		h.deliver(far, in.some())
	case 7, 8: // the peer, with the keys: payloads from the input
		in.craft(h, far)
	case 9:
		h.handle(Terminate{})
	case 10:
		for _, s := range h.e.Statuses() {
			for _, c := range s.Children {
				h.handle(CloseChild{c.ID})
			}
		}
	case 11:
		h.handle(Acquire{Connection: h.e.cfg.Connections[0].Name, Child: h.e.cfg.Connections[0].Children[0].Name})
	case 12: // an old message of the peer, perhaps from elsewhere
		if n := len(far.sent); n > 0 {
			p := h.path(far, true)
			if in.byte()&1 != 0 {
				p.Remote = netip.MustParseAddrPort("203.0.113.66:666")
			}
			h.deliverOn(p, far.sent[int(in.byte())%n].Data)
		}
	}
}

// craft seals bytes of the input as far's SA would.
func (in *fuzzInput) craft(h, far *host) {
	s := far.e.last
	if s == nil || s.seal == nil {
		return
	}
	kind := []message.ExchangeType{message.IKEAuth, message.CreateChildSA, message.Informational, message.IKEIntermediate}[in.byte()%4]
	mode := in.byte()
	var flags message.Flags
	id := s.nextID
	if mode&1 != 0 {
		flags, id = message.FlagResponse, s.expectID
	}
	id += uint32(mode >> 6)
	first := message.PayloadType(in.byte())
	text := in.some()
	h.deliver(far, craftRaw(s, kind, id, flags, first, text))
	if mode&2 != 0 {
		s.nextID++ // as if it had been a request of the engine's
	}
}

// craftRaw seals any octets as the payloads of a message.
func craftRaw(s *ikeSA, kind message.ExchangeType, id uint32, flags message.Flags, first message.PayloadType, text []byte) []byte {
	raw := (&message.Message{Header: s.header(kind, id, flags)}).Append(nil)
	raw[16] = byte(message.TypeSK)
	raw = append(raw, byte(first), 0, 0, 0)
	head := len(raw)
	block := s.seal.BlockLen()
	pad := (block - (len(text)+1)%block) % block
	raw = append(raw, make([]byte, s.seal.IVLen())...)
	raw = append(raw, text...)
	raw = append(raw, make([]byte, pad)...)
	raw = append(raw, byte(pad))
	raw = append(raw, make([]byte, s.seal.ICVLen())...)
	n := len(raw) - message.HeaderLen
	raw[message.HeaderLen+2], raw[message.HeaderLen+3] = byte(n>>8), byte(n)
	raw[26], raw[27] = byte(len(raw)>>8), byte(len(raw))
	s.seal.Seal(raw, head, s.nextIV(), suite.ESN{})
	return raw
}

// FuzzInside gives one message with real keys to a standing SA of each role, and to a
// half-open one: the payloads are the input.
func FuzzInside(f *testing.F) {
	client, gateway := pskPair(f)
	client.Liveness, gateway.Liveness = -1, -1
	_, a, _, _ := halfOpen(f, client, gateway)
	for _, ps := range [][]message.Payload{
		authPayloads(f, a),
		{&message.Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{1, 2}}},
		{&message.Delete{Protocol: suite.ProtocolIKE}},
		{notify(message.RekeySA), &message.Nonce{Data: make([]byte, 32)}},
		{&message.Config{Kind: message.ConfigRequest, Attributes: []message.Attribute{{Type: message.InternalIP4Address}}}},
		{&message.EAP{Data: []byte{1, 1, 0, 4}}},
		{&message.EAP{Data: []byte{2, 1, 0, 6, 1, 'x'}}},
		{&message.Auth{Method: message.AuthPSK, Data: make([]byte, 32)}},
		{mlkemKE()},
		{mlkemKE(), notifyData(message.AdditionalKeyExchange, []byte("link"))},
		{&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1088)}},
	} {
		text := message.AppendPayloads(nil, ps)
		for kind := range byte(5) {
			f.Add(kind, byte(message.FirstType(ps)), text)
		}
	}
	f.Fuzz(func(t *testing.T, which, first byte, text []byte) {
		if len(text) > 60000 {
			return
		}
		kind := []message.ExchangeType{message.IKEAuth, message.CreateChildSA, message.Informational, message.IKEIntermediate, message.IKEFollowupKE}[which%5]
		states := []string{"half-open", "auth-sent", "eap-due", "eap-over", "eap-sent", "established-i", "established-r", "asking", "deleting"}
		if kind == message.IKEIntermediate || kind == message.IKEFollowupKE {
			states = []string{"half-open-hybrid", "intermediate-sent", "following"}
		}
		for _, state := range states {
			x := situations(t, state)
			for _, response := range []bool{false, true} {
				id, flags := x.dueID, message.Flags(0)
				if response {
					id, flags = x.ourID, message.FlagResponse
				}
				x.h.deliver(x.far, craftRaw(x.peer, kind, id, flags, message.PayloadType(first), text))
				x.w.run(time.Millisecond)
			}
			if x.h.count(DropPanic) != 0 {
				for _, d := range found[Down](x.h) {
					t.Error(d.Err.What, d.Err.Detail)
				}
				t.Fatal("a panic")
			}
		}
	})
}
