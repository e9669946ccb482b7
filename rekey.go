package martlet

import (
	"context"
	"fmt"
	"net"
	"time"

	"martlet/ike"
)

// rekeyWithin is how long a rekey by command may take: the peer may be busy a few times.
const rekeyWithin = time.Minute

// Rekey replaces a child of a connection, or, where child is empty, its IKE SA, by one
// with fresh keys, before its time, and returns when that is done or with an *Error that
// says why not. What stands goes on in both cases, and no packet is lost. A gateway does so
// for all peers of the connection.
//
// The first child of an SA has no key exchange of its own, so that one that the two sides
// disagree about fails as late as it is replaced for the first time: this finds out.
func (n *Node) Rekey(ctx context.Context, connection, child string) error {
	conn, err := n.connection(connection)
	if err != nil {
		return err
	}
	done, err := n.turn(ctx, conn.Name)
	if err != nil {
		return err
	}
	defer done()
	watch, stop := n.events.subscribe()
	defer stop()
	waiting := 0
	for _, st := range n.engines.statusesOf(conn.Name) {
		if st.State != "established" {
			continue
		}
		orders := []ike.Rekey{{SA: st.SA}}
		if child != "" {
			orders = nil
			for _, c := range st.Children {
				if c.Name == child {
					orders = append(orders, ike.Rekey{Child: c.ID})
				}
			}
		}
		for _, order := range orders {
			n.engines.of(st.SA).post(order)
			waiting++
		}
	}
	if waiting == 0 {
		return &Error{
			Code: ike.CodeNoConnection,
			What: fmt.Sprintf("nothing of connection %q %q is up that could get fresh keys", conn.Name, child),
			Why:  "only what stands can be replaced",
			Hint: "connect first; `martlet status` lists what is up",
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rekeyWithin, &Error{
		Code: ike.CodePeerDead, What: fmt.Sprintf("connection %q has no fresh keys after %v", conn.Name, rekeyWithin),
		Why: "the peer was busy, or does not answer", Hint: "it is tried again; see `martlet status` and the log",
	})
	defer cancel()
	for waiting > 0 {
		select {
		case ev, ok := <-watch:
			switch {
			case !ok:
				return net.ErrClosed
			case ev.Connection != conn.Name:
			case ev.Kind == EventRekeyed && ev.Child == child:
				waiting--
			case ev.Kind == EventRekeyFailed && ev.Child == child, ev.Kind == EventDown && ev.Err != nil:
				return ev.Err
			case ev.Kind == EventDown, ev.Kind == EventChildDown && ev.Child == child:
				return &Error{Code: ike.CodeTerminated, What: "it was closed", Why: ev.Text, Hint: "try again"}
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
