package ike

import (
	"bytes"
	"testing"
	"testing/cryptotest"
	"time"

	"martlet/crypto/pki"
)

// TestDeterminism: the same events at the same times, with the same random numbers, give
// the same bytes.
func TestDeterminism(t *testing.T) {
	// Made once, before the random numbers are fixed.
	client, gateway := certPair(t, pki.Ed25519, pki.Ed25519)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", Proposals: espProposals(t, "aes256gcm16-x25519"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16")})
	conversation := func(t *testing.T) (out [][]byte) {
		cryptotest.SetGlobalRandom(t, 42)
		w, a, b := pair(t, client, gateway)
		for range 3 {
			a.initiate("home", b)
			w.run(time.Second)
		}
		w.run(5 * time.Minute)
		b.handle(Terminate{})
		w.run(time.Minute)
		for _, h := range w.nodes {
			for _, s := range h.sent {
				out = append(out, s.Data)
			}
		}
		return out
	}
	var first, second [][]byte
	t.Run("once", func(t *testing.T) { first = conversation(t) })
	t.Run("again", func(t *testing.T) { second = conversation(t) })
	if len(first) < 30 || len(first) != len(second) {
		t.Fatalf("%d and %d datagrams", len(first), len(second))
	}
	for i := range first {
		if !bytes.Equal(first[i], second[i]) {
			t.Fatalf("datagram %d differs", i)
		}
	}
}
