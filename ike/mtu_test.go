package ike

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// blackhole drops outer packets of more than mtu octets and says nothing, and of the others the
// given part.
func blackhole(w *world, mtu int, seed uint64, loss float64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	w.fate = func(_ *host, s Send) int {
		if len(s.Data)+overhead(s.Path) > mtu || rng.Float64() < loss {
			return 0
		}
		return 1
	}
}

// mtuPair is a client with an SA, whose children nobody rekeys.
func mtuPair(t testing.TB, change ...func(client, gateway *Connection)) (w *world, a, b *host) {
	t.Helper()
	client, gateway := pskPair(t)
	for _, f := range change {
		f(client, gateway)
	}
	return up(t, client, gateway)
}

// onlyMTU is the only PathMTU that a host reported.
func onlyMTU(h *host) PathMTU {
	h.w.t.Helper()
	got := found[PathMTU](h)
	if len(got) != 1 {
		h.w.t.Fatalf("%d reports of the path's MTU, want one: %v", len(got), got)
	}
	return got[0]
}

func (h *host) probe(low, high int) {
	h.handle(ProbeMTU{SA: h.established()[0].SA, Low: low, High: high})
}

// The size that is found is the largest of the usual ones that passes, from whichever side it is
// looked for, and the SA is none the worse for it.
func TestPathMTUIsFound(t *testing.T) {
	for mtu := 1280; mtu <= 1501; mtu += 13 {
		want := 1280
		for _, size := range usualSizes {
			if size <= mtu {
				want = size
			}
		}
		for _, gateway := range []bool{false, true} {
			w, a, b := mtuPair(t)
			blackhole(w, mtu, 0, 0)
			h := a
			if gateway {
				h = b
			}
			h.probe(1280, 1500)
			w.run(40 * time.Second)
			if got := onlyMTU(h); got.Size != want || got.Passed != (want > 1280) || got.Path != engineOf(h).path || got.SA != h.established()[0].SA {
				t.Errorf("of a path of %d octets is said %+v, want %d", mtu, got, want)
			}
			agree(t, a, b, 1)
			a.handle(Terminate{})
			w.run(time.Minute)
			empty(t, a, b)
		}
	}
}

// One answer is enough where the largest size passes, and it is the size that was asked for, to
// the octet, with DF.
func TestProbeOnTheWire(t *testing.T) {
	for name, proposal := range map[string]string{
		"AES-GCM": "aes128gcm16-prfsha256-x25519", "ChaCha20": "chacha20poly1305-prfsha256-x25519", "AES-CTR": "aes128ctr-sha256-x25519", "AES-CBC": "aes256-sha256-x25519",
	} {
		for _, remote := range []string{"198.51.100.1", "2001:db8:2::1"} {
			t.Run(name+" "+remote, func(t *testing.T) {
				client, gateway := pskPair(t)
				client.Proposals, gateway.Proposals = ikeProposals(t, proposal), ikeProposals(t, proposal)
				w, a, b := pair(t, client, gateway)
				if addr := netip.MustParseAddr(remote); addr.Is6() {
					a.addr, b.addr = netip.MustParseAddr("2001:db8:1::1"), addr
				}
				a.initiate("home", b)
				w.run(time.Second)
				a.sent, b.sent = nil, nil
				a.probe(1280, 1500)
				w.run(40 * time.Second)
				got := onlyMTU(a)
				if block := engineOf(a).seal.BlockLen(); !got.Passed || got.Size > 1500 || got.Size <= 1500-block {
					t.Errorf("%+v", got)
				}
				if len(a.sent) == 0 || !a.sent[0].DontFragment || len(a.sent[0].Data)+overhead(a.sent[0].Path) != got.Size {
					t.Fatalf("the probe is %+v", a.sent)
				}
				want := 20
				if a.addr.Is6() {
					want = 40
				}
				if overhead(a.sent[0].Path) != want+8+4 {
					t.Errorf("%d octets around a message", overhead(a.sent[0].Path))
				}
				if len(b.sent) == 0 || b.sent[0].DontFragment || len(b.sent[0].Data) > 200 {
					t.Errorf("the answer is %+v", b.sent)
				}
				// RFC 7296 §3.10.1: what is inside is a status of the range for private use.
				_, _, text, err := message.Open(slices.Clone(a.sent[0].Data), engineOf(b).open)
				if err != nil {
					t.Fatal(err)
				}
				ps, err := message.ParsePayloads(message.TypeNotify, text)
				if n, ok := message.Find[*message.Notify](ps); err != nil || !ok || len(ps) != 1 || n.Notify < 40960 || n.Protocol != 0 || len(n.SPI) != 0 {
					t.Errorf("inside is %v, %v", ps, err)
				}
			})
		}
	}
}

