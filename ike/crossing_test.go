package ike

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// caller is an end of a pair that call each other, with what its data plane and its runner would
// do of two SAs that cross.
type caller struct {
	*host
	peer    *caller
	order   []*Child // in which children are asked; the first sends
	packets []packetOnItsWay
	arrived int
	alive   map[SAID]bool
	waiting time.Time
	pair    [2]SAID
}

type packetOnItsWay struct {
	at  time.Time
	spi uint32
}

func newCaller(h *host) *caller {
	c := &caller{host: h, alive: map[SAID]bool{}}
	without := func(id ChildID) []*Child {
		return slices.DeleteFunc(c.order, func(x *Child) bool { return x.ID == id })
	}
	h.watch = func(a Action) {
		switch a := a.(type) {
		case Install:
			c.order = append(c.order, a.Child)
		case Switch:
			c.front(h.installed[a.Child])
		case Retire:
			c.order = without(a.Child)
		case Remove:
			c.order = without(a.Child)
		case Report:
			if alive, ok := a.What.(Alive); ok {
				c.alive[alive.SA] = true
			}
		}
	}
	return c
}

// front is Plane.Switch.
func (c *caller) front(child *Child) {
	c.order = append([]*Child{child}, slices.DeleteFunc(c.order, func(x *Child) bool { return x == child })...)
}

// send sends a packet on the child that has what the host sends.
func (c *caller) send() {
	c.packets = append(c.packets, packetOnItsWay{c.w.now.Add(c.w.delay), c.order[0].SPIOut})
}

// receive takes what has arrived by now; on the newer of two children, it is Plane.follow.
func (c *caller) receive() {
	for len(c.peer.packets) > 0 && !c.peer.packets[0].at.After(c.w.now) {
		spi := c.peer.packets[0].spi
		c.peer.packets = c.peer.packets[1:]
		taken := false
		for _, x := range c.retired {
			taken = taken || x.SPIIn == spi
		}
		for _, x := range c.installed {
			if x.SPIIn == spi {
				taken = true
				if c.order[0].ID < x.ID {
					c.front(x)
				}
			}
		}
		if taken {
			c.arrived++
		}
	}
}

// settle is what the runner does.
func (c *caller) settle() {
	stays, goes, found := Crossing(c.established())
	pair := [2]SAID{stays.SA, goes.SA}
	switch {
	case !found:
		return
	case pair != c.pair:
		c.pair, c.waiting = pair, time.Time{}
		clear(c.alive)
		c.handle(Check{SA: stays.SA})
		c.handle(Check{SA: goes.SA})
	case !c.alive[stays.SA] || !c.alive[goes.SA]:
	case c.waiting.IsZero():
		c.handle(Prefer{SA: stays.SA})
		c.waiting = c.w.now
		if !stays.Initiator {
			c.waiting = c.w.now.Add(5 * time.Second)
		}
	case !c.waiting.After(c.w.now):
		c.handle(Terminate{SA: goes.SA, Surplus: true, Reason: "surplus"})
	}
}

// callers are two hosts that call each other, the second a while after the first.
func callers(t *testing.T, seed uint64, loss float64) (a, b *caller) {
	client, gateway := pskPair(t)
	client.Respond = true
	w, x, y := pair(t, client, gateway)
	rng := rand.New(rand.NewPCG(seed, 77))
	w.fate = func(*host, Send) int {
		if rng.Float64() < loss {
			return 0
		}
		return 1
	}
	a, b = newCaller(x), newCaller(y)
	a.peer, b.peer = b, a
	x.initiate(client.Name, y)
	w.run(time.Duration(rng.IntN(50)) * time.Millisecond)
	y.initiate(gateway.Name, x)
	return a, b
}

// standsAtBoth tells whether an SA with a child stands at both ends.
func standsAtBoth(a, b *caller) bool {
	for _, x := range a.e.Statuses() {
		for _, y := range b.e.Statuses() {
			if x.SPIi == y.SPIi && len(x.Children) > 0 && len(y.Children) > 0 {
				return true
			}
		}
	}
	return false
}

