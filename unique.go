package martlet

import (
	"cmp"
	"slices"
	"time"

	"martlet/ike"
)

// Two peers that are to call each other may do so at once, and then there are two IKE SAs
// where one is wanted. Both ends must give up the same one.
const (
	// crossingTime is how far apart two SAs are established that crossed on the wire; of others
	// the older one goes.
	crossingTime = 10 * time.Second
	// crossingPatience is how long the peer has to delete the SA that it began.
	crossingPatience = 5 * time.Second
)

// settle closes what is one too many of the SAs with the peer of a connection, now that
// one has a child.
func (n *Node) settle(connection string) {
	conn := n.conf().Connections[connection]
	if conn == nil || len(conn.Remote) == 0 || !n.Serve {
		return
	}
	n.tasks.Go(func() {
		for {
			loser, mine := n.oneTooMany(connection)
			if loser == 0 {
				return
			}
			if !mine {
				timer := time.NewTimer(crossingPatience)
				select {
				case <-timer.C:
				case <-n.ctx.Done():
					timer.Stop()
					return
				}
				if again, _ := n.oneTooMany(connection); again != loser {
					continue
				}
			}
			n.engines.of(loser).post(ike.Terminate{SA: loser, Reason: "the peer and we have another SA, which carries the same"})
			return
		}
	})
}

// oneTooMany finds an SA that has to go because of another with the same peer that was
// begun at the other end, and tells whether it was begun here.
func (n *Node) oneTooMany(connection string) (loser ike.SAID, mine bool) {
	sas := slices.DeleteFunc(n.engines.statuses(), func(st ike.Status) bool {
		return st.Connection != connection || st.State != "established" || len(st.Children) == 0
	})
	for i, a := range sas {
		for _, b := range sas[i+1:] {
			if a.Initiator == b.Initiator || a.Remote != b.Remote {
				continue
			}
			out := a
			crossed := a.Since.Sub(b.Since).Abs() < crossingTime
			// What decides must be the same at both ends.
			if crossed && cmp.Compare(a.SPIi, b.SPIi) > 0 || !crossed && a.Since.After(b.Since) {
				out = b
			}
			return out.SA, out.Initiator
		}
	}
	return 0, false
}
