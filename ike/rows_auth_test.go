package ike

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

func TestRow34EmptySignatures(t *testing.T) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.Ed25519} {
		for name, spoil := range map[string]func(*message.Auth){
			"empty":       func(p *message.Auth) { p.Data = nil },
			"zero":        func(p *message.Auth) { clear(p.Data) },
			"zero behind": func(p *message.Auth) { clear(p.Data[min(16, len(p.Data)):]) },
			"cut":         func(p *message.Auth) { p.Data = p.Data[:len(p.Data)-1] },
			"longer":      func(p *message.Auth) { p.Data = append(p.Data, 0) },
			"method 0":    func(p *message.Auth) { p.Method = 0 },
			"NULL":        func(p *message.Auth) { p.Method = message.AuthNull },
			"as RSA":      func(p *message.Auth) { p.Method = message.AuthRSA },
			"as PSK":      func(p *message.Auth) { p.Method = message.AuthPSK },
			"as ECDSA":    func(p *message.Auth) { p.Method = message.AuthECDSA256 },
		} {
			client, gateway := certPair(t, kind, pki.RSA2048)
			client.FragmentSize = -1
			_, a, b, auth := halfOpen(t, client, gateway)
			_, e, text, err := message.Open(slices.Clone(auth), engineOf(b).open)
			if err != nil {
				t.Fatal(err)
			}
			ps, err := message.ParsePayloads(e.First, text)
			if err != nil {
				t.Fatal(err)
			}
			p, _ := message.Find[*message.Auth](ps)
			spoil(p)
			b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, ps...))
			if c := b.downCode(); c != CodeSignature && c != CodeAuthMethod {
				t.Errorf("%v, %s: code %s", kind, name, c)
			}
		}
	}
}

func TestRow36DistinguishedNames(t *testing.T) {
	subject := keys().client[pki.RSA2048].Cert.RawSubject
	for name, data := range map[string][]byte{
		"same":      subject,
		"prefix":    subject[:len(subject)-1],
		"one bit":   append(bytes.Clone(subject[:len(subject)-1]), subject[len(subject)-1]^1),
		"NUL":       append(bytes.Clone(subject), 0),
		"empty":     {},
		"empty seq": {0x30, 0},
	} {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		client.Local.ID = pki.DN(data)
		gateway.Remote.ID = pki.Identity{}
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Second)
		if up := len(b.established()) == 1; up != (name == "same") {
			t.Errorf("%s: established %v", name, up)
		}
	}
}

// TestRow39Reflection: our own messages, as they are and with roles and SPIs swapped.
func TestRow39Reflection(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	for _, h := range []*host{a, b} {
		other := b
		if h == b {
			other = a
		}
		for _, s := range slices.Clone(h.sent) {
			for _, swap := range []bool{false, true} {
				for _, flags := range []byte{0, 0x08, 0x20, 0x28} {
					raw := slices.Clone(s.Data)
					if swap {
						copy(raw[:8], s.Data[8:16])
						copy(raw[8:16], s.Data[:8])
					}
					raw[19] ^= flags
					h.deliver(other, raw)
				}
			}
		}
	}
	w.run(time.Minute)
	if len(a.established()) != 1 || len(b.established()) != 1 || len(a.installed) != 1 || len(b.installed) != 1 {
		t.Error("a reflected message did something")
	}
	if len(found[Established](a)) != 1 || len(found[Established](b)) != 1 {
		t.Error("a reflected message authenticated")
	}
}

func TestRow41RestartLoops(t *testing.T) {
	for name, answer := range map[string]func(i int) message.Payload{
		"cookies": func(i int) message.Payload { return notifyData(message.Cookie, []byte{byte(i)}) },
		"groups": func(i int) message.Payload {
			return invalidKE([]uint16{suite.KEECP256, suite.KEX25519}[i%2])
		},
		"both": func(i int) message.Payload {
			if i%2 == 0 {
				return notifyData(message.Cookie, []byte{byte(i)})
			}
			return invalidKE([]uint16{suite.KEECP256, suite.KEX25519}[i/2%2])
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp256")
			w, a, b := pair(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			a.initiate("home", b)
			x := &script{t, w, a, b}
			for i := range 30 {
				if a.e.last == nil {
					break
				}
				x.answerInit(0, answer(i))
			}
			if n := len(sentOf(a, message.IKESAInit, false)); n != 1+maxRestarts {
				t.Errorf("%d requests, want %d", n, 1+maxRestarts)
			}
			w.run(3 * time.Second)
			if c := a.downCode(); c != CodeNegotiationLoop {
				t.Errorf("code %s", c)
			}
			empty(t, a)
		})
	}
}