// RFC 7383 §2.5.2: what did not pass goes again under the same ID, in more and smaller pieces
// that pass everywhere, without DF. It was sent three times before.
func TestProbeIsCutWhereItDoesNotPass(t *testing.T) {
	w, a, b := mtuPair(t)
	blackhole(w, 600, 0, 0)
	a.sent = nil
	a.probe(1480, 1500)
	w.run(1300 * time.Millisecond)
	id := uint32(0)
	for i, s := range a.sent {
		h, err := message.ParseHeader(s.Data)
		if err != nil || !s.DontFragment || i > 0 && h.MessageID != id {
			t.Fatalf("%+v, %v", s, err)
		}
		id = h.MessageID
	}
	if len(a.sent) != 3 {
		t.Fatalf("the first form was sent %d times", len(a.sent))
	}
	a.sent = nil
	w.run(500 * time.Millisecond)
	if len(a.sent) < 3 {
		t.Fatalf("%d fragments", len(a.sent))
	}
	for i, s := range a.sent {
		m, err := message.Parse(s.Data)
		if err != nil {
			t.Fatal(err)
		}
		enc, ok := message.Find[*message.Encrypted](m.Payloads)
		if m.MessageID != id {
			break // the next probe
		}
		if !ok || int(enc.Fragment) != i+1 || int(enc.Total) < 3 || s.DontFragment || len(s.Data)+overhead(s.Path) > 576 {
			t.Errorf("%+v in %d octets", enc, len(s.Data)+overhead(s.Path))
		}
	}
	w.run(time.Minute)
	if got := onlyMTU(a); got.Passed || got.Size != 1480 {
		t.Errorf("%+v", got)
	}
	agree(t, a, b, 1)
}

// A peer that throws fragments of INFORMATIONAL away, as Debian's strongSwan does, gets the request
// without padding under the same ID after a second, and from then on at once; the SA lives, and the
// size is found.
func TestProbeOfAPeerThatDropsFragments(t *testing.T) {
	for _, mtu := range []int{1280, 1420, 1500} {
		w, a, b := mtuPair(t)
		fragments, first := 0, map[uint32][]byte{}
		w.fate = func(h *host, s Send) int {
			m, err := message.Parse(s.Data)
			if err != nil {
				return 1
			}
			enc, sealed := message.Find[*message.Encrypted](m.Payloads)
			switch {
			case len(s.Data)+overhead(s.Path) > mtu:
				return 0
			case sealed && enc.Fragment != 0:
				fragments++
				return 0
			case h == a && sealed && !s.DontFragment:
				if before := first[m.MessageID]; before != nil && !bytes.Equal(before, s.Data) {
					t.Errorf("two contents without padding under ID %d", m.MessageID)
				}
				first[m.MessageID] = s.Data
			}
			return 1
		}
		a.probe(1280, 1500)
		w.run(40 * time.Second)
		if got := onlyMTU(a); got.Size != mtu {
			t.Errorf("of a path of %d octets is said %+v", mtu, got)
		}
		if mtu < 1500 && (fragments == 0 || fragments > 8) {
			t.Errorf("%d fragments were sent in vain", fragments)
		}
		agree(t, a, b, 1)
		a.handle(Rekey{SA: a.established()[0].SA})
		w.run(time.Second)
		agree(t, a, b, 1)
	}
}

// Losses make the search longer, and seldom the result smaller than it is; never larger.
func TestPathMTUUnderLoss(t *testing.T) {
	wrong := 0
	for seed := range uint64(60) {
		w, a, b := mtuPair(t)
		mtu := usualSizes[seed%uint64(len(usualSizes))]
		blackhole(w, mtu, seed, 0.15)
		a.probe(1280, 1500)
		w.run(3 * time.Minute)
		switch got := onlyMTU(a); {
		case got.Size > mtu:
			t.Errorf("seed %d: a path of %d octets is thought to take %d", seed, mtu, got.Size)
		case got.Size < mtu:
			wrong++
		}
		agree(t, a, b, 1)
	}
	if wrong > 2 {
		t.Errorf("%d of 60 paths are thought smaller than they are", wrong)
	}
}

