package martlet

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"martlet/ike"
	"martlet/ike/message"
)

// reachWithin is how long the name of a gateway to which we are redirected may take to be
// found.
const reachWithin = 10 * time.Second

// reach finds the way to a gateway to which the one of a connection redirects us.
func (n *Node) reach(q ike.Reach) ike.Reached {
	conn := n.conf().Connections[q.Connection]
	if conn == nil {
		return ike.Reached{Err: fmt.Errorf("martlet: connection %q is not configured any more", q.Connection)}
	}
	ctx, cancel := context.WithTimeout(n.ctx, reachWithin)
	defer cancel()
	addrs := []netip.Addr{q.To.Addr}
	if !q.To.Addr.IsValid() {
		found, err := n.lookupOutside(ctx, q.To.Name)
		if err != nil {
			return ike.Reached{Err: err}
		}
		addrs = found
	}
	var failed error
	for _, addr := range addrs {
		if q.Stream {
			if path, err := n.dialStream(ctx, conn, addr); err == nil {
				return ike.Reached{Path: path, Encap: path}
			}
		}
		initiate, err := n.paths(conn, addr)
		if err == nil {
			return ike.Reached{Path: initiate.Path, Encap: initiate.Encap}
		}
		failed = err
	}
	return ike.Reached{Err: failed}
}

// Redirect sends the peers that came to us by a connection, those whose SAs stand and that
// can be sent (RFC 5685), to another gateway, by name or address; an empty connection means
// all. It returns how many were told, and does not wait until they have gone.
func (n *Node) Redirect(connection, to string) (int, error) {
	if connection != "" {
		if _, err := n.connection(connection); err != nil {
			return 0, err
		}
	}
	gateway, ok := message.ParseGatewayID(to)
	if !ok {
		return 0, &Error{
			Code: ike.CodeResolve,
			What: fmt.Sprintf("%q is neither an address nor a host name", to),
			Hint: "name the gateway as its clients know it",
		}
	}
	told := 0
	for _, st := range n.engines.statuses() {
		if !st.Initiator && st.State == "established" && (connection == "" || st.Connection == connection) && redirectable(st) {
			told++
			n.engines.of(st.SA).post(ike.RedirectPeers{SA: st.SA, To: gateway})
		}
	}
	return told, nil
}

// redirectable tells whether a peer said that it can be redirected.
func redirectable(st ike.Status) bool {
	for _, x := range st.Extensions {
		if x == message.RedirectSupported.String() {
			return true
		}
	}
	return false
}
