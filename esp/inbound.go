package esp

import (
	"encoding/binary"
	"errors"
	"os"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
)

// The journey of a packet from the peer to the host. Each reader of a socket has a goroutine
// that makes all of it.
//
//  1. Read what has arrived: datagrams, and slabs of ESP packets that came together.
//  2. Hand IKE messages over, count keepalives, and find the SA of ESP packets by SPI.
//     Packets of one SA that follow each other are a run.
//  3. Open each packet of the run in place: replay check, integrity, replay commit,
//     padding, and the inner packet's own lengths.
//  4. Check the inner packet against the SA's selectors (RFC 4301 §5.2), and combine
//     the ECN fields (RFC 6040 §4.2).
//  5. Tell where the newest packet came from, if not from where we send to.
//  6. Join packets of one flow that follow each other to a super-packet.
//  7. When nothing more has arrived, write all frames to the device.
//
// Steps 2 to 6 allocate nothing. A run takes the SA's lock once; see receiver.

// inboundLoop is the state of the journey. It belongs to its goroutine.
type inboundLoop struct {
	plane   *Plane
	socket  udpencap.Socket
	reader  udpencap.Reader
	queue   *queue
	stream  bool // as the socket says
	packets []udpencap.Packet
	host    coalescer // what goes to the host

	child *child // whose packets are opened, and whose receiver is locked
	path  Path   // over which they came
	news  tidings

	unknown limiter // of UnknownSPI
	refused limiter // of log lines
}

// owner tells whose packets are in a frame, and how long they are together.
type owner struct {
	child          *child
	packets, bytes int
}

func newInboundLoop(p *Plane, s udpencap.Socket, r udpencap.Reader, q *queue) *inboundLoop {
	return &inboundLoop{
		plane:   p,
		socket:  s,
		reader:  r,
		queue:   q,
		stream:  s.Stream(),
		packets: make([]udpencap.Packet, max(1, r.Batch())),
		host:    newCoalescer(p.dev.Takes),
		unknown: newLimiter(second/10, 10),
		refused: newLimiter(10*second, 1),
	}
}

func (l *inboundLoop) run() {
	for {
		n, err := l.reader.Read(l.packets)
		for yielded := false; n > 0; {
			l.guarded(func() { l.batch(l.packets[:n]) })
			// As when sending: whoever sends so much may go on.
			if n, err = l.reader.ReadMore(l.packets); n == 0 && err == nil && !yielded && l.host.several() {
				yielded = true
				yield()
				n, err = l.reader.ReadMore(l.packets)
			}
		}
		l.guarded(l.flush)
		if err != nil && !l.plane.pause(err, l.socket.LocalAddr().String()) {
			return
		}
	}
}