func TestCallsThatCrossLoseNoPacket(t *testing.T) {
	crossed := 0
	for seed := range uint64(80) {
		loss := []float64{0, 0, 0.1, 0.3}[seed%4]
		a, b := callers(t, seed, loss)
		w := a.w
		stands, sent, two, ended := false, 0, false, time.Time{}
		for range 4000 {
			w.run(2 * time.Millisecond)
			for _, c := range []*caller{a, b} {
				c.receive()
				c.settle()
			}
			if stands = stands || standsAtBoth(a, b); !stands {
				continue
			}
			sent++
			a.send()
			b.send()
			if n := max(len(a.established()), len(b.established())); n > 1 && !two {
				two, ended = true, time.Time{}
			} else if n == 1 && two && ended.IsZero() {
				ended = w.now
			}
		}
		w.fate = nil
		for range 600 {
			w.run(100 * time.Millisecond)
			for _, c := range []*caller{a, b} {
				c.receive()
				c.settle()
			}
		}
		if a.receive(); sent == 0 || a.arrived != sent {
			t.Errorf("seed %d: %d of %d packets arrived at the client", seed, a.arrived, sent)
		}
		if b.receive(); b.arrived != sent {
			t.Errorf("seed %d: %d of %d packets arrived at the gateway", seed, b.arrived, sent)
		}
		agree(t, a.host, b.host, 1)
		if two {
			crossed++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if crossed < 40 {
		t.Errorf("only %d crossed: the test does not test much", crossed)
	}
}

// Both ends find the same, in whichever order they list their SAs.
func TestCrossingIsDecidedAlike(t *testing.T) {
	a, b := callers(t, 1, 0)
	a.w.run(time.Second)
	x, y := a.established(), b.established()
	if len(x) != 2 || len(y) != 2 {
		t.Fatalf("%d and %d SAs, want two", len(x), len(y))
	}
	slices.Reverse(y)
	stays, goes, found := Crossing(x)
	stays2, goes2, found2 := Crossing(y)
	if !found || !found2 || stays.SPIi != stays2.SPIi || goes.SPIi != goes2.SPIi || stays.SPIi >= goes.SPIi {
		t.Errorf("%v stays and %v goes at one end, at the other %v and %v", stays.SPIi, goes.SPIi, stays2.SPIi, goes2.SPIi)
	}
	// Rekeying gives an SA other SPIs, and changes nothing.
	a.handle(Rekey{SA: stays.SA})
	a.w.run(time.Second)
	after, gone, found := Crossing(a.established())
	if !found || after.Line != stays.SPIi || gone.SA != goes.SA || after.SPIi == stays.SPIi {
		t.Errorf("after a rekey %v stays, which was %v", after.SPIi, stays.SPIi)
	}
	if _, _, found := Crossing(a.established()[:1]); found {
		t.Error("one SA is one too many")
	}
}

// RFC 7296 §1.4.1: the DELETE of a surplus SA comes a second after the last packet on it, and
// what the peer sends is taken for five seconds more.
func TestSurplusEndsWithoutHaste(t *testing.T) {
	a, b := callers(t, 2, 0)
	w := a.w
	w.run(time.Second)
	_, goes, _ := Crossing(a.established())
	began := w.now
	a.handle(Terminate{SA: goes.SA, Surplus: true, Reason: "surplus"})
	if len(a.retired) != 1 || len(a.installed) != 1 {
		t.Fatalf("%d retired and %d installed, want one each", len(a.retired), len(a.installed))
	}
	w.run(900 * time.Millisecond)
	if len(b.installed) != 2 {
		t.Error("the peer heard of it at once")
	}
	w.run(200 * time.Millisecond)
	if len(b.installed) != 1 {
		t.Error("the peer did not hear of it in a second")
	}
	if len(a.retired) != 1 {
		t.Error("what the peer sent before it heard is not taken")
	}
	for len(a.retired) > 0 {
		w.run(100 * time.Millisecond)
	}
	if took := w.now.Sub(began); took < 5*time.Second || took > 7*time.Second {
		t.Errorf("it took %v", took)
	}
	downs := found[Down](a.host)
	if len(downs) != 1 || !downs[0].Replaced {
		t.Errorf("%+v", downs)
	}
	agree(t, a.host, b.host, 1)
	a.handle(Terminate{})
	w.run(time.Minute)
	empty(t, a.host, b.host)
}

// A peer that has lost one of the two gives no answer on it, and that one ends.
func TestCheckFindsWhatThePeerHasLost(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	id := a.established()[0].SA
	a.handle(Check{SA: id})
	w.run(time.Second)
	if got := found[Alive](a); len(got) != 1 || got[0].SA != id {
		t.Fatalf("%+v", got)
	}
	w.fate = func(from *host, _ Send) int {
		if from == b {
			return 0
		}
		return 1
	}
	a.handle(Check{SA: id})
	w.run(time.Minute)
	if len(found[Alive](a)) != 1 || a.downCode() != CodePeerDead {
		t.Errorf("%+v", a.reports)
	}
	a.handle(Check{SA: id}) // it is gone
	a.handle(Prefer{SA: id})
}
