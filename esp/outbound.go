package esp

import (
	"errors"
	"hash/maphash"
	"net"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// The journey of a packet from the host to the peer. One goroutine makes all of it,
// for a batch of packets at a time; it is the only sender of every outbound SA, so
// that sequence numbers leave in order.
//
//  1. Read a batch from the device. The memory is the device's until the next Read.
//  2. Read the inner headers, and look the policy up: a child, or nothing (then the
//     packet is dropped, and Acquire asks for a child).
//  3. Take a sequence number, and seal the packet into the slab, behind the one
//     before. ECN, and DSCP on request, go to the outer header (RFC 6040 §4.1).
//  4. Write the slab: one call for each run of packets with the same socket.
//
// Steps 2 and 3 allocate nothing, and take no lock.

// slabLen is the memory that sealed packets wait in. It holds one packet of any
// length, or a batch of usual ones.
const slabLen = 256 << 10

// outboundLoop is the state of the journey. It belongs to its goroutine.
type outboundLoop struct {
	plane  *Plane
	frames []tun.Frame

	slab    []byte            // sealed packets, one behind the other
	packets []udpencap.Packet // parts of slab
	owners  []owner           // of packets, one each
	socket  udpencap.Socket   // that packets go to

	acquire acquireLimit
	refused limiter // of log lines
}

// owner tells whose packet it is, and how long it was.
type owner struct {
	child *child
	bytes int // of the inner packet
}

func newOutboundLoop(p *Plane) *outboundLoop {
	n := max(1, p.dev.Batch())
	return &outboundLoop{
		plane:   p,
		frames:  make([]tun.Frame, n),
		slab:    make([]byte, 0, slabLen),
		packets: make([]udpencap.Packet, 0, n),
		owners:  make([]owner, 0, n),
		acquire: newAcquireLimit(),
		refused: newLimiter(10*second, 1),
	}
}

func (l *outboundLoop) run() {
	for {
		n, err := l.plane.dev.Read(l.frames)
		l.guarded(l.frames[:n])
		if err != nil && !l.plane.pause(err, l.plane.dev.Name()) {
			return
		}
	}
}

// guarded is batch, behind the plane's guard.
func (l *outboundLoop) guarded(frames []tun.Frame) {
	defer l.plane.caught()
	l.packets, l.owners, l.slab = l.packets[:0], l.owners[:0], l.slab[:0] // of a batch that was not ended
	l.batch(frames)
}

// batch takes steps 2 to 4 for what was read.
func (l *outboundLoop) batch(frames []tun.Frame) {
	now := l.plane.now()
	policy := l.plane.policy.Load()
	for i := range frames {
		for _, pkt := range frames[i].Pieces {
			l.packet(policy, pkt, now)
		}
	}
	l.flush(now)
}

// packet takes steps 2 and 3 for one packet.
func (l *outboundLoop) packet(policy *policy, pkt []byte, now int64) {
	p := l.plane
	f, length, ok := parse(pkt)
	if !ok {
		p.drop(nil, DropBadInner)
		return
	}
	ch := policy.lookup(&f)
	if ch == nil {
		p.drop(nil, DropNoPolicy)
		if l.acquire.allow(&f, now) {
			p.events.Acquire(f)
		}
		return
	}
	out := ch.tx.out
	size := out.SealedLen(length)
	if size > maxDatagram {
		p.drop(ch, DropTooBig)
		return
	}
	route := ch.route.Load()
	if remote := route.path.Remote; f.Dst == remote.Addr() && f.DstPort == remote.Port() && f.Protocol == route.path.protocol() {
		// Routes lead our own packets back to us. Sealed again they would come back
		// longer, for ever.
		p.drop(ch, DropLoop)
		return
	}
	if route.socket != l.socket || len(l.packets) == cap(l.packets) || size > cap(l.slab)-len(l.slab) {
		l.flush(now)
		l.socket = route.socket
	}
	next := uint8(protoIPv4)
	if !f.Src.Is4() {
		next = protoIPv6
	}
	start := len(l.slab)
	slab, err := l.slab, error(DropExhausted)
	if !ch.hard.reached(ch.tx.bytes, out.Sequence()) {
		slab, err = out.Seal(l.slab, pkt[:length], next)
	}
	if err != nil {
		p.drop(ch, DropExhausted)
		if !ch.tx.hard {
			ch.tx.hard = true
			p.events.Expire(ch.id, true)
		}
		return
	}
	l.slab = slab
	class := trafficClass(pkt)
	dscp := uint8(0)
	if ch.copyDSCP {
		dscp = class >> 2
	}
	l.packets = append(l.packets, udpencap.Packet{
		Kind:   udpencap.ESP,
		Data:   slab[start:],
		Local:  route.path.Local,
		Remote: route.path.Remote,
		ECN:    class & 3,
		DSCP:   dscp,
	})
	l.owners = append(l.owners, owner{ch, length})
	ch.tx.bytes += uint64(length)
	if !ch.tx.soft && ch.soft.reached(ch.tx.bytes, out.Sequence()) {
		ch.tx.soft = true
		p.events.Expire(ch.id, false)
	}
}

// flush takes step 4, and counts. A packet that the socket refuses is lost, those
// behind it are not, unless the socket is closed.
func (l *outboundLoop) flush(now int64) {
	packets, owners := l.packets, l.owners
	for len(packets) > 0 {
		n, err := l.socket.Write(packets)
		l.count(owners[:n], now)
		packets, owners = packets[n:], owners[n:]
		if len(packets) == 0 {
			break
		}
		lost := 1
		if errors.Is(err, net.ErrClosed) {
			lost = len(packets)
		}
		for _, o := range owners[:lost] {
			l.plane.drop(o.child, DropSocket)
		}
		if l.refused.allow(now) {
			l.plane.log.Warn("socket does not take packets", zap.Stringer("remote", packets[0].Remote), zap.Error(err))
		}
		packets, owners = packets[lost:], owners[lost:]
	}
	l.packets, l.owners, l.slab = l.packets[:0], l.owners[:0], l.slab[:0]
}

// count adds sent packets to their children.
func (l *outboundLoop) count(owners []owner, now int64) {
	for len(owners) > 0 {
		ch, n, bytes := runOf(owners)
		ch.tx.carried.add(uint64(n), uint64(bytes))
		l.plane.out.add(uint64(n), uint64(bytes))
		ch.tx.last.Store(now)
		owners = owners[n:]
	}
}

// runOf measures the packets of one child at the start of owners, so that its
// counters, which others read, are written once for all of them.
func runOf(owners []owner) (ch *child, n, bytes int) {
	ch = owners[0].child
	for n < len(owners) && owners[n].child == ch {
		bytes += owners[n].bytes
		n++
	}
	return ch, n, bytes
}

// acquireLimit keeps a busy application from flooding the control plane.
type acquireLimit struct {
	all  limiter
	seed maphash.Seed
	last [256]int64 // by hash of the destination
}

func newAcquireLimit() acquireLimit {
	return acquireLimit{
		all:  newLimiter(second/50, 50),
		seed: maphash.MakeSeed(),
	}
}

const second = int64(1e9)

func (a *acquireLimit) allow(f *Flow, now int64) bool {
	if f.Dst.IsMulticast() || f.Dst.IsLinkLocalUnicast() || f.Dst == broadcast {
		return false // of the link; no child was ever made for it
	}
	last := &a.last[maphash.Comparable(a.seed, f.Dst)%uint64(len(a.last))]
	if *last != 0 && now-*last < second || !a.all.allow(now) {
		return false
	}
	*last = now
	return true
}
