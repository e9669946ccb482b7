package esp

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071). A sum is that of 16-bit words with the carries
// brought around, not yet folded and not inverted. Its words are little-endian, because
// that is how processors load them, and because the order does not matter until the end
// (RFC 1071 §2 B): sums come from sumOf, pseudoSum and wordSum, are joined by addSums,
// and mean something only after fold, which gives the number that
// binary.BigEndian.PutUint16 puts into a packet, after ^. A sum of anything but zeros is
// never 0, nor is its fold.

// sumOf adds octets to a sum. An odd one at the end counts as if a zero followed, so
// that only the last of several pieces may have an odd length.
func sumOf(b []byte, sum uint64) uint64 {
	if len(b) < 8 {
		return sumOfShort(b, sum)
	}
	// Two chains of carries that do not wait for each other. At the end of a chain the
	// carry can be added without another: there is none when the rest is all ones.
	var other, carry uint64
	rest := binary.LittleEndian.Uint64(b[len(b)-8:]) >> ((8 - len(b)&7) * 8 & 127) // octets behind the last eight
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[0:]), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
		sum += carry
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[32:]), 0)
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[40:]), carry)
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[48:]), carry)
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[56:]), carry)
		other += carry
		b = b[64:]
	}
	if len(b) >= 32 {
		p := (*[32]byte)(b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[0:]), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
		sum += carry
		b = b[32:]
	}
	if len(b) >= 16 {
		p := (*[16]byte)(b)
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[0:]), 0)
		other, carry = bits.Add64(other, binary.LittleEndian.Uint64(p[8:]), carry)
		other += carry
		b = b[16:]
	}
	if len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum += carry
	}
	sum, carry = bits.Add64(sum, other, 0)
	sum, carry = bits.Add64(sum, rest, carry)
	return sum + carry
}

// sumOfShort is sumOf for less than eight octets.
func sumOfShort(b []byte, sum uint64) uint64 {
	var n uint64
	if len(b) >= 4 {
		n = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		n += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		n += uint64(b[0])
	}
	return addSums(sum, n)
}

// addSums joins two sums. To join that of a piece that begins at an odd offset, turn it
// by an octet first: bits.RotateLeft64(sum, 8).
func addSums(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	return sum + carry
}

// wordSum is the sum of one word, such as a length.
func wordSum(n uint16) uint64 { return uint64(bits.ReverseBytes16(n)) }

// fold makes the 16 bits of a sum. Those over data with its right checksum are 0xffff.
func fold(sum uint64) uint16 {
	// Adding a number to itself with its halves exchanged brings the carry of one half
	// into the other.
	sum += bits.RotateLeft64(sum, 32)
	half := uint32(sum >> 32)
	half += bits.RotateLeft32(half, 16)
	return bits.ReverseBytes16(uint16(half >> 16))
}

// pseudoSum is the sum of the pseudo header of TCP, UDP or ICMPv6 (RFC 9293 §3.1, RFC 768,
// RFC 8200 §8.1) for so many octets of transport header and data. pkt begins with a whole
// IP header. The destination is that of the IP header, so that it is wrong for
// a packet whose routing header has other hops ahead.
func pseudoSum(pkt []byte, proto uint8, length int) uint64 {
	// RFC 8200 §8.1 has 32 bits for the length: the upper ones are 0 in all packets here.
	sum := wordSum(uint16(proto)) + wordSum(uint16(length))
	if pkt[0]>>4 == 4 {
		return addSums(sum, binary.LittleEndian.Uint64(pkt[12:]))
	}
	p := (*[32]byte)(pkt[8:])
	sum, carry := bits.Add64(sum, binary.LittleEndian.Uint64(p[0:]), 0)
	sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
	sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
	sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
	return sum + carry
}

// transportValid tells whether the checksum of a TCP segment or UDP datagram is right. pkt
// is a whole packet that parse accepted, cut to its length; headerLen is where the
// transport header begins, and 0 is one that is not TCP or UDP.
//
// A datagram without a checksum is valid over IPv4 only (RFC 768, RFC 8200 §8.1). What
// follows a datagram by its own length does not count (RFC 9868 §5).
func transportValid(pkt []byte, headerLen int, proto uint8) bool {
	if headerLen > len(pkt) {
		return false
	}
	b := pkt[headerLen:]
	switch proto {
	case protoTCP:
		if len(b) < 20 {
			return false
		}
	case protoUDP:
		if len(b) < udpHeaderLen {
			return false
		}
		length := int(binary.BigEndian.Uint16(b[4:]))
		if length < udpHeaderLen || length > len(b) {
			return false
		}
		if b[6] == 0 && b[7] == 0 {
			return pkt[0]>>4 == 4
		}
		b = b[:length]
	default:
		return false
	}
	return fold(sumOf(b, pseudoSum(pkt, proto, len(b)))) == 0xffff
}

// adjust is the checksum of data in which one word was exchanged (RFC 1624 §3, equation 3).
// A wrong one stays wrong by as much. Where the word lies at an odd offset, exchange the
// octets of before and after.
func adjust(check, before, after uint16) uint16 {
	sum := uint32(^check) + uint32(^before) + uint32(after)
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	return ^uint16(sum)
}
