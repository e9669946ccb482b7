package udpencap

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errorQueue empties the queue of errors of a file descriptor: what came back for datagrams
// that it sent. It takes room that belongs to what is received.
type errorQueue struct {
	hdr     unix.Msghdr
	iov     unix.Iovec
	data    [8]byte // of the datagram, which nobody needs
	name    unix.RawSockaddrInet6
	control [256]byte
	call    func(fd uintptr)
	errno   syscall.Errno

	seen  uint64    // all errors ever
	found [8]Packet // for the reader
	n     int
}

func (q *errorQueue) init() {
	q.call = func(fd uintptr) {
		for {
			_, _, q.errno = unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&q.hdr)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if q.errno != unix.EINTR {
				return
			}
		}
	}
	setPiece(&q.iov, q.data[:])
	q.hdr.Iov = &q.iov
	q.hdr.SetIovlen(1)
	q.hdr.Name = (*byte)(unsafe.Pointer(&q.name))
	q.hdr.Control = &q.control[0]
}

// take hands out what was found.
func (q *errorQueue) take(packets []Packet) int {
	if q.n == 0 {
		return 0
	}
	n := copy(packets, q.found[:q.n])
	q.n = copy(q.found[:], q.found[n:q.n])
	return n
}

// add notes that datagrams to an address are too long. Many of them say the same.
func (q *errorQueue) add(p Packet) {
	for i := range q.found[:q.n] {
		if f := &q.found[i]; f.Remote == p.Remote {
			f.Segment = min(f.Segment, p.Segment)
			return
		}
	}
	if q.n < len(q.found) {
		q.found[q.n] = p
		q.n++
	}
}

// maxDrain is how many errors are taken before what was received has its turn again.
const maxDrain = 256

// drain empties the queue of errors.
func (r *reader) drain() error {
	r.d.alarm.Store(false)
	q := &r.queue
	for range maxDrain {
		q.name = unix.RawSockaddrInet6{}
		q.hdr.Namelen = unix.SizeofSockaddrInet6
		q.hdr.SetControllen(len(q.control))
		if err := r.d.raw.Control(q.call); err != nil {
			return err
		}
		if q.errno != 0 {
			return nil
		}
		q.seen++
		mtu, ok := parseTooBig(q.control[:q.hdr.Controllen])
		if !ok {
			r.s.counters.readErrors.Add(1)
			continue
		}
		q.add(Packet{Kind: TooBig, Segment: mtu, Local: r.s.local, Remote: addrPort(&q.name)})
	}
	r.d.alarm.Store(true)
	return nil
}

// parseTooBig reads control messages that came from the queue of errors: the longest packet
// that passes, if that is what they tell.
func parseTooBig(b []byte) (mtu int, ok bool) {
	for {
		level, kind, data, rest, ok := nextControl(b)
		if !ok {
			return 0, false
		}
		b = rest
		if !(level == unix.SOL_IP && kind == unix.IP_RECVERR || level == unix.SOL_IPV6 && kind == unix.IPV6_RECVERR) {
			continue
		}
		// struct sock_extended_err: errno, origin, type, code, padding, info, data.
		if len(data) < 16 {
			return 0, false
		}
		errno, origin, info := binary.NativeEndian.Uint32(data), data[4], binary.NativeEndian.Uint32(data[8:])
		switch origin {
		case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6, unix.SO_EE_ORIGIN_LOCAL:
			// Old routers tell no length (RFC 1191 §5); the kernel guesses one then, and refuses
			// the next datagram itself.
			return int(info), syscall.Errno(errno) == unix.EMSGSIZE && info > 0 && info < maxDatagram
		}
		return 0, false
	}
}
