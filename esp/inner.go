package esp

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers that decide how an inner packet is read.
const (
	protoHopByHop    = 0
	protoICMP        = 1
	protoIPv4        = 4
	protoTCP         = 6
	protoUDP         = 17
	protoDCCP        = 33
	protoIPv6        = 41
	protoRouting     = 43
	protoFragment    = 44
	protoAH          = 51
	protoICMPv6      = 58
	protoNone        = 59
	protoDestOptions = 60
	protoSCTP        = 132
	protoUDPLite     = 136
)

// maxExtensions bounds the IPv6 extension headers that are walked. Honest packets
// have one or two.
const maxExtensions = 8

// Flow is what the selectors look at in an IP packet (RFC 4301 §4.4.1.1). For ICMP
// both ports hold type (high octet) and code.
type Flow struct {
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16
	// NoProtocol and NoPorts tell that the field cannot be seen: in a fragment that
	// is not the first, or in a protocol that has no ports. Such a packet is in ANY
	// and in OPAQUE only.
	NoProtocol, NoPorts bool
}

// parse reads the headers of an IP packet and its length by its own account, which
// may be shorter than pkt (RFC 4303 §2.7 lets padding for traffic flow
// confidentiality follow). It reports false for what is not well-formed.
func parse(pkt []byte) (f Flow, length int, ok bool) {
	if len(pkt) == 0 {
		return f, 0, false
	}
	switch pkt[0] >> 4 {
	case 4:
		return parseIPv4(pkt)
	case 6:
		return parseIPv6(pkt)
	}
	return f, 0, false
}

func parseIPv4(pkt []byte) (f Flow, length int, ok bool) {
	if len(pkt) < 20 {
		return f, 0, false
	}
	header := int(pkt[0]&15) * 4
	length = int(binary.BigEndian.Uint16(pkt[2:]))
	if header < 20 || length < header || length > len(pkt) {
		return f, 0, false
	}
	f.Src = netip.AddrFrom4([4]byte(pkt[12:16]))
	f.Dst = netip.AddrFrom4([4]byte(pkt[16:20]))
	f.Protocol = pkt[9]
	first := binary.BigEndian.Uint16(pkt[6:])&0x1fff == 0
	f.ports(pkt[header:length], first)
	return f, length, true
}

func parseIPv6(pkt []byte) (f Flow, length int, ok bool) {
	if len(pkt) < 40 {
		return f, 0, false
	}
	length = 40 + int(binary.BigEndian.Uint16(pkt[4:]))
	if length > len(pkt) {
		return f, 0, false
	}
	f.Src = netip.AddrFrom16([16]byte(pkt[8:24]))
	f.Dst = netip.AddrFrom16([16]byte(pkt[24:40]))
	if f.Src.Is4In6() || f.Dst.Is4In6() {
		// RFC 4942 §2.2: such addresses have no place on the wire, and the tables
		// would take them for others.
		return f, 0, false
	}
	f.Protocol = pkt[6]
	rest, first := pkt[40:length], true
	for range maxExtensions {
		var size int
		switch f.Protocol {
		case protoHopByHop, protoRouting, protoDestOptions:
			if len(rest) < 8 {
				return f, 0, false
			}
			size = 8 + int(rest[1])*8
		case protoAH:
			if len(rest) < 8 {
				return f, 0, false
			}
			size = 8 + int(rest[1])*4
		case protoFragment:
			if len(rest) < 8 {
				return f, 0, false
			}
			size = 8
			first = binary.BigEndian.Uint16(rest[2:])&^7 == 0
		default:
			f.ports(rest, first)
			return f, length, true
		}
		if size > len(rest) {
			return f, 0, false
		}
		f.Protocol, rest = rest[0], rest[size:]
		if !first {
			// What follows a fragment header in a later fragment is data, not a header.
			f.NoPorts = true
			f.NoProtocol = isExtension(f.Protocol)
			return f, length, true
		}
	}
	return f, 0, false
}

func isExtension(proto uint8) bool {
	switch proto {
	case protoHopByHop, protoRouting, protoDestOptions, protoAH, protoFragment:
		return true
	}
	return false
}

// ports reads the ports, or type and code, from what follows the IP header.
func (f *Flow) ports(b []byte, first bool) {
	if first {
		switch f.Protocol {
		case protoTCP, protoUDP, protoSCTP, protoDCCP, protoUDPLite:
			if len(b) >= 4 {
				f.SrcPort, f.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
				return
			}
		case protoICMP, protoICMPv6:
			if len(b) >= 2 {
				f.SrcPort = binary.BigEndian.Uint16(b)
				f.DstPort = f.SrcPort
				return
			}
		}
	}
	f.NoPorts = true
}

// routable tells whether a decapsulated packet has addresses that may come from a
// tunnel at all, whatever the selectors say (RFC 1122 §3.2.1.3, RFC 4291 §2.5):
// no loopback address, and no source that cannot be one host's.
func (f *Flow) routable() bool {
	return !f.Src.IsLoopback() && !f.Dst.IsLoopback() &&
		!f.Src.IsMulticast() && !f.Src.IsUnspecified() && !f.Dst.IsUnspecified() &&
		f.Src != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
