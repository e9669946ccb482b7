package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// resumePair is a client and a gateway that knows tickets. Their SA is up.
func resumePair(t testing.TB, client, gateway *Connection) (w *world, a, b *host) {
	client.Tickets, gateway.Tickets = time.Hour, time.Hour
	w = newWorld(t)
	a = w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
	b = w.add("gateway", "198.51.100.1", &Config{
		Connections: []*Connection{gateway}, Shard: 1, ShardBits: 2,
		TicketKey: TicketKey{Epoch: EpochOf(w.now) - 3, Key: bytes.Repeat([]byte{7}, 32)},
	})
	if gateway.Lease {
		b.admit = func(Admit) Admission { return Admission{Lease: testLease} }
	}
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	return w, a, b
}

// loseSA makes a lose its SA because b does not answer, and gives b a new engine.
func loseSA(t testing.TB, w *world, a, b *host) {
	t.Helper()
	b.crash()
	w.fate = func(*host, Send) int { return 0 }
	a.poke((*ikeSA).check)
	w.run(2 * time.Minute)
	empty(t, a)
	w.fate = nil
	a.reports, a.sent, b.sent, b.reports = nil, nil, nil, nil
}

// exchanges lists the kinds of requests that h sent, each once in a row.
func exchanges(h *host) (out []message.ExchangeType) {
	for _, s := range h.sent {
		if m, err := message.ParseHeader(s.Data); err == nil && !s.Keepalive && !m.IsResponse() && (len(out) == 0 || out[len(out)-1] != m.Exchange) {
			out = append(out, m.Exchange)
		}
	}
	return out
}

// TestResume: what was lost is resumed in two round trips, with the identities of before and
// without a signature, and again with the ticket of that; whatever gets lost or comes twice.
func TestResume(t *testing.T) {
	for name, pairOf := range map[string]func(testing.TB) (*Connection, *Connection){
		"psk":  pskPair,
		"cert": func(t testing.TB) (*Connection, *Connection) { return certPair(t, pki.RSA2048, pki.ECDSAP256) },
		"virtual address": func(t testing.TB) (*Connection, *Connection) {
			client, gateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			virtualPair(client, gateway)
			return client, gateway
		},
	} {
		for loss, copies := range map[string][]int{"": {1}, " with loss": {1, 1, 0, 1, 0}, " repeated": {2}, " under load": nil} {
			t.Run(name+loss, func(t *testing.T) {
				client, gateway := pairOf(t)
				w, a, b := resumePair(t, client, gateway)
				var asked []Admit
				b.admit = func(q Admit) Admission { asked = append(asked, q); return Admission{Lease: testLease} }
				before := a.established()[0]
				for range 3 {
					loseSA(t, w, a, b)
					asked = nil
					if copies == nil {
						b.e.gate.cfg = HalfOpen{CookieTotal: -1, PuzzleTotal: -1}
						b.e.gate.unsolved = bucket{used: 1e9, at: w.now}
					} else {
						n := 0
						w.fate = func(*host, Send) int { n++; return copies[n%len(copies)] }
					}
					a.asked = nil
					a.initiate("home", b)
					w.run(20 * time.Second)
					w.fate = nil
					agree(t, a, b, 1)
					if got := exchanges(a); !slices.Equal(got, []message.ExchangeType{message.IKESessionResume, message.IKEAuth}) {
						t.Fatalf("exchanges %v", got)
					}
					now, there := a.established()[0], b.established()[0]
					if now.Remote != before.Remote || now.Local != before.Local || there.Remote != before.Local || now.Suite != before.Suite ||
						!slices.Equal(now.Lease.Addresses, before.Lease.Addresses) {
						t.Errorf("resumed as %+v", now)
					}
					if len(asked) != 1 || asked[0].Ticket == (TicketID{}) {
						t.Errorf("admitted %+v", asked)
					}
					for _, q := range a.asked {
						if _, work := q.(Work); work {
							t.Error("something dear was computed")
						}
					}
				}
			})
		}
	}
}

