package udpencap

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// part is what a message carries.
type part struct {
	packet  int    // whose datagrams these are
	data    []byte // a part of it
	segment int    // if it is a slab
	count   int    // of datagrams
	route   *route
	marked  bool
}

// route is the name and the control messages of a message.
type route struct {
	key     routeKey
	segment int // 0: of no slab yet
	name    unix.RawSockaddrInet6
	nameLen uint32 // 0: there is no route yet
	control [controlLen]byte
	plain   int // octets of control without UDP_SEGMENT, which comes last
	slab    int // and with it
}

type routeKey struct {
	local, remote netip.AddrPort
	ecn, dscp     uint8
}

var errFamily = errors.New("udpencap: write: remote address is not of the socket's family")

// pack makes a message of what of a packet stands behind at.
func (v *sender) pack(n, packet int, p *Packet, at int) error {
	r := &v.routes[v.route]
	key := routeKey{p.Local, p.Remote, p.ECN, p.DSCP}
	data, segment := p.Data[at:], 0
	marked := v.s.marked(p)
	if p.Segment > 0 && len(data) > p.Segment {
		size := p.Segment
		if !marked && v.s.gso.Load() {
			size = v.s.span(len(data), p.Segment)
		}
		data = data[:size]
		if size > p.Segment {
			segment = p.Segment
		}
	}
	if r.nameLen == 0 || r.key != key || segment != 0 && r.segment != segment && r.segment != 0 {
		if !v.s.reaches(p.Remote) {
			return errFamily
		}
		v.route = (v.route + 1) % len(v.routes)
		r = &v.routes[v.route]
		r.set(key, v.s.local.Addr().Is6())
	}
	b := &v.batch
	part := &b.parts[n]
	*part = newPart(packet, data, segment, r, marked)
	h := &b.headers[n].hdr
	if segment != 0 && r.segment == 0 {
		r.setSegment(segment)
	}
	pieces := b.message(n)
	if segment != 0 && v.s.unequal && len(data)%segment == 0 {
		setPiece(&b.pieces[n][pieces], keepalive[:])
		h.SetIovlen(pieces + 1)
	}
	return nil
}

func newPart(packet int, data []byte, segment int, r *route, marked bool) part {
	count := 1
	if segment != 0 {
		count = (len(data) + segment - 1) / segment
	}
	return part{packet: packet, data: data, segment: segment, count: count, route: r, marked: marked}
}

// octets is the length of the message.
func (p *part) octets() int {
	if p.marked {
		return markerLen + len(p.data)
	}
	return len(p.data)
}

// message describes part n to the system, and returns its number of pieces.
func (b *outBatch) message(n int) (pieces int) {
	p, h := &b.parts[n], &b.headers[n].hdr
	h.Name = (*byte)(unsafe.Pointer(&p.route.name))
	h.Namelen = p.route.nameLen
	h.Control = &p.route.control[0]
	h.SetControllen(p.route.plain)
	if p.segment != 0 {
		h.SetControllen(p.route.slab)
	}
	if p.marked {
		setPiece(&b.pieces[n][0], marker[:])
		pieces = 1
	}
	if len(p.data) > 0 {
		setPiece(&b.pieces[n][pieces], p.data)
		pieces++
	}
	h.SetIovlen(pieces)
	return pieces
}

const (
	// maxSegments is UDP_MAX_SEGMENTS of all kernels; newer ones take more.
	maxSegments = 64
	// Where a slab needs a shorter datagram at its end, one of fewer datagrams does not pay.
	minUnequal = 8
)

// span is how many of n octets, which are more than one datagram, go out together.
func (s *socket) span(n, segment int) int {
	whole := n <= s.maxPayload && (n+segment-1)/segment <= maxSegments
	switch {
	case whole && !(s.unequal && n%segment == 0):
		return n
	case !s.unequal:
		return max(1, min(maxSegments, s.maxPayload/segment)) * segment
	}
	count := min(n/segment, maxSegments-1, (s.maxPayload-len(keepalive))/segment)
	if count < minUnequal || segment <= len(keepalive) {
		return segment
	}
	return count * segment
}

// reaches tells whether an address is of the socket's family.
func (s *socket) reaches(remote netip.AddrPort) bool {
	a := remote.Addr().Unmap()
	return a.IsValid() && a.Is6() == s.local.Addr().Is6()
}

// set writes name and control messages.
func (r *route) set(key routeKey, is6 bool) {
	r.key, r.segment = key, 0
	r.nameLen = setName(&r.name, netip.AddrPortFrom(key.remote.Addr().Unmap(), key.remote.Port()))
	b := r.control[:0]
	if local := key.local.Addr().Unmap(); local.IsValid() && !local.IsUnspecified() && local.Is6() == is6 {
		if is6 {
			a := local.As16()
			b = appendControl(b, unix.SOL_IPV6, unix.IPV6_PKTINFO, a[:], unix.SizeofInet6Pktinfo)
		} else {
			// struct in_pktinfo: interface, source.
			a := local.As4()
			info := [8]byte{4: a[0], 5: a[1], 6: a[2], 7: a[3]}
			b = appendControl(b, unix.SOL_IP, unix.IP_PKTINFO, info[:], unix.SizeofInet4Pktinfo)
		}
	}
	if class := key.dscp<<2 | key.ecn&3; class != 0 {
		var v [4]byte
		binary.NativeEndian.PutUint32(v[:], uint32(class))
		if is6 {
			b = appendControl(b, unix.SOL_IPV6, unix.IPV6_TCLASS, v[:], 4)
		} else {
			b = appendControl(b, unix.SOL_IP, unix.IP_TOS, v[:], 4)
		}
	}
	r.plain, r.slab = len(b), len(b)
}

// setSegment adds how long the datagrams of a slab are.
func (r *route) setSegment(segment int) {
	var v [2]byte
	binary.NativeEndian.PutUint16(v[:], uint16(segment))
	r.segment = segment
	r.slab = len(appendControl(r.control[:r.plain], unix.SOL_UDP, unix.UDP_SEGMENT, v[:], 2))
}