func TestRow43UnprotectedErrors(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	x := &script{t, w, a, b}
	for n := range message.NotifyType(50) {
		x.answerInit(0, notify(n))
		x.answerInit(message.SPI(n), notifyData(n, []byte{0, 2}))
	}
	w.run(time.Second)
	agree(t, a, b, 1)
	// On a standing SA, unprotected, with the right SPIs.
	s := engineOf(a)
	for n := range message.NotifyType(50) {
		for _, kind := range []message.ExchangeType{message.IKESAInit, message.IKEAuth, message.CreateChildSA, message.Informational} {
			for id := range uint32(4) {
				m := message.Message{Header: message.Header{SPIi: s.spii, SPIr: s.spir, Exchange: kind, Flags: message.FlagResponse, MessageID: id}, Payloads: []message.Payload{notify(n)}}
				a.deliver(b, m.Append(nil))
				m.Flags = message.FlagInitiator
				b.deliver(a, m.Append(nil))
			}
		}
	}
	w.run(time.Minute)
	agree(t, a, b, 1)
}

func TestRow44FlippedBits(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	sa := engineOf(a)
	raw := craft(t, sa, message.Informational, sa.nextID, 0, &message.Delete{Protocol: suite.ProtocolIKE})
	b.sent = nil
	for i := range raw {
		for bit := range 8 {
			x := slices.Clone(raw)
			x[i] ^= 1 << bit
			b.deliver(a, x)
		}
	}
	for _, s := range b.sent {
		if m, err := message.Parse(s.Data); err != nil || m.Notify(message.InvalidMajorVersion) == nil {
			t.Error("a damaged message was answered")
		}
	}
	if len(b.established()) != 1 || engineOf(b).expectID != sa.nextID || len(b.installed) != 1 {
		t.Error("a damaged message did something")
	}
	b.deliver(a, raw)
	if len(b.established()) != 0 {
		t.Error("the whole message did nothing")
	}
	w.run(time.Minute)
}

func TestRow46RepeatedRequests(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	sa := engineOf(a)
	requests := [][]byte{}
	var answers [][]byte
	for range 4 {
		raw := craft(t, sa, message.Informational, sa.nextID, 0)
		sa.nextID++
		b.sent = nil
		b.deliver(a, raw)
		requests, answers = append(requests, raw), append(answers, b.sent[0].Data)
	}
	for i, raw := range requests {
		b.sent = nil
		b.deliver(a, raw)
		switch {
		case i < 3 && len(b.sent) != 0:
			t.Errorf("old request %d was answered", i)
		case i == 3 && (len(b.sent) != 1 || !bytes.Equal(b.sent[0].Data, answers[3])):
			t.Error("the last request was not answered by the same bytes")
		}
	}
	// The same ID with another content, one ahead, far ahead: nothing is executed.
	b.sent = nil
	kill := &message.Delete{Protocol: suite.ProtocolIKE}
	b.deliver(a, craft(t, sa, message.Informational, sa.nextID-1, 0, kill))
	if len(b.sent) != 1 || !bytes.Equal(b.sent[0].Data, answers[3]) {
		t.Error("a used ID got another answer")
	}
	for _, id := range []uint32{sa.nextID + 1, sa.nextID + 1000, 1<<32 - 1, 0, 1} {
		b.deliver(a, craft(t, sa, message.Informational, id, 0, kill))
	}
	// Responses to what was not asked.
	for id := range uint32(5) {
		b.deliver(a, craft(t, sa, message.Informational, id, message.FlagResponse, kill))
	}
	if len(b.established()) != 1 || len(b.sent) != 1 {
		t.Error("a message out of the window did something")
	}
	w.run(time.Second)
	// The last ID is not used: the SA ends before it could wrap.
	sa.nextID = 1<<32 - 1
	a.poke((*ikeSA).check)
	if !sa.gone {
		t.Error("message IDs wrap")
	}
}

func TestRow50TooManyCertificates(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	client.FragmentSize = -1
	_, a, b, auth := halfOpen(t, client, gateway)
	_, e, text, err := message.Open(slices.Clone(auth), engineOf(b).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		t.Fatal(err)
	}
	extra := &message.Cert{Encoding: message.CertX509Signature, Data: keys().ca.Cert.Raw}
	junk := &message.Cert{Encoding: message.CertX509Signature, Data: []byte("junk")}
	url := &message.Cert{Encoding: message.CertHashURL, Data: []byte("http://example.org")}
	for i := range ps {
		if c, ok := ps[i].(*message.Cert); ok {
			ps = slices.Insert(ps, i+1, append(slices.Repeat([]message.Payload{extra}, pki.MaxCertificates), message.Payload(junk), url)...)
			_ = c
			break
		}
	}
	b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, ps...))
	if c := b.downCode(); c != CodeCertInvalid {
		t.Errorf("code %s", c)
	}
}
