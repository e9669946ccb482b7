package ike

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"martlet/ike/message"
)

// reauthPair is a client with a virtual address and a child on request that is open, whose
// gateway wants another proof every hour.
func reauthPair(t *testing.T) (w *world, a, b *host) {
	t.Helper()
	client, gateway := pskPair(t)
	more := func(c *Connection, local, remote string) {
		c.Children = append(c.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors(local), Remote: selectors(remote)})
	}
	more(client, "10.1.0.0/16", "10.3.0.0/16")
	more(gateway, "10.3.0.0/16", "10.1.0.0/16")
	gateway.Reauth = time.Hour
	w, a, b = up(t, client, gateway)
	a.handle(Acquire{Connection: "home", Child: "dmz"})
	w.run(time.Second)
	agree(t, a, b, 2)
	return w, a, b
}

func TestReauthBeforeTheGatewaysTimeIsOver(t *testing.T) {
	w, a, b := reauthPair(t)
	for range 3 {
		before := a.established()[0]
		w.run(time.Hour)
		after := a.established()[0]
		if before.SA == after.SA || !after.Since.After(before.Since) {
			t.Fatalf("no other SA after an hour: %+v", after)
		}
		agree(t, a, b, 2)
	}
	for _, d := range append(found[Down](a), found[Down](b)...) {
		if d.Err != nil && d.Err.Code != CodeDeleted || d.SA == 0 {
			t.Errorf("down: %+v", d)
		}
	}
	for _, d := range found[Down](a) {
		if !d.Replaced {
			t.Errorf("the client lost its connection: %+v", d)
		}
	}
}

// Until the new children stand the old ones do, and nothing is sent on these any more before the
// peer hears that they end.
func TestReauthIsMakeBeforeBreak(t *testing.T) {
	w, a, b := reauthPair(t)
	var order []string
	a.watch = func(x Action) {
		switch x := x.(type) {
		case Install:
			order = append(order, "install")
		case Switch:
			order = append(order, "switch")
		case Remove:
			order = append(order, "remove")
		case Report:
			if d, ok := x.What.(Down); ok && d.Replaced {
				order = append(order, "down")
			}
		}
	}
	a.handle(Reauth{})
	w.run(time.Minute)
	agree(t, a, b, 2)
	want := []string{"install", "install", "switch", "switch", "remove", "remove", "down"}
	if len(order) != len(want) {
		t.Fatalf("%v, want %v", order, want)
	}
	for i := range want {
		if order[i] != want[i] {
			t.Fatalf("%v, want %v", order, want)
		}
	}
}

func TestReauthKeepsTheAddresses(t *testing.T) {
	client, gateway := pskPair(t)
	virtualPair(client, gateway)
	w, a, b := pair(t, client, gateway)
	var wanted int
	b.admit = func(q Admit) Admission {
		wanted = len(q.Wanted)
		return Admission{Lease: testLease}
	}
	a.initiate("home", b)
	w.run(time.Second)
	if wanted != 0 {
		t.Fatalf("the first request names %d addresses", wanted)
	}
	a.handle(Reauth{})
	w.run(time.Second)
	if wanted != 2 {
		t.Errorf("the request names %d addresses, want both of before", wanted)
	}
	agree(t, a, b, 1)
}

// A gateway ends an SA whose peer did not authenticate again.
func TestReauthThatDoesNotCome(t *testing.T) {
	client, gateway := pskPair(t)
	gateway.Reauth = time.Hour
	w, a, b := up(t, client, gateway)
	a.poke(func(s *ikeSA) { s.set(dueReauth, time.Time{}) })
	w.run(time.Hour + time.Minute)
	empty(t, a, b)
}

// While the gateway refuses us, the SA stands as long as its time, and the tries come seldom.
func TestReauthThatIsRefused(t *testing.T) {
	w, a, b := reauthPair(t)
	refused := 0
	b.admit = func(Admit) Admission {
		refused++
		return Admission{Refuse: "no more"}
	}
	w.run(59 * time.Minute)
	if refused < 2 || refused > 30 {
		t.Errorf("%d tries", refused)
	}
	agree(t, a, b, 2)
	w.run(5 * time.Minute)
	empty(t, a, b)
}

