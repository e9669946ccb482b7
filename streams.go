package martlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/esp/udpencap"
	"martlet/ike"
)

// streams are the Node's TCP streams (RFC 9329), and which SA uses which.
type streams struct {
	*udpencap.Streams
	socket udpencap.Socket // the same, perhaps captured

	mu sync.Mutex
	of map[ike.SAID]ike.Path
}

const (
	// fallbackAfter is how long an answer by UDP is waited for before TCP is tried beside it.
	fallbackAfter = 3 * time.Second
	// dialWithin is how long opening a stream may take.
	dialWithin = 5 * time.Second
	// blockedFor is how long it is remembered that UDP gave no answer, as long as this
	// host's network is the same.
	blockedFor = time.Hour
)

var errNoTCP = errors.New("martlet: this network has no TCP")

// hasTCP tells whether there can be streams.
func (s *sockets) hasTCP() bool {
	_, ok := s.bind.(udpencap.StreamNetwork)
	return s.node.Bind == nil || ok
}

// tcp returns the streams, which it makes when they are needed first.
func (s *sockets) tcp() (*streams, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams != nil {
		return s.streams, nil
	}
	network, ok := s.bind.(udpencap.StreamNetwork)
	if !ok {
		if s.node.Bind != nil {
			return nil, errNoTCP
		}
		tcp := &udpencap.TCP{}
		if s.node.Host {
			tcp.Control, tcp.Rights = s.node.services.Control, s.node.services
		}
		network = tcp
	}
	t := &streams{Streams: udpencap.NewStreams(), of: map[ike.SAID]ike.Path{}}
	t.Network = network
	t.Closed = func(local, remote netip.AddrPort) {
		s.node.engines.everywhere(ike.StreamClosed{Path: streamPath(local, remote)})
	}
	t.socket = s.node.captures.socket(t.Streams)
	s.streams = t
	s.node.plane.AddSocket(t.socket)
	return t, nil
}

// listenStreams opens the TCP port of a gateway.
func (s *sockets) listenStreams() error {
	c := &s.node.conf().Node
	if c.TCPPort == 0 {
		return nil
	}
	t, err := s.tcp()
	if err != nil {
		return err
	}
	for _, addr := range c.Listen {
		if _, err := t.Listen(netip.AddrPortFrom(addr, c.TCPPort)); err != nil && !noFamily(err, addr) {
			e := s.listenError(addr, c.TCPPort, err)
			e.What = fmt.Sprintf("cannot listen on TCP %v port %d", addr, c.TCPPort)
			e.Hint = "another program may have the port; check node.listen and node.tcp_port"
			return e
		}
	}
	return nil
}

func (s *sockets) listeningTCP() []netip.AddrPort {
	if t := s.opened(); t != nil {
		return t.Listening()
	}
	return nil
}

// opened are the streams, nil where there never were any.
func (s *sockets) opened() *streams {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// uses notes on which path an SA is now, whose peer has proven who it is.
func (s *sockets) uses(sa ike.SAID, path ike.Path) {
	if s.node.host != nil {
		s.node.host.uses(sa, path.Remote)
	}
	t := s.opened()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before, used := t.of[sa]
	if used && before == path {
		return
	}
	if path.Stream {
		t.of[sa] = path
		t.Hold(path.Local, path.Remote)
	} else {
		delete(t.of, sa)
	}
	if used {
		t.Release(before.Local, before.Remote)
	}
}

// rekeyed notes that another SA has the place of one.
func (s *sockets) rekeyed(before, after ike.SAID) {
	t := s.opened()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if path, ok := t.of[before]; ok {
		delete(t.of, before)
		t.of[after] = path
	}
}

// left lets the stream of an SA go that is no more, and one that was opened for
// an SA that came to nothing.
func (s *sockets) left(h ike.Down) {
	t := s.opened()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if path, ok := t.of[h.SA]; ok {
		delete(t.of, h.SA)
		t.Release(path.Local, path.Remote)
	} else if h.Initiator && h.Path.Stream && !slices.Contains(slices.Collect(maps.Values(t.of)), h.Path) {
		t.Release(h.Path.Local, h.Path.Remote)
	}
}

func streamPath(local, remote netip.AddrPort) ike.Path {
	return ike.Path{Local: local, Remote: remote, Encap: true, Stream: true}
}

// dialStream opens a stream to a gateway of a connection.
func (n *Node) dialStream(ctx context.Context, conn *config.Connection, remote netip.Addr) (ike.Path, error) {
	t, err := n.sockets.tcp()
	if err != nil {
		return ike.Path{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	source, err := n.source(remote)
	if err != nil {
		return ike.Path{}, err
	}
	to := netip.AddrPortFrom(remote, conn.TCPPort)
	local, err := t.Dial(ctx, source, to)
	if err != nil {
		return ike.Path{}, err
	}
	return streamPath(local, to), nil
}

// openStream answers the engine.
func (n *Node) openStream(q ike.OpenStream) ike.StreamOpened {
	conn := n.conf().Connections[q.Connection]
	if conn == nil {
		return ike.StreamOpened{Err: fmt.Errorf("martlet: connection %q is not configured any more", q.Connection)}
	}
	path, err := n.dialStream(n.ctx, conn, q.Remote)
	if err != nil {
		n.log.Debug("no TCP stream", zap.String("conn", conn.Name), zap.Error(err))
	}
	return ike.StreamOpened{Path: path, Err: err}
}

// blockedUDP remembers the connections where UDP gave no answer and TCP did.
type blockedUDP struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (b *blockedUDP) is(connection string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.until[connection])
}

func (b *blockedUDP) note(connection string, blocked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until == nil {
		b.until = map[string]time.Time{}
	}
	delete(b.until, connection)
	if blocked {
		b.until[connection] = time.Now().Add(blockedFor)
	}
}

// passes notes that an SA goes a way: if that is UDP, UDP is not blocked any more.
func (b *blockedUDP) passes(connection string, p ike.Path) {
	if !p.Stream {
		b.note(connection, false)
	}
}

// forget is for another network.
func (b *blockedUDP) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.until)
}

