package martlet

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
)

// goal is where one attempt goes: an address of the peer, and one of the other family, if there is one,
// that is asked too where the first is slow. What is broken is most often all of a family.
type goal struct{ remote, rival netip.Addr }

// nextGoal takes the first of a peer's addresses, and the next one of the other family.
func nextGoal(remotes []netip.Addr) (g goal, rest []netip.Addr) {
	g.remote, rest = remotes[0], slices.Clone(remotes[1:])
	if i := slices.IndexFunc(rest, func(a netip.Addr) bool { return a.Is4() != g.remote.Is4() }); i >= 0 {
		g.rival = rest[i]
		rest = slices.Delete(rest, i, i+1)
	}
	return g, rest
}

// race begins a second SA, by the same shard, where the first has no answer after a head start. The one
// that is answered first stays.
func (n *Node) race(ctx context.Context, conn *config.Connection, rival netip.Addr, first ike.Initiate, a *attempt) {
	n.tasks.Go(func() {
		timer := time.NewTimer(headStart)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-a.done:
			return
		case <-ctx.Done():
			return
		}
		if n.answered(a) {
			return
		}
		initiate, err := n.paths(conn, rival)
		if err != nil {
			n.log.Debug("no way to the other address either", zap.String("conn", conn.Name), zap.Stringer("to", rival), zap.Error(err))
			return
		}
		initiate.Child, initiate.Packet, initiate.Replaces = first.Child, first.Packet, first.Replaces
		n.log.Debug("the first address is slow, another is asked too", zap.String("conn", conn.Name), zap.Stringer("to", rival))
		s := n.engines.of(first.Replaces)
		late := ike.SAID(0)
		s.begin(initiate, func() {}, func(sa ike.SAID) {
			if a.heard || a.ended {
				late = sa
			} else {
				a.rival = sa
			}
		})
		if late != 0 {
			s.post(ike.Terminate{SA: late, Reason: slower})
		}
	})
}

const slower = "another address of the peer was faster"

// decide takes the news that an SA of an attempt is answered: the slower one ends. Node.mu is held, by
// an engine's goroutine.
func (n *Node) decide(a *attempt, answered ike.SAID) {
	if answered != a.sa && answered != a.rival || answered == 0 {
		return
	}
	a.heard = true
	loser := a.rival
	if answered == a.rival {
		loser = a.sa
	}
	a.sa, a.rival = answered, 0
	if loser != 0 {
		n.tasks.Go(func() { n.engines.of(loser).post(ike.Terminate{SA: loser, Reason: slower}) })
	}
}
