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
	// Mark is put on every packet sent (SO_MARK), so that rules of the host can keep
	// them out of the tunnel. 0 is none. Linux only; elsewhere Listen fails on it.
	Mark uint32
	// Buffer is the size in octets asked for the socket's buffers in either
	// direction; 0 means 4 MiB. The system may give less.
	Buffer int
	// Logger is told once for each socket what the system does not grant; nil means
	// none.
	Logger *zap.Logger
}

const (
	defaultBuffer = 4 << 20
	// maxDatagram is the longest datagram.
	maxDatagram = 65535
	// encapBatch and ikeBatch are the datagrams read at once where ESP is carried,
	// and where only IKE is.
	encapBatch = 64
	ikeBatch   = 8
)

// Listen opens a socket on a local address of one family; an IPv6 wildcard takes no
// IPv4 packets, so that both wildcards can have the same port.
func (u *UDP) Listen(local netip.AddrPort, encap bool) (Socket, error) {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if !local.IsValid() {
		return nil, errors.New("udpencap: listen: no local address; want one, or the wildcard of a family")
	}
	network := "udp4"
	if local.Addr().Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = u.prepare(fd, local.Addr().Is6()) }); err != nil {
			return err
		}
		return failed
	}}
	pc, err := lc.ListenPacket(context.Background(), network, local.String())
	if err != nil {
		return nil, fmt.Errorf("udpencap: listen: %w", err)
	}
	s, err := newSocket(pc.(*net.UDPConn), u, encap)
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("udpencap: listen on %v: %w", local, err)
	}
	if u.Logger != nil && encap && s.granted < u.buffer() {
		u.Logger.Info("the system limits the receive buffer of a socket, bursts may be lost",
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

// base is what sockets have in common on all systems.
type base struct {
	conn     *net.UDPConn
	local    netip.AddrPort
	encap    bool
	counters counters
}

func newBase(c *net.UDPConn, encap bool) base {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return base{conn: c, local: netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), encap: encap}
}

// LocalAddr is the bound address.
func (b *base) LocalAddr() netip.AddrPort { return b.local }

// Encap reports whether IKE messages have the non-ESP marker here.
func (b *base) Encap() bool { return b.encap }

// Stream is false.
func (b *base) Stream() bool { return false }

// Counters is what the socket has met so far.
func (b *base) Counters() Counters { return b.counters.snapshot() }

// Close closes the socket.
func (b *base) Close() error { return b.conn.Close() }

// batch is how many datagrams are worth reading at once.
func (b *base) batch() int {
	if b.encap {
		return encapBatch
	}
	return ikeBatch
}

// marked tells whether a packet gets a marker.
func (b *base) marked(p *Packet) bool { return b.encap && p.Kind == IKE }

// receive fills p with a datagram, unless it is of no kind.
func (b *base) receive(p *Packet, data []byte, local, remote netip.AddrPort, ecn uint8) bool {
	kind, data, ok := classify(data, b.encap)
	if !ok {
		b.counters.malformed.Add(1)
		return false
	}
	b.counters.received.Add(1)
	*p = Packet{Kind: kind, Data: data, Local: local, Remote: remote, ECN: ecn}
	return true
}

var marker [markerLen]byte
