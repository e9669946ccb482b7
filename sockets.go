package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"martlet/esp/udpencap"
	"martlet/ike"
)

// sockets are the Node's UDP sockets, which the plane reads and closes: those of the
// configured ports when it serves, and one ephemeral socket for each family and kind
// when it connects, since the non-ESP marker is a property of the socket.
type sockets struct {
	node *Node
	bind udpencap.Listener

	mu      sync.Mutex
	open    []*socket
	opening chan struct{} // closed when dial is done with the socket it opens; nil: it opens none
	streams *streams      // nil until there is one
}

type socket struct {
	udpencap.Socket
	raw    udpencap.Socket // the same, never captured
	served bool            // of a configured port, not of one connection's choice
}

func newSockets(n *Node) *sockets {
	s := &sockets{node: n, bind: n.Bind}
	if s.bind == nil {
		udp := &udpencap.UDP{Logger: n.log.Named("udp").WithOptions(zap.WrapCore(onceADay)), Shards: n.footprint.lanes(n.Serve), Buffer: n.footprint.socketBuffer()}
		if n.Host {
			udp.Control, udp.Rights = n.services.Control, n.services
		}
		s.bind = udp
	}
	return s
}

// onceADay keeps each message to one: sockets are refused the same, one after the other.
func onceADay(c zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(c, 24*time.Hour, 1, 0)
}

// listen opens the gateway's ports on every configured address. A family that
// the host does not have is passed over as long as another one works.
func (s *sockets) listen() error {
	c := &s.node.conf().Node
	var errs []error
	for _, addr := range c.Listen {
		for _, p := range []struct {
			port  uint16
			encap bool
		}{{c.NATPort, true}, {c.IKEPort, false}} {
			if p.port == 0 && !p.encap {
				continue
			}
			if _, err := s.add(netip.AddrPortFrom(addr, p.port), p.encap, true); err != nil {
				if noFamily(err, addr) {
					errs = append(errs, err)
					continue
				}
				return s.listenError(addr, p.port, err)
			}
		}
	}
	if len(s.listening()) == 0 {
		return s.listenError(netip.Addr{}, c.NATPort, errors.Join(errs...))
	}
	return s.listenStreams()
}

func (s *sockets) listenError(addr netip.Addr, port uint16, err error) *Error {
	e := &Error{
		Code: ike.CodeHost,
		What: fmt.Sprintf("cannot listen on UDP %v port %d", addr, port),
		Why:  fmt.Sprint(err),
		Hint: "check node.listen, node.ike_port and node.nat_port",
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Hint = "another IKE daemon (strongSwan, Libreswan, another Martlet) has the port; stop it, or set node.ike_port and node.nat_port"
	case errors.Is(err, syscall.EACCES):
		e.Hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE; or set node.ike_port = 0 and node.nat_port above 1023"
	}
	return e
}

func (s *sockets) add(local netip.AddrPort, encap, served bool) (*socket, error) {
	raw, err := s.bind.Listen(local, encap)
	if err != nil {
		return nil, err
	}
	sock := &socket{Socket: s.node.captures.socket(raw), raw: raw, served: served}
	s.mu.Lock()
	s.open = append(s.open, sock)
	s.mu.Unlock()
	s.node.plane.AddSocket(sock.Socket)
	return sock, nil
}

// dial returns a socket to talk to a peer from the address source: a served one of that
// kind if there is one, else a shared ephemeral one, else (port not 0) one of its own.
// One at a time opens a socket, so that those who dial together share it.
func (s *sockets) dial(source, to netip.Addr, encap bool, port uint16) (*socket, error) {
	for {
		s.mu.Lock()
		if sock := s.fitting(source, to, encap, port); sock != nil {
			s.mu.Unlock()
			return sock, nil
		}
		other := s.opening
		if other == nil {
			break // with mu, so that nobody else is the one
		}
		s.mu.Unlock()
		<-other
	}
	opened := make(chan struct{})
	s.opening = opened
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.opening = nil
		s.mu.Unlock()
		close(opened)
	}()
	wildcard := netip.IPv6Unspecified()
	if to.Is4() {
		wildcard = netip.IPv4Unspecified()
	}
	return s.add(netip.AddrPortFrom(wildcard, port), encap, false)
}

// fitting is the open socket that dial wants; nil if there is none. The caller holds mu.
func (s *sockets) fitting(source, to netip.Addr, encap bool, port uint16) *socket {
	for _, sock := range s.open {
		local := sock.LocalAddr()
		sameFamily := local.Addr().Is4() == to.Is4()
		if sameFamily && (local.Addr().IsUnspecified() || local.Addr() == source) && sock.Encap() == encap && (port == 0 || port == local.Port()) {
			return sock
		}
	}
	return nil
}

// noFamily tells whether the host has no addresses of that family, or, where sockets are bound to
// the interface that leads out, none that does.
func noFamily(err error, addr netip.Addr) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || addr.IsUnspecified() && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENETUNREACH))
}

// find returns the socket that a path starts at; nil if there is none.
func (s *sockets) find(path ike.Path) udpencap.Socket {
	local, encap := path.Local, path.Encap
	s.mu.Lock()
	defer s.mu.Unlock()
	if path.Stream {
		if s.streams == nil {
			return nil
		}
		return s.streams.socket
	}
	for _, sock := range s.open {
		at := sock.LocalAddr()
		if at.Port() == local.Port() && sock.Encap() == encap &&
			(at.Addr().Is4() == local.Addr().Is4() || !local.Addr().IsValid()) &&
			(at.Addr().IsUnspecified() || !local.Addr().IsValid() || at.Addr() == local.Addr()) {
			return sock.Socket
		}
	}
	return nil
}

func (s *sockets) listening() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var encap, plain []netip.AddrPort
	for _, sock := range s.open {
		switch {
		case !sock.served:
		case sock.Encap():
			encap = append(encap, sock.LocalAddr())
		default:
			plain = append(plain, sock.LocalAddr())
		}
	}
	return slices.Concat(encap, plain)
}
