//go:build !linux

package udpencap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// prepare sets the options of a socket before it is bound.
func (u *UDP) prepare(fd uintptr, _ bool) error {
	if u.Mark != 0 {
		return setMark(fd, u.Mark)
	}
	return nil
}

func setMark(uintptr, uint32) error {
	return errors.New("this system has no marks on packets; leave mark at 0")
}

// socket is the portable one: a datagram at a time, without ECN and DSCP. It knows the
// local address where the system tells it, which Windows does not.
type socket struct {
	base
	v4      *ipv4.PacketConn // or v6
	v6      *ipv6.PacketConn
	buffer  []byte
	granted int // octets of the receive buffer; 0 if the system's default

	sending sync.Mutex
	scratch []byte // an IKE message behind its marker
}

func newSocket(c *net.UDPConn, u *UDP, encap bool) (*socket, error) {
	s := &socket{base: newBase(c, encap), buffer: make([]byte, maxDatagram)}
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
	return s, nil
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
		if s.receive(&packets[0], s.buffer[:n], local, remote, 0) {
			return 1, nil
		}
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

// Write sends packets in their order.
func (s *socket) Write(packets []Packet) (int, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	for i := range packets {
		if err := s.write(&packets[i]); err != nil {
			return i, fmt.Errorf("udpencap: write: %w", err)
		}
		s.counters.sent.Add(1)
	}
	return len(packets), nil
}

func (s *socket) write(p *Packet) error {
	data := p.Data
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
