package udpencap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// prepare sets the options of a socket before it is bound.
func (u *UDP) prepare(fd uintptr, is6 bool) error {
	s := int(fd)
	if u.Mark != 0 {
		if err := setMark(fd, u.Mark); err != nil {
			return err
		}
	}
	// Only the forced form goes beyond net.core.[rw]mem_max; it needs privilege.
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(s, unix.SOL_SOCKET, o[0], u.buffer()) != nil {
			if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, o[1], u.buffer()); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	level, options := unix.SOL_IP, []int{unix.IP_PKTINFO, unix.IP_RECVTOS}
	if is6 {
		level, options = unix.SOL_IPV6, []int{unix.IPV6_RECVPKTINFO, unix.IPV6_RECVTCLASS}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(s, level, o, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// setMark puts a mark on every packet of a socket.
func setMark(fd uintptr, mark uint32) error {
	if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("mark packets with %#x (needs CAP_NET_ADMIN): %w", mark, os.NewSyscallError("setsockopt", err))
	}
	return nil
}

// controlLen is room for the control messages that prepare asks for: the longer
// PKTINFO is 20 octets, TOS is 4; each has a header of at most 16.
const controlLen = 96

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// vector is the memory of one recvmmsg or sendmmsg call.
type vector struct {
	headers []mmsghdr
	pieces  [][2]unix.Iovec // marker and data, or data alone
	names   []unix.RawSockaddrInet6
	control [][controlLen]byte

	trap     uintptr               // the system call
	call     func(fd uintptr) bool // makes it; a field, so that no call allocates
	from, to int                   // the headers that it is about
	n        int                   // its results
	errno    syscall.Errno
}

func newVector(n int, trap uintptr) *vector {
	v := &vector{
		headers: make([]mmsghdr, n),
		pieces:  make([][2]unix.Iovec, n),
		names:   make([]unix.RawSockaddrInet6, n),
		control: make([][controlLen]byte, n),
		trap:    trap,
	}
	for i := range v.headers {
		h := &v.headers[i].hdr
		h.Iov = &v.pieces[i][0]
		h.Name = (*byte)(unsafe.Pointer(&v.names[i]))
		h.Control = &v.control[i][0]
	}
	v.call = v.syscall
	return v
}

func (v *vector) syscall(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(v.trap, fd, uintptr(unsafe.Pointer(&v.headers[v.from])), uintptr(v.to-v.from), unix.MSG_DONTWAIT, 0, 0)
		v.n, v.errno = int(n), errno
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}

type socket struct {
	base
	raw     syscall.RawConn
	granted int // octets of the receive buffer

	in      *vector
	buffers [][]byte

	sending sync.Mutex
	free    []*vector // of senders; as many as ever sent at once
}

func newSocket(c *net.UDPConn, _ *UDP, encap bool) (*socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{base: newBase(c, encap), raw: raw}
	err = raw.Control(func(fd uintptr) {
		// The kernel doubles what is asked, for its own use, and says the double.
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			s.granted = n / 2
		}
	})
	if err != nil {
		return nil, err
	}
	n := s.batch()
	s.in = newVector(n, unix.SYS_RECVMMSG)
	// Of this memory the system backs with pages only what datagrams touch.
	memory := make([]byte, n*maxDatagram)
	for i := range n {
		b := memory[i*maxDatagram:][:maxDatagram:maxDatagram]
		s.buffers = append(s.buffers, b)
		s.in.pieces[i][0].Base = &b[0]
		s.in.pieces[i][0].SetLen(maxDatagram)
		s.in.headers[i].hdr.SetIovlen(1)
	}
	return s, nil
}

// Batch is the number of datagrams that one Read can take.
func (s *socket) Batch() int { return len(s.buffers) }

// Read takes what is there, and waits for the first datagram.
func (s *socket) Read(packets []Packet) (int, error) {
	v := s.in
	for len(packets) > 0 {
		v.from, v.to = 0, min(len(packets), len(s.buffers))
		for i := range v.headers[:v.to] {
			h := &v.headers[i].hdr
			h.Namelen = unix.SizeofSockaddrInet6
			h.SetControllen(controlLen)
		}
		if err := s.raw.Read(v.call); err != nil {
			return 0, fmt.Errorf("udpencap: read: %w", err)
		}
		if v.errno != 0 {
			if !passing(v.errno) {
				return 0, fmt.Errorf("udpencap: %w", os.NewSyscallError("recvmmsg", v.errno))
			}
			s.counters.readErrors.Add(1)
			continue
		}
		n := 0
		for i := range v.headers[:v.n] {
			h := &v.headers[i]
			if h.hdr.Flags&unix.MSG_TRUNC != 0 {
				s.counters.readErrors.Add(1)
				continue
			}
			local, ecn := s.control(v.control[i][:h.hdr.Controllen])
			if s.receive(&packets[n], s.buffers[i][:h.len], local, addrPort(&v.names[i]), ecn) {
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// control reads the destination address and the ECN field of a datagram.
func (s *socket) control(b []byte) (local netip.AddrPort, ecn uint8) {
	local = s.local
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			break
		}
		b = rest
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, local address, destination in the header.
			local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[8:12])), s.local.Port())
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[:16])), s.local.Port())
		case h.Level == unix.SOL_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			ecn = data[0] & 3
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			ecn = uint8(binary.NativeEndian.Uint32(data)) & 3
		}
	}
	return local, ecn
}