func TestReauthByTheGatewaysCommand(t *testing.T) {
	w, a, b := reauthPair(t)
	before := a.established()[0].SA
	b.handle(Reauth{Within: 30 * time.Second})
	w.run(31 * time.Second)
	if a.established()[0].SA == before {
		t.Error("the client did not authenticate again")
	}
	agree(t, a, b, 2)
}

// The SA that is to be replaced is rekeyed meanwhile.
func TestReauthBesideRekey(t *testing.T) {
	w, a, b := reauthPair(t)
	a.handle(Reauth{})
	b.handle(Rekey{SA: b.established()[0].SA})
	w.run(time.Minute)
	agree(t, a, b, 2)
	if n := len(a.established()); n != 1 {
		t.Errorf("%d SAs", n)
	}
}

// The SA that takes the place is rekeyed itself before it has all children, by either side.
func TestReauthRekeyedOnTheWay(t *testing.T) {
	for moment := range 40 {
		for _, atClient := range []bool{true, false} {
			w, a, b := reauthPair(t)
			a.handle(Reauth{})
			w.run(time.Duration(moment) * 5 * time.Millisecond)
			h := b
			if atClient {
				h = a
			}
			for _, s := range h.established() {
				h.handle(Rekey{SA: s.SA})
			}
			w.run(time.Minute)
			agree(t, a, b, 2)
			a.handle(Reauth{})
			w.run(time.Minute)
			agree(t, a, b, 2)
		}
	}
}

// The SA that is being replaced is rekeyed, and then another proof is wanted once more.
func TestReauthTwiceAcrossRekey(t *testing.T) {
	w, a, b := reauthPair(t)
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKESAInit {
			return 0
		}
		return 1
	}
	a.handle(Reauth{})
	b.handle(Rekey{SA: b.established()[0].SA})
	w.run(2 * time.Second)
	a.handle(Reauth{})
	w.run(2 * time.Second)
	w.fate = nil
	w.run(time.Minute)
	agree(t, a, b, 2)
}

// Who cannot be reached for another proof can still resume the SA that stands.
func TestReauthKeepsTheTicket(t *testing.T) {
	client, gateway := pskPair(t)
	client.Tickets, gateway.Tickets = time.Hour, time.Hour
	w, a, b := pair(t, client, gateway)
	b.e.ticketKeys = TicketKey{Epoch: EpochOf(w.now), Key: make([]byte, 32)}
	a.initiate("home", b)
	w.run(time.Second)
	w.fate = func(*host, Send) int { return 0 }
	a.handle(Reauth{})
	w.run(time.Second)
	if len(a.e.tickets) != 1 {
		t.Error("the ticket is gone")
	}
}

func TestReauthUnderLoss(t *testing.T) {
	for seed := range uint64(20) {
		client, gateway := pskPair(t)
		gateway.Reauth = 10 * time.Minute
		w, a, b := up(t, client, gateway)
		rng := rand.New(rand.NewPCG(seed, 13))
		w.fate = func(*host, Send) int { return []int{0, 1, 1, 1, 2}[rng.IntN(5)] }
		w.run(time.Hour)
		w.fate = nil
		w.run(10 * time.Minute)
		agree(t, a, b, 1)
	}
}

// RFC 4478 §3: type 16403 with 4 octets of seconds, no SPI.
func TestAuthLifetimeOnTheWire(t *testing.T) {
	s := &ikeSA{}
	s.authLifetime = 90 * time.Minute
	ps := s.announceLifetime()
	n := ps[0].(*message.Notify)
	if len(ps) != 1 || n.Notify != 16403 || n.Protocol != 0 || len(n.SPI) != 0 || string(n.Data) != "\x00\x00\x15\x18" {
		t.Errorf("%+v", n)
	}
	for _, data := range []string{"", "\x00\x00\x15", "\x00\x00\x15\x18\x00"} {
		if _, ok := readLifetime([]message.Payload{notifyData(message.AuthLifetime, []byte(data))}); ok {
			t.Errorf("%x is taken", data)
		}
	}
	s.exts |= extWindows
	if len(s.announceLifetime()) != 0 {
		t.Error("Windows is told")
	}
}

