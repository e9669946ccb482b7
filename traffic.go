package martlet

import (
	"sync"
	"time"

	"martlet/esp"
	"martlet/ike"
	"martlet/ike/aaa"
)

// traffic adds up what the child SAs of a configured child have carried, over all peers, rekeys
// and reconnections, so that no sum ever goes down. The zero value is ready.
type traffic struct {
	mu   sync.Mutex
	live map[ike.ChildID]bearer // those in the data plane
	gone map[bearer]aaa.Usage   // what those carried that are not there any more
}

// bearer is a configured child, by the names of its connection and of itself.
type bearer struct{ connection, child string }

// load is what the child SAs of a bearer have carried, and how many there are now.
type load struct {
	aaa.Usage
	sas   int
	heard time.Time // when something authentic last came by one of them; zero for never
}

// maxSeries bounds the sums and counts that are kept apart by name. Each reload may bring other
// names; what comes after so many is counted together, under empty ones.
const maxSeries = 2000

// begin counts a child SA from now on. It is called before the data plane has it.
func (t *traffic) begin(c *ike.Child) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live == nil {
		t.live, t.gone = map[ike.ChildID]bearer{}, map[bearer]aaa.Usage{}
	}
	b := bearer{c.Connection, c.Name}
	if _, known := t.gone[b]; !known && len(t.gone) >= maxSeries {
		b = bearer{}
	}
	t.gone[b] = t.gone[b].Add(aaa.Usage{})
	t.live[c.ID] = b
}

// end takes a child SA out of the data plane and keeps what it carried. Nobody adds up between the
// two: a sum would be too large for once, and then smaller.
func (t *traffic) end(id ike.ChildID, plane *esp.Plane) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.live[id]
	if c, installed := plane.ChildStats(uint64(id)); ok && installed {
		t.gone[b] = t.gone[b].Add(usageOf(&c))
	}
	delete(t.live, id)
	return plane.Remove(uint64(id))
}

// sums is what every bearer has carried that had a child SA since the Node was started.
func (t *traffic) sums(plane *esp.Plane) map[bearer]load {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[bearer]load, len(t.gone))
	for b, usage := range t.gone {
		out[b] = load{Usage: usage}
	}
	for id, b := range t.live {
		c, ok := plane.ChildStats(uint64(id))
		if !ok {
			continue // it is being installed, or could not be
		}
		l := out[b]
		l.Usage = l.Add(usageOf(&c))
		l.sas++
		if c.Heard.After(l.heard) {
			l.heard = c.Heard
		}
		out[b] = l
	}
	return out
}

func usageOf(c *esp.ChildStats) aaa.Usage {
	return aaa.Usage{InPackets: c.In.Packets, InOctets: c.In.Bytes, OutPackets: c.Out.Packets, OutOctets: c.Out.Bytes}
}
