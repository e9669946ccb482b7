package esp

import (
	"math"
	"net/netip"
	"time"

	"martlet/tun"
)

// What is known of the paths to peers. Outer packets are sent with don't-fragment, so that
// routers, or the system, tell what is too long for a path; then inner packets are told
// the same (RFC 4301 §8.2). Probes of the control plane tell it where routers say nothing.

const (
	// unlimited is the limit of a path of which nothing is known: the device's MTU is less.
	unlimited = math.MaxInt
	// leastInner is what passes in any case, if need be in fragments of the outer packet: the
	// least MTU of IPv6 (RFC 8200 §5).
	leastInner = 1280
	// Less than these nobody is believed: every path has them (RFC 8200 §5, RFC 1122 §3.3.3).
	leastOuter6, leastOuter4 = 1280, 576
	// pathMTULife is how long a path is taken for narrow (RFC 1191 §6.3, RFC 8201 §4).
	pathMTULife = int64(10 * time.Minute)
	// tooBigBurst and tooBigEvery bound what the host is told.
	tooBigBurst, tooBigEvery = 50, second / 50
)

// pathMTU is the longest outer packet on the path to a peer, until that time.
type pathMTU struct {
	mtu   int
	until int64
}

// SetPathMTU says that no outer IP packet longer than mtu octets passes to a peer. It holds for
// ten minutes, for all children whose packets go to that address in UDP; a larger MTU than is known
// is taken only from a source that has tried (proven).
func (p *Plane) SetPathMTU(remote netip.Addr, mtu int, proven bool) {
	remote = remote.Unmap()
	least := leastOuter4
	if remote.Is6() {
		least = leastOuter6
	}
	mtu = max(mtu, least)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if known, ok := p.paths[remote]; ok && !proven && now < known.until && known.mtu <= mtu {
		return
	}
	used := false
	for _, ch := range p.children {
		if r := ch.route.Load(); r.path.Remote.Addr() == remote && !r.path.Stream {
			ch.route.Store(ch.limited(r, pathMTU{mtu, now + pathMTULife}))
			used = true
		}
	}
	if used { // else a stranger could fill the table
		p.paths[remote] = pathMTU{mtu, now + pathMTULife}
	}
}

// limited is a route with the limit of its path.
func (ch *child) limited(r *route, known pathMTU) *route {
	limited := *r
	limited.inner, limited.until = unlimited, 0
	if known.mtu != 0 && !r.path.Stream {
		header := 20
		if r.path.Remote.Addr().Is6() {
			header = 40
		}
		limited.inner, limited.until = ch.tx.out.longest(known.mtu-header-udpHeaderLen), known.until
	}
	return &limited
}

// pathOf is what is known of the path to a peer; 0 is nothing. The caller holds p.mu. What is too
// old goes.
func (p *Plane) pathOf(remote netip.Addr) pathMTU {
	known, ok := p.paths[remote]
	if ok && p.now() >= known.until {
		delete(p.paths, remote)
		return pathMTU{}
	}
	return known
}

// forgetPath ends what is known of a child's path, whose time is over: the next long packet
// finds out.
func (p *Plane) forgetPath(ch *child, old *route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch.route.Load() == old {
		ch.route.Store(ch.limited(old, p.pathOf(old.path.Remote.Addr())))
	}
}

// fits tells whether a frame whose longest packet has so many octets can be sent, and whether each
// of its packets is one outer packet that nobody may cut. What is too long is answered, or cut into
// fragments that are sent.
func (l *outboundLoop) fits(frame *tun.Frame, longest int, now int64) (ok, whole bool) {
	if longest > l.route.inner && now >= l.route.until {
		l.plane.forgetPath(l.child, l.route)
		l.take(l.child)
	}
	switch limit := l.route.inner; {
	case longest <= limit:
		return true, true
	case longest <= leastInner:
		return true, false
	default:
		l.tooLong(frame, max(limit, leastInner), now)
		return false, false
	}
}

// tooLong cuts a packet that is longer than mtu octets into fragments, or answers it, as a router does.
func (l *outboundLoop) tooLong(frame *tun.Frame, mtu int, now int64) {
	pkt := frame.Pieces[0]
	if frame.Offload.GSO == tun.GSONone && mayFragment(pkt) {
		for at := 0; at >= 0; {
			l.scratch, at = cutFragment(l.scratch[:0], pkt, mtu, at)
			l.single(l.scratch, len(l.scratch) <= l.route.inner, now)
		}
		return
	}
	l.plane.drop(l.child, DropTooBig)
	if !l.answers.allow(now) {
		return
	}
	answer, ok := appendTooBig(l.scratch[:0], pkt, mtu)
	if l.scratch = answer; ok {
		// Whoever sent the packet gets it from the device, which may refuse it as any other.
		_, _ = l.queue.write([]tun.Frame{{Pieces: [][]byte{answer}}})
	}
}

// clamp lowers the segment size that TCP offers in a SYN to what passes the tunnel, so that it need
// not find out.
func (p *Plane) clamp(ch *child, pkt []byte, f *Flow) {
	if f.Protocol != protoTCP || f.NoPorts || ch.keepMSS {
		return
	}
	at := int(pkt[0]&15) * 4
	is6 := pkt[0]>>4 == 6
	if is6 {
		if at = 40; pkt[6] != protoTCP {
			return // behind extension headers, where nobody has TCP
		}
	}
	if at+tcpFlags < len(pkt) && pkt[at+tcpFlags]&flagSYN != 0 {
		clampMSS(pkt, at, mssFor(min(p.dev.MTU(), ch.route.Load().inner), is6))
	}
}
