package proxy

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// countedConn is a connection inside the tunnel.
type countedConn struct {
	net.Conn
	c *Counters
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.c.received.Add(uint64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.c.sent.Add(uint64(n))
	return n, err
}

// bodyBuffers are the buffers for bodies.
type bodyBuffers struct{}

func (bodyBuffers) Get() []byte  { return largeBuffers.Get().(*[largeBuffer]byte)[:] }
func (bodyBuffers) Put(b []byte) { largeBuffers.Put((*[largeBuffer]byte)(b)) }

// handed is the listener of the HTTP server: it takes what Server.handle gives.
type handed struct {
	addr   net.Addr
	next   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *handed) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *handed) Addr() net.Addr { return l.addr }

// handedConn has its first octet to be read again, and tells when it is closed.
type handedConn struct {
	net.Conn
	unread atomic.Bool
	first  byte
	once   sync.Once
	closed chan struct{}
}

func (c *handedConn) Read(b []byte) (int, error) {
	if len(b) > 0 && c.unread.CompareAndSwap(true, false) {
		b[0] = c.first
		return 1, nil
	}
	return c.Conn.Read(b)
}

func (c *handedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

func (c *handedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

func (c *handedConn) SetLinger(seconds int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// debugWriter has the words of package http in the log of those who debug.
type debugWriter struct{ log *zap.Logger }

func (w debugWriter) Write(b []byte) (int, error) {
	w.log.Debug(strings.TrimSpace(string(b)))
	return len(b), nil
}
