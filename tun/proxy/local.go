package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Local is a forward from the host into the tunnel: ssh's -L.
type Local struct {
	Options
	Forward Forward
}

// Serve forwards the connections of a TCP listener until ctx is done. It owns the listener.
func (f *Local) Serve(ctx context.Context, l net.Listener) error {
	v := f.begin(ctx)
	defer v.end()
	return v.accept(l, func(conn net.Conn) {
		tunnel, err := v.dial(v.live, "tcp", f.Forward.To())
		if err != nil {
			abort(conn)
			return
		}
		relay(v.live, conn, tunnel, v.Limits.idle(), v.Counters)
	})
}

// ServePacket forwards the datagrams of a UDP socket, and those that come back, until ctx is
// done. It owns the socket. Each address that sends has a socket of its own in the tunnel.
func (f *Local) ServePacket(ctx context.Context, c net.PacketConn) error {
	v := f.begin(ctx)
	defer v.end()
	return (&flows{serving: v, from: c, intoTunnel: true, dial: func(ctx context.Context) (net.Conn, error) {
		return v.dial(ctx, "udp", f.Forward.To())
	}}).serve()
}

// Remote is a forward out of the tunnel to the host, or to what the host reaches: ssh's -R. It
// is the only server that dials by the host.
type Remote struct {
	Options
	Forward Forward
	// Dial connects to the target; nil means net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Serve listens inside the tunnel and forwards until ctx is done. While it cannot listen,
// for want of a tunnel, it tries again. The error is that of ctx.
func (f *Remote) Serve(ctx context.Context) error {
	v := f.begin(ctx)
	defer v.end()
	if f.Forward.Network == "udp" {
		c := &steadyPacket{ctx: ctx, log: v.Log, open: func() (net.PacketConn, error) {
			return v.Network.ListenPacket("udp", f.Forward.Inside())
		}}
		return (&flows{serving: v, from: c, dial: func(ctx context.Context) (net.Conn, error) {
			return f.dialHost(ctx, v, "udp")
		}}).serve()
	}
	l := &steadyListener{ctx: ctx, log: v.Log, open: func() (net.Listener, error) {
		return v.Network.Listen("tcp", f.Forward.Inside())
	}}
	return v.accept(l, func(tunnel net.Conn) {
		conn, err := f.dialHost(v.live, v, "tcp")
		if err != nil {
			abort(tunnel)
			return
		}
		relay(v.live, conn, tunnel, v.Limits.idle(), v.Counters)
	})
}

func (f *Remote) dialHost(ctx context.Context, v *serving, network string) (net.Conn, error) {
	dial := f.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, v.Limits.dial())
	defer cancel()
	conn, err := dial(ctx, network, f.Forward.To())
	if err != nil {
		v.failed(err, f.Forward.To())
	}
	return conn, err
}

// steady keeps something open: when it fails it is opened again, with patience.
type steady[T interface{ Close() error }] struct {
	mu     sync.Mutex
	now    T
	is     bool
	closed bool
}

// get returns what is open, or opens it.
func (s *steady[T]) get(ctx context.Context, log *zap.Logger, open func() (T, error)) (T, error) {
	var none T
	wait := patience{first: 100 * time.Millisecond, most: 5 * time.Second}
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return none, net.ErrClosed
		}
		if !s.is {
			now, err := open()
			if err == nil {
				s.now, s.is = now, true
			} else if wait.next == 0 {
				log.Info("the tunnel cannot be listened in yet", zap.Error(err))
			}
		}
		now, is := s.now, s.is
		s.mu.Unlock()
		if is {
			return now, nil
		}
		if !wait.pause(ctx) {
			return none, ctx.Err()
		}
	}
}

// fail closes what is open, so that get opens another one.
func (s *steady[T]) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.is {
		s.now.Close()
		s.is = false
	}
}

func (s *steady[T]) close() {
	s.fail()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// steadyListener is a listener inside the tunnel that outlives the tunnel.
type steadyListener struct {
	ctx  context.Context
	log  *zap.Logger
	open func() (net.Listener, error)
	steady[net.Listener]
}

func (l *steadyListener) Accept() (net.Conn, error) {
	at, err := l.get(l.ctx, l.log, l.open)
	if err != nil {
		return nil, err
	}
	conn, err := at.Accept()
	if err != nil {
		l.fail()
		// It is for acceptOne to wait; the listener in its eyes is not closed.
		return nil, errors.New("inside the tunnel: " + err.Error())
	}
	return conn, nil
}

func (l *steadyListener) Close() error {
	l.close()
	return nil
}

func (l *steadyListener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.is {
		return l.now.Addr()
	}
	return &net.TCPAddr{}
}

// steadyPacket is a UDP socket inside the tunnel that outlives the tunnel.
type steadyPacket struct {
	ctx  context.Context
	log  *zap.Logger
	open func() (net.PacketConn, error)
	steady[net.PacketConn]
	wait patience
}

func (c *steadyPacket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		at, err := c.get(c.ctx, c.log, c.open)
		if err != nil {
			return 0, nil, net.ErrClosed
		}
		n, from, err := at.ReadFrom(b)
		if err == nil {
			c.wait = patience{}
			return n, from, nil
		}
		c.fail()
		c.wait.first, c.wait.most = 100*time.Millisecond, 5*time.Second
		if !c.wait.pause(c.ctx) {
			return 0, nil, net.ErrClosed
		}
	}
}

func (c *steadyPacket) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	at, is := c.now, c.is
	c.mu.Unlock()
	if !is {
		return 0, net.ErrClosed
	}
	return at.WriteTo(b, to)
}

func (c *steadyPacket) Close() error {
	c.close()
	return nil
}

func (c *steadyPacket) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is {
		return c.now.LocalAddr()
	}
	return &net.UDPAddr{}
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are for nobody here.
func (c *steadyPacket) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *steadyPacket) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *steadyPacket) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
