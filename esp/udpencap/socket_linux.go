package udpencap

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// socket is one file descriptor, or where ESP is carried several that are bound to the same
// address: one for IKE, whose messages may be fragmented and must arrive even where ESP comes
// in faster than it is taken, and those for ESP.
type socket struct {
	base
	ike     *descriptor
	esp     []*descriptor // none where ike has everything
	readers []Reader
	log     *zap.Logger

	gso        atomic.Bool // slabs go out whole
	unequal    bool        // in a slab, the last datagram must be shorter than the others
	maxPayload int         // the octets of the longest datagram, and slab

	sending sync.Mutex
	free    []*sender // as many as ever sent at once
	senders int
}

// descriptor is one of the file descriptors of a socket.
type descriptor struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	df   bool // nothing it sends may be fragmented, and it has a queue of errors

	// alarm tells the reader that the queue of errors has some. It is set by senders.
	alarm atomic.Bool
}

// The messages that one call reads, and writes. Readers of IKE alone need less.
const (
	espMessages = 32
	ikeMessages = 8
	outMessages = 64
)

// open opens a socket. Who has the port already is found out by the first file descriptor,
// which shares it with nobody as long as it is being bound: two processes that both ask for
// SO_REUSEPORT would take each other's packets without a word.
func (u *UDP) open(local netip.AddrPort, encap bool) (*socket, error) {
	k := runningKernel()
	o := options{control: u.control(local), rights: u.Rights, buffer: u.buffer(), is6: local.Addr().Is6(), gro: encap && k.hasGRO()}
	ike, err := o.descriptor(local)
	if err != nil {
		return nil, err
	}
	s := &socket{
		base:       base{local: boundTo(ike.conn), encap: encap, control: o.control},
		ike:        ike,
		log:        u.log(),
		maxPayload: maxDatagram - 20 - 8,
	}
	if o.is6 {
		s.maxPayload = maxDatagram - 8
	}
	if encap {
		if err := s.shard(o, u.shards(), u.refused); err != nil {
			s.log.Info("the system does not tell ESP from IKE; a flood of ESP can delay IKE, and packets are fragmented on the way",
				zap.Stringer("socket", s.local), zap.Error(err))
		}
		s.offload(k)
	}
	s.granted = s.ike.receiveBuffer()
	n := ikeMessages
	if encap && len(s.esp) == 0 {
		n = espMessages
	}
	s.readers = append(s.readers, newReader(s, s.ike, n))
	for _, d := range s.esp {
		s.readers = append(s.readers, newReader(s, d, espMessages))
	}
	return s, nil
}

// offload finds out whether slabs can go out whole.
func (s *socket) offload(k kernel) {
	// An older kernel would ignore the control message, and send a slab as one datagram.
	_ = s.ike.raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.gso.Store(err == nil)
	})
	if s.gso.Load() && k.equalBug() {
		s.unequal = true
		s.log.Info("this kernel may corrupt packets of one length that are sent together; each such slab ends with a keepalive",
			zap.Stringer("socket", s.local))
	}
}

// options are those of a file descriptor.
type options struct {
	control func(syscall.RawConn) error
	rights  Rights
	buffer  int
	is6     bool
	gro     bool
	df      bool
	share   bool
}

// descriptor opens and binds one.
func (o options) descriptor(local netip.AddrPort) (*descriptor, error) {
	prepare := func(c syscall.RawConn) error {
		if err := o.control(c); err != nil {
			return err
		}
		var failed error
		var less bool
		if err := c.Control(func(fd uintptr) {
			failed = o.set(fd)
			less = min(bufferOf(fd, unix.SO_RCVBUF), bufferOf(fd, unix.SO_SNDBUF)) < o.buffer
		}); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if o.rights != nil && less { // another process may be asked, for which the first message waits
			_ = o.rights.Buffers(c, o.buffer) // what the system gives to all is set already
		}
		return nil
	}
	open := bind
	if o.rights != nil && reserved(local.Port()) {
		open = o.bindByRight
	}
	c, err := open(local, prepare)
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &descriptor{conn: c, raw: raw, df: o.df}, nil
}

// set sets the options of a socket before it is bound.
func (o options) set(fd uintptr) error {
	s := int(fd)
	// Only the forced form goes beyond net.core.[rw]mem_max; it needs privilege.
	for _, kind := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(s, unix.SOL_SOCKET, kind[0], o.buffer) != nil {
			if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, kind[1], o.buffer); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	for _, must := range o.must() {
		if err := unix.SetsockoptInt(s, must[0], must[1], must[2]); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// What an old kernel does not know is not missed much.
	_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if o.gro {
		_ = unix.SetsockoptInt(s, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	return nil
}

// must are the options without which nothing works: level, name and value.
func (o options) must() [][3]int {
	// With DONT the system fragments what is longer than what it knows of the path, and lets
	// routers do the same. DO is the contrary of both.
	discover, recverr := unix.IP_PMTUDISC_DONT, 0
	if o.df {
		discover, recverr = unix.IP_PMTUDISC_DO, 1
	}
	list := [][3]int{
		{unix.SOL_IP, unix.IP_PKTINFO, 1},
		{unix.SOL_IP, unix.IP_RECVTOS, 1},
		{unix.SOL_IP, unix.IP_MTU_DISCOVER, discover},
		{unix.SOL_IP, unix.IP_RECVERR, recverr},
	}
	if o.is6 {
		list = [][3]int{
			{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1},
			{unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, discover},
			{unix.SOL_IPV6, unix.IPV6_RECVERR, recverr},
		}
	}
	if o.share {
		list = append(list, [3]int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	return list
}

// ControlAgain calls Control of UDP once more, for the socket as it is.
func (s *socket) ControlAgain() error {
	err := s.control(s.ike.raw)
	for _, d := range s.esp {
		err = errors.Join(err, s.control(d.raw))
	}
	return err
}

// receiveBuffer is the octets that the system gave.
func (d *descriptor) receiveBuffer() (n int) {
	_ = d.raw.Control(func(fd uintptr) { n = bufferOf(fd, unix.SO_RCVBUF) })
	return n
}

// bufferOf is the octets of a socket's buffer of a kind; 0 where the system does not say.
func bufferOf(fd uintptr, kind int) int {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, kind)
	if err != nil {
		return 0
	}
	return n / 2 // the kernel doubles what is asked, for its own use, and says the double
}

// rouse tells the reader to look into the queue of errors, and wakes it: the kernel wakes it
// too, but perhaps just before it lay down.
func (d *descriptor) rouse() {
	if d.df && d.alarm.CompareAndSwap(false, true) {
		_ = d.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Readers are that of IKE, and those of ESP.
func (s *socket) Readers() []Reader { return s.readers }

// Close closes the socket.
func (s *socket) Close() error {
	err := s.ike.conn.Close()
	for _, d := range s.esp {
		err = errors.Join(err, d.conn.Close())
	}
	return err
}