func addrPort(n *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&n.Port))
	if n.Family == unix.AF_INET {
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), binary.BigEndian.Uint16(port[:]))
	}
	a := netip.AddrFrom16(n.Addr).Unmap()
	if n.Scope_id != 0 {
		a = a.WithZone(zone(n.Scope_id))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port[:]))
}

// Write sends packets in their order.
func (s *socket) Write(packets []Packet) (int, error) {
	v := s.takeVector()
	defer s.giveVector(v)
	sent := 0
	for sent < len(packets) {
		n := min(len(packets)-sent, len(v.headers))
		for i := range n {
			if err := s.pack(v, i, &packets[sent+i]); err != nil {
				if i == 0 {
					return sent, err
				}
				n = i // what stands before it goes first
				break
			}
		}
		m, err := s.send(v, n)
		clear(v.pieces[:n])
		sent += m
		s.counters.sent.Add(uint64(m))
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// takeVector lends memory to one sender, so that none waits for another's packets.
func (s *socket) takeVector() *vector {
	s.sending.Lock()
	defer s.sending.Unlock()
	n := len(s.free)
	if n == 0 {
		return newVector(s.batch(), unix.SYS_SENDMMSG)
	}
	v := s.free[n-1]
	s.free = s.free[:n-1]
	return v
}

func (s *socket) giveVector(v *vector) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.free = append(s.free, v)
}

// send sends the first n packets of v.
func (s *socket) send(v *vector, n int) (int, error) {
	v.from, v.to = 0, n
	for retried := false; v.from < v.to; {
		if err := s.raw.Write(v.call); err != nil {
			return v.from, fmt.Errorf("udpencap: write: %w", err)
		}
		switch {
		case v.errno == 0:
			v.from += v.n
			retried = false
		case passing(v.errno) && !retried:
			retried = true // the error of an earlier packet, which is now cleared
		default:
			return v.from, fmt.Errorf("udpencap: %w", os.NewSyscallError("sendmmsg", v.errno))
		}
	}
	return n, nil
}

var errFamily = errors.New("udpencap: write: remote address is not of the socket's family")

// pack describes a packet to the system.
func (s *socket) pack(v *vector, i int, p *Packet) error {
	h, remote, is6 := &v.headers[i].hdr, p.Remote.Addr().Unmap(), s.local.Addr().Is6()
	if !remote.IsValid() || remote.Is6() != is6 {
		return errFamily
	}
	port := [2]byte{byte(p.Remote.Port() >> 8), byte(p.Remote.Port())}
	name := &v.names[i]
	if is6 {
		*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: remote.As16(), Scope_id: scope(remote.Zone())}
		name.Port = *(*uint16)(unsafe.Pointer(&port))
		h.Namelen = unix.SizeofSockaddrInet6
	} else {
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*a = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: remote.As4()}
		a.Port = *(*uint16)(unsafe.Pointer(&port))
		h.Namelen = unix.SizeofSockaddrInet4
	}
	n := 0
	if s.marked(p) {
		setPiece(&v.pieces[i][0], marker[:])
		n = 1
	}
	if len(p.Data) > 0 {
		setPiece(&v.pieces[i][n], p.Data)
		n++
	}
	h.SetIovlen(n)
	s.packControl(v.control[i][:0], h, p, is6)
	return nil
}

func setPiece(v *unix.Iovec, b []byte) {
	v.Base = &b[0]
	v.SetLen(len(b))
}

// packControl sets the source address, and DSCP and ECN, of a packet.
func (s *socket) packControl(b []byte, h *unix.Msghdr, p *Packet, is6 bool) {
	if local := p.Local.Addr().Unmap(); local.IsValid() && !local.IsUnspecified() && local.Is6() == is6 {
		if is6 {
			a := local.As16()
			b = appendControl(b, unix.SOL_IPV6, unix.IPV6_PKTINFO, a[:], unix.SizeofInet6Pktinfo)
		} else {
			a := local.As4()
			b = appendControl(b, unix.SOL_IP, unix.IP_PKTINFO, append(make([]byte, 4, 8), a[:]...), unix.SizeofInet4Pktinfo)
		}
	}
	if class := p.DSCP<<2 | p.ECN&3; class != 0 {
		var v [4]byte
		binary.NativeEndian.PutUint32(v[:], uint32(class))
		if is6 {
			b = appendControl(b, unix.SOL_IPV6, unix.IPV6_TCLASS, v[:], 4)
		} else {
			b = appendControl(b, unix.SOL_IP, unix.IP_TOS, v[:], 4)
		}
	}
	h.SetControllen(len(b))
}

// appendControl appends a control message whose content is data and zeros up to size.
// b is a vector's control, whose capacity holds all messages.
func appendControl(b []byte, level, kind int32, data []byte, size int) []byte {
	n := len(b)
	b = b[:n+unix.CmsgSpace(size)]
	clear(b[n:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[n]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	copy(b[n+unix.CmsgLen(0):], data)
	return b
}
