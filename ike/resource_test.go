package ike

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

func parallelPair(t testing.TB, ours, theirs int) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	client.Children[0].Parallel, gateway.Children[0].Parallel = ours, theirs
	return client, gateway
}

// oneGroup checks that all children of a host are one group, with slots from 0 on.
func oneGroup(t testing.TB, h *host) {
	t.Helper()
	var slots []int
	seen := map[ChildID]bool{}
	for _, c := range h.installed {
		slots = append(slots, c.Slot)
		seen[c.Group] = true
	}
	slices.Sort(slots)
	for i, s := range slots {
		if s != i || len(seen) != 1 || seen[0] {
			t.Fatalf("%s: slots %v of groups %v", h.name, slots, seen)
		}
	}
}

// TestSeveralPerResource: as many as both sides take, which stay so over rekeying (RFC 9611).
func TestSeveralPerResource(t *testing.T) {
	for _, c := range []struct{ ours, theirs, want int }{{4, 4, 4}, {4, 0, 4}, {4, 2, 2}, {4, 1, 1}, {0, 4, 1}, {2, 8, 2}, {24, 0, usualParallel}} {
		client, gateway := parallelPair(t, c.ours, c.theirs)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, c.want)
		if c.want > 1 {
			oneGroup(t, a)
			oneGroup(t, b)
		}
		w.run(5 * time.Hour)
		agree(t, a, b, c.want)
		if c.want > 1 {
			oneGroup(t, a)
			oneGroup(t, b)
		}
		if f := found[ChildFailed](a); len(f) != 0 || len(found[Warned](a)) != 0 {
			t.Errorf("%+v: reports %+v %+v", c, f, found[Warned](a))
		}
		if st := a.established()[0]; len(st.Incomplete) != 0 {
			t.Errorf("%+v: incomplete %v", c, st.Incomplete)
		}
		a.handle(Terminate{})
		w.run(time.Hour)
		empty(t, a, b)
	}
}

// TestResourcesAreSwitchedTo: the data plane hears when the peer has one more.
func TestResourcesAreSwitchedTo(t *testing.T) {
	client, gateway := parallelPair(t, 3, 0)
	w, a, b := pair(t, client, gateway)
	var switched []ChildID
	a.watch = func(x Action) {
		if s, ok := x.(Switch); ok {
			switched = append(switched, s.Child)
		}
	}
	b.watch = func(x Action) {
		if _, ok := x.(Switch); ok {
			t.Error("the responder switches before anything came")
		}
	}
	a.initiate("home", b)
	w.run(time.Second)
	if len(switched) != 3 {
		t.Errorf("%d of three are in service", len(switched))
	}
	for slot, id := range switched {
		if a.installed[id].Slot != slot {
			t.Errorf("that of slot %d was switched to as number %d", a.installed[id].Slot, slot)
		}
	}
}

// TestResourceOnTheWire: SA_RESOURCE_INFO is empty in the first request, has what tells SAs apart
// in others, and is not in a rekey; the peer that has enough says TS_MAX_QUEUE.
func TestResourceOnTheWire(t *testing.T) {
	client, gateway := parallelPair(t, 3, 2)
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 2)
	read := func(to *host, raw []byte) []message.Payload {
		_, enc, text, err := message.Open(slices.Clone(raw), engineOf(to).open)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := message.ParsePayloads(enc.First, text)
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	first := message.FindNotify(read(b, sentOf(a, message.IKEAuth, false)[0]), message.SAResourceInfo)
	asks, answers := sentOf(a, message.CreateChildSA, false), sentOf(b, message.CreateChildSA, true)
	if len(asks) != 2 || len(answers) != 2 {
		t.Fatalf("%d requests and %d answers", len(asks), len(answers))
	}
	second := message.FindNotify(read(b, asks[0]), message.SAResourceInfo)
	if first == nil || len(first.Data) != 0 || second == nil || hex.EncodeToString(second.Data) != "00000001" {
		t.Errorf("says %+v and %+v", first, second)
	}
	if !hasResourceInfo(read(a, sentOf(b, message.IKEAuth, true)[0])) || !hasResourceInfo(read(a, answers[0])) {
		t.Error("the responder does not say that it knows what this is")
	}
	if n := message.FindError(read(a, answers[1])); n == nil || n.Notify != message.TSMaxQueue || n.Protocol != 0 || len(n.SPI)+len(n.Data) != 0 {
		t.Errorf("the peer that has enough says %+v", n)
	}
	for id := range a.installed {
		a.handle(Rekey{Child: id})
		break
	}
	w.run(time.Second)
	if hasResourceInfo(read(b, sentOf(a, message.CreateChildSA, false)[2])) {
		t.Error("a rekey names a resource")
	}
}

