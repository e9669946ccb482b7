package ike

import (
	"testing"
	"time"
)

// TestThirtyDays: with the times of the defaults an SA is checked, kept open at a NAT, and
// replaced for thirty days; each night the client's host sleeps for eight hours, and once
// the clocks of both go forward by a year. In the end it is usable, nothing has piled up,
// and there was no storm. (Clocks that go back are none: whoever runs an engine gives it
// times that do not.)
func TestThirtyDays(t *testing.T) {
	client, gateway := pskPair(t)
	client.Tickets, gateway.Tickets = time.Hour, time.Hour
	w, a, b := hostilePair(t, client, gateway)
	b.admit = nil // nobody has to prove anything again
	masquerade(w, a, "203.0.113.9", 1000)
	rekeyed, children, keepalives, lost := 0, 0, 0, 0
	awake := func(d time.Duration) {
		t.Helper()
		for end := w.now.Add(d); w.now.Before(end); {
			w.run(time.Minute)
			if len(a.e.Statuses()) == 0 { // who keeps it up tries again
				a.initiate("home", b)
			}
			sent := len(a.sent) + len(b.sent)
			if sent > 200 {
				t.Fatalf("%d datagrams in a minute", sent)
			}
			for _, s := range a.sent {
				if s.Keepalive {
					keepalives++
				}
			}
			rekeyed += len(found[Rekeyed](a))
			children += len(found[ChildUp](a))
			lost += len(found[Down](a))
			for _, h := range w.nodes {
				h.sent, h.reports, h.asked = nil, nil, nil
			}
			w.trace = nil
		}
	}
	days := 30
	if underRace() {
		days = 3
	}
	for day := range days {
		awake(16 * time.Hour)
		agree(t, a, b, 1)
		if n := len(a.e.timers) + len(b.e.timers) + len(a.e.asks) + len(b.e.asks) + len(a.e.inbound) + len(b.e.inbound); n > 10 {
			t.Fatalf("day %d: %d timers, questions and SPIs", day, n)
		}
		w.nodes = []*host{b}
		w.run(8 * time.Hour)
		w.nodes = []*host{a, b}
		if day == days/2 {
			w.now = w.now.Add(365 * 24 * time.Hour)
			b.handle(Tick{})
		}
		a.handle(Moved{Addresses: a.addresses(), Woken: true})
		a.handle(Tick{})
	}
	awake(time.Hour)
	agree(t, a, b, 1)
	if rekeyed < days*3 || children < days*15 || keepalives < days*1000 || lost < days {
		t.Errorf("%d IKE SAs were replaced, %d children came up, %d keepalives were sent, %d SAs were lost: the test does not test much", rekeyed, children, keepalives, lost)
	}
	a.handle(Terminate{})
	w.run(time.Hour)
	empty(t, a, b)
}
