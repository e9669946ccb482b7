package esp

import (
	"encoding/binary"
	"math/bits"
)

// TCP options (RFC 9293 §3.2).
const (
	optionEnd = 0
	optionNop = 1
	optionMSS = 2
)

const flagSYN = 0x02

// mssFor is the largest TCP segment in a packet of innerMTU octets, by the fixed headers
// alone: an end that adds options sends so much less (RFC 6691 §2, RFC 9293 §3.7.1).
func mssFor(innerMTU int, is6 bool) int {
	if is6 {
		return innerMTU - 60
	}
	return innerMTU - 40
}

// clampMSS lowers the maximum segment size that a SYN announces to mss, where it is more,
// and tells whether it was. pkt is a whole TCP packet or its first fragment, cut to its
// length, and the TCP header begins at l4. A segment without the option gets none, and
// options that make no sense stay as they are.
//
// The TCP checksum follows by the difference, so that a wrong one stays wrong. It must be
// that of the whole segment: a tun.Frame that is Partial must be completed first.
func clampMSS(pkt []byte, l4, mss int) bool {
	if l4 > len(pkt) || len(pkt)-l4 < 20 || pkt[l4+13]&flagSYN == 0 {
		return false
	}
	tcp := pkt[l4:]
	end := int(tcp[12]>>4) * 4
	if end < 20 || end > len(tcp) || mss < 0 || mss > 0xffff {
		return false
	}
	changed := false
	for at := 20; at < end; {
		switch tcp[at] {
		case optionEnd:
			return changed
		case optionNop:
			at++
			continue
		}
		// RFC 9293 §3.1, MUST-7: handle an illegal length without crashing.
		if end-at < 2 {
			return changed
		}
		size := int(tcp[at+1])
		if size < 2 || size > end-at {
			return changed
		}
		if tcp[at] == optionMSS && size == 4 {
			changed = lowerMSS(tcp, at+2, uint16(mss)) || changed
		}
		at += size
	}
	return changed
}

// lowerMSS lowers the 16 bits at offset at of a TCP header.
func lowerMSS(tcp []byte, at int, mss uint16) bool {
	before, after := binary.BigEndian.Uint16(tcp[at:]), mss
	if before <= after {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], after)
	if at&1 == 1 {
		before, after = bits.ReverseBytes16(before), bits.ReverseBytes16(after)
	}
	binary.BigEndian.PutUint16(tcp[16:], adjust(binary.BigEndian.Uint16(tcp[16:]), before, after))
	return true
}