// TestResumeKeys: RFC 5723 §5.1, by hand.
func TestResumeKeys(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := resumePair(t, client, gateway)
	d := slices.Clone(engineOf(a).keys.D)
	loseSA(t, w, a, b)
	a.initiate("home", b)
	w.run(time.Second)
	s := engineOf(a)
	prf, err := suite.NewPRF(s.suite.PRF)
	if err != nil {
		t.Fatal(err)
	}
	seed := prf.Sum(d, []byte("Resumption"), s.ni, s.nr)
	want, err := DeriveIKE(s.suite, seed, s.ni, s.nr, s.spii, s.spir)
	if err != nil || !bytes.Equal(want.Ei, s.keys.Ei) || !bytes.Equal(want.D, s.keys.D) {
		t.Errorf("other keys, %v", err)
	}
	raw := sentOf(a, message.IKESessionResume, false)[0]
	if types := payloadTypes(t, raw); types[0] != message.TypeNonce || types[1] != message.TypeNotify || raw[18] != 38 {
		t.Errorf("payloads %v in exchange %d, want Ni, N(TICKET_OPAQUE) in 38", types, raw[18])
	}
	if types := payloadTypes(t, sentOf(b, message.IKESessionResume, true)[0]); types[0] != message.TypeNonce {
		t.Errorf("answer %v", types)
	}
}

// TestResumeRefused: a ticket that is no good any more costs a round trip; the attempt goes
// on with the long way.
func TestResumeRefused(t *testing.T) {
	for name, spoil := range map[string]func(w *world, a, b *host){
		"other key":      func(_ *world, _, b *host) { b.e.ticketKeys.Key = bytes.Repeat([]byte{8}, 32) },
		"no key":         func(_ *world, _, b *host) { b.e.ticketKeys = TicketKey{} },
		"too old":        func(_ *world, a, _ *host) { a.e.tickets["home"].until = epoch.Add(48 * time.Hour) },
		"altered":        func(_ *world, a, _ *host) { a.e.tickets["home"].sealed[30] ^= 1 },
		"cut":            func(_ *world, a, _ *host) { a.e.tickets["home"].sealed = a.e.tickets["home"].sealed[:9] },
		"no tickets now": func(_ *world, _, b *host) { b.e.cfg.Connections[0].Tickets = 0 },
		"other identity": func(_ *world, _, b *host) {
			b.e.cfg.Connections[0].Remote.ID = pki.Identity{Type: pki.IDFQDN, Data: "x"}
		},
		"no such name": func(_ *world, _, b *host) { b.e.cfg.Connections[0].Name = "other" },
		"another address": func(_ *world, _, b *host) {
			b.e.cfg.Connections[0].From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		},
		"an older gateway": func(w *world, _, b *host) { w.fate = without(message.IKESessionResume) },
		"not admitted once": func(_ *world, _, b *host) {
			b.admit = func(q Admit) Admission { return refusing(q.Ticket != TicketID{}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			copied := *gateway
			w, a, b := resumePair(t, client, &copied)
			loseSA(t, w, a, b)
			if name == "too old" {
				w.now = w.now.Add(2 * time.Hour)
			}
			spoil(w, a, b)
			a.initiate("home", b)
			w.run(300 * time.Millisecond)
			if sent := exchanges(a); len(sent) == 0 || sent[0] != message.IKESessionResume {
				t.Fatalf("exchanges %v", sent)
			}
			if name == "other identity" || name == "another address" {
				if len(b.established()) != 0 {
					t.Error("resumed against the policy")
				}
				return
			}
			w.run(20 * time.Second)
			agree(t, a, b, 1)
			if sent := exchanges(a); !slices.Contains(sent, message.IKESAInit) {
				t.Errorf("exchanges %v", sent)
			}
			w.run(time.Minute)
			if n := len(b.e.Statuses()); n != 1 {
				t.Errorf("%d SAs at the gateway", n)
			}
		})
	}
}

func without(kind message.ExchangeType) func(*host, Send) int {
	return func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == kind {
			return 0
		}
		return 1
	}
}

func refusing(yes bool) Admission {
	if yes {
		return Admission{Refuse: "the ticket was used"}
	}
	return Admission{}
}

// TestNothingToResume: an SA that ended in order is not resumed, nor one of another gateway
// or configuration, nor without the wish; and a ticket serves once.
func TestNothingToResume(t *testing.T) {
	for name, end := range map[string]func(w *world, a, b *host){
		"closed here":  func(w *world, a, _ *host) { a.handle(Terminate{}); w.run(time.Minute) },
		"closed there": func(w *world, _, b *host) { b.handle(Terminate{}); w.run(time.Minute) },
		"expired":      func(w *world, a, b *host) { loseSA(t, w, a, b); w.run(time.Hour) },
		"reloaded": func(w *world, a, b *host) {
			loseSA(t, w, a, b)
			c := *a.e.cfg.Connections[0]
			a.e.cfg.Connections[0] = &c
		},
		"elsewhere": func(w *world, a, b *host) {
			loseSA(t, w, a, b)
			b.addr = netip.MustParseAddr("198.51.100.77")
		},
	} {
		client, gateway := pskPair(t)
		w, a, b := resumePair(t, client, gateway)
		end(w, a, b)
		a.sent = nil
		a.initiate("home", b)
		w.run(time.Second)
		if got := exchanges(a); len(got) == 0 || got[0] != message.IKESAInit {
			t.Errorf("%s: exchanges %v", name, got)
		}
	}
	for _, c := range []struct{ ours, theirs time.Duration }{{0, time.Hour}, {time.Hour, 0}} {
		client, gateway := pskPair(t)
		client.Tickets, gateway.Tickets = c.ours, c.theirs
		_, a, _ := up(t, client, gateway)
		if len(a.e.tickets) != 0 {
			t.Errorf("%+v: a ticket", c)
		}
	}
}

