package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestChangeWhileAsking: what is outstanding goes out again bit for bit on the new path,
// and the update follows.
func TestChangeWhileAsking(t *testing.T) {
	w, a, b := roamers(t)
	w.fate = func(*host, Send) int { return 0 }
	a.poke((*ikeSA).check)
	w.run(100 * time.Millisecond)
	asked := slices.Clone(a.sent[len(a.sent)-1].Data)
	w.fate = nil
	a.sent = nil
	a.move(awayAddr)
	w.run(time.Millisecond)
	if len(a.sent) == 0 || !bytes.Equal(a.sent[0].Data, asked) || a.sent[0].Path.Local.Addr().String() != awayAddr {
		t.Fatal("the request was not repeated from the new address")
	}
	w.run(2 * time.Second)
	meet(t, a, b, awayAddr, gatewayAddr)
}

// TestChangesInQuickSuccession: the last one counts.
func TestChangesInQuickSuccession(t *testing.T) {
	for gap := range 12 {
		w, a, b := roamers(t)
		for _, at := range []string{awayAddr, "192.0.2.98", homeAddr, "192.0.2.97"} {
			a.move(at)
			w.run(time.Duration(gap) * 5 * time.Millisecond)
		}
		w.run(10 * time.Second)
		meet(t, a, b, "192.0.2.97", gatewayAddr)
	}
}

// TestBothMoveAtOnce: the client loses its address at the same time.
func TestBothMoveAtOnce(t *testing.T) {
	w, a, b := multihomed(t)
	b.move(otherAddr)
	a.move(awayAddr)
	w.run(30 * time.Second)
	meet(t, a, b, awayAddr, otherAddr)
}

// TestUpdateCrossesRekey: an address change at every moment of a rekey of the IKE SA or of
// the child, by either side. The SA that is there in the end is where the client is.
func TestUpdateCrossesRekey(t *testing.T) {
	for _, c := range []struct {
		name  string
		rekey func(a, b *host)
	}{
		{"IKE SA, client", func(a, _ *host) { a.handle(Rekey{SA: a.established()[0].SA}) }},
		{"IKE SA, gateway", func(_, b *host) { b.handle(Rekey{SA: b.established()[0].SA}) }},
		{"IKE SA, both", func(a, b *host) {
			a.handle(Rekey{SA: a.established()[0].SA})
			b.handle(Rekey{SA: b.established()[0].SA})
		}},
		{"child, client", func(a, _ *host) { a.handle(Rekey{Child: a.established()[0].Children[0].ID}) }},
		{"child, gateway", func(_, b *host) { b.handle(Rekey{Child: b.established()[0].Children[0].ID}) }},
		{"all, both", func(a, b *host) {
			for _, h := range []*host{a, b} {
				st := h.established()[0]
				h.handle(Rekey{Child: st.Children[0].ID})
				h.handle(Rekey{SA: st.SA})
			}
		}},
	} {
		for moment := range 14 {
			t.Run(fmt.Sprintf("%s, %d", c.name, moment), func(t *testing.T) {
				w, a, b := roamers(t)
				if moment%2 == 0 {
					c.rekey(a, b)
					w.run(time.Duration(moment) * 5 * time.Millisecond)
					a.move(awayAddr)
				} else {
					a.move(awayAddr)
					w.run(time.Duration(moment) * 5 * time.Millisecond)
					c.rekey(a, b)
				}
				w.run(3 * time.Minute) // what was replaced is gone
				meet(t, a, b, awayAddr, gatewayAddr)
			})
		}
	}
}

// TestChangeWhileConnecting: nothing is waited for that cannot come.
func TestChangeWhileConnecting(t *testing.T) {
	for _, wait := range []time.Duration{0, 15 * time.Millisecond, 45 * time.Millisecond} {
		client, gateway := pskPair(t)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(wait)
		a.handle(Moved{Addresses: a.addresses()})
		a.move(awayAddr)
		w.run(time.Millisecond)
		if wait < 30*time.Millisecond {
			if a.downCode() != CodeUnreachable {
				t.Errorf("after %v: %v", wait, a.downCode())
			}
			continue
		}
		w.run(10 * time.Second)
		meet(t, a, b, awayAddr, gatewayAddr)
	}
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	a.handle(Moved{Addresses: a.addresses()})
	w.run(time.Second)
	agree(t, a, b, 1)
}

// A gateway that has moved asks from where it is now, however long it gets no answer: what
// came from the old address would tell its peer that it is still there.
func TestGatewayDoesNotAskFromWhereItIsNoMore(t *testing.T) {
	w, a, b := roamers(t)
	w.fate = func(from *host, _ Send) int {
		if from == a {
			return 0
		}
		return 1
	}
	sent := len(b.sent)
	b.move(otherAddr)
	w.run(20 * time.Second)
	if len(b.sent)-sent < checkTries+2 {
		t.Fatalf("it sent only %d times", len(b.sent)-sent)
	}
	for _, s := range b.sent[sent:] {
		if s.Path.Local.Addr().String() != otherAddr {
			t.Fatalf("sent from %v", s.Path.Local)
		}
	}
	w.fate = nil
	w.run(time.Minute)
	meet(t, a, b, homeAddr, otherAddr)
}

// TestChangeDuringRekey: the question for the ways there are is still open when another SA takes
// the place of the one that asked.
func TestChangeDuringRekey(t *testing.T) {
	w, a, b := roamers(t)
	b.handle(Rekey{SA: b.established()[0].SA})
	w.run(9 * time.Millisecond)
	a.mute = true
	a.more, a.addr = []netip.Addr{a.addr}, netip.MustParseAddr(awayAddr)
	a.handle(Moved{Addresses: a.addresses()})
	w.run(50 * time.Millisecond)
	a.mute = false
	w.run(time.Second)
	for _, q := range a.withheld {
		a.handle(Answer{ID: q.ID, Value: a.reply(q.Question)})
	}
	w.run(time.Minute)
	meet(t, a, b, awayAddr, gatewayAddr)
}
