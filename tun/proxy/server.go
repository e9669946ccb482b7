package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Protocol is what a Server speaks.
type Protocol int

// The protocols.
const (
	Both  Protocol = iota // told apart by the first octet of a connection
	SOCKS                 // SOCKS5, RFC 1928: CONNECT and UDP ASSOCIATE
	HTTP                  // CONNECT, and requests for http:// addresses
)

// Server is a proxy that clients of the host are configured to use.
type Server struct {
	Options
	Protocol Protocol
	Users    []User // who may use it; nil: everybody who reaches the listener
}

// Serve takes clients from a listener until ctx is done. It owns the listener, and returns
// when all connections are closed; the error is that of ctx, or of a listener that was closed.
// It may be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	v := s.begin(ctx)
	h := newHTTPProxy(v, s.Users, l.Addr())
	err := v.accept(l, func(conn net.Conn) { s.handle(v, h, conn) })
	h.drain()
	v.end()
	h.end()
	return err
}

// handle finds out what a client speaks.
func (s *Server) handle(v *serving, h *httpProxy, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(v.Limits.handshake()))
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		if !errors.Is(err, io.EOF) { // a look whether somebody listens is none
			v.Counters.fail(Malformed)
		}
		return
	}
	isSOCKS := first[0] == socksVersion
	switch {
	case isSOCKS && s.Protocol != HTTP:
		(&socksClient{v, conn, s.Users}).serve()
	case !isSOCKS && s.Protocol != SOCKS && first[0] >= ' ':
		conn.SetDeadline(time.Time{})
		h.serve(conn, first[0])
	default:
		v.Counters.fail(Malformed)
		v.Log.Debug("a client speaks something else", zap.Stringer("client", conn.RemoteAddr()), zap.Uint8("first", first[0]))
	}
}

// socksClient is one client of SOCKS5, until its handle returns.
type socksClient struct {
	*serving
	conn  net.Conn
	users []User
}

// serve goes on behind the first octet.
func (c *socksClient) serve() {
	if last, err := c.greet(); err != nil {
		c.lost(err)
		c.say(last)
		return
	}
	command, d, err := readRequest(c.conn)
	kind := Malformed
	if own, ok := errors.AsType[*failureError](err); ok {
		kind = own.kind
	} else if err != nil {
		c.lost(err)
		return
	}
	c.conn.SetDeadline(time.Time{})
	switch {
	case errors.Is(err, errVersion):
		c.lost(err)
	case errors.Is(err, errAddressType):
		c.refuse(replyNoAddrType, kind, d)
	case command == commandAssociate:
		// The destination is where the client will send from, or nothing.
		c.associate(d)
	case err != nil:
		c.refuse(kind.reply(), kind, d)
	case command == commandConnect:
		c.connect(d)
	default:
		c.refuse(replyNoCommand, Unsupported, d)
	}
}

// lost counts a client that did not get as far as a request.
func (c *socksClient) lost(err error) {
	kind := Malformed
	if own, ok := errors.AsType[*failureError](err); ok {
		kind = own.kind
	}
	c.Counters.fail(kind)
	c.Log.Debug("a SOCKS5 handshake failed", zap.Stringer("client", c.conn.RemoteAddr()), zap.Error(err))
}

// greet agrees on a method and checks the password; with an error comes what is to be said
// last, if anything. RFC 1928 §3, RFC 1929
func (c *socksClient) greet() (last []byte, err error) {
	methods, err := readMethods(c.conn)
	if err != nil {
		return nil, err
	}
	want := byte(methodNone)
	if c.users != nil {
		want = methodPassword
	}
	offered := false
	for _, m := range methods {
		offered = offered || m == want
	}
	if !offered {
		return []byte{socksVersion, methodRefused}, fault(Denied, "socks: the client does not offer the method that is needed")
	}
	if err := c.write([]byte{socksVersion, want}); err != nil || want == methodNone {
		return nil, err
	}
	name, password, err := readPassword(c.conn)
	if err != nil {
		return nil, err
	}
	if !known(c.users, name, password) {
		return []byte{passwordVersion, passwordWrong}, fault(Denied, "socks: wrong name or password")
	}
	return nil, c.write([]byte{passwordVersion, passwordRight})
}

// connect is the command CONNECT.
func (c *socksClient) connect(d destination) {
	if err := d.check(); err != nil {
		c.refuse(replyNotAllowed, Forbidden, d)
		return
	}
	conn, err := c.dial(c.live, "tcp", d.String())
	if err != nil {
		c.say(socksReply(classify(err).reply(), netip.AddrPort{}))
		return
	}
	if err := c.write(socksReply(replySucceeded, addrPort(conn.LocalAddr()))); err != nil {
		conn.Close()
		return
	}
	relay(c.live, c.conn, conn, c.Limits.idle(), c.Counters)
}

// refuse counts a request that is not carried out, and says so.
func (c *socksClient) refuse(code byte, kind Failure, d destination) {
	c.Counters.fail(kind)
	c.Log.Debug("a SOCKS5 request was refused", zap.Stringer("kind", kind), zap.Stringer("to", d))
	c.say(socksReply(code, netip.AddrPort{}))
}

// write sends a reply, within the time for a handshake.
func (c *socksClient) write(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(c.Limits.handshake()))
	_, err := c.conn.Write(b)
	c.conn.SetWriteDeadline(time.Time{})
	return err
}

// say sends the last words to a client, if there are any.
func (c *socksClient) say(b []byte) {
	if len(b) > 0 && c.write(b) == nil {
		farewell(c.conn)
	}
}

// farewell closes a connection so that the other side gets what was written: closed with
// octets unread, a TCP connection is reset, and the reset may overtake them.
func farewell(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		conn.SetReadDeadline(time.Now().Add(quiet))
		io.CopyN(io.Discard, conn, largeBuffer)
	}
	conn.Close()
}

// addrPort is the address of a socket, or nothing.
func addrPort(a net.Addr) netip.AddrPort {
	var at netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		at = a.AddrPort()
	case *net.UDPAddr:
		at = a.AddrPort()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