// What the runner binds a ticket to comes back with it, and with each that follows.
func TestTicketBinding(t *testing.T) {
	client, gateway := pskPair(t)
	client.Tickets, gateway.Tickets = time.Hour, time.Hour
	w, a, b := pair(t, client, gateway)
	b.e.ticketKeys = TicketKey{Epoch: EpochOf(w.now) - 3, Key: bytes.Repeat([]byte{7}, 32)}
	b.e.cfg.TicketKey = b.e.ticketKeys
	var asked []Admit
	b.admit = func(q Admit) Admission {
		asked = append(asked, q)
		return Admission{Binding: [32]byte{byte(len(asked))}}
	}
	a.initiate("home", b)
	w.run(time.Second)
	for i := range 3 {
		loseSA(t, w, a, b)
		a.initiate("home", b)
		w.run(time.Second)
		if len(asked) != i+2 || asked[i].Binding != ([32]byte{byte(i)}) || asked[i+1].Ticket == (TicketID{}) || asked[i+1].Binding != ([32]byte{byte(i + 1)}) {
			t.Fatalf("%+v", asked)
		}
	}
}

// TestTicketFormat: what is sealed comes back, and nothing else opens.
func TestTicketFormat(t *testing.T) {
	e := New(&Config{TicketKey: TicketKey{Epoch: EpochOf(epoch) - 1, Key: bytes.Repeat([]byte{7}, 32)}})
	e.now = epoch
	with, err := ikeProposals(t, "aes128-sha256-x25519-ke1_mlkem768")[0].Suite()
	if err != nil {
		t.Fatal(err)
	}
	made := &ticket{
		id: TicketID{1, 2}, until: epoch.Add(time.Hour).Truncate(time.Second), connection: "rw", suite: with, d: bytes.Repeat([]byte{9}, 32),
		local: identity(t, "gw.example.org"), remote: identity(t, "carol@example.org"), claimed: identity(t, "192.0.2.1"), eapIdentity: "carol", binding: [32]byte{5, 6},
	}
	sealed := e.sealTicket(made)
	got, ok := e.openTicket(sealed)
	if !ok || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", *made) && got.until.Equal(made.until) && got.suite != made.suite {
		t.Errorf("%+v, want %+v", got, made)
	}
	if got.binding != made.binding {
		t.Errorf("bound to %x, want %x", got.binding, made.binding)
	}
	if bytes.Contains(sealed, made.d[:8]) || bytes.Contains(sealed, []byte("carol")) {
		t.Error("something of it can be read")
	}
	for i := range sealed {
		x := slices.Clone(sealed)
		x[i] ^= 1
		if _, ok := e.openTicket(x); ok {
			t.Errorf("opens with octet %d changed", i)
		}
		if _, ok := e.openTicket(sealed[:i]); ok {
			t.Errorf("%d octets open", i)
		}
	}
	plain, err := made.marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range plain {
		if _, ok := parseTicket(plain[:n]); ok {
			t.Errorf("%d of %d octets parse", n, len(plain))
		}
	}
	// The day after it still opens, if it is good for so long; then its key is gone.
	made.until = epoch.Add(100 * time.Hour)
	sealed = e.sealTicket(made)
	for days, want := range []bool{true, true, false, false} {
		e.now = epoch.Add(time.Duration(days) * ticketEpoch)
		if _, ok := e.openTicket(sealed); ok != want {
			t.Errorf("after %d days: %v", days, ok)
		}
	}
	if e.ticketKeys.Epoch != EpochOf(e.now)-1 {
		t.Error("the keys of the days before are kept")
	}
}

func FuzzTicket(f *testing.F) {
	made := &ticket{connection: "rw", d: make([]byte, 32), suite: suite.Suite{}}
	if plain, err := made.marshal(); err == nil {
		f.Add(plain)
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, plain []byte) {
		got, ok := parseTicket(plain)
		if !ok {
			return
		}
		again, err := got.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if twice, ok := parseTicket(again); !ok || twice.connection != got.connection || twice.suite != got.suite {
			t.Fatalf("%+v became %+v", got, twice)
		}
	})
}
