package esp

import (
	"encoding/binary"
	"net/netip"
)

// What an answer may be long at most (RFC 1812 §4.3.2.3, RFC 4443 §2.4 c), and the longest
// packet that every link takes (RFC 791 §3.2, RFC 8200 §5).
const (
	maxError4 = 576
	maxError6 = 1280
	minMTU4   = 68
	minMTU6   = 1280
)

// appendTooBig appends the ICMP answer to a packet that does not fit into mtu octets, for
// the host to be told: "fragmentation needed" (RFC 1191 §4) or "packet too big" (RFC 4443
// §3.2). It reports false where there must be none. pkt is one that parse accepts.
//
// The tunnel has no address of its own that the host surely has a route for, so that the
// answer comes from where the packet was to go: what is routed into the tunnel may come
// from it. ICMPv6 never tells less than 1280: what is not longer than that must get
// through otherwise (RFC 2473 §7.1).
func appendTooBig(dst, pkt []byte, mtu int) ([]byte, bool) {
	f, length, ok := parse(pkt)
	if !ok || !answerable(&f) || laterFragment(pkt[:length]) {
		return dst, false
	}
	if f.Src.Is4() {
		mtu = max(mtu, minMTU4)
	} else {
		mtu = max(mtu, minMTU6)
	}
	if length <= mtu {
		return dst, false
	}
	if f.Src.Is4() {
		return appendTooBig4(dst, pkt[:length], mtu), true
	}
	return appendTooBig6(dst, pkt[:length], mtu), true
}

func appendTooBig4(dst, pkt []byte, mtu int) []byte {
	quote := pkt[:min(len(pkt), maxError4-20-8)]
	start := len(dst)
	var head [28]byte
	head[0] = 0x45
	head[1] = 6 << 5 // RFC 1812 §4.3.2.5: the precedence of network control
	binary.BigEndian.PutUint16(head[2:], uint16(len(head)+len(quote)))
	head[6] = 0x40 // an atomic datagram needs no identification (RFC 6864 §4.1)
	head[8], head[9] = 64, protoICMP
	copy(head[12:16], pkt[16:20])
	copy(head[16:20], pkt[12:16])
	binary.BigEndian.PutUint16(head[10:], ^fold(sumOf(head[:20], 0)))
	head[20], head[21] = 3, 4
	binary.BigEndian.PutUint16(head[26:], uint16(min(mtu, 0xffff)))
	dst = append(append(dst, head[:]...), quote...)
	icmp := dst[start+20:]
	binary.BigEndian.PutUint16(icmp[2:], ^fold(sumOf(icmp, 0)))
	return dst
}

func appendTooBig6(dst, pkt []byte, mtu int) []byte {
	quote := pkt[:min(len(pkt), maxError6-40-8)]
	start := len(dst)
	var head [48]byte
	head[0] = 0x60
	binary.BigEndian.PutUint16(head[4:], uint16(8+len(quote)))
	head[6], head[7] = protoICMPv6, 64
	copy(head[8:24], pkt[24:40])
	copy(head[24:40], pkt[8:24])
	head[40] = 2
	binary.BigEndian.PutUint32(head[44:], uint32(mtu))
	dst = append(append(dst, head[:]...), quote...)
	icmp := dst[start+40:]
	binary.BigEndian.PutUint16(icmp[2:], ^fold(sumOf(icmp, pseudoSum(head[:], protoICMPv6, len(icmp)))))
	return dst
}

// answerable tells whether there may be an ICMP error about a packet (RFC 1122 §3.2.2,
// RFC 4443 §2.4 e). RFC 4443 would let "packet too big" answer multicast, but then it would
// need another source.
func answerable(f *Flow) bool {
	if !oneHost(f.Src) || !oneHost(f.Dst) {
		return false
	}
	switch f.Protocol {
	case protoICMP:
		if f.NoPorts || f.Src.Is6() {
			return false
		}
		switch f.SrcPort >> 8 {
		case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43: // queries and what answers them
			return true
		}
		return false
	case protoICMPv6:
		kind := f.SrcPort >> 8
		return !f.NoPorts && f.Src.Is6() && kind >= 128 && kind != 137 // nor redirect
	}
	return true
}

// oneHost tells whether an address can be that of one host elsewhere.
func oneHost(a netip.Addr) bool {
	if a.Is4() {
		// RFC 1122 §3.2.2 names class E with the broadcast address; 0/8 is "this network".
		if first := a.As4()[0]; first == 0 || first >= 240 {
			return false
		}
	}
	return !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback()
}

// laterFragment tells whether a packet that parse accepted is a fragment other than
// the first.
func laterFragment(pkt []byte) bool {
	if pkt[0]>>4 == 4 {
		return binary.BigEndian.Uint16(pkt[6:])&0x1fff != 0
	}
	proto, rest := pkt[6], pkt[40:]
	for range maxExtensions {
		if !isExtension(proto) || len(rest) < 8 {
			return false
		}
		size := 8 + int(rest[1])*8
		switch proto {
		case protoFragment:
			if binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
				return true
			}
			size = 8
		case protoAH:
			size = 8 + int(rest[1])*4
		}
		if size > len(rest) {
			return false
		}
		proto, rest = rest[0], rest[size:]
	}
	return false
}
