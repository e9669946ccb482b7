package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// streamConn, packetConn and listener are gonet's, with the errors of package net.

type streamConn struct {
	*gonet.TCPConn
	closed atomic.Bool
}

func (c *streamConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, opError(err, &c.closed)
}

func (c *streamConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, opError(err, &c.closed)
}

func (c *streamConn) Close() error {
	if c.closed.Swap(true) {
		return &net.OpError{Op: "close", Net: "tcp", Err: net.ErrClosed}
	}
	return c.TCPConn.Close()
}

type packetConn struct {
	*gonet.UDPConn
	closed atomic.Bool
}

func (c *packetConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	return n, opError(err, &c.closed)
}

func (c *packetConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, opError(err, &c.closed)
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	return n, from, opError(err, &c.closed)
}

func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: &net.AddrError{Err: "want a *net.UDPAddr", Addr: to.String()}}
	}
	// gVisor tells families apart by the length of the address.
	ip := addr.IP
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	n, err := c.UDPConn.WriteTo(b, &net.UDPAddr{IP: ip, Port: addr.Port})
	return n, opError(err, &c.closed)
}

func (c *packetConn) Close() error {
	if c.closed.Swap(true) {
		return &net.OpError{Op: "close", Net: "udp", Err: net.ErrClosed}
	}
	return c.UDPConn.Close()
}

type listener struct {
	*gonet.TCPListener
	stack  *Stack
	closed atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil {
		var op *net.OpError
		if !errors.As(err, &op) {
			err = &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: err}
		}
		return nil, opError(err, &l.closed)
	}
	_ = l.stack.divide() // what went well once cannot fail
	return &streamConn{TCPConn: c.(*gonet.TCPConn)}, nil
}

func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return &net.OpError{Op: "close", Net: "tcp", Err: net.ErrClosed}
	}
	l.Shutdown()
	return l.TCPListener.Close()
}

// opError replaces the inner error of a *net.OpError by that of package net.
func opError(err error, closed *atomic.Bool) error {
	if err == nil || errors.Is(err, io.EOF) && !closed.Load() {
		return err
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		op = &net.OpError{Op: "read", Net: "tcp"}
	}
	replaced := *op
	if closed.Load() {
		replaced.Err = net.ErrClosed
	} else {
		replaced.Err = plain(err)
	}
	return &replaced
}

// plain finds the error of package net that a text of gVisor stands for: its
// adapters keep only the text.
func plain(err error) error {
	for {
		op, ok := errors.AsType[*net.OpError](err)
		if !ok || op.Err == nil {
			break
		}
		err = op.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return err
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	for _, t := range translation {
		if t.from.String() == err.Error() {
			return t.to
		}
	}
	return err
}

func plainError(err tcpip.Error) error { return plain(errors.New(err.String())) }

var translation = []struct {
	from tcpip.Error
	to   error
}{
	{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED},
	{&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
	{&tcpip.ErrConnectionAborted{}, syscall.ECONNABORTED},
	{&tcpip.ErrAborted{}, syscall.ECONNABORTED},
	{&tcpip.ErrTimeout{}, syscall.ETIMEDOUT},
	{&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH},
	{&tcpip.ErrNetworkUnreachable{}, syscall.ENETUNREACH},
	{&tcpip.ErrHostDown{}, syscall.EHOSTUNREACH},
	{&tcpip.ErrNoNet{}, syscall.ENETUNREACH},
	{&tcpip.ErrPortInUse{}, syscall.EADDRINUSE},
	{&tcpip.ErrNoPortAvailable{}, syscall.EADDRINUSE},
	{&tcpip.ErrBadLocalAddress{}, syscall.EADDRNOTAVAIL},
	{&tcpip.ErrMessageTooLong{}, syscall.EMSGSIZE},
	{&tcpip.ErrNoBufferSpace{}, syscall.ENOBUFS},
	{&tcpip.ErrClosedForSend{}, syscall.EPIPE},
	{&tcpip.ErrNotConnected{}, syscall.ENOTCONN},
	{&tcpip.ErrBroadcastDisabled{}, syscall.EACCES},
}
