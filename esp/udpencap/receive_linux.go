package udpencap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader is what arrives at one file descriptor. Its buffers are a ring: Read starts it
// anew, ReadMore takes what is still free.
//
//	0 …        next …               free …
//	handed out  received, not yet …  nothing in it
type reader struct {
	vector
	s       *socket
	d       *descriptor
	buffers [][]byte
	names   []unix.RawSockaddrInet6
	control [][controlLen]byte

	next, free int
	// The message that next tells, if it was begun: what is left of it.
	begun   bool
	slab    []byte
	segment int
	local   netip.AddrPort
	remote  netip.AddrPort
	ecn     uint8

	// What a message had in the system's form, and means. The next one mostly has the same.
	lastName  unix.RawSockaddrInet6
	lastFrom  netip.AddrPort
	lastDst   [16]byte
	lastLocal netip.AddrPort
	drops     uint32

	wait, try func(fd uintptr) bool // fields, so that no call allocates
	blind     func(fd uintptr)
	queue     errorQueue
}

func newReader(s *socket, d *descriptor, n int) *reader {
	r := &reader{
		s: s, d: d,
		names:   make([]unix.RawSockaddrInet6, n),
		control: make([][controlLen]byte, n),
	}
	r.init(n, recvmmsg)
	r.lastLocal = s.local
	r.queue.init()
	// Of this memory the system backs with pages only what datagrams touch.
	memory := make([]byte, n*maxDatagram)
	for i := range r.headers {
		b := memory[i*maxDatagram:][:maxDatagram:maxDatagram]
		r.buffers = append(r.buffers, b)
		setPiece(&r.pieces[i][0], b)
		h := &r.headers[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.control[i][0]
		h.SetIovlen(1)
	}
	r.free = n
	r.restart()
	r.wait = func(fd uintptr) bool { return r.call(fd) || r.d.alarm.Load() }
	r.try = func(fd uintptr) bool { r.call(fd); return true }
	r.blind = r.poll
	return r
}

// Batch is twice the messages of the ring: most are one Packet.
func (r *reader) Batch() int { return 2 * len(r.buffers) }

// Read takes what is there, and waits for the first datagram.
func (r *reader) Read(packets []Packet) (int, error) {
	for len(packets) > 0 {
		if n := r.take(packets); n > 0 {
			return n, nil
		}
		r.restart()
		if err := r.fill(r.wait, len(packets)); err != nil {
			return 0, fmt.Errorf("udpencap: read: %w", err)
		}
	}
	return 0, nil
}

// ReadMore takes what has come since.
func (r *reader) ReadMore(packets []Packet) (int, error) {
	n := r.take(packets)
	if n == len(packets) || r.free == len(r.buffers) {
		return n, nil
	}
	if err := r.fill(r.try, len(packets)-n); err != nil {
		if n > 0 {
			return n, nil // it comes again
		}
		return 0, fmt.Errorf("udpencap: read: %w", err)
	}
	return n + r.take(packets[n:]), nil
}

// restart makes all buffers free. What the system wrote about earlier messages is undone.
func (r *reader) restart() {
	for i := range r.headers[:r.free] {
		h := &r.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlLen)
	}
	r.next, r.free = 0, 0
}

// fill receives into free buffers, at most as many as packets are wanted. Perhaps nothing came.
func (r *reader) fill(call func(fd uintptr) bool, packets int) error {
	r.from, r.to = r.free, min(len(r.buffers), r.free+packets)
	err := r.d.raw.Read(call)
	switch {
	case err == nil:
	case errors.Is(err, net.ErrClosed):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		if err := r.d.conn.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		return r.drain()
	default:
		// The runtime does not wait for what has an error and cannot be written to either.
		if err := r.d.raw.Control(r.blind); err != nil {
			return err
		}
		if err := r.drain(); err != nil {
			return err
		}
	}
	switch {
	case r.errno == unix.EAGAIN:
		if r.d.alarm.Load() {
			return r.drain()
		}
	case r.errno != 0:
		return r.failed(r.errno)
	default:
		r.free += r.n
	}
	return nil
}

// failed is after an error of a call that received nothing.
func (r *reader) failed(errno syscall.Errno) error {
	if r.d.df {
		// An error of an earlier datagram is in the queue too.
		before := r.queue.seen
		if err := r.drain(); err != nil || r.queue.seen != before {
			return err
		}
	}
	if !passing(errno) {
		return os.NewSyscallError("recvmmsg", errno)
	}
	r.s.counters.readErrors.Add(1)
	return nil
}

// poll receives as call does; if nothing is there it waits for a short time.
func (r *reader) poll(fd uintptr) {
	if r.call(fd) {
		return
	}
	const milliseconds = 5
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, milliseconds); n > 0 && err == nil {
		r.call(fd)
	}
}

// take hands out what was received.
func (r *reader) take(packets []Packet) (n int) {
	n = r.queue.take(packets)
	var received, malformed uint64
	for n < len(packets) && r.next < r.free {
		if !r.begun && !r.begin() {
			r.next++
			continue
		}
		p := &packets[n]
		var ok bool
		*p, r.slab, ok = cut(r.slab, r.segment, r.s.encap)
		if ok {
			p.Local, p.Remote, p.ECN = r.local, r.remote, r.ecn
			received += uint64(p.Count())
			n++
		} else {
			malformed++
		}
		if len(r.slab) == 0 {
			r.begun = false
			r.next++
		}
	}
	if received > 0 {
		r.s.counters.received.Add(received)
	}
	if malformed > 0 {
		r.s.counters.malformed.Add(malformed)
	}
	return n
}

// begin reads what came with the message next. It reports false for one that is not whole.
func (r *reader) begin() bool {
	h := &r.headers[r.next]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		r.s.counters.readErrors.Add(1)
		return false
	}
	if name := &r.names[r.next]; *name != r.lastName {
		r.lastName, r.lastFrom = *name, addrPort(name)
	}
	a := parseArrival(r.control[r.next][:h.hdr.Controllen])
	if a.drops != r.drops && a.drops != 0 {
		r.s.counters.overflows.Add(uint64(a.drops - r.drops))
		r.drops = a.drops
	}
	switch len(a.local) {
	case 0:
		r.local = r.s.local
	case 4:
		if [4]byte(a.local) != [4]byte(r.lastDst[:]) || !r.lastLocal.Addr().Is4() {
			copy(r.lastDst[:], a.local)
			r.lastLocal = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a.local)), r.s.local.Port())
		}
		r.local = r.lastLocal
	default:
		if [16]byte(a.local) != r.lastDst {
			copy(r.lastDst[:], a.local)
			r.lastLocal = netip.AddrPortFrom(netip.AddrFrom16(r.lastDst), r.s.local.Port())
		}
		r.local = r.lastLocal
	}
	r.begun = true
	r.remote, r.ecn, r.segment = r.lastFrom, a.ecn, a.segment
	r.slab = r.buffers[r.next][:h.len]
	return true
}