// guarded takes some steps behind the plane's guard.
func (l *inboundLoop) guarded(steps func()) {
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

// abandon ends a batch in which a fault was met.
func (l *inboundLoop) abandon() {
	l.host.reset()
	if l.child != nil {
		l.child.rx.mu.Unlock()
		l.child, l.news = nil, tidings{}
	}
}

// batch takes steps 2 to 6 for what was read.
func (l *inboundLoop) batch(packets []udpencap.Packet) {
	p, now := l.plane, l.plane.now()
	defer l.leave(now)
	for i := range packets {
		pkt := &packets[i]
		if pkt.Kind != udpencap.ESP {
			l.leave(now)
		}
		switch pkt.Kind {
		case udpencap.IKE:
			p.ikeMessages.Add(1)
			p.events.IKE(l.socket, *pkt)
		case udpencap.Keepalive:
			p.keepalives.Add(1)
		case udpencap.TooBig:
			p.SetPathMTU(pkt.Remote.Addr(), pkt.Segment, false)
		case udpencap.ESP:
			l.slab(pkt, now)
		}
	}
}

// slab takes steps 2 to 6 for ESP packets that came together. They need not be of one SA.
func (l *inboundLoop) slab(pkt *udpencap.Packet, now int64) {
	data, segment := pkt.Data, pkt.Segment
	if segment == 0 {
		segment = len(data)
	}
	for {
		if len(data) < headLen {
			l.plane.drop(nil, DropTooShort)
			return
		}
		spi := binary.BigEndian.Uint32(data)
		n := min(segment, len(data))
		for n < len(data) && len(data)-n >= headLen && binary.BigEndian.Uint32(data[n:]) == spi {
			n = min(n+segment, len(data))
		}
		l.esp(pkt, spi, data[:n], segment, now)
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// esp takes steps 3, 4 and 6 for a run of packets with one SPI.
func (l *inboundLoop) esp(pkt *udpencap.Packet, spi uint32, run []byte, segment int, now int64) {
	p := l.plane
	ch := l.child
	if ch == nil || ch.spi != spi || l.path.Remote != pkt.Remote || l.path.Local != pkt.Local {
		l.leave(now)
		if ch = p.sad.lookup(spi); ch == nil {
			p.dropMany(nil, DropNoSA, (len(run)+segment-1)/segment)
			if l.unknown.allow(now) {
				p.events.UnknownSPI(Path{pkt.Local, pkt.Remote, l.stream}, spi)
			}
			return
		}
		ch.rx.mu.Lock()
		l.child, l.path = ch, Path{pkt.Local, pkt.Remote, l.stream}
	}
	for len(run) > 0 {
		n := min(segment, len(run))
		l.open(ch, pkt, run[:n:n])
		run = run[n:]
	}
}

// leave takes step 5 for the child whose packets were opened last, and unlocks it.
func (l *inboundLoop) leave(now int64) {
	ch, p := l.child, l.plane
	if ch == nil {
		return
	}
	news := l.news
	news.settle(ch, l.path, now)
	l.child, l.news = nil, tidings{}
	ch.rx.mu.Unlock()
	if news.first {
		p.follow(ch)
	}
	if news.soft {
		p.events.Expire(ch.id, false)
	}
	if news.hard {
		p.events.Expire(ch.id, true)
	}
	if news.moved {
		p.events.Remapped(ch.id, l.path)
	}
}

// tidings is what a run tells the control plane. It is told after the SA's lock was
// given back.
type tidings struct {
	heard  bool // something authentic came
	newest bool // something newest came
	moved  bool // and over a path that is not the child's
	first  bool
	soft   bool
	hard   bool
}

// settle finds out what is worth telling of what came over a path. The caller holds ch.rx.mu.
func (t *tidings) settle(ch *child, path Path, now int64) {
	rx := ch.rx
	if !t.heard {
		return
	}
	rx.last.Store(now)
	t.first, rx.first = !rx.first, true
	t.soft = !rx.soft && ch.soft.reached(rx.bytes, rx.in.Sequence())
	t.hard = !rx.hard && ch.hard.reached(rx.bytes, rx.in.Sequence())
	rx.soft, rx.hard = rx.soft || t.soft, rx.hard || t.hard
	if is := &ch.route.Load().path; !t.newest || path.Remote == is.Remote && path.Stream == is.Stream {
		return
	}
	if path.Remote != rx.remapped || now-rx.told >= second {
		rx.remapped, rx.told, t.moved = path.Remote, now, true
	}
}

// open takes steps 3, 4 and 6 for one packet. The caller holds ch.rx.mu.
func (l *inboundLoop) open(ch *child, p *udpencap.Packet, data []byte) {
	news := &l.news
	inner, f, newest, err := ch.rx.in.open(data)
	news.newest = news.newest || newest
	if err != nil {
		why, _ := errors.AsType[Drop](err)
		news.heard = news.heard || why.authentic()
		l.plane.drop(ch, why)
		return
	}
	news.heard = true
	ch.rx.bytes += uint64(len(inner))
	// The sender cannot be one that nobody is, nor our own end of the tunnel.
	if !f.routable() {
		l.plane.drop(ch, DropBadInner)
		return
	}
	if f.Src == p.Local.Addr() || !f.Within(ch.remote, ch.local) {
		l.plane.drop(ch, DropSelector)
		return
	}
	if f.Dst == p.Local.Addr() && (f.Protocol == protoUDP && ownPort(f.DstPort, p.Local.Port()) ||
		l.stream && f.Protocol == protoTCP && f.DstPort == p.Local.Port()) {
		// What goes to our IKE ports comes outside of tunnels, or a peer could stand in
		// for another in the host's connection tracking (CVE-2021-3773).
		l.plane.drop(ch, DropLoop)
		return
	}
	before := trafficClass(inner) & 3
	ecn, ok := decapECN(p.ECN&3, before)
	if !ok {
		l.plane.drop(ch, DropECN)
		return
	}
	if ecn != before {
		setECN(inner, ecn)
	}
	l.plane.clamp(ch, inner, &f)
	if l.host.full() {
		l.flush()
	}
	l.host.add(ch, inner, &f)
}

func ownPort(port, bound uint16) bool { return port == 500 || port == 4500 || port == bound }

// authentic tells whether a packet that Open refused for this reason had passed the
// integrity check.
func (d Drop) authentic() bool {
	switch d {
	case DropBadPadding, DropNextHeader, DropDummy, DropBadInner:
		return true
	default:
		return false
	}
}

// flush takes step 7, and counts. The device does not say which frames it left, so
// that these are counted for the plane only.
func (l *inboundLoop) flush() {
	c := &l.host
	if len(c.frames) == 0 {
		return
	}
	c.finish()
	p := l.plane
	n, err := l.queue.write(c.frames)
	if n = max(0, min(n, len(c.frames))); n < len(c.frames) {
		p.drops[DropDevice].Add(uint64(len(c.frames) - n))
		if err != nil && !errors.Is(err, os.ErrClosed) && l.refused.allow(p.now()) {
			p.log.Warn("device does not take packets", zap.String("device", p.dev.Name()), zap.Error(err))
		}
	}
	for owners := c.owners; len(owners) > 0; {
		ch, packets, bytes := owners[0].child, 0, 0
		for len(owners) > 0 && owners[0].child == ch {
			packets += owners[0].packets
			bytes += owners[0].bytes
			owners = owners[1:]
		}
		ch.rx.carried.add(uint64(packets), uint64(bytes))
		p.in.add(uint64(packets), uint64(bytes))
	}
	c.reset()
}
