//go:build !linux

package udpencap

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// open opens a socket.
func (u *UDP) open(local netip.AddrPort, encap bool) (*socket, error) {
	c, err := bind(local, u.control(local))
	if err != nil {
		return nil, err
	}
	return newSocket(c, u, local, encap), nil
}

// socket is the portable one: a datagram at a time, without ECN and DSCP. It knows the
// local address where the system tells it, which Windows does not.
type socket struct {
	base
	conn   *net.UDPConn
	v4     *ipv4.PacketConn // or v6
	v6     *ipv6.PacketConn
	buffer []byte

	sending sync.Mutex
	scratch []byte // an IKE message behind its marker
}

func newSocket(c *net.UDPConn, u *UDP, local netip.AddrPort, encap bool) *socket {
	s := &socket{base: base{local: boundTo(c), encap: encap, control: u.control(local)}, conn: c, buffer: make([]byte, maxDatagram)}
	// A system that does not grant the size leaves its default, which works too.
	if c.SetReadBuffer(u.buffer()) == nil {
		s.granted = u.buffer()
	}
	_ = c.SetWriteBuffer(u.buffer())
	// Where this is not supported the local address stays that of the socket.
	if s.local.Addr().Is4() {
		s.v4 = ipv4.NewPacketConn(c)
		_ = s.v4.SetControlMessage(ipv4.FlagDst, true)
	} else {
		s.v6 = ipv6.NewPacketConn(c)
		_ = s.v6.SetControlMessage(ipv6.FlagDst, true)
	}
	return s
}

// Batch is 1.
func (s *socket) Batch() int { return 1 }

// Read waits for a datagram.
func (s *socket) Read(packets []Packet) (int, error) {
	for len(packets) > 0 {
		n, local, remote, err := s.read()
		if err != nil {
			if !passing(err) {
				return 0, fmt.Errorf("udpencap: read: %w", err)
			}
			s.counters.readErrors.Add(1)
			continue
		}
		kind, data, ok := classify(s.buffer[:n], s.encap)
		if !ok {
			s.counters.malformed.Add(1)
			continue
		}
		s.counters.received.Add(1)
		packets[0] = Packet{Kind: kind, Data: data, Local: local, Remote: remote}
		return 1, nil
	}
	return 0, nil
}

func (s *socket) read() (n int, local, remote netip.AddrPort, err error) {
	var from net.Addr
	var dst net.IP
	if s.v4 != nil {
		var cm *ipv4.ControlMessage
		if n, cm, from, err = s.v4.ReadFrom(s.buffer); cm != nil {
			dst = cm.Dst
		}
	} else {
		var cm *ipv6.ControlMessage
		if n, cm, from, err = s.v6.ReadFrom(s.buffer); cm != nil {
			dst = cm.Dst
		}
	}
	if err != nil {
		return 0, local, remote, err
	}
	local = s.local
	if a, ok := netip.AddrFromSlice(dst); ok {
		local = netip.AddrPortFrom(a.Unmap(), s.local.Port())
	}
	a := from.(*net.UDPAddr).AddrPort()
	return n, local, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// ControlAgain calls Control of UDP once more, for the socket as it is.
func (s *socket) ControlAgain() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	return s.control(raw)
}

// Close closes the socket.
func (s *socket) Close() error { return s.conn.Close() }

// Readers is the socket itself.
func (s *socket) Readers() []Reader { return []Reader{s} }

// ReadMore is 0: there is no memory.
func (s *socket) ReadMore([]Packet) (int, error) { return 0, nil }

// Write sends packets in their order.
func (s *socket) Write(packets []Packet) (int, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	for i := range packets {
		p := &packets[i]
		for data := range p.Datagrams() {
			if err := s.write(p, data); err != nil {
				return i, fmt.Errorf("udpencap: write: %w", err)
			}
			s.counters.sent.Add(1)
		}
	}
	return len(packets), nil
}

// write sends data, a datagram of p.
func (s *socket) write(p *Packet, data []byte) error {
	if s.marked(p) {
		s.scratch = append(append(s.scratch[:0], marker[:]...), data...)
		data = s.scratch
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Remote.Addr().Unmap(), p.Remote.Port()))
	var src net.IP
	if a := p.Local.Addr(); a.IsValid() && !a.IsUnspecified() && s.local.Addr().IsUnspecified() {
		src = a.Unmap().AsSlice()
	}
	var err error
	if s.v4 != nil {
		var cm *ipv4.ControlMessage
		if src != nil {
			cm = &ipv4.ControlMessage{Src: src}
		}
		_, err = s.v4.WriteTo(data, cm, to)
	} else {
		var cm *ipv6.ControlMessage
		if src != nil {
			cm = &ipv6.ControlMessage{Src: src}
		}
		_, err = s.v6.WriteTo(data, cm, to)
	}
	return err
}
