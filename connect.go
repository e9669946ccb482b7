package martlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/ike"
	"martlet/ike/aaa"
)

// StageResolve is the first stage of connecting: finding the peer's addresses. Those
// that follow are the engine's.
const StageResolve = "resolve"

// Connect brings a connection up and returns when its first child SA carries traffic,
// or with an *Error that says why not. The peer's addresses are tried in order. With
// one connection configured, the name may be empty. A connection that is up already is a
// success; one that another caller is bringing up is waited for. A Host's resolvers are set by then,
// or could not be, which Status tells. If the configuration says
// so (keep = "up"), it is brought up again from then on whenever it is lost, until
// Disconnect. Where ctx or the Node ends first, the error is the cause of ctx, or net.ErrClosed.
func (n *Node) Connect(ctx context.Context, name string) error {
	conn, err := n.connection(name)
	if err != nil {
		return err
	}
	n.dismissed.Store(false)
	ended := n.health.wished(conn.Name)
	err = n.connect(ctx, conn, want{})
	ended(err)
	if err != nil {
		return err
	}
	n.keep(conn)
	n.arm(conn)
	return n.host.settled(ctx)
}

// Keep brings a connection up as Connect does, and again whenever it is lost, but does not give up
// when the first try fails: it returns when the first child SA carries traffic, or with the cause
// of ctx, and goes on in either case, until Disconnect. It is for connections with keep = "up".
func (n *Node) Keep(ctx context.Context, name string) error {
	conn, err := n.connection(name)
	if err != nil {
		return err
	}
	if conn.Keep != config.KeepUp {
		return fmt.Errorf("martlet: connection %q has keep = %q, not \"up\"", conn.Name, conn.Keep)
	}
	n.dismissed.Store(false)
	events := n.Watch(ctx)
	n.keep(conn)
	n.arm(conn)
	for !n.complete(conn) {
		if _, ok := <-events; !ok {
			return cmp.Or(context.Cause(ctx), net.ErrClosed)
		}
	}
	return n.host.settled(ctx)
}

func (n *Node) connect(ctx context.Context, conn *config.Connection, w want) error {
	if len(conn.Remote) == 0 {
		return &Error{
			Code: ike.CodeNoRemote,
			What: fmt.Sprintf("connection %q has no remote", conn.Name),
			Why:  "it is only for peers that come to us",
			Hint: fmt.Sprintf("set connection.%s.remote to the gateway's name or address", conn.Name),
		}
	}
	done, err := n.turn(ctx, conn.Name)
	if err != nil {
		return err
	}
	if st, ok := n.established(conn.Name); ok {
		done()
		return n.fill(ctx, conn, st)
	}
	defer done()
	if coming, err := n.awaitComing(ctx, conn); coming && !fromNetwork(err) {
		return err
	}
	start := time.Now()
	remotes, err := n.resolve(ctx, conn)
	if err != nil {
		return err
	}
	n.events.send(Event{Time: time.Now(), Kind: EventStage, Connection: conn.Name, Stage: StageResolve, Took: time.Since(start)})

	for {
		var goal goal
		goal, remotes = nextGoal(remotes)
		began := time.Now()
		err := n.try(ctx, conn, goal, w, 0)
		if n.logins.slow(conn.Name, began, err) {
			err = n.try(ctx, conn, goal, w, 0)
		}
		if err == nil || !fromNetwork(err) || len(remotes) == 0 {
			return err // another address would say the same
		}
	}
}

