package netmon

import "net/netip"

// The types of messages of a routing socket, which are the same in all kernels that have one
// (route(4)), but for the last.
const (
	rtmAdd     = 0x1
	rtmDelete  = 0x2
	rtmChange  = 0x3
	rtmNewAddr = 0xc
	rtmDelAddr = 0xd
	rtmIfInfo  = 0xe
	rtmDesync  = 0x10 // of OpenBSD: messages were lost; elsewhere of multicast groups
)

// subject is what a message of a routing socket is about. It begins with its length in two
// octets, a version and its type. Other types do not matter here: they answer requests, or tell
// of neighbours and multicast groups.
func subject(message []byte, openbsd bool) (_ about, ok bool) {
	if len(message) < 4 {
		return 0, false
	}
	switch message[3] {
	case rtmAdd, rtmDelete, rtmChange:
		return aRoute, true
	case rtmNewAddr, rtmDelAddr:
		return anAddress, true
	case rtmIfInfo:
		return aLink, true
	case rtmDesync:
		return aLoss, openbsd
	}
	return 0, false
}

// prefix is where a route of a routing socket leads: its destination, with the mask of one that is
// not to a single host. A default route's mask may be missing. Without a destination, or with a
// mask that is none, the result is invalid.
func prefix(dst, mask netip.Addr, host bool) netip.Prefix {
	switch {
	case !dst.IsValid():
		return netip.Prefix{}
	case host:
		return netip.PrefixFrom(dst, dst.BitLen())
	case mask.IsValid():
		return netip.PrefixFrom(dst, ones(mask))
	case dst.IsUnspecified():
		return netip.PrefixFrom(dst, 0)
	}
	return netip.Prefix{}
}

// ones is how many bits of a mask are set; -1 if they are not all at its begin.
func ones(mask netip.Addr) int {
	n := 0
	for n < mask.BitLen() && netip.PrefixFrom(mask, n+1).Masked().Addr() != netip.PrefixFrom(mask, n).Masked().Addr() {
		n++
	}
	if netip.PrefixFrom(mask, n).Masked().Addr() != mask {
		return -1
	}
	return n
}
