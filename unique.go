package martlet

import (
	"sync"
	"time"

	"martlet/ike"
)

// Two peers that are to call each other may do so at once, and then there are two IKE SAs
// where one is wanted. Which one goes, and how, stands in ike/crossing.go.

// crossings are the connections that may have two SAs, and what was asked on these. The zero
// value is ready.
type crossings struct {
	mu    sync.Mutex
	looks map[string]int // by connection that is being settled: how often one of its SAs came up
	asked map[ike.SAID]chan struct{}
}

const (
	// crossingDoubt is how long one of two SAs may give no answer before the other one has the
	// traffic.
	crossingDoubt = time.Second
	// crossingAnswer is how long both are waited for before it is looked again what stands.
	crossingAnswer = 10 * time.Second
	// crossingPatience is how long the peer has to end the other SA if it opened the one
	// that stays.
	crossingPatience = 5 * time.Second
)

// answered takes the news that the peer has an SA.
func (c *crossings) answered(sa ike.SAID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.asked[sa]; ch != nil {
		close(ch)
		delete(c.asked, sa)
	}
}

// ask makes a channel that is closed when the peer has answered on an SA.
func (c *crossings) ask(sa ike.SAID) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = map[ike.SAID]chan struct{}{}
	}
	if c.asked[sa] == nil {
		c.asked[sa] = make(chan struct{})
	}
	return c.asked[sa]
}

func (c *crossings) forget(sa ike.SAID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, sa)
}

// begin notes that an SA of a connection came up, and tells whether nobody settles that yet.
func (c *crossings) begin(connection string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks == nil {
		c.looks = map[string]int{}
	}
	c.looks[connection]++
	return c.looks[connection] == 1
}

// seen is how many came up so far.
func (c *crossings) seen(connection string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looks[connection]
}

// end tells whether nothing came up since it was so many.
func (c *crossings) end(connection string, seen int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks[connection] != seen {
		return false
	}
	delete(c.looks, connection)
	return true
}

// settle closes what is one too many of the SAs with the peer of a connection, now that
// one has a child.
func (n *Node) settle(connection string) {
	conn := n.conf().Connections[connection]
	if conn == nil || len(conn.Remote) == 0 || !n.Serve || !n.crossings.begin(connection) {
		return
	}
	n.tasks.Go(func() {
		for n.ctx.Err() == nil {
			seen := n.crossings.seen(connection)
			stays, goes, found := n.crossing(connection)
			switch {
			case found:
				n.settlePair(connection, stays, goes)
			case n.crossings.end(connection, seen):
				return
			}
		}
	})
}

// crossing finds two SAs of a connection that crossed.
func (n *Node) crossing(connection string) (stays, goes ike.Status, found bool) {
	return ike.Crossing(n.engines.statusesOf(connection))
}

// settlePair ends one of two SAs, once the peer has shown that it has both. It returns when that
// has begun, or when it is time to look again.
func (n *Node) settlePair(connection string, stays, goes ike.Status) {
	doubt, limit := time.NewTimer(crossingDoubt), time.NewTimer(crossingAnswer)
	defer doubt.Stop()
	defer limit.Stop()
	silent := map[ike.SAID]chan struct{}{}
	for _, st := range []ike.Status{stays, goes} {
		silent[st.SA] = n.crossings.ask(st.SA)
		defer n.crossings.forget(st.SA)
		n.engines.of(st.SA).post(ike.Check{SA: st.SA})
	}
	for len(silent) > 0 {
		select {
		case <-silent[stays.SA]:
			delete(silent, stays.SA)
		case <-silent[goes.SA]:
			delete(silent, goes.SA)
		case <-doubt.C:
			// The peer may have lost the one that does not answer, and that it has the other one
			// is known.
			for _, st := range []ike.Status{stays, goes} {
				if silent[st.SA] == nil && len(silent) == 1 {
					n.engines.of(st.SA).post(ike.Prefer{SA: st.SA})
				}
			}
		case <-limit.C:
			return
		case <-n.ctx.Done():
			return
		}
	}
	n.engines.of(stays.SA).post(ike.Prefer{SA: stays.SA})
	if !stays.Initiator {
		patience := time.NewTimer(crossingPatience)
		defer patience.Stop()
		select {
		case <-patience.C:
		case <-n.ctx.Done():
			return
		}
	}
	if s, g, found := n.crossing(connection); !found || s.SA != stays.SA || g.SA != goes.SA {
		return
	}
	n.engines.of(goes.SA).post(ike.Terminate{SA: goes.SA, Surplus: true, Reason: "the peer and we have another SA, which carries the same"})
}
