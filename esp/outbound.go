package esp

import (
	"errors"
	"hash/maphash"
	"net"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// The journey of a packet from the host to the peer. Each queue of the device has a goroutine
// that makes all of it. The unit is the frame, which may be a super-packet.
//
//  1. Read frames from the queue. The memory is the queue's until the next Read.
//  2. Read the inner headers, and look the policy up, once for a frame: a child, or nothing
//     (then it is dropped, and Acquire asks for a child).
//  3. Make each packet of the frame in its place in the slab, behind the one before, with its
//     sequence number, and seal it there. ECN, and DSCP on request, go to the outer header
//     (RFC 6040 §4.1). Packets of the same length make a run.
//  4. When nothing more is read without waiting, or the slab is full, write it: one call for
//     all runs, each of which is one message.
//
// The slab holds packets of one child at a time, whose sender is locked from the first until
// they are written: so they leave in the order of their numbers, whichever queue they came from.
// Steps 2 to 4 allocate nothing, and take no lock for a packet.

const (
	// slabLen is the memory that sealed packets wait in. It holds one frame of any length.
	slabLen = 256 << 10
	// slabFull is where no further frame is waited for: two messages of the longest kind.
	slabFull = 128 << 10
	// maxRuns bounds the runs in a slab; one call of the system takes no more.
	maxRuns = 128
	// maxRun is the packets of a run that every kernel takes (UDP_MAX_SEGMENTS).
	maxRun = 64
)

// outboundLoop is the state of the journey. It belongs to its goroutine.
type outboundLoop struct {
	plane  *Plane
	queue  *queue
	frames []tun.Frame

	child *child // whose packets are in the slab, and whose sender is locked
	route *route
	slab  []byte // sealed packets, one behind the other
	runs  []udpencap.Packet
	sizes []runSize // of runs, one each
	cut   segments

	scratch []byte  // an answer to the host, or a fragment
	answers limiter // of answers
	acquire acquireLimit
	refused limiter // of log lines
}

// runSize is what a run carries.
type runSize struct {
	packets, bytes int  // inner packets and their octets
	closed         bool // nothing fits behind it
}

func newOutboundLoop(p *Plane, q *queue) *outboundLoop {
	return &outboundLoop{
		plane:   p,
		queue:   q,
		frames:  make([]tun.Frame, max(1, q.Batch())),
		slab:    make([]byte, 0, slabLen),
		runs:    make([]udpencap.Packet, 0, maxRuns),
		sizes:   make([]runSize, 0, maxRuns),
		answers: newLimiter(tooBigEvery, tooBigBurst),
		acquire: newAcquireLimit(),
		refused: newLimiter(10*second, 1),
	}
}

func (l *outboundLoop) run() {
	for {
		n, err := l.queue.Read(l.frames)
		for yielded := false; n > 0; {
			l.guarded(func() { l.batch(l.frames[:n]) })
			if n, err = l.queue.TryRead(l.frames); n == 0 && err == nil && !yielded && l.worthwhile() {
				yielded = true
				yield()
				n, err = l.queue.TryRead(l.frames)
			}
		}
		l.guarded(l.flush)
		if err != nil && !l.plane.pause(err, l.plane.dev.Name()) {
			return
		}
	}
}

// worthwhile tells whether the processor is to be given to others once before the slab is written:
// whoever makes so much may go on, and then more goes at once. A single packet goes without delay.
func (l *outboundLoop) worthwhile() bool {
	return len(l.sizes) > 1 || len(l.sizes) == 1 && l.sizes[0].packets > 1
}

// guarded takes some steps behind the plane's guard.
func (l *outboundLoop) guarded(steps func()) {
	defer l.plane.caught()
	done := false
	defer func() {
		if !done {
			l.abandon()
		}
	}()
	steps()
	done = true
}

// batch takes steps 2 and 3 for what was read.
func (l *outboundLoop) batch(frames []tun.Frame) {
	now := l.plane.now()
	policy := l.plane.policy.Load()
	for i := range frames {
		l.frame(policy, &frames[i], now)
		if len(l.slab) >= slabFull {
			l.flush()
		}
	}
}

// frame takes steps 2 and 3 for one frame.
func (l *outboundLoop) frame(policy *policy, frame *tun.Frame, now int64) {
	p := l.plane
	var pkt []byte
	if len(frame.Pieces) == 1 {
		pkt = frame.Pieces[0]
	}
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
	l.take(ch)
	if remote := l.route.path.Remote; f.Dst == remote.Addr() && f.DstPort == remote.Port() && f.Protocol == l.route.path.protocol() {
		// Routes lead our own packets back to us. Sealed again they would come back
		// longer, for ever.
		p.drop(ch, DropLoop)
		return
	}
	if frame.Offload.GSO == tun.GSONone {
		pkt = pkt[:length]
		if !completed(pkt, &frame.Offload) {
			p.drop(ch, DropBadInner)
			return
		}
		p.clamp(ch, pkt, &f)
		if ok, whole := l.fits(frame, length, now); ok {
			l.single(pkt, whole, now)
		}
		return
	}
	if !l.cut.reset(frame, &f) {
		p.drop(ch, DropBadInner)
		return
	}
	ok, whole := l.fits(frame, l.cut.next(), now)
	if !ok {
		return
	}
	for n := l.cut.next(); n != 0; n = l.cut.next() {
		slot := l.slot(n, now)
		if slot == nil {
			return
		}
		l.cut.write(slot)
		l.seal(pkt, n, whole)
	}
}

// single takes step 3 for one packet.
func (l *outboundLoop) single(pkt []byte, whole bool, now int64) {
	if slot := l.slot(len(pkt), now); slot != nil {
		copy(slot, pkt)
		l.seal(pkt, len(pkt), whole)
	}
}

// take makes ch the child whose packets go into the slab.
func (l *outboundLoop) take(ch *child) {
	route := ch.route.Load()
	if l.child == ch && l.route == route {
		return
	}
	l.flush()
	ch.tx.mu.Lock()
	l.child, l.route = ch, route
}

// slot is where an inner packet of n octets is to stand in the slab; nil if it is dropped.
func (l *outboundLoop) slot(n int, now int64) []byte {
	ch := l.child
	out := ch.tx.out
	size := out.SealedLen(n)
	if size > maxDatagram {
		l.plane.drop(ch, DropTooBig)
		return nil
	}
	if size > cap(l.slab)-len(l.slab) {
		l.write(now)
	}
	if out.exhausted() || ch.hard.reached(ch.tx.bytes, out.Sequence()) {
		l.plane.drop(ch, DropExhausted)
		if !ch.tx.hard {
			ch.tx.hard = true
			l.plane.events.Expire(ch.id, true)
		}
		return nil
	}
	return out.inner(l.slab[len(l.slab):cap(l.slab)], n)
}

// seal seals the packet of n octets in its slot, and puts it into a run. Its traffic class is
// that of pkt; whole is that nobody may cut the outer packet.
func (l *outboundLoop) seal(pkt []byte, n int, whole bool) {
	ch := l.child
	out := ch.tx.out
	next := uint8(protoIPv4)
	if pkt[0]>>4 == 6 {
		next = protoIPv6
	}
	start := len(l.slab)
	l.slab = l.slab[:start+out.SealedLen(n)]
	out.seal(l.slab[start:], n, next)
	l.enter(l.slab[start:], n, trafficClass(pkt), whole)
	ch.tx.bytes += uint64(n)
	if !ch.tx.soft && ch.soft.reached(ch.tx.bytes, out.Sequence()) {
		ch.tx.soft = true
		l.plane.events.Expire(ch.id, false)
	}
}

// enter puts a sealed packet, the last in the slab, into a run.
func (l *outboundLoop) enter(sealed []byte, n int, class uint8, whole bool) {
	ecn, dscp := class&3, uint8(0)
	if l.child.copyDSCP {
		dscp = class >> 2
	}
	if last := len(l.runs) - 1; last >= 0 {
		run, size := &l.runs[last], &l.sizes[last]
		segment := run.Segment
		if segment == 0 {
			segment = len(run.Data)
		}
		if !size.closed && len(sealed) <= segment && len(run.Data)+len(sealed) <= maxDatagram && run.ECN == ecn && run.DSCP == dscp && run.DF == whole {
			run.Segment, run.Data = segment, run.Data[:len(run.Data)+len(sealed)]
			size.packets++
			size.bytes += n
			size.closed = len(sealed) < segment || size.packets == maxRun
			return
		}
	}
	if len(l.runs) == cap(l.runs) {
		// The packet waits in its place in the slab: what was before it has been written.
		l.send(l.plane.now())
	}
	path := &l.route.path
	l.runs = append(l.runs, udpencap.Packet{
		Kind:   udpencap.ESP,
		Data:   sealed,
		Local:  path.Local,
		Remote: path.Remote,
		ECN:    ecn,
		DSCP:   dscp,
		DF:     whole,
	})
	l.sizes = append(l.sizes, runSize{packets: 1, bytes: n})
}

// flush takes step 4, and lets the child go.
func (l *outboundLoop) flush() {
	if l.child == nil {
		return
	}
	l.write(l.plane.now())
	l.child.tx.mu.Unlock()
	l.child, l.route = nil, nil
}

// abandon lets the child go, and loses what is in the slab.
func (l *outboundLoop) abandon() {
	l.runs, l.sizes, l.slab = l.runs[:0], l.sizes[:0], l.slab[:0]
	if l.child != nil {
		l.child.tx.mu.Unlock()
		l.child, l.route = nil, nil
	}
}

// write sends what is in the slab, which is empty then.
func (l *outboundLoop) write(now int64) {
	l.send(now)
	l.slab = l.slab[:0]
}

// send takes step 4, and counts. A run that the socket refuses is lost, those
// behind it are not, unless the socket is closed.
func (l *outboundLoop) send(now int64) {
	runs, sizes := l.runs, l.sizes
	for len(runs) > 0 {
		n, err := l.route.socket.Write(runs)
		l.count(sizes[:n], now)
		runs, sizes = runs[n:], sizes[n:]
		if len(runs) == 0 {
			break
		}
		lost, closed := 1, errors.Is(err, net.ErrClosed)
		if closed {
			lost = len(runs)
		}
		for _, s := range sizes[:lost] {
			l.plane.dropMany(l.child, DropSocket, s.packets)
		}
		if !closed && l.refused.allow(now) {
			l.plane.log.Warn("socket does not take packets", zap.Stringer("remote", runs[0].Remote), zap.Error(err))
		}
		runs, sizes = runs[lost:], sizes[lost:]
	}
	l.runs, l.sizes = l.runs[:0], l.sizes[:0]
}

// count adds sent packets to their child.
func (l *outboundLoop) count(sizes []runSize, now int64) {
	packets, bytes := 0, 0
	for _, s := range sizes {
		packets += s.packets
		bytes += s.bytes
	}
	if packets == 0 {
		return
	}
	tx := l.child.tx
	tx.carried.add(uint64(packets), uint64(bytes))
	l.plane.out.add(uint64(packets), uint64(bytes))
	tx.last.Store(now)
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
