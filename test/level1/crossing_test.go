package level1

import (
	"time"

	"martlet/ike"
)

// crossings is what the runner of a node does where both sides call each other.
type crossings struct {
	stays, goes ike.SAID
	alive       map[ike.SAID]bool
	asked       time.Time
	ends        time.Time // when the other one is ended; zero: not all has been answered
}

const (
	crossingLook     = 200 * time.Millisecond
	crossingPatience = 5 * time.Second
	crossingAgain    = 10 * time.Second
)

// settleCrossings looks now and again whether two SAs crossed.
func (w *world) settleCrossings() {
	for _, n := range []*node{w.a, w.b} {
		n.settleCrossing()
	}
	w.net.After(crossingLook, w.settleCrossings)
}

func (n *node) settleCrossing() {
	c, now := &n.crossing, n.w.net.Now()
	sas := 0
	n.engine.Briefs(func(ike.Brief) { sas++ })
	if sas < 2 { // most often
		*c = crossings{}
		return
	}
	stays, goes, found := ike.Crossing(n.engine.Statuses())
	switch {
	case !found:
		*c = crossings{}
	case c.stays != stays.SA || c.goes != goes.SA || c.ends.IsZero() && now.Sub(c.asked) > crossingAgain:
		*c = crossings{stays: stays.SA, goes: goes.SA, alive: map[ike.SAID]bool{}, asked: now}
		n.w.note(n.name, "two SAs crossed: %x stays, and %x goes", stays.SA, goes.SA)
		n.handle(ike.Check{SA: stays.SA})
		n.handle(ike.Check{SA: goes.SA})
	case !c.alive[stays.SA] || !c.alive[goes.SA]:
	case c.ends.IsZero():
		n.handle(ike.Prefer{SA: stays.SA})
		c.ends = now
		if !stays.Initiator {
			c.ends = now.Add(crossingPatience)
		}
	case !c.ends.After(now):
		n.w.note(n.name, "%x is surplus", goes.SA)
		n.w.surplus++
		n.handle(ike.Terminate{SA: goes.SA, Surplus: true, Reason: "surplus"})
	}
}

// crossed tells of two SAs that crossed and still stand, or "".
func (n *node) crossed() string {
	if _, _, found := ike.Crossing(n.engine.Statuses()); found {
		return n.name + " still has two SAs that crossed; "
	}
	return ""
}
