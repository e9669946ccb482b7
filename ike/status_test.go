package ike

import (
	"testing"
	"time"
)

func TestStatusTellsWhenThePeerWasHeard(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness = 20 * time.Second
	w, a, b := up(t, client, gateway)
	began := w.now
	w.fate = func(*host, Send) int { return 0 }
	w.run(10 * time.Second)
	st := a.e.Statuses()[0]
	if st.Heard.After(began) || began.Sub(st.Heard) > time.Second {
		t.Errorf("heard at %v, want about %v", st.Heard, began)
	}
	// .5 + .75 + 1.125 + 1.6875 + 2.53125 + 3.796875 + 4 · 4, and a tenth for jitter.
	if want := 20*time.Second + time.Duration(26.390625*1.1*float64(time.Second)); st.Patience != want {
		t.Errorf("the engine waits for %v, want %v", st.Patience, want)
	}
	// The engine keeps to what it says, and not much less than that.
	for len(a.e.Statuses()) > 0 && w.now.Before(st.Heard.Add(time.Hour)) {
		w.run(time.Second)
	}
	if took := w.now.Sub(st.Heard); took > st.Patience+time.Second || took < st.Patience*3/4 {
		t.Errorf("the SA stood for %v without the peer, of at most %v", took, st.Patience)
	}
	if b.e.Statuses() == nil {
		t.Error("the gateway, which waits for longer, gave up too")
	}
}

func TestPeerThatIsNotCheckedHasNoLimit(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness = -1
	_, a, _ := up(t, client, gateway)
	if got := a.e.Statuses()[0].Patience; got != 0 {
		t.Errorf("the engine says that it waits for %v", got)
	}
}

func TestStatusTellsLifetimes(t *testing.T) {
	client, gateway := pskPair(t)
	client.Rekey, client.Lifetime = time.Hour, 2*time.Hour
	client.Children[0].Rekey, client.Children[0].Lifetime = -1, -1
	w, a, _ := up(t, client, gateway)
	st := a.e.Statuses()[0]
	if left := st.Rekey.Sub(w.now); left <= 50*time.Minute || left > time.Hour {
		t.Errorf("rekeyed in %v, want a tenth less than an hour at most", left)
	}
	if left := st.Ends.Sub(w.now); left <= 2*time.Hour-time.Minute || left > 2*time.Hour {
		t.Errorf("ends in %v", left)
	}
	if c := st.Children[0]; !c.Rekey.IsZero() || !c.Ends.IsZero() {
		t.Errorf("a child that lives for ever is replaced at %v and ends at %v", c.Rekey, c.Ends)
	}
}

func TestBriefsAllocateNothing(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, _ := up(t, client, gateway)
	var got []Brief
	a.e.Briefs(func(b Brief) { got = append(got, b) })
	st := a.e.Statuses()[0]
	if want := (Brief{Connection: st.Connection, State: "established", Initiator: true, Since: st.Since, Heard: st.Heard, Children: 1}); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	children := 0
	if n := testing.AllocsPerRun(100, func() { a.e.Briefs(func(b Brief) { children += b.Children }) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if of := a.e.StatusesOf(func(name string) bool { return name != st.Connection }); of != nil {
		t.Errorf("statuses of other connections: %+v", of)
	}
}
