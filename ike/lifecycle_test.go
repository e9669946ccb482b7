package ike

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

func TestLiveness(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	w.run(5 * time.Minute)
	agree(t, a, b, 1)
	checks := len(sentOf(a, message.Informational, false)) + len(sentOf(b, message.Informational, false))
	if checks < 8 || checks > 20 {
		t.Errorf("%d checks in 5 minutes of silence, want about one each 30 s", checks)
	}
	// What ESP hears makes checks needless.
	heard := func(Usage) UsageReply { return UsageReply{Heard: int64(time.Second), Sent: -1} }
	a.usage, b.usage = heard, heard
	a.sent, b.sent = nil, nil
	w.run(5 * time.Minute)
	if n := len(a.sent) + len(b.sent); n != 0 {
		t.Errorf("%d messages though ESP was heard", n)
	}
}

func TestPeerDies(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	w.fate = func(*host, Send) int { return 0 }
	w.run(3 * time.Minute)
	for _, h := range []*host{a, b} {
		if c := h.downCode(); c != CodePeerDead {
			t.Errorf("%s: code %s", h.name, c)
		}
		if d := found[ChildDown](h); len(d) != 1 {
			t.Errorf("%s: %d children reported gone", h.name, len(d))
		}
	}
	empty(t, a, b)
}

func TestNoLivenessNoTimers(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness, client.Keepalive = -1, -1, -1
	for _, c := range []*Connection{client, gateway} {
		c.Rekey, c.Children[0].Rekey = -1, -1
	}
	w, a, b := up(t, client, gateway)
	w.run(time.Minute)
	if !a.e.Next().IsZero() || !b.e.Next().IsZero() {
		t.Errorf("something is due at %v and %v", a.e.Next(), b.e.Next())
	}
}

func TestDelete(t *testing.T) {
	// The client wants its SA; one that the gateway deletes is a failure to it.
	byGateway := []string{"by the gateway", "child and SA crosswise", "while a child is opened"}
	for name, act := range map[string]func(w *world, a, b *host){
		"by the client":          func(_ *world, a, _ *host) { a.handle(Terminate{Reason: "enough"}) },
		"by the gateway":         func(_ *world, _, b *host) { b.handle(Terminate{Connection: "rw"}) },
		"by SA":                  func(_ *world, a, _ *host) { a.handle(Terminate{SA: engineOf(a).id()}) },
		"by both at once":        func(_ *world, a, b *host) { a.handle(Terminate{}); b.handle(Terminate{}) },
		"twice":                  func(_ *world, a, _ *host) { a.handle(Terminate{}); a.handle(Terminate{}) },
		"with a check under way": func(w *world, a, b *host) { a.poke((*ikeSA).check); a.handle(Terminate{}) },
		"child and SA crosswise": func(_ *world, a, b *host) { a.handle(CloseChild{a.onlyChild().ID}); b.handle(Terminate{}) },
		"answer lost":            func(w *world, a, _ *host) { loseOnce(w, true); a.handle(Terminate{}) },
		"request lost":           func(w *world, a, _ *host) { loseOnce(w, false); a.handle(Terminate{}) },
		"everything lost": func(w *world, a, b *host) {
			w.fate = func(*host, Send) int { return 0 }
			a.handle(Terminate{})
			b.handle(Terminate{})
		},
		"unknown ones beside": func(_ *world, a, _ *host) {
			a.handle(Terminate{SA: 99})
			a.handle(Terminate{Connection: "no"})
			a.handle(Terminate{})
		},
		"child twice, then SA": func(_ *world, a, _ *host) {
			id := a.onlyChild().ID
			a.handle(CloseChild{id})
			a.handle(CloseChild{id})
			a.handle(Terminate{})
		},
		"unknown child beside":    func(_ *world, a, _ *host) { a.handle(CloseChild{77}); a.handle(Terminate{}) },
		"while a child is opened": func(_ *world, a, b *host) { a.handle(Acquire{Connection: "home", Child: "net"}); b.handle(Terminate{}) },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			act(w, a, b)
			w.run(5 * time.Minute)
			for _, h := range []*host{a, b} {
				want := Code("")
				if h == a && slices.Contains(byGateway, name) {
					want = CodeDeleted
				}
				if c := h.downCode(); c != want && name != "everything lost" {
					t.Errorf("%s: code %q, want %q", h.name, c, want)
				}
			}
			empty(t, a, b)
		})
	}
}