// awaitComing waits for an SA of a connection that the engine itself is opening, in place of
// one that is gone meanwhile: a second one beside it would be one too many. It reports whether
// there was one, and what came of it.
func (n *Node) awaitComing(ctx context.Context, conn *config.Connection) (coming bool, err error) {
	find := func(f func(ike.Status) bool) (sa ike.SAID) {
		for _, st := range n.engines.statusesOf(conn.Name) {
			if st.Initiator && f(st) {
				sa = st.SA
			}
		}
		return sa
	}
	sa := find(func(st ike.Status) bool { return st.State == "connecting" })
	if sa == 0 {
		return false, nil
	}
	err = n.await(ctx, conn, &attempt{sa: sa, begun: true}, func(*attempt) error {
		// From here on the attempt hears what becomes of it. That may be over.
		coming = find(func(st ike.Status) bool { return st.SA == sa }) != 0
		if !coming {
			return net.ErrClosed
		}
		if find(func(st ike.Status) bool {
			return st.SA == sa && (len(st.Children) > 0 || st.State == "established" && opensBare(conn))
		}) != 0 {
			n.attempt(conn.Name, func(a *attempt) { a.established(sa) })
		}
		return nil
	})
	return coming, err
}

// fill gives an SA that stands a child, if it has lost its own and needs one. Where that cannot
// be had the SA is of no use, and the next try begins with another one.
func (n *Node) fill(ctx context.Context, conn *config.Connection, st ike.Status) error {
	if len(st.Children) > 0 || opensBare(conn) || len(conn.Children) == 0 {
		return nil
	}
	child := append(n.missing(conn), slices.Sorted(maps.Keys(conn.Children))...)[0]
	err := n.OpenChild(ctx, conn.Name, child)
	if err != nil && ctx.Err() == nil {
		n.engines.of(st.SA).post(ike.Terminate{SA: st.SA, Reason: "it has no child, and none can be opened"})
	}
	return err
}

// established is the newest SA of a connection that is up.
func (n *Node) established(connection string) (found ike.Status, ok bool) {
	for _, st := range n.engines.statusesOf(connection) {
		if st.State == "established" {
			found, ok = st, true
		}
	}
	return found, ok
}

// OpenChild opens a further child SA of a connection that is up, and waits for it. A
// child that is up already is a success. Where a part of a child was lost, of which the peer
// takes only parts in one SA, that is opened again.
func (n *Node) OpenChild(ctx context.Context, connection, child string) error {
	conn, err := n.connection(connection)
	if err != nil {
		return err
	}
	if conn.Children[child] == nil {
		return &Error{
			Code: ike.CodeNoConnection,
			What: fmt.Sprintf("connection %q has no child %q", conn.Name, child),
			Why:  "it has: " + strings.Join(slices.Sorted(maps.Keys(conn.Children)), ", "),
			Hint: "name one of these",
		}
	}
	return n.openChild(ctx, conn, want{child: child})
}

func (n *Node) openChild(ctx context.Context, conn *config.Connection, w want) error {
	done, err := n.turn(ctx, conn.Name)
	if err != nil {
		return err
	}
	defer done()
	notUp := &Error{
		Code: ike.CodeNoConnection,
		What: fmt.Sprintf("connection %q is not up, so that it can have no child %q", conn.Name, w.child),
		Why:  "a further child is negotiated inside of an established IKE SA",
		Hint: "connect first",
	}
	st, ok := n.established(conn.Name)
	if !ok {
		return notUp
	}
	return n.await(ctx, conn, &attempt{child: w.child, sa: st.SA, begun: true}, func(*attempt) error {
		// From here on the attempt hears when the SA goes; it may have gone before.
		if now, _ := n.established(conn.Name); now.SA != st.SA {
			return notUp
		}
		n.engines.of(st.SA).post(ike.Acquire{Connection: conn.Name, Child: w.child, Packet: w.packet})
		return nil
	})
}

// Disconnect deletes the IKE SAs of a connection at the peer and here; an empty name
// means all. What was kept up is so no more. It does not wait for the peer.
func (n *Node) Disconnect(connection string) {
	n.dismissed.Store(true)
	n.health.unwish(connection)
	n.letGo(connection)
	n.disarm(connection)
	n.peers.commanded(connection, aaa.CauseAdminReset)
	n.engines.everywhere(ike.Terminate{Connection: connection, Reason: "by command"})
}

