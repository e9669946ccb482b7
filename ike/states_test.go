package ike

import (
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// situation is a host in one state, with the SA of its peer to make messages from.
type situation struct {
	w      *world
	h, far *host
	peer   *ikeSA // far's, with the keys if there are any
	dueID  uint32 // of the peer's next request
	ourID  uint32 // of our request that is outstanding, if one is
}

// situations are the states that an SA can be in, by name.
func situations(t testing.TB, name string) situation {
	t.Helper()
	client, gateway := pskPair(t)
	switch name {
	case "half-open-hybrid":
		name = "half-open"
		client, gateway = hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
	case "intermediate-sent":
		name = "auth-sent"
		client, gateway = hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
	case "following":
		client, gateway = hybridChildren(t)
	}
	client.Liveness, gateway.Liveness = -1, -1
	return situationOf(t, name, client, gateway)
}

func situationOf(t testing.TB, name string, client, gateway *Connection) situation {
	t.Helper()
	silent := func(*host, Send) int { return 0 }
	switch name {
	case "init-sent":
		w, a, b := pair(t, client, gateway)
		w.fate = silent
		a.initiate("home", b)
		return situation{w: w, h: a, far: b}
	case "half-open":
		w, a, b, _ := halfOpen(t, client, gateway)
		return situation{w, b, a, engineOf(a), 1, 0}
	case "auth-sent":
		w, a, b, _ := halfOpen(t, client, gateway)
		return situation{w, a, b, engineOf(b), 0, 1}
	case "eap-due", "eap-over": // the identity is due, or AUTH
		stop := map[string]uint32{"eap-due": 2, "eap-over": 5}[name]
		w, a, b := inEAP(t, stop)
		return situation{w, b, a, engineOf(a), stop, 0}
	case "eap-sent":
		w, a, b := inEAP(t, 2)
		return situation{w, a, b, engineOf(b), 0, 2}
	case "eap-response-due", "eap-success-due":
		stop := map[string]uint32{"eap-response-due": 3, "eap-success-due": 4}[name]
		w, a, b := inEAP(t, stop)
		return situation{w, b, a, engineOf(a), stop, 0}
	case "eap-response-sent", "eap-success-sent", "eap-auth-sent":
		stop := map[string]uint32{"eap-response-sent": 3, "eap-success-sent": 4, "eap-auth-sent": 5}[name]
		w, a, b := inEAP(t, stop)
		return situation{w, a, b, engineOf(b), 0, stop}
	case "cert-half-open":
		client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
		w, a, b, _ := halfOpen(t, client, gateway)
		return situation{w, b, a, engineOf(a), 1, 0}
	case "cert-sent":
		client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
		w, a, b, _ := halfOpen(t, client, gateway)
		return situation{w, a, b, engineOf(b), 0, 1}
	case "login-half-open":
		client, gateway = eapPair(t)
		w, a, b, _ := halfOpen(t, client, gateway)
		return situation{w, b, a, engineOf(a), 1, 0}
	case "login-sent":
		client, gateway = eapPair(t)
		w, a, b, _ := halfOpen(t, client, gateway)
		b.accounts = map[string]string{"carol@example.org": testPassword}
		return situation{w, a, b, engineOf(b), 0, 1}
	case "second-round-due", "second-round-sent":
		client, gateway = twoRounds(t)
		w, a, b := pair(t, client, gateway)
		w.fate = func(h *host, s Send) int {
			if m, err := message.ParseHeader(s.Data); err == nil && h == a && m.MessageID >= 2 {
				return 0
			}
			return 1
		}
		a.initiate("home", b)
		w.run(100 * time.Millisecond)
		if name == "second-round-due" {
			return situation{w, b, a, engineOf(a), 2, 0}
		}
		return situation{w, a, b, engineOf(b), 0, 2}
	case "resumed-half-open", "resumed-sent":
		w, a, b := resumePair(t, client, gateway)
		loseSA(t, w, a, b)
		w.fate = func(_ *host, s Send) int {
			if m, err := message.ParseHeader(s.Data); err == nil && m.Exchange == message.IKEAuth {
				return 0
			}
			return 1
		}
		a.initiate("home", b)
		w.run(100 * time.Millisecond)
		if name == "resumed-half-open" {
			return situation{w, b, a, engineOf(a), 1, 0}
		}
		return situation{w, a, b, engineOf(b), 0, 1}
	case "resume-sent":
		w, a, b := resumePair(t, client, gateway)
		loseSA(t, w, a, b)
		w.fate = silent
		a.initiate("home", b)
		return situation{w: w, h: a, far: b}
	case "rekeying-ike-i", "rekeying-child-i":
		w, a, b := up(t, client, gateway)
		w.fate = silent
		map[string]func(*host){"rekeying-ike-i": rekeyIKE, "rekeying-child-i": rekeyChild}[name](a)
		return situation{w, a, b, engineOf(b), 0, 2}
	case "rekeying-ike-r", "rekeying-child-r":
		w, a, b := up(t, client, gateway)
		w.fate = silent
		map[string]func(*host){"rekeying-ike-r": rekeyIKE, "rekeying-child-r": rekeyChild}[name](b)
		return situation{w, b, a, engineOf(a), 2, 0}
	case "replaced":
		w, a, b := up(t, client, gateway)
		peer := engineOf(a)
		w.fate = func(_ *host, s Send) int {
			if m, err := message.ParseHeader(s.Data); err == nil && m.Exchange == message.Informational {
				return 0
			}
			return 1
		}
		rekeyIKE(a)
		w.run(100 * time.Millisecond)
		if b.e.first.state != stateReplaced {
			t.Fatal("not replaced")
		}
		return situation{w, b, a, peer, 3, 0}
	case "established-i":
		w, a, b := up(t, client, gateway)
		return situation{w, a, b, engineOf(b), 0, 0}
	case "established-r":
		w, a, b := up(t, client, gateway)
		return situation{w, b, a, engineOf(a), 2, 0}
	case "asking":
		w, a, b := up(t, client, gateway)
		w.fate = silent
		a.poke((*ikeSA).check)
		return situation{w, a, b, engineOf(b), 0, 2}
	case "following":
		w, a, b := up(t, client, gateway)
		w.fate = func(from *host, s Send) int {
			if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKEFollowupKE {
				return 0
			}
			return 1
		}
		rekeyChild(a)
		w.run(100 * time.Millisecond)
		return situation{w, b, a, engineOf(a), engineOf(b).expectID, 0}
	case "deleting":
		w, a, b := up(t, client, gateway)
		w.fate = silent
		a.handle(Terminate{})
		return situation{w, a, b, engineOf(b), 0, 2}
	case "closed":
		w, a, b := up(t, client, gateway)
		peer := engineOf(a)
		w.fate = silent
		b.deliver(a, craft(t, peer, message.Informational, 2, 0, &message.Delete{Protocol: suite.ProtocolIKE}))
		return situation{w, b, a, peer, 3, 0}
	}
	t.Fatal(name)
	return situation{}
}

// reaction is what a message did: "drop" nothing, "answer" an answer and no more,
// "end" an answer and the end of the SA, "gone" the end without an answer, "go on" the
// end of our own request.
func (x *situation) reaction(t *testing.T, raw []byte) string {
	t.Helper()
	s := x.h.e.first
	before := s.state
	pending := s.pending
	sent, downs := len(x.h.sent), len(found[Down](x.h))
	x.h.deliver(x.far, raw)
	x.w.run(time.Millisecond)
	answers := 0
	for _, m := range x.h.sent[sent:] {
		if h, err := message.ParseHeader(m.Data); err == nil && h.IsResponse() {
			answers++
		}
	}
	ended := len(found[Down](x.h)) > downs
	if n := x.h.count(DropPanic); n != 0 {
		return "panic"
	}
	if answers > 1 {
		return "several answers"
	}
	switch {
	case ended && answers == 1:
		return "end"
	case ended || s.gone:
		return "gone"
	case answers == 1:
		return "answer"
	case pending != nil && s.pending != pending:
		return "go on"
	case s.state != before:
		return "another state"
	}
	return "drop"
}

// TestStateByMessage: each exchange type in each state, request and response, with the
// ID that is due, an old one, and one ahead (security.md C1).
func TestStateByMessage(t *testing.T) {
	const table = `
	                 IKE_SA_INIT  IKE_AUTH  CREATE_CHILD_SA  INFORMATIONAL  IKE_FOLLOWUP_KE  IKE_INTERMEDIATE  other
	init-sent        drop         drop      drop             drop           drop             drop              drop
	half-open        drop         end       drop             drop           drop             drop              drop
	auth-sent        drop         drop      drop             drop           drop             drop              drop
	eap-due          drop         end       drop             answer         drop             drop              drop
	eap-over         drop         end       drop             answer         drop             drop              drop
	eap-sent         drop         drop      drop             drop           drop             drop              drop
	eap-response-due drop         end       drop             answer         drop             drop              drop
	eap-success-due  drop         end       drop             answer         drop             drop              drop
	eap-auth-sent    drop         drop      drop             drop           drop             drop              drop
	cert-half-open   drop         end       drop             drop           drop             drop              drop
	login-half-open  drop         end       drop             drop           drop             drop              drop
	login-sent       drop         drop      drop             drop           drop             drop              drop
	second-round-due drop         end       drop             answer         drop             drop              drop
	second-round-sent drop        drop      drop             drop           drop             drop              drop
	resumed-half-open drop        end       drop             drop           drop             drop              drop
	resumed-sent     drop         drop      drop             drop           drop             drop              drop
	resume-sent      drop         drop      drop             drop           drop             drop              drop
	rekeying-ike-i   drop         drop      answer           answer         answer           drop              drop
	rekeying-ike-r   drop         drop      answer           answer         answer           drop              drop
	rekeying-child-i drop         drop      answer           answer         answer           drop              drop
	replaced         drop         drop      answer           answer         answer           drop              drop
	established-i    drop         drop      answer           answer         answer           drop              drop
	established-r    drop         drop      answer           answer         answer           drop              drop
	asking           drop         drop      answer           answer         answer           drop              drop
	deleting         drop         drop      answer           answer         answer           drop              drop
	closed           drop         drop      drop             drop           drop             drop              drop
	half-open-hybrid drop         drop      drop             drop           drop             end               drop
	intermediate-sent drop         drop      drop             drop           drop             drop              drop
	following        drop         drop      answer           answer         answer           drop              drop`
	// What a response to our outstanding request does; all others are dropped.
	awaited := map[string]struct {
		kind message.ExchangeType
		does string
	}{
		"auth-sent": {message.IKEAuth, "gone"}, // it is empty
		"eap-sent":  {message.IKEAuth, "gone"},
		"asking":    {message.Informational, "go on"},
		"deleting":  {message.Informational, "gone"},

		"intermediate-sent": {message.IKEIntermediate, "gone"},
		"eap-auth-sent":     {message.IKEAuth, "gone"},
		"login-sent":        {message.IKEAuth, "gone"},
		"second-round-sent": {message.IKEAuth, "gone"},
		"resumed-sent":      {message.IKEAuth, "gone"},
		"rekeying-ike-i":    {message.CreateChildSA, "gone"}, // as it is no error
		"rekeying-ike-r":    {message.CreateChildSA, "gone"},
		"rekeying-child-i":  {message.CreateChildSA, "go on"},
	}
	cases := 0
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[1:] {
		words := strings.Fields(line)
		name, reactions := words[0], words[1:]
		var x situation
		kinds := []message.ExchangeType{34, 35, 36, 37, 44, 43, 38, 0, 33, 99, 255}
		for i, kind := range kinds {
			due := reactions[min(i, len(reactions)-1)]
			for _, response := range []bool{false, true} {
				for _, offset := range []int{0, -1, -2, 1, 7} {
					want := "drop"
					if x.w == nil {
						x = situations(t, name)
					}
					id, flags := x.dueID+uint32(offset), message.Flags(0)
					if !response && offset == 0 {
						want = due
					}
					if response {
						flags = message.FlagResponse
						id = x.ourID + uint32(offset)
						if e, ok := awaited[name]; ok && offset == 0 && e.kind == kind {
							want = e.does
						}
					}
					if !response && offset == -1 && x.peer != nil && x.h.e.first.reply != nil && kind == x.h.e.first.replyExchange && kind != message.IKESAInit && kind != message.IKESessionResume {
						want = "answer" // the stored one
					}
					cases++
					got := x.reaction(t, x.message(t, kind, id, flags))
					if got != want {
						t.Errorf("%s, %v, response %v, ID %+d: %s, want %s", name, kind, response, offset, got, want)
					}
					if got != "drop" {
						x = situation{} // another state now
					}
				}
			}
		}
	}
	if cases < 3000 {
		t.Errorf("only %d cases", cases)
	}
}

// message makes one that is complete for its exchange where that is possible.
func (x *situation) message(t *testing.T, kind message.ExchangeType, id uint32, flags message.Flags) []byte {
	var ps []message.Payload
	if kind == message.CreateChildSA && flags == 0 {
		ps = childPayloads(t, x.h == x.w.nodes[0])
	}
	if x.peer == nil || kind == message.IKESAInit {
		// Not protected, with what is known of the SPIs.
		s := x.h.e.first
		if s.initiator {
			flags |= message.FlagResponse
		} else {
			flags |= message.FlagInitiator
		}
		m := message.Message{Header: message.Header{SPIi: s.spii, SPIr: s.spir | 1, Exchange: kind, Flags: flags, MessageID: id}, Payloads: ps}
		return m.Append(nil)
	}
	return craft(t, x.peer, kind, id, flags, ps...)
}

// childPayloads asks for a further child; toClient tells from which side.
func childPayloads(t *testing.T, toClient bool) []message.Payload {
	client, gateway := pskPair(t)
	cfg := client.Children[0]
	if toClient {
		cfg = gateway.Children[0]
	}
	o := &childOffer{cfg: cfg, spi: 0x4711, proposals: cfg.Proposals, tsi: cfg.Local, tsr: cfg.Remote}
	return o.payloads(&message.Nonce{Data: make([]byte, 32)})
}
