package tun

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// virtioLen is the length of struct virtio_net_hdr without the count of merged buffers
// (Virtio 1.2 §5.1.6): flags, kind of super-packet, length of headers, segment size,
// start and offset of the checksum.
const virtioLen = 10

const (
	virtioNeedsChecksum = 1 // in the flags
	virtioDataValid     = 2 // in the flags: all checksums were right
)

// Numbers and places of the transport protocols.
const (
	protocolTCP = 6
	protocolUDP = 17

	ipv4Len = 20
	ipv6Len = 40
	tcpLen  = 20
	udpLen  = 8

	tcpChecksum = 16 // where in the TCP header it stands
	udpChecksum = 6
)

// virtioHeader is the header as it lies before a packet.
type virtioHeader [virtioLen]byte

func (h *virtioHeader) word(at int, big bool) int {
	w := binary.LittleEndian.Uint16(h[at:])
	if big {
		w = bits.ReverseBytes16(w)
	}
	return int(w)
}

func (h *virtioHeader) setWord(at, value int, big bool) {
	w := uint16(value)
	if big {
		w = bits.ReverseBytes16(w)
	}
	binary.LittleEndian.PutUint16(h[at:], w)
}

// offload reads the header of a packet that leaves the host, with its words in big or
// little endian. It is false where the two do not fit together. The packet changes only
// where a super-packet has its checksum already: that becomes partial.
func (h *virtioHeader) offload(packet []byte, big bool) (o Offload, ok bool) {
	kind := GSO(h[1])
	if h[0]&virtioNeedsChecksum != 0 {
		o = Offload{Partial: true, Start: h.word(6, big), Offset: h.word(8, big)}
		if o.Start+o.Offset+2 > len(packet) {
			return Offload{}, false
		}
	}
	if kind == GSONone {
		return o, len(packet) > 0
	}
	place, ok := placeOf(kind)
	if !ok {
		return Offload{}, false
	}
	if !o.Partial {
		// What a network card joined comes so when it is forwarded.
		if h[0]&virtioDataValid == 0 {
			return Offload{}, false
		}
		if o, ok = makePartial(packet, place); !ok {
			return Offload{}, false
		}
	}
	o.GSO, o.Segment = kind, h.word(4, big)
	// The header's own length of headers is only a hint: of what the kernel forwards it
	// is all that lies in the first piece of its memory.
	if o.Header, ok = headerLen(packet, kind, o.Start); !ok {
		return Offload{}, false
	}
	return o, o.Offset == place.checksum && o.Segment > 0 && o.Header < len(packet)
}

// put writes the header of a packet of n octets that goes to the host. It is false of an
// Offload that no header can say.
func (h *virtioHeader) put(o Offload, n int, big bool) bool {
	*h = virtioHeader{}
	if o.Partial {
		if o.Start < 0 || o.Offset < 0 || o.Start+o.Offset+2 > n || n > math.MaxUint16 {
			return false
		}
		h[0] = virtioNeedsChecksum
		h.setWord(6, o.Start, big)
		h.setWord(8, o.Offset, big)
	}
	if o.GSO != GSONone {
		if !o.Partial || o.Header <= o.Start || o.Header >= n || o.Segment <= 0 || o.Segment > math.MaxUint16 {
			return false
		}
		h[1] = byte(o.GSO)
		h.setWord(2, o.Header, big)
		h.setWord(4, o.Segment, big)
	}
	return true
}

// place is where the transport protocol of a super-packet keeps what.
type place struct {
	protocol byte
	checksum int
}

func placeOf(kind GSO) (place, bool) {
	switch kind {
	case GSOTCPv4, GSOTCPv6:
		return place{protocolTCP, tcpChecksum}, true
	case GSOUDP:
		return place{protocolUDP, udpChecksum}, true
	default: // UFO, and TCP with ECN, which were not asked for
		return place{}, false
	}
}

// headerLen is the length of the IP and transport headers of a super-packet whose
// transport header begins at start.
func headerLen(packet []byte, kind GSO, start int) (int, bool) {
	if len(packet) < ipv4Len {
		return 0, false
	}
	v4, v6 := false, false
	switch packet[0] >> 4 {
	case 4:
		v4 = start >= ipv4Len && start == int(packet[0]&15)*4
	case 6:
		v6 = start >= ipv6Len
	}
	switch {
	case kind == GSOUDP && (v4 || v6):
		return start + udpLen, true
	case kind == GSOTCPv4 && v4, kind == GSOTCPv6 && v6:
		if start+tcpLen > len(packet) {
			return 0, false
		}
		n := int(packet[start+12]>>4) * 4
		return start + n, n >= tcpLen
	}
	return 0, false
}

// makePartial puts the sum of the pseudo header in the place of a whole packet's checksum.
func makePartial(packet []byte, p place) (o Offload, ok bool) {
	if len(packet) < ipv4Len {
		return Offload{}, false
	}
	var addresses []byte
	var start int
	var protocol byte
	switch packet[0] >> 4 {
	case 4:
		start, protocol, addresses = int(packet[0]&15)*4, packet[9], packet[12:20]
		if start < ipv4Len {
			return Offload{}, false
		}
	case 6:
		if len(packet) < ipv6Len {
			return Offload{}, false
		}
		start, protocol, addresses = ipv6Len, packet[6], packet[8:40]
	}
	o = Offload{Partial: true, Start: start, Offset: p.checksum}
	if protocol != p.protocol || o.Start+o.Offset+2 > len(packet) {
		return Offload{}, false
	}
	n := uint64(len(packet) - start)
	sum := fold(sumOf(addresses) + uint64(protocol) + n>>16 + n&0xffff)
	binary.BigEndian.PutUint16(packet[o.Start+o.Offset:], sum)
	return o, true
}

// complete makes the checksum of a packet that is partial, and is false where it does not
// fit into it.
func (o Offload) complete(packet []byte) bool {
	if !o.Partial {
		return true
	}
	if o.Start < 0 || o.Offset < 0 || o.Start+o.Offset+2 > len(packet) {
		return false
	}
	sum := ^fold(sumOf(packet[o.Start:]))
	if sum == 0 {
		sum = 0xffff // the same number; of UDP zero would say that there is none
	}
	binary.BigEndian.PutUint16(packet[o.Start+o.Offset:], sum)
	return true
}

// sumOf adds 16-bit words in network order, the last filled up with a zero.
func sumOf(b []byte) (sum uint64) {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
