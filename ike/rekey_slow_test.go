package ike

import (
	"testing"
	"time"

	"martlet/crypto/suite"
)

// slowPair makes every key exchange one that takes long, so that it is asked for.
func slowPair(t testing.TB) (client, gateway *Connection) {
	client, gateway = withExtra(t)
	for _, c := range []*Connection{client, gateway} {
		c.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-modp3072")
		c.Children[0].Proposals = espProposals(t, "aes256gcm16-modp3072")
	}
	return client, gateway
}

// unmute gives a host's engine the answers that it waits for.
func (h *host) unmute() {
	h.mute = false
	for _, a := range h.withheld {
		h.handle(Answer{ID: a.ID, Value: h.reply(a.Question)})
	}
	h.withheld = nil
}

// TestRekeyComputes: what happens while one side computes.
func TestRekeyComputes(t *testing.T) {
	const trip = 15 * time.Millisecond // a request arrives and is not answered
	for name, c := range map[string]struct {
		act      func(w *world, a, b *host)
		children int
	}{
		"the responder wants a child on the SA that is replaced": {func(w *world, a, b *host) {
			b.mute = true
			rekeyIKE(a)
			w.run(trip)
			acquireAt(b)
			b.unmute()
		}, 2},
		"the responder replaces a child of the SA that is replaced": {func(w *world, a, b *host) {
			b.mute = true
			rekeyIKE(a)
			w.run(trip)
			b.mute = false
			rekeyChild(b)
			b.unmute()
		}, 1},
		"the responder wants to replace the SA too": {func(w *world, a, b *host) {
			b.mute = true
			rekeyIKE(a)
			w.run(trip)
			rekeyIKE(b)
			b.unmute()
		}, 1},
		"the responder ends the SA": {func(w *world, a, b *host) {
			b.mute = true
			rekeyIKE(a)
			w.run(trip)
			terminate(b)
			b.unmute()
		}, -1},
		"the responder has replaced the child meanwhile": {func(w *world, a, b *host) {
			b.mute = true
			rekeyChild(a)
			w.run(trip)
			b.mute = false
			rekeyChild(b)
			w.run(time.Second)
			b.unmute()
		}, 1},
		"the responder closes the child": {func(w *world, a, b *host) {
			b.mute = true
			rekeyChild(a)
			w.run(trip)
			closeChild(b)
			b.unmute()
		}, 0},
		"the initiator has no key pair yet, and the peer replaces the SA": {func(w *world, a, b *host) {
			a.mute = true
			rekeyIKE(a)
			a.mute = false
			rekeyIKE(b)
			w.run(time.Second)
			a.unmute()
		}, 1},
		"the initiator has no key pair yet, and the peer replaces the child": {func(w *world, a, b *host) {
			a.mute = true
			rekeyChild(a)
			a.mute = false
			rekeyChild(b)
			w.run(time.Second)
			a.unmute()
		}, 1},
		"the initiator has no key pair yet, and the peer closes the child": {func(w *world, a, b *host) {
			a.mute = true
			rekeyChild(a)
			closeChild(b)
			w.run(time.Second)
			a.unmute()
		}, 0},
		"the initiator has no key pair yet, and the peer ends the SA": {func(w *world, a, b *host) {
			a.mute = true
			rekeyIKE(a)
			terminate(b)
			w.run(time.Second)
			a.unmute()
		}, -1},
		"the initiator works on the answer, and the peer ends the SA": {func(w *world, a, b *host) {
			rekeyIKE(a)
			w.run(time.Millisecond)
			a.mute = true
			w.run(500 * time.Millisecond)
			terminate(b) // the new one: the old one is no more
			w.run(500 * time.Millisecond)
			a.unmute()
		}, -1},
		"the initiator works on the answer, and the peer closes the new child": {func(w *world, a, b *host) {
			rekeyChild(a)
			w.run(time.Millisecond)
			a.mute = true
			w.run(100 * time.Millisecond)
			for _, c := range engineOf(b).children {
				if c.successor != nil {
					b.handle(CloseChild{c.ID})
				}
			}
			w.run(100 * time.Millisecond)
			a.unmute()
		}, 0},
		"the initiator works on the answer, and a person closes the child": {func(w *world, a, b *host) {
			rekeyChild(a)
			w.run(time.Millisecond)
			a.mute = true
			w.run(100 * time.Millisecond)
			for id := range a.installed {
				a.handle(CloseChild{id})
			}
			a.unmute()
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cross := crossing{pair: slowPair, children: c.children}
			w, a, b := cross.start(t)
			if a.established()[0].Suite.KE.ID != suite.KEMODP3072 {
				t.Fatal("another group")
			}
			c.act(w, a, b)
			w.run(3 * time.Minute)
			cross.check(t, w, a, b)
		})
	}
}