// A gateway that gives no time does not make us authenticate without pause.
func TestReauthAtOurPace(t *testing.T) {
	client, gateway := pskPair(t)
	gateway.Reauth = time.Second
	w, a, b := up(t, client, gateway)
	inits := 0
	a.watch = func(x Action) {
		if s, ok := x.(Send); ok {
			if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKESAInit {
				inits++
			}
		}
	}
	w.run(time.Minute)
	if inits < 10 || inits > 12 {
		t.Errorf("%d times in a minute", inits)
	}
	agree(t, a, b, 1)
}

// An old SA may end, by the peer's word, at any moment while its successor is on the way: that
// one is told to be coming, there is one SA in the end, and it has all the children.
func TestReauthWhoseOldSAEndsOnTheWay(t *testing.T) {
	moments := 0
	for moment := range 30 {
		w, a, b := reauthPair(t)
		old := b.established()[0].SA
		first := len(a.e.Statuses())
		a.handle(Reauth{})
		w.run(time.Duration(moment) * 3 * time.Millisecond)
		if len(b.established()) == 0 || len(a.e.Statuses()) == first {
			continue // it is over
		}
		moments++
		b.handle(Terminate{SA: old, Reason: "the gateway has enough of it"})
		w.run(time.Minute)
		agree(t, a, b, 2)
		for _, d := range found[Down](a) {
			if !d.Replaced {
				t.Errorf("after %d ms: the end of the old SA is told as that of the connection: %+v", 3*moment, d)
			}
		}
	}
	if moments < 10 {
		t.Errorf("only in %d moments was something on the way", moments)
	}
}

// Where the successor comes to nothing after the old SA ended, its end is that of the connection,
// and told once.
func TestReauthThatFailsAfterTheOldSAEnded(t *testing.T) {
	w, a, b := reauthPair(t)
	b.admit = func(Admit) Admission { return Admission{Refuse: "no more"} }
	old := b.established()[0].SA
	a.handle(Reauth{})
	w.run(15 * time.Millisecond)
	b.handle(Terminate{SA: old, Reason: "the gateway has enough of it"})
	w.run(time.Minute)
	empty(t, a, b)
	downs := found[Down](a)
	if len(downs) != 2 || !downs[0].Replaced || downs[1].Replaced || downs[1].Err == nil || downs[1].Err.Code != CodeAuthRefused {
		t.Errorf("%+v", downs)
	}
}

// RFC 4478 §3: however little time a peer leaves, none at all included, we authenticate again
// every five seconds and no more often, and say once why.
func TestAuthLifetimeHasAFloor(t *testing.T) {
	for _, seconds := range []byte{0, 1, 2, 4} {
		client, gateway := pskPair(t)
		gateway.Reauth = time.Hour
		w, a, b := up(t, client, gateway)
		inits := 0
		a.watch = func(x Action) {
			if s, ok := x.(Send); ok {
				if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKESAInit {
					inits++
				}
			}
		}
		hurry := func() {
			b.e.all(func(s *ikeSA) {
				if s.state == stateEstablished && s.authLifetime == time.Hour {
					b.e.now, b.e.acts = w.now, nil
					s.authLifetime = time.Hour + 1
					s.enqueue(&lifetimeTask{[]message.Payload{notifyData(message.AuthLifetime, []byte{0, 0, 0, seconds})}})
					for _, x := range b.e.acts {
						b.do(x)
					}
				}
			})
		}
		for range 600 {
			hurry()
			w.run(100 * time.Millisecond)
		}
		if inits < 9 || inits > 13 {
			t.Errorf("AUTH_LIFETIME of %d s: %d proofs in a minute", seconds, inits)
		}
		warned := 0
		for _, x := range found[Warned](a) {
			if strings.Contains(x.Text, "AUTH_LIFETIME") && strings.Contains(x.Text, "5s") {
				warned++
			}
		}
		if warned != 1 {
			t.Errorf("AUTH_LIFETIME of %d s: said %d times", seconds, warned)
		}
		w.run(5 * time.Second)
		agree(t, a, b, 1)
	}
}