// Reauthenticate wants another proof of who is at the other end of a connection's SAs; an
// empty name means all. Those that this Node opened are replaced at once, make before break;
// who opened the others has the given time, and its SA ends if it does nothing (RFC 4478).
func (n *Node) Reauthenticate(connection string, within time.Duration) {
	n.engines.everywhere(ike.Reauth{Connection: connection, Within: within})
}

// tryDatagrams runs one attempt by UDP.
func (n *Node) tryDatagrams(ctx context.Context, conn *config.Connection, g goal, w want, replaces ike.SAID, a *attempt) error {
	remote := g.remote
	ctx, over := context.WithCancel(ctx)
	defer over()
	return n.await(ctx, conn, a, func(a *attempt) error {
		initiate, err := n.paths(conn, remote)
		if err != nil && g.rival.IsValid() {
			remote, g.rival = g.rival, netip.Addr{}
			initiate, err = n.paths(conn, remote)
		}
		if err != nil {
			return &Error{
				Code: ike.CodeUnreachable,
				What: fmt.Sprintf("no way to %v", remote),
				Why:  err.Error(),
				Hint: "is the network up, and does it have a route for this family of addresses? is remote the other end?",
			}
		}
		initiate.Child, initiate.Packet, initiate.Replaces = w.child, w.packet, replaces
		n.engines.of(replaces).initiate(a, initiate)
		if g.rival.IsValid() {
			n.race(ctx, conn, g.rival, initiate, a)
		}
		return nil
	})
}

// connection finds a connection by name.
func (n *Node) connection(name string) (*config.Connection, error) {
	if n.engines == nil {
		return nil, errors.New("martlet: the Node was not started")
	}
	names := slices.Sorted(maps.Keys(n.conf().Connections))
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	if conn := n.conf().Connections[name]; conn != nil {
		return conn, nil
	}
	e := &Error{
		Code: ike.CodeNoConnection,
		What: fmt.Sprintf("no connection is called %q", name),
		Why:  "the configuration has: " + strings.Join(names, ", "),
		Hint: "name one of these",
	}
	if name == "" {
		e.What = "several connections are configured and none is named"
	}
	if len(names) == 0 {
		e.Why, e.Hint = "the configuration has no connection", "add a [connection.NAME] table"
	}
	return nil, e
}

// paths opens the sockets to a peer: port 500 first and 4500 after, or the one port that
// the configuration names.
func (n *Node) paths(conn *config.Connection, remote netip.Addr) (ike.Initiate, error) {
	source, err := n.source(remote)
	if err != nil {
		return ike.Initiate{}, err
	}
	path := func(port uint16, encap bool) (ike.Path, error) {
		return n.path(conn, source, netip.AddrPortFrom(remote, port), encap)
	}
	initiate := ike.Initiate{Connection: conn.Name}
	if conn.Port != 0 && conn.Port != ikePort {
		initiate.Path, err = path(conn.Port, true)
		initiate.Encap = initiate.Path
		return initiate, err
	}
	if initiate.Path, err = path(ikePort, false); err != nil {
		return initiate, err
	}
	initiate.Encap, err = path(natPort, true)
	return initiate, err
}

// The ports of RFC 7296 §2.
const (
	ikePort = 500
	natPort = 4500
)

// source is the address from which the host would talk to a peer. A Listener that is not
// the operating system's may know better, with a method Source.
func (n *Node) source(remote netip.Addr) (netip.Addr, error) {
	if s, ok := n.Bind.(interface {
		Source(remote netip.Addr) (netip.Addr, error)
	}); ok {
		return s.Source(remote)
	}
	if n.host != nil {
		source, err := n.host.source(remote)
		if err == nil && source == remote {
			err = fmt.Errorf("%v is an address of this host itself", remote)
		}
		return source, err
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, natPort)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
