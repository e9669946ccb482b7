package esp

import "encoding/binary"

// maxOffset is where fragments of IPv4 end at the latest: 13 bits of offset, and a length
// of 16 bits.
const maxOffset = 0xffff

// mayFragment tells whether a packet may be cut by cutFragment: a whole IPv4 header
// with its right checksum, and permission (RFC 791 §3.2). One that as a fragment goes
// over the longest packet there is cannot be reassembled, and may not.
func mayFragment(pkt []byte) bool {
	if len(pkt) < 20 || pkt[0]>>4 != 4 || pkt[6]&0x40 != 0 {
		return false
	}
	header, length := int(pkt[0]&15)*4, int(binary.BigEndian.Uint16(pkt[2:]))
	if header < 20 || length < header || length > len(pkt) {
		return false
	}
	offset := int(binary.BigEndian.Uint16(pkt[6:])&0x1fff) * 8
	// RFC 1812 §5.2.2: a router drops what has a wrong header checksum. New ones in the
	// fragments would repair it.
	return offset+length <= maxOffset && fold(sumOf(pkt[:header], 0)) == 0xffff
}

// cutFragment appends to dst the fragment of at most mtu octets that begins with octet at
// of the payload of pkt, which mayFragment allowed, and tells where the next begins, or
// -1 (RFC 791 §3.2):
//
//	for at := 0; at >= 0; {
//		fragment, at = cutFragment(scratch[:0], pkt, mtu, at)
//		…
//	}
//
// Type of service, identification, time to live and protocol are those of pkt, which may
// be a fragment itself. mtu is at least 68, which every link takes. pkt and dst must not
// overlap.
func cutFragment(dst, pkt []byte, mtu, at int) (fragment []byte, next int) {
	start, header := len(dst), int(pkt[0]&15)*4
	payload := pkt[header:binary.BigEndian.Uint16(pkt[2:])][at:]
	dst = append(dst, pkt[:20]...)
	if at == 0 {
		dst = append(dst, pkt[20:header]...)
	} else {
		dst = appendCopied(dst, pkt[20:header])
	}
	header = len(dst) - start
	more, offset := pkt[6]&0x20 != 0, binary.BigEndian.Uint16(pkt[6:])&0x1fff
	next = -1
	if room := max(mtu, minMTU4) - header; len(payload) > room {
		payload = payload[:room&^7] // all but the last in units of 8 octets
		more, next = true, at+len(payload)
	}
	head := dst[start:]
	head[0] = 0x40 | byte(header/4)
	binary.BigEndian.PutUint16(head[2:], uint16(header+len(payload)))
	offset += uint16(at / 8)
	if more {
		offset |= 0x2000
	}
	binary.BigEndian.PutUint16(head[6:], offset|uint16(pkt[6]&0x80)<<8)
	head[10], head[11] = 0, 0
	binary.BigEndian.PutUint16(head[10:], ^fold(sumOf(head, 0)))
	return append(dst, payload...), next
}

// appendCopied appends the options that stand in every fragment (RFC 791 §3.1: the copied
// flag), filled up to 32 bits. Behind one that makes no sense there are none.
func appendCopied(dst, options []byte) []byte {
	start := len(dst)
	for len(options) > 0 && options[0] != optionEnd {
		if options[0] == optionNop { // lets others begin at a multiple of 32 bits
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			break
		}
		size := int(options[1])
		if options[0]&0x80 != 0 {
			dst = append(dst, options[:size]...)
		}
		options = options[size:]
	}
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, optionEnd)
	}
	return dst
}