// TestPeerWithoutResources: one that does not know SA_RESOURCE_INFO has one SA.
func TestPeerWithoutResources(t *testing.T) {
	client, gateway := parallelPair(t, 4, 1)
	w, a, b := up(t, client, gateway)
	w.run(time.Minute)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.CreateChildSA, false)); n != 0 {
		t.Errorf("%d requests for more", n)
	}
}

// TestResourcesUnderLoss: nothing that is lost or repeated makes more or fewer.
func TestResourcesUnderLoss(t *testing.T) {
	for seed := range uint64(60) {
		client, gateway := parallelPair(t, 4, 4)
		w, a, b := pair(t, client, gateway)
		r := rand.New(rand.NewPCG(seed, 11))
		w.fate = func(*host, Send) int { return []int{0, 1, 1, 2}[r.IntN(4)] }
		a.initiate("home", b)
		w.run(10 * time.Second)
		if seed%3 == 0 && len(a.installed) > 0 {
			for id := range a.installed {
				a.handle(Rekey{Child: id})
			}
		}
		if seed%4 == 0 && len(a.established()) == 1 {
			a.handle(Rekey{SA: a.established()[0].SA})
		}
		w.run(30 * time.Second)
		w.fate = nil
		w.run(3 * time.Minute)
		if len(a.established()) != 1 {
			continue // lost more than it may
		}
		agree(t, a, b, 4)
		oneGroup(t, a)
		oneGroup(t, b)
	}
}

// TestBothOpenTheFirst: each side's first SA, opened at once, and what each puts beside it, are
// not more than either takes.
func TestBothOpenTheFirst(t *testing.T) {
	for seed := range uint64(20) {
		client, gateway := withExtra(t)
		client.Children[1].Parallel, gateway.Children[1].Parallel = 4, 4
		w, a, b := up(t, client, gateway)
		r := rand.New(rand.NewPCG(seed, 12))
		w.fate = func(*host, Send) int { return []int{0, 1, 1, 2}[r.IntN(4)] }
		acquireAt(a)
		acquireAt(b)
		w.run(20 * time.Second)
		w.fate = nil
		w.run(2 * time.Minute)
		if len(a.established()) != 1 {
			continue
		}
		if n := len(a.installed); n < 5 || n > 6 || len(b.installed) != n {
			t.Errorf("seed %d: %d and %d children, want one and about four", seed, n, len(b.installed))
		}
	}
}

// TestReauthOfResources: an SA that takes another's place has as many.
func TestReauthOfResources(t *testing.T) {
	client, gateway := parallelPair(t, 3, 3)
	client.Reauth = time.Hour
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 3)
	first := a.established()[0].SA
	w.run(time.Hour + time.Minute)
	agree(t, a, b, 3)
	oneGroup(t, a)
	if a.established()[0].SA == first {
		t.Error("no other SA")
	}
}

// TestUnlikeBeside: an SA that is not like those that it should stand beside is closed.
func TestUnlikeBeside(t *testing.T) {
	b := &beside{local: selectors("10.1.0.0/16"), remote: selectors("10.2.0.0/16")}
	good := childAnswer{resource: true, local: b.local, remote: b.remote}
	if !b.fits(&good) {
		t.Error("what is alike is refused")
	}
	for name, spoil := range map[string]func(a *childAnswer){
		"not one of several": func(a *childAnswer) { a.resource = false },
		"narrower":           func(a *childAnswer) { a.remote = selectors("10.2.1.0/24") },
		"another cipher":     func(a *childAnswer) { a.suite.Encr.KeyLen = 128 },
	} {
		bad := good
		spoil(&bad)
		if b.fits(&bad) {
			t.Errorf("%s: is taken", name)
		}
	}
}