// loseOnce loses the next request or response.
func loseOnce(w *world, response bool) {
	lost := false
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.IsResponse() == response && !lost {
			lost = true
			return 0
		}
		return 1
	}
}

func TestCloseChildByBoth(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	a.handle(CloseChild{a.onlyChild().ID})
	b.handle(CloseChild{b.onlyChild().ID})
	w.run(time.Second)
	agree(t, a, b, 0)
	// It can be opened again, from either side.
	b.handle(Acquire{Connection: "rw", Child: "net"})
	w.run(time.Second)
	agree(t, a, b, 1)
	a.handle(Acquire{Connection: "home", Child: "nothing"})
	a.handle(Acquire{Connection: "nowhere", Child: "net"})
	if n := len(found[Warned](a)); n != 2 {
		t.Errorf("%d warnings about what is not configured, want 2", n)
	}
}

// TestTerminateWhileConnecting: in every phase of an initiator; the gateway keeps
// nothing for long.
func TestTerminateWhileConnecting(t *testing.T) {
	for _, steps := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8} {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		for range steps {
			w.step(w.now.Add(time.Second))
		}
		a.handle(Terminate{Reason: "changed my mind"})
		if n := len(found[Down](a)); n != 1 && a.e.first.state != stateDeleting {
			t.Errorf("after %d steps: %d reports of the end", steps, n)
		}
		w.run(5 * time.Second)
		if n := len(b.established()); n != 0 {
			t.Errorf("after %d steps: the gateway has an SA that nobody wants", steps)
		}
		w.run(time.Minute)
		if c := a.downCode(); c != "" {
			t.Errorf("after %d steps: code %s", steps, c)
		}
		empty(t, a, b)
	}
}

// TestBadNetwork: with loss, duplication and reordering both sides end with the same
// SA or with none, and nothing is left after the end.
func TestBadNetwork(t *testing.T) {
	failed := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		client, gateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
		if seed%2 == 0 {
			client, gateway = pskPair(t)
		}
		client.FragmentSize, gateway.FragmentSize = 400, 400
		w, a, b := pair(t, client, gateway)
		w.fate = func(*host, Send) int {
			w.delay = time.Duration(5+rng.IntN(60)) * time.Millisecond
			switch n := rng.IntN(100); {
			case n < 30:
				return 0
			case n < 50:
				return 2
			}
			return 1
		}
		a.initiate("home", b)
		w.run(40 * time.Second)
		if len(a.established()) == 0 {
			failed++
		} else {
			w.fate = nil
			w.run(time.Minute)
			agree(t, a, b, 1)
			a.handle(Terminate{})
		}
		w.fate = nil
		w.run(5 * time.Minute)
		b.handle(Terminate{})
		w.run(5 * time.Minute)
		empty(t, a, b)
		checkIDs(t, a)
		checkIDs(t, b)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if failed > 4 {
		t.Errorf("%d of 200 did not come up", failed)
	}
}

// checkIDs looks for a message ID that was used with two different contents.
func checkIDs(t testing.TB, h *host) {
	t.Helper()
	type key struct {
		spii, spir message.SPI
		flags      message.Flags
		id         uint32
		fragment   uint16
	}
	said := map[key][]byte{}
	for _, s := range h.sent {
		m, err := message.Parse(s.Data)
		if err != nil || m.Exchange == message.IKESAInit {
			continue
		}
		k := key{m.SPIi, m.SPIr, m.Flags, m.MessageID, 0}
		if e, ok := message.Find[*message.Encrypted](m.Payloads); ok {
			k.fragment = e.Fragment
		}
		if before, ok := said[k]; ok && !bytes.Equal(before, s.Data) {
			t.Errorf("%s: message ID %d with two contents", h.name, k.id)
		}
		said[k] = s.Data
	}
}

// TestSlowAnswers: questions that are answered late, or never, hold up nothing else.
func TestSlowAnswers(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	w, a, b := pair(t, client, gateway)
	b.mute = true
	a.initiate("home", b)
	w.run(2 * time.Minute)
	if c := a.downCode(); c != CodePortBlocked {
		t.Errorf("code %s", c)
	}
	empty(t, a, b)
	b.handle(Answer{ID: 1, Value: Admission{}})
	b.handle(Answer{ID: 99, Value: Configured{}})
	empty(t, b)
}

