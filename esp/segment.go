package esp

import (
	"encoding/binary"

	"martlet/tun"
)

// maxHeader bounds IP and TCP headers of a super-packet: the longest of IPv4 are 120 octets, and
// IPv6 with more extension headers than this is not cut.
const maxHeader = 256

// segments cuts a frame from the device into whole packets, as the host's own segmentation
// does (Virtio 1.2 §5.1.6.2), each into memory where it is going to be sealed. It belongs to one
// goroutine.
type segments struct {
	pkt     []byte // the frame
	header  int    // octets before the payload
	segment int    // payload octets of a packet
	ip      int    // octets of the IP header, with extensions
	kind    tun.GSO
	is6     bool
	pseudo  uint64 // sum of the pseudo header without the length
	index   int
	done    int // payload octets before the next packet
}

// reset begins with a super-packet of which parse made f. It reports false if it is not what its
// Offload says.
func (s *segments) reset(frame *tun.Frame, f *Flow) bool {
	o := &frame.Offload
	*s = segments{pkt: frame.Pieces[0], header: o.Header, segment: o.Segment, ip: o.Start, kind: o.GSO}
	if s.segment <= 0 || !o.Partial || s.header > maxHeader || s.header > len(s.pkt) || s.ip < 20 {
		return false
	}
	s.is6 = s.pkt[0]>>4 == 6
	switch s.kind {
	case tun.GSOTCPv4, tun.GSOTCPv6:
		if s.is6 != (s.kind == tun.GSOTCPv6) || s.ip+20 > s.header || o.Offset != tcpChecksum ||
			s.header != s.ip+int(s.pkt[s.ip+tcpOffset]>>4)*4 {
			return false
		}
	case tun.GSOUDP:
		if s.header != s.ip+udpHeaderLen || o.Offset != udpChecksum {
			return false
		}
	default:
		return false
	}
	s.pseudo = pseudoSum(s.pkt, f.Protocol, 0)
	if s.is6 {
		return s.ip >= 40
	}
	return s.ip == int(s.pkt[0]&15)*4
}

// Places in the headers of TCP (RFC 9293 §3.1) and UDP (RFC 768).
const (
	tcpSequence = 4
	tcpOffset   = 12
	tcpFlags    = 13
	tcpChecksum = 16
	udpLength   = 4
	udpChecksum = 6

	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)

// next tells the length of the next packet; 0 when there is none.
func (s *segments) next() int {
	rest := len(s.pkt) - s.header - s.done
	if rest <= 0 && s.index > 0 {
		return 0
	}
	return s.header + min(rest, s.segment)
}

// write makes the next packet in dst, which has its length.
func (s *segments) write(dst []byte) {
	n := copy(dst, s.pkt[:s.header])
	payload := copy(dst[n:], s.pkt[s.header+s.done:])
	last := s.header+s.done+payload == len(s.pkt)
	if s.is6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(len(dst)-40))
	} else {
		binary.BigEndian.PutUint16(dst[2:], uint16(len(dst)))
		binary.BigEndian.PutUint16(dst[4:], binary.BigEndian.Uint16(dst[4:])+uint16(s.index))
		dst[10], dst[11] = 0, 0
		binary.BigEndian.PutUint16(dst[10:], ^fold(sumOf(dst[:s.ip], 0)))
	}
	transport := dst[s.ip:]
	if s.kind == tun.GSOUDP {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(len(transport)))
		s.checksum(transport, udpChecksum)
	} else {
		sequence := binary.BigEndian.Uint32(transport[tcpSequence:])
		binary.BigEndian.PutUint32(transport[tcpSequence:], sequence+uint32(s.done))
		if !last {
			transport[tcpFlags] &^= flagFIN | flagPSH
		}
		if s.index > 0 {
			// RFC 3168 §6.1.2: congestion window reduced is said once.
			transport[tcpFlags] &^= flagCWR
		}
		s.checksum(transport, tcpChecksum)
	}
	s.index++
	s.done += payload
}

// checksum puts the checksum into a TCP or UDP packet.
func (s *segments) checksum(transport []byte, at int) {
	transport[at], transport[at+1] = 0, 0
	putChecksum(transport[at:], sumOf(transport, addSums(s.pseudo, wordSum(uint16(len(transport))))))
}

// putChecksum writes what makes a sum 0xffff. 0, which in UDP is none, is written as 0xffff, which
// in TCP means the same.
func putChecksum(at []byte, sum uint64) {
	c := ^fold(sum)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(at, c)
}

// completed makes the checksum of a single packet that the host left to us. It reports false
// where that would be outside of the packet.
func completed(pkt []byte, o *tun.Offload) bool {
	if !o.Partial {
		return true
	}
	if o.Start < 20 || o.Offset < 0 || o.Start+o.Offset+2 > len(pkt) {
		return false
	}
	// What stands there is the sum of the pseudo header.
	putChecksum(pkt[o.Start+o.Offset:], sumOf(pkt[o.Start:], 0))
	return true
}
