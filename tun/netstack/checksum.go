package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// intact checks the checksums of a packet that enters the stack: of the IPv4
// header, and of TCP, UDP and ICMP. The link says that it does
// (CapabilityRXChecksumOffload), because the stack itself could not any more once
// packets are joined. Of fragments only the header is checked.
func intact(b []byte) bool {
	if b[0]>>4 == 4 {
		ip := header.IPv4(b)
		if len(b) < header.IPv4MinimumSize || !ip.IsValid(len(b)) || !ip.IsChecksumValid() {
			return false
		}
		if ip.More() || ip.FragmentOffset() != 0 {
			return true
		}
		return transportIntact(ip.Payload(), ip.TransportProtocol(), ip.SourceAddress(), ip.DestinationAddress(), true)
	}
	ip := header.IPv6(b)
	if len(b) < header.IPv6MinimumSize || !ip.IsValid(len(b)) {
		return false
	}
	next, rest := ip.NextHeader(), ip.Payload()
	for {
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(rest) < 8 {
				return false
			}
			length := 8 * (int(rest[1]) + 1)
			if len(rest) < length {
				return false
			}
			next, rest = rest[0], rest[length:]
		case header.IPv6FragmentExtHdrIdentifier:
			return true
		default:
			return transportIntact(rest, tcpip.TransportProtocolNumber(next), ip.SourceAddress(), ip.DestinationAddress(), false)
		}
	}
}

// transportIntact checks the checksum of b, a whole payload. Protocols without one
// that we know are intact.
func transportIntact(b []byte, protocol tcpip.TransportProtocolNumber, src, dst tcpip.Address, v4 bool) bool {
	switch protocol {
	case header.TCPProtocolNumber:
		if len(b) < header.TCPMinimumSize {
			return false
		}
	case header.UDPProtocolNumber:
		if len(b) < header.UDPMinimumSize {
			return false
		}
		if header.UDP(b).Checksum() == 0 {
			return v4 // RFC 8200 §8.1: over IPv6 there must be one
		}
	case header.ICMPv4ProtocolNumber:
		return checksum.Checksum(b, 0) == 0xffff
	case header.ICMPv6ProtocolNumber:
	default:
		return true
	}
	pseudo := header.PseudoHeaderChecksum(protocol, src, dst, uint16(len(b)))
	return checksum.Checksum(b, pseudo) == 0xffff
}
