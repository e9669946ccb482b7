package udpencap

import (
	"fmt"
	"os"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// sender is the memory of one goroutine that sends, so that none waits for another's packets.
type sender struct {
	s      *socket
	number int // among the senders of the socket

	// What messages have besides octets. Mostly one route is that of many, also of the next
	// Write, so that it is written seldom.
	routes []route
	route  int // the last one used

	batch  outBatch
	single *outBatch // the datagrams of a slab; made when they must go one by one
}

// outBatch is messages that go out with one call.
type outBatch struct {
	vector
	parts []part
	ready func(fd uintptr) bool
}

func newSender(s *socket, number int) *sender {
	v := &sender{s: s, number: number, routes: make([]route, outMessages)}
	v.batch.init(outMessages, sendmmsg)
	return v
}

func (b *outBatch) init(n int, system systemCall) {
	b.vector.init(n, system)
	b.parts = make([]part, n)
	b.ready = b.call
}

// takeSender lends memory to one goroutine.
func (s *socket) takeSender() *sender {
	s.sending.Lock()
	defer s.sending.Unlock()
	n := len(s.free)
	if n == 0 {
		s.senders++
		return newSender(s, s.senders-1)
	}
	v := s.free[n-1]
	s.free = s.free[:n-1]
	return v
}

func (s *socket) giveSender(v *sender) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.free = append(s.free, v)
}

// Write sends packets in their order.
func (s *socket) Write(packets []Packet) (int, error) {
	v := s.takeSender()
	defer s.giveSender(v)
	if r := &v.routes[v.route]; r.key.remote.Addr().Zone() != "" {
		r.nameLen = 0 // what the name of an interface means may change
	}
	for i, at := 0, 0; i < len(packets); {
		d := v.descriptor(&packets[i])
		var refused error
		n := 0
		for n < outMessages && i < len(packets) && v.descriptor(&packets[i]) == d {
			p := &packets[i]
			if refused = v.pack(n, i, p, at); refused != nil {
				break
			}
			at += len(v.batch.parts[n].data)
			n++
			if at >= len(p.Data) {
				i, at = i+1, 0
			}
		}
		m, err := v.send(d, &v.batch, n)
		clear(v.batch.pieces[:n])
		if err != nil {
			sent := v.batch.parts[m].packet
			clear(v.batch.parts[:n])
			return sent, err
		}
		clear(v.batch.parts[:n])
		if refused != nil {
			return i, refused
		}
	}
	return len(packets), nil
}

// descriptor chooses the file descriptor for a packet.
func (v *sender) descriptor(p *Packet) *descriptor {
	if n := len(v.s.esp); n > 0 && p.DF {
		return v.s.esp[v.number%n]
	}
	return v.s.ike
}

// again tells whether a message that met an error is to be tried again. Where there is a
// queue of errors it may be that of an earlier datagram, which the kernel tells once, and to whom
// it likes. Several may wait.
func (d *descriptor) again(errno syscall.Errno, tries int) bool {
	switch {
	case !d.df || errno == unix.ENOBUFS:
		return false
	case passing(errno) && errno != unix.EMSGSIZE:
		return tries < 4
	}
	return tries < 1
}

// send sends the first n messages of b. With an error comes the message that it is about.
func (v *sender) send(d *descriptor, b *outBatch, n int) (int, error) {
	b.from, b.to = 0, n
	for tries := 0; b.from < b.to; {
		if err := d.raw.Write(b.ready); err != nil {
			return b.from, fmt.Errorf("udpencap: write: %w", err)
		}
		p := &b.parts[b.from]
		switch {
		case b.errno == 0:
			sent := 0
			for _, p := range b.parts[b.from:][:b.n] {
				sent += p.count
			}
			v.s.counters.sent.Add(uint64(sent))
			b.from += b.n
			tries = 0
			continue
		case d.again(b.errno, tries):
			tries++
			d.rouse()
			continue
		case p.segment != 0 && notWhole(b.errno):
			if b.errno == unix.EIO && v.s.gso.Swap(false) {
				v.s.log.Info("the system does not cut slabs of packets; they are sent one by one", zap.Stringer("socket", v.s.local), zap.Error(b.errno))
			}
			if err := v.singly(d, p); err != nil {
				return b.from, err
			}
		case b.errno == unix.EMSGSIZE:
			v.tooLong(d, b)
		case b.errno == unix.ENOBUFS:
			// A file descriptor that has a queue of errors is told that the queue of an interface
			// is full; others are not. The datagram is lost as it would be on any router.
			v.s.counters.congested.Add(uint64(p.count))
		default:
			return b.from, fmt.Errorf("udpencap: %w", os.NewSyscallError("sendmmsg", b.errno))
		}
		b.from++
		tries = 0
	}
	return n, nil
}

// notWhole tells whether a slab that met an error may pass one by one: EIO is an interface
// or a route that does not cut, and the others are datagrams longer than the path
// lets pass, which is not said otherwise of slabs.
func notWhole(errno syscall.Errno) bool {
	switch errno {
	case unix.EIO, unix.EINVAL, unix.EOPNOTSUPP, unix.EMSGSIZE:
		return true
	}
	return false
}

// singly sends the datagrams of a slab one by one.
func (v *sender) singly(d *descriptor, p *part) error {
	if v.single == nil {
		v.single = new(outBatch)
		v.single.init(maxSegments, v.batch.system)
	}
	b, n := v.single, 0
	for at := 0; at < len(p.data); at += p.segment {
		b.parts[n] = newPart(p.packet, p.data[at:min(at+p.segment, len(p.data))], 0, p.route, false)
		b.message(n)
		n++
	}
	_, err := v.send(d, b, n)
	clear(b.pieces[:n])
	clear(b.parts[:n])
	return err
}

// tooLong passes over a datagram that is longer than what passes, and over those behind it
// that are as long and go the same way.
func (v *sender) tooLong(d *descriptor, b *outBatch) {
	p := &b.parts[b.from]
	lost := 1
	for _, next := range b.parts[b.from+1 : b.to] {
		if next.route != p.route || next.segment != 0 || next.octets() < p.octets() {
			break
		}
		lost++
	}
	b.from += lost - 1
	v.s.counters.tooBig.Add(uint64(lost))
	d.rouse()
}