// Whatever else is to be asked goes first; the search goes on behind it, on the SA that has the
// place of the one where it began, and finds the same.
func TestProbeGivesWay(t *testing.T) {
	for moment := range 25 {
		for name, other := range map[string]func(a, b *host){
			"rekey by us":       func(a, _ *host) { a.handle(Rekey{SA: a.established()[0].SA}) },
			"rekey by the peer": func(_, b *host) { b.handle(Rekey{SA: b.established()[0].SA}) },
			"rekey by both": func(a, b *host) {
				a.handle(Rekey{SA: a.established()[0].SA})
				b.handle(Rekey{SA: b.established()[0].SA})
			},
			"child rekeyed by us":    func(a, _ *host) { a.handle(Rekey{Child: a.onlyChild().ID}) },
			"child rekeyed by peer":  func(_, b *host) { b.handle(Rekey{Child: b.onlyChild().ID}) },
			"a search of the peer's": func(_, b *host) { b.probe(1280, 1500) },
		} {
			t.Run(fmt.Sprintf("%s after %d", name, moment), func(t *testing.T) {
				w, a, b := mtuPair(t)
				blackhole(w, 1420, 0, 0)
				a.probe(1280, 1500)
				w.run(time.Duration(moment) * 60 * time.Millisecond)
				before := a.established()[0].SA
				other(a, b)
				w.run(200 * time.Millisecond)
				if slices.Contains([]string{"rekey by us", "rekey by the peer", "rekey by both"}, name) && a.established()[0].SA == before {
					t.Error("the rekey waits for the probe")
				}
				w.run(40 * time.Second)
				if got := onlyMTU(a); got.Size != 1420 || got.SA != a.established()[0].SA {
					t.Errorf("%+v", got)
				}
				agree(t, a, b, 1)
			})
		}
	}
}

// A delete does not wait either, by whom it may be, and there is no report.
func TestProbeBesideDelete(t *testing.T) {
	for moment := range 25 {
		for _, byPeer := range []bool{false, true} {
			w, a, b := mtuPair(t)
			blackhole(w, 1420, 0, 0)
			a.probe(1280, 1500)
			w.run(time.Duration(moment) * 60 * time.Millisecond)
			h := a
			if byPeer {
				h = b
			}
			h.handle(Terminate{})
			w.run(200 * time.Millisecond)
			if len(a.e.Statuses())+len(b.e.Statuses()) != 0 {
				t.Fatalf("after %d ms: the SA still stands", moment*60)
			}
			w.run(time.Minute)
			empty(t, a, b)
			if n := len(found[PathMTU](a)); n != 0 {
				t.Errorf("%d reports", n)
			}
			if code := a.downCode(); code != "" && code != CodeDeleted {
				t.Errorf("the SA ended as %q", code)
			}
		}
	}
}

// A search is of one path: it ends without a word when the SA goes another way.
func TestProbeEndsWhenThePathChanges(t *testing.T) {
	for moment := range 25 {
		w, a, b := mtuPair(t)
		blackhole(w, 1420, 0, 0)
		a.probe(1280, 1500)
		w.run(time.Duration(moment) * 60 * time.Millisecond)
		a.move("192.0.2.77")
		w.run(40 * time.Second)
		meet(t, a, b, "192.0.2.77", b.addr.String())
		if n := len(found[PathMTU](a)); n != 0 {
			t.Errorf("after %d ms: %d reports of a path that is no more", moment*60, n)
		}
		a.probe(1280, 1500)
		w.run(40 * time.Second)
		if got := onlyMTU(a); got.Size != 1420 {
			t.Errorf("%+v", got)
		}
	}
}

// Where a probe that is lost would cost the SA its life there is none.
func TestNoProbeWithoutFragmentation(t *testing.T) {
	_, a, b := mtuPair(t, func(_, gateway *Connection) { gateway.FragmentSize = -1 })
	a.sent = nil
	a.probe(1300, 1500)
	if got := onlyMTU(a); got.Passed || got.Size != 0 || len(a.sent) != 0 {
		t.Errorf("%+v, and %d messages", got, len(a.sent))
	}
	agree(t, a, b, 1)
	w, h, _ := streamers(t)
	h.sent = nil
	h.probe(1300, 1500)
	if got := onlyMTU(h); got.Passed || got.Size != 0 || len(h.sent) != 0 {
		t.Errorf("on a stream: %+v, and %d messages", got, len(h.sent))
	}
	w.run(time.Second)
	// And there is nothing to look for.
	w, a, _ = mtuPair(t)
	a.probe(1500, 1500)
	a.handle(ProbeMTU{SA: 4711, Low: 1280, High: 1500})
	if got := onlyMTU(a); got.Passed || got.Size != 1500 {
		t.Errorf("%+v", got)
	}
	w.run(time.Second)
}

// A peer that is dead is found dead as by any other request.
func TestProbeOfADeadPeer(t *testing.T) {
	w, a, _ := mtuPair(t, func(client, gateway *Connection) { client.Liveness, gateway.Liveness = -1, -1 })
	w.fate = func(*host, Send) int { return 0 }
	a.probe(1280, 1500)
	w.run(time.Minute)
	if got := a.downCode(); got != CodePeerDead {
		t.Errorf("the SA ended as %q", got)
	}
}

// Another ProbeMTU takes the place of the one that is under way.
func TestProbeAnew(t *testing.T) {
	w, a, _ := mtuPair(t)
	blackhole(w, 1460, 0, 0)
	a.probe(1280, 1500)
	w.run(700 * time.Millisecond)
	a.probe(1400, 1480)
	w.run(40 * time.Second)
	if got := onlyMTU(a); got.Size != 1460 {
		t.Errorf("%+v", got)
	}
}
