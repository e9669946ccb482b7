package esp

import (
	"encoding/binary"
	"errors"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// The journey of a packet from the peer to the host. Each socket has a goroutine that
// makes all of it, for a batch of datagrams at a time.
//
//  1. Read a batch from the socket. The memory is the socket's until the next Read.
//  2. Hand IKE messages over, count keepalives, and find the SA of ESP packets by SPI.
//     Packets of one SA that follow each other are a run.
//  3. Open each packet of the run in place: replay check, integrity, replay commit,
//     padding, and the inner packet's own lengths.
//  4. Check the inner packet against the SA's selectors (RFC 4301 §5.2), and combine
//     the ECN fields (RFC 6040 §4.2).
//  5. Tell where the newest packet came from, if not from where we send to.
//  6. Write the batch's packets to the device with one call.
//
// Steps 2 to 5 allocate nothing. A run takes the SA's lock once; see receiver.

// inboundLoop is the state of the journey. It belongs to its goroutine.
type inboundLoop struct {
	plane   *Plane
	socket  udpencap.Socket
	stream  bool // as the socket says
	packets []udpencap.Packet

	frames []tun.Frame // to the host
	pieces [][]byte    // memory of frames' Pieces, one each
	owners []owner     // of frames, one each

	unknown limiter // of UnknownSPI
	refused limiter // of log lines
}

func newInboundLoop(p *Plane, s udpencap.Socket) *inboundLoop {
	n := max(1, s.Batch())
	l := &inboundLoop{
		plane:   p,
		socket:  s,
		stream:  s.Stream(),
		packets: make([]udpencap.Packet, n),
		frames:  make([]tun.Frame, 0, n),
		pieces:  make([][]byte, n),
		owners:  make([]owner, 0, n),
		unknown: newLimiter(second/10, 10),
		refused: newLimiter(10*second, 1),
	}
	for i := range n {
		l.frames[:n][i].Pieces = l.pieces[i : i+1 : i+1]
	}
	return l
}

func (l *inboundLoop) run() {
	for {
		n, err := l.socket.Read(l.packets)
		l.guarded(l.packets[:n])
		if err != nil && !l.plane.pause(err, l.socket.LocalAddr().String()) {
			return
		}
	}
}

// guarded is batch, behind the plane's guard.
func (l *inboundLoop) guarded(packets []udpencap.Packet) {
	defer l.plane.caught()
	l.frames, l.owners = l.frames[:0], l.owners[:0] // of a batch that was not ended
	l.batch(packets)
}

// batch takes steps 2 to 6 for what was read.
func (l *inboundLoop) batch(packets []udpencap.Packet) {
	p, now := l.plane, l.plane.now()
	for len(packets) > 0 {
		first := &packets[0]
		n := 1
		switch first.Kind {
		case udpencap.IKE:
			p.ikeMessages.Add(1)
			p.events.IKE(l.socket, *first)
		case udpencap.Keepalive:
			p.keepalives.Add(1)
		case udpencap.ESP:
			spi, ok := spiOf(first)
			if !ok {
				p.drop(nil, DropTooShort)
				break
			}
			for n < len(packets) && sameSPI(&packets[n], spi) {
				n++
			}
			l.esp(spi, packets[:n], now)
		}
		packets = packets[n:]
	}
	l.flush()
}

func spiOf(p *udpencap.Packet) (spi uint32, ok bool) {
	if len(p.Data) < headLen {
		return 0, false
	}
	return binary.BigEndian.Uint32(p.Data), true
}

func sameSPI(p *udpencap.Packet, spi uint32) bool {
	other, ok := spiOf(p)
	return ok && p.Kind == udpencap.ESP && other == spi
}

// esp takes steps 3 to 5 for a run of packets with one SPI.
func (l *inboundLoop) esp(spi uint32, run []udpencap.Packet, now int64) {
	p := l.plane
	ch := p.sad.lookup(spi)
	if ch == nil {
		for i := range run {
			p.drop(nil, DropNoSA)
			if l.unknown.allow(now) {
				p.events.UnknownSPI(Path{run[i].Local, run[i].Remote, l.stream}, spi)
			}
		}
		return
	}
	news := l.receive(ch, run, now)
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
		p.events.Remapped(ch.id, news.path)
	}
}

// receive takes steps 3 and 4 for a run.
func (l *inboundLoop) receive(ch *child, run []udpencap.Packet, now int64) (news tidings) {
	ch.rx.mu.Lock()
	defer ch.rx.mu.Unlock()
	for i := range run {
		l.open(ch, &run[i], &news)
	}
	news.settle(ch, now)
	return news
}

// tidings is what a run tells the control plane. It is told after the SA's lock was
// given back.
type tidings struct {
	heard  bool // something authentic came
	newest bool // something newest came
	path   Path // over which the newest came
	moved  bool // and that is not the child's
	first  bool
	soft   bool
	hard   bool
}

// settle finds out what is worth telling. The caller holds ch.rx.mu.
func (t *tidings) settle(ch *child, now int64) {
	rx := ch.rx
	if !t.heard {
		return
	}
	rx.last.Store(now)
	t.first, rx.first = !rx.first, true
	t.soft = !rx.soft && ch.soft.reached(rx.bytes, rx.in.Sequence())
	t.hard = !rx.hard && ch.hard.reached(rx.bytes, rx.in.Sequence())
	rx.soft, rx.hard = rx.soft || t.soft, rx.hard || t.hard
	if path := ch.route.Load().path; !t.newest || t.path.Remote == path.Remote && t.path.Stream == path.Stream {
		return
	}
	if t.path.Remote != rx.remapped || now-rx.told >= second {
		rx.remapped, rx.told, t.moved = t.path.Remote, now, true
	}
}

// open takes steps 3 and 4 for one packet. The caller holds ch.rx.mu.
func (l *inboundLoop) open(ch *child, p *udpencap.Packet, news *tidings) {
	inner, f, newest, err := ch.rx.in.open(p.Data)
	if err != nil {
		why, _ := errors.AsType[Drop](err)
		news.heard = news.heard || why.authentic()
		news.note(newest, p, l.stream)
		l.plane.drop(ch, why)
		return
	}
	news.heard = true
	news.note(newest, p, l.stream)
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
	if len(l.frames) == cap(l.frames) {
		l.flush()
	}
	n := len(l.frames)
	l.frames = l.frames[:n+1]
	l.pieces[n] = inner
	l.owners = append(l.owners, owner{ch, len(inner)})
}

func ownPort(port, bound uint16) bool { return port == 500 || port == 4500 || port == bound }

func (t *tidings) note(newest bool, p *udpencap.Packet, stream bool) {
	if newest {
		t.newest = true
		t.path = Path{p.Local, p.Remote, stream}
	}
}

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

// flush takes step 6, and counts. The device does not say which packets it left, so
// that these are counted for the plane only.
func (l *inboundLoop) flush() {
	if len(l.frames) == 0 {
		return
	}
	p := l.plane
	n, err := p.write(l.frames)
	if n = max(0, min(n, len(l.frames))); n < len(l.frames) {
		p.drops[DropDevice].Add(uint64(len(l.frames) - n))
		if err != nil && l.refused.allow(p.now()) {
			p.log.Warn("device does not take packets", zap.String("device", p.dev.Name()), zap.Error(err))
		}
	}
	for owners := l.owners; len(owners) > 0; {
		ch, n, bytes := runOf(owners)
		ch.rx.carried.add(uint64(n), uint64(bytes))
		p.in.add(uint64(n), uint64(bytes))
		owners = owners[n:]
	}
	l.frames, l.owners = l.frames[:0], l.owners[:0]
}
