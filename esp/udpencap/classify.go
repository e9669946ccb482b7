package udpencap

import "encoding/binary"

// Lengths that tell datagrams apart.
const (
	markerLen = 4 // the non-ESP marker (RFC 3948 §2.2)
	espHeader = 8 // SPI and sequence number, without which nothing is ESP
)

// classify tells what a datagram that arrived on a socket holds, and returns it without
// marker, a part of b. It reports false for what is none of the kinds.
func classify(b []byte, encap bool) (Kind, []byte, bool) {
	switch {
	case !encap:
		// RFC 7296 §3.1: IKE messages on port 500 have no marker, and ESP has no
		// business there.
		return IKE, b, len(b) > 0
	case len(b) == 1:
		return Keepalive, b, b[0] == 0xff
	case len(b) < markerLen:
		return 0, nil, false
	case [markerLen]byte(b) == [markerLen]byte{}:
		return IKE, b[markerLen:], len(b) > markerLen
	}
	return ESP, b, len(b) >= espHeader
}

// isESP is classify where only ESP is of interest, on a socket that carries it.
func isESP(b []byte) bool {
	return len(b) >= espHeader && binary.NativeEndian.Uint32(b) != 0
}

// cut takes the first Packet off a slab, which is datagrams of segment octets one behind the
// other, the last perhaps shorter; segment 0 is one datagram. What stands together of ESP is
// one Packet: the system puts together whatever comes from one address and port, so that
// slabs may mix kinds, and SPIs. It reports false for a datagram of no kind.
func cut(slab []byte, segment int, encap bool) (p Packet, rest []byte, ok bool) {
	first := slab
	if segment > 0 && segment < len(slab) {
		first, rest = slab[:segment:segment], slab[segment:]
	}
	p.Kind, p.Data, ok = classify(first, encap)
	if !ok || p.Kind != ESP || len(rest) == 0 {
		return p, rest, ok
	}
	n := segment
	for n < len(slab) {
		end := min(n+segment, len(slab))
		if !isESP(slab[n:end]) {
			break
		}
		n = end
	}
	if n > segment {
		p.Data, p.Segment, rest = slab[:n:n], segment, slab[n:]
	}
	return p, rest, true
}
