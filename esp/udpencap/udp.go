package udpencap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"go.uber.org/zap"
)

// UDP opens the operating system's sockets. The zero value is ready to use.
type UDP struct {
	// Control prepares each socket before it is bound, as that of net.ListenConfig does: to
	// keep its packets out of the tunnel, for example. Sockets of a Listen have a method
	// ControlAgain for when another preparation is due. nil is none.
	Control func(network, address string, c syscall.RawConn) error
	// Buffer is the size in octets asked for the socket's buffers in either
	// direction; 0 means 4 MiB. The system may give less.
	Buffer int
	// Shards is how many readers a socket that carries ESP has for it, rounded up to a power
	// of two; 0 means 1. The packets of an SPI come from the reader 1 + SPI>>24 & (Shards-1):
	// the high octet of our SPIs is random, whatever engine they are of. Reader 0 has IKE and
	// keepalives. Where the system cannot tell them apart, which Listen logs, reader 0 has
	// everything.
	Shards int
	// Rights does what this process has no right to, on Linux; nil is the process by itself.
	Rights Rights
	// Logger is told once for each socket what the system does not grant; nil means
	// none.
	Logger *zap.Logger

	refused error // in tests, what the system says to sharing a port
}

// Rights are those that a process may lack which opens sockets. They are of Linux: elsewhere nobody is
// asked.
type Rights interface {
	// Buffers gives a socket buffers of so many octets in either direction, where that is more than
	// every program gets: it is not called for what a socket has got without it.
	Buffers(c syscall.RawConn, octets int) error
	// Bind gives a socket an address whose port is below 1024.
	Bind(c syscall.RawConn, local netip.AddrPort) error
}

// reserved tells whether a port is one that needs a right on Linux.
func reserved(port uint16) bool { return port > 0 && port < 1024 }

const (
	defaultBuffer = 4 << 20
	// maxDatagram is the longest datagram, and the longest slab of them.
	maxDatagram = 65535
	// maxShards is as many as the high octet of an SPI tells apart.
	maxShards = 256
)

// Listen opens a socket on a local address of one family; an IPv6 wildcard takes no
// IPv4 packets, so that both wildcards can have the same port.
func (u *UDP) Listen(local netip.AddrPort, encap bool) (Socket, error) {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if !local.IsValid() {
		return nil, errors.New("udpencap: listen: no local address; want one, or the wildcard of a family")
	}
	s, err := u.open(local, encap)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("udpencap: listen: another program, or another one of this, has the port: %w", err)
	case err != nil:
		return nil, fmt.Errorf("udpencap: listen: %w", err)
	}
	if encap && s.granted < u.buffer() {
		u.log().Info("sockets get less receive buffer than they ask for, bursts may be lost; on Linux net.core.rmem_max allows more",
			zap.Stringer("socket", s.local), zap.Int("asked", u.buffer()), zap.Int("granted", s.granted))
	}
	return s, nil
}

func (u *UDP) buffer() int {
	if u.Buffer == 0 {
		return defaultBuffer
	}
	return u.Buffer
}

// shards is a power of two.
func (u *UDP) shards() int {
	n := 1
	for n < min(u.Shards, maxShards) {
		n *= 2
	}
	return n
}

func (u *UDP) log() *zap.Logger {
	if u.Logger == nil {
		return zap.NewNop()
	}
	return u.Logger
}

// control is Control for a local address.
func (u *UDP) control(local netip.AddrPort) func(syscall.RawConn) error {
	return func(c syscall.RawConn) error {
		if u.Control == nil {
			return nil
		}
		return u.Control(networkOf(local), local.String(), c)
	}
}

func networkOf(local netip.AddrPort) string {
	if local.Addr().Is6() {
		return "udp6"
	}
	return "udp4"
}

// bind opens a file descriptor and prepares it before it is bound.
func bind(local netip.AddrPort, prepare func(syscall.RawConn) error) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c) }}
	pc, err := lc.ListenPacket(context.Background(), networkOf(local), local.String())
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// boundTo is the address that a file descriptor got.
func boundTo(c *net.UDPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// base is what sockets have in common on all systems.
type base struct {
	local    netip.AddrPort
	encap    bool
	granted  int // octets of the receive buffer; 0 where that is not known
	control  func(syscall.RawConn) error
	counters counters
}

// LocalAddr is the bound address.
func (b *base) LocalAddr() netip.AddrPort { return b.local }

// Encap reports whether IKE messages have the non-ESP marker here.
func (b *base) Encap() bool { return b.encap }

// Stream is false.
func (b *base) Stream() bool { return false }

// Counters is what the socket has met so far.
func (b *base) Counters() Counters { return b.counters.snapshot() }

// marked tells whether a packet gets a marker.
func (b *base) marked(p *Packet) bool { return b.encap && p.Kind == IKE }

var (
	marker    [markerLen]byte
	keepalive = [1]byte{0xff}
)