// try runs one attempt, in the place of an SA if that is not 0: by UDP, or by TCP where the
// configuration says so or UDP gives no answer.
func (n *Node) try(ctx context.Context, conn *config.Connection, g goal, w want, replaces ike.SAID) error {
	switch {
	case conn.TCP == config.TCPAlways:
		return n.dialAndTry(ctx, conn, g.remote, w, replaces)
	case conn.TCP != config.TCPAuto || !n.sockets.hasTCP():
		return n.tryDatagrams(ctx, conn, g, w, replaces, &attempt{})
	case n.blocked.is(conn.Name):
		err := n.dialAndTry(ctx, conn, g.remote, w, replaces)
		if !fromNetwork(err) {
			return err
		}
		n.blocked.note(conn.Name, false)
	}
	return n.tryBoth(ctx, conn, g, w, replaces)
}

var errFallback = errors.New("martlet: no answer by UDP, TCP takes its place")

// tryBoth begins by UDP. If nothing is answered for some seconds and a stream can be opened,
// TCP takes the place of UDP (RFC 9329 §5.1); if none can, UDP has the time that it has
// without.
func (n *Node) tryBoth(ctx context.Context, conn *config.Connection, g goal, w want, replaces ike.SAID) error {
	udp, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	a := &attempt{}
	stream := make(chan ike.Path, 1)
	dialed := make(chan struct{})
	n.tasks.Go(func() {
		defer close(dialed)
		timer := time.NewTimer(fallbackAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-udp.Done():
			return
		}
		if n.answered(a) {
			return
		}
		path, err := n.dialStream(udp, conn, g.remote)
		if err != nil {
			n.log.Debug("no TCP stream either", zap.String("conn", conn.Name), zap.Error(err))
			return
		}
		stream <- path
		if !n.answered(a) {
			giveUp(errFallback)
		}
	})
	err := n.tryDatagrams(udp, conn, g, w, replaces, a)
	fallback := errors.Is(err, errFallback)
	giveUp(nil)
	<-dialed
	select {
	case path := <-stream:
		if fallback || fromNetwork(err) {
			return n.tryStream(ctx, conn, path, w, replaces)
		}
		n.sockets.opened().Release(path.Local, path.Remote)
	default:
		if known, ok := errors.AsType[*Error](err); ok && known.Code == ike.CodePortBlocked {
			if n.dialAndTry(ctx, conn, g.remote, w, replaces) == nil {
				return nil
			}
		}
	}
	return err
}

func fromNetwork(err error) bool {
	known, ok := errors.AsType[*Error](err)
	return ok && known.Code.Class() == ClassNetwork
}

// answered tells whether the peer has answered anything in an attempt, or it has ended.
func (n *Node) answered(a *attempt) bool {
	sa := n.attemptSA(a)
	for _, st := range n.engines.statuses() {
		if st.SA == sa {
			return st.SPIr != 0
		}
	}
	return sa != 0
}

func (n *Node) dialAndTry(ctx context.Context, conn *config.Connection, remote netip.Addr, w want, replaces ike.SAID) error {
	path, err := n.dialStream(ctx, conn, remote)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &Error{
			Code: ike.CodeUnreachable,
			What: fmt.Sprintf("no TCP stream to %v port %d", remote, conn.TCPPort),
			Why:  err.Error(),
			Hint: "the gateway must listen for TCP (node.tcp_port of a Martlet), and nothing on the way may block it",
		}
	}
	return n.tryStream(ctx, conn, path, w, replaces)
}

// tryStream runs one attempt on a stream.
func (n *Node) tryStream(ctx context.Context, conn *config.Connection, path ike.Path, w want, replaces ike.SAID) error {
	n.log.Info("trying TCP", zap.String("conn", conn.Name), zap.Stringer("to", path.Remote))
	err := n.await(ctx, conn, &attempt{}, func(a *attempt) error {
		n.engines.of(replaces).initiate(a, ike.Initiate{
			Connection: conn.Name, Path: path, Encap: path, Child: w.child, Packet: w.packet, Replaces: replaces,
		})
		return nil
	})
	if err == nil && conn.TCP == config.TCPAuto {
		n.blocked.note(conn.Name, true)
	}
	return err
}
