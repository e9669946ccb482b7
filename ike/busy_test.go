package ike

import (
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// withDMZ is a pair with a second child on request, with key exchange.
func withDMZ(t *testing.T) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16-x25519"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.3.0.0/16")})
	gateway.Children = append(gateway.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16-x25519"), Local: selectors("10.3.0.0/16"), Remote: selectors("10.1.0.0/16")})
	return client, gateway
}

// TestPeerDiesWhileBusy: whatever is under way when the peer falls silent.
func TestPeerDiesWhileBusy(t *testing.T) {
	for name, act := range map[string]func(a *host){
		"opening a child": func(a *host) { a.handle(Acquire{Connection: "home", Child: "dmz"}) },
		"closing a child": func(a *host) { a.handle(CloseChild{a.onlyChild().ID}) },
		"both": func(a *host) {
			a.handle(CloseChild{a.onlyChild().ID})
			a.handle(Acquire{Connection: "home", Child: "dmz"})
		},
		"checking": func(a *host) { a.poke((*ikeSA).check) },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := withDMZ(t)
			w, a, _ := up(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			act(a)
			w.run(2 * time.Minute)
			if c := a.downCode(); c != CodePeerDead {
				t.Errorf("code %s", c)
			}
			empty(t, a)
		})
	}
}

// TestReplaced: an SA whose peer has another is gone at once; the DELETE is repeated
// only a few times, and what is under way is given up.
func TestReplaced(t *testing.T) {
	for name, prepare := range map[string]func(*host){
		"idle": func(*host) {},
		"busy": func(b *host) { b.poke((*ikeSA).check) },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			prepare(b)
			b.sent = nil
			b.handle(Terminate{SA: engineOf(b).id(), Replaced: true})
			if len(b.installed) != 0 || b.downCode() != "" || len(b.e.Statuses()) != 0 {
				t.Error("not gone at once")
			}
			w.run(time.Minute)
			if n := len(b.sent); n > deleteTries {
				t.Errorf("%d transmissions", n)
			}
			empty(t, b)
			_ = a
		})
	}
}

// TestMalformedResponse: a peer whose protected answers cannot be read is beyond
// repair (RFC 7296 §2.21.3).
func TestMalformedResponse(t *testing.T) {
	for name, first := range map[string]message.PayloadType{"cut": message.TypeNotify, "critical": 200} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			a.poke((*ikeSA).check)
			text := []byte{0, 0x80, 0, 4}
			if name == "cut" {
				text = text[:3]
			}
			a.deliver(b, craftRaw(engineOf(b), message.Informational, engineOf(a).pending.id, message.FlagResponse, first, text))
			if c := a.downCode(); c != CodeSyntax {
				t.Errorf("code %s", c)
			}
			w.run(time.Minute)
			empty(t, a)
		})
	}
}

// TestChildKeyExchange: what a peer may not send in CREATE_CHILD_SA with a group.
func TestChildKeyExchange(t *testing.T) {
	for name, c := range map[string]struct {
		ke    *message.KE
		want  message.NotifyType
		alive bool
	}{
		"none":       {nil, message.InvalidKEPayload, true},
		"other":      {&message.KE{Method: suite.KEECP256, Data: make([]byte, 64)}, message.InvalidKEPayload, true},
		"too short":  {&message.KE{Method: suite.KEX25519, Data: make([]byte, 31)}, message.InvalidSyntax, false},
		"degenerate": {&message.KE{Method: suite.KEX25519, Data: make([]byte, 32)}, message.InvalidSyntax, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := withDMZ(t)
			_, a, b := up(t, client, gateway)
			s := engineOf(a)
			cfg := client.Children[1]
			between := []message.Payload{&message.Nonce{Data: make([]byte, 32)}}
			if c.ke != nil {
				between = append(between, c.ke)
			}
			o := &childOffer{cfg: cfg, spi: 0x4711, proposals: cfg.Proposals, tsi: cfg.Local, tsr: cfg.Remote}
			b.deliver(a, craft(t, s, message.CreateChildSA, s.nextID, 0, o.payloads(between...)...))
			if n := message.FindError(answerTo(t, b, a)); n == nil || n.Notify != c.want {
				t.Errorf("answer %+v, want %v", n, c.want)
			}
			if alive := len(b.established()) == 1; alive != c.alive {
				t.Errorf("SA alive: %v", alive)
			}
			if n := len(b.e.inbound); c.alive && n != 1 || !c.alive && n != 0 {
				t.Errorf("%d SPIs reserved", n)
			}
		})
	}
}

// TestBadAnswersToChild: what a responder may not answer. The SA stays, and the child is
// deleted there if the responder may have it.
func TestBadAnswersToChild(t *testing.T) {
	for name, spoil := range map[string]func([]message.Payload) []message.Payload{
		"refused":  func([]message.Payload) []message.Payload { return []message.Payload{notify(message.NoAdditionalSAs)} },
		"no nonce": func(ps []message.Payload) []message.Payload { return append(ps[:1:1], ps[2:]...) },
		"no KE":    func(ps []message.Payload) []message.Payload { return append(ps[:2:2], ps[3:]...) },
		"no SA":    func(ps []message.Payload) []message.Payload { return ps[1:] },
		"other group": func(ps []message.Payload) []message.Payload {
			ps[2].(*message.KE).Method = suite.KEECP256
			return ps
		},
		"degenerate": func(ps []message.Payload) []message.Payload {
			clear(ps[2].(*message.KE).Data)
			return ps
		},
		"group without end":     func([]message.Payload) []message.Payload { return []message.Payload{invalidKE(suite.KEX25519)} },
		"group never offered":   func([]message.Payload) []message.Payload { return []message.Payload{invalidKE(suite.KEMODP1024)} },
		"group without a value": func([]message.Payload) []message.Payload { return []message.Payload{notify(message.InvalidKEPayload)} },
		"empty":                 func([]message.Payload) []message.Payload { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := withDMZ(t)
			w, a, b := up(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			a.handle(Acquire{Connection: "home", Child: "dmz"})
			s := engineOf(a)
			chosen := a.onlyChild().Suite
			chosen.KE = suite.Transform{Type: suite.TypeKE, ID: suite.KEX25519}
			answer := &childAnswer{suite: chosen, spiIn: 0x4711, local: client.Children[1].Remote, remote: client.Children[1].Local}
			ps := spoil(answer.payloads(1, &message.Nonce{Data: make([]byte, 32)}, &message.KE{Method: suite.KEX25519, Data: append([]byte{9}, make([]byte, 31)...)}))
			a.deliver(b, craft(t, engineOf(b), message.CreateChildSA, s.pending.id, message.FlagResponse, ps...))
			if len(found[ChildFailed](a)) != 1 || len(a.installed) != 1 || len(a.established()) != 1 || len(a.e.inbound) != 1 {
				t.Errorf("%d failures, %d children, %d SAs, %d SPIs", len(found[ChildFailed](a)), len(a.installed), len(a.established()), len(a.e.inbound))
			}
		})
	}
}