// TestWrongReplies: an answer of the wrong type is our own fault and ends one SA.
func TestWrongReplies(t *testing.T) {
	for _, who := range []int{0, 1} {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		w, a, b := pair(t, client, gateway)
		h := []*host{a, b}[who]
		h.mute = true
		a.initiate("home", b)
		for range 50 {
			if !w.step(w.now.Add(100 * time.Millisecond)) {
				for _, id := range slices.Collect(mapKeys(h.e.asks)) {
					h.handle(Answer{ID: id, Value: UsageReply{}})
				}
			}
		}
		w.run(5 * time.Minute)
		if len(found[Down](h)) == 0 || len(h.established()) != 0 {
			t.Errorf("%s went on", h.name)
		}
		empty(t, a, b)
	}
}

func mapKeys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestHints: what is not authentic makes us check the peer, seldom, and no more.
func TestHints(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	s := engineOf(a)
	plain := message.Message{
		Header:   message.Header{SPIi: s.spii, SPIr: s.spir, Exchange: message.Informational, Flags: message.FlagResponse, MessageID: 9},
		Payloads: []message.Payload{notify(message.InvalidIKESPI)},
	}
	a.sent = nil
	for range 20 {
		a.deliver(b, plain.Append(nil))
		a.handle(UnknownSPI{Path: s.path, SPI: 1})
	}
	w.run(5 * time.Second)
	if n := len(sentOf(a, message.Informational, false)); n != 1 {
		t.Errorf("%d checks, want 1", n)
	}
	w.run(6 * time.Second)
	a.handle(UnknownSPI{Path: s.path, SPI: 1})
	w.run(time.Second)
	if n := len(sentOf(a, message.Informational, false)); n != 2 {
		t.Errorf("%d checks after a while, want 2", n)
	}
	agree(t, a, b, 1)
}

// TestDeletedBeforeAnswered: the answer that opens a child is lost, the responder
// closes the child, and then the repeated answer comes.
func TestDeletedBeforeAnswered(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16")})
	w, a, b := up(t, client, gateway)
	loseOnce(w, true)
	a.handle(Acquire{Connection: "home", Child: "dmz"})
	w.run(100 * time.Millisecond)
	for _, c := range b.established()[0].Children[1:] {
		b.handle(CloseChild{c.ID})
	}
	w.run(5 * time.Second)
	agree(t, a, b, 1)
	if f := found[ChildFailed](a); len(f) != 1 || f[0].Err.Code != CodeRefused {
		t.Errorf("reports %+v", f)
	}
	if n := len(a.e.inbound); n != 1 {
		t.Errorf("%d SPIs reserved, want 1", n)
	}
	// The same while the host of the client is being configured.
	w, a, b = pair(t, client, gateway)
	a.mute = true
	a.initiate("home", b)
	w.run(100 * time.Millisecond)
	b.handle(CloseChild{b.onlyChild().ID})
	w.run(100 * time.Millisecond)
	a.mute = false
	for id := range a.e.asks {
		a.handle(Answer{ID: id, Value: Configured{}})
	}
	w.run(time.Minute)
	if c := a.downCode(); c != CodeRefused {
		t.Errorf("code %s", c)
	}
	w.run(time.Minute)
	empty(t, a, b)
}

// TestAcquireCrossesTerminate: a child whose group takes long is not asked for any more
// when the SA is being deleted.
func TestAcquireCrossesTerminate(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16-modp3072"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16")})
	for _, first := range []string{"question", "answer"} {
		w, a, b := up(t, client, gateway)
		b.sent = nil
		a.handle(Acquire{Connection: "home", Child: "dmz"})
		if first == "answer" {
			w.run(15 * time.Millisecond) // the request is with the gateway, which computes
		}
		a.handle(Terminate{})
		w.run(time.Minute)
		if n := len(sentOf(b, message.CreateChildSA, true)); first == "question" && n != 0 {
			t.Error("a child was asked for on the way out")
		}
		empty(t, a, b)
	}
	// And the responder's side: its own computation ends after its own Terminate.
	w, a, b := up(t, client, gateway)
	b.mute = true
	a.handle(Acquire{Connection: "home", Child: "dmz"})
	w.run(100 * time.Millisecond)
	b.handle(Terminate{})
	b.mute = false
	for id, waits := range b.e.asks {
		_ = waits
		for _, q := range b.asked {
			if work, ok := q.(Work); ok {
				b.handle(Answer{ID: id, Value: work.Run()})
			}
		}
	}
	w.run(5 * time.Minute)
	empty(t, a, b)
}
