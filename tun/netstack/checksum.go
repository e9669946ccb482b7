package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"martlet/tun"
)

// intact checks the checksums of a packet that enters the stack: of the IPv4
// header, and of TCP, UDP and ICMP. The link says that it does
// (CapabilityRXChecksumOffload), because nobody could any more where packets are
// joined. Of fragments only the header is checked; of a packet whose transport
// checksum is left to be made, whether offload means that checksum.
func intact(b []byte, offload tun.Offload) bool {
	t, ok := transportOf(b)
	if !ok {
		return false
	}
	if !offload.Partial {
		return t.intact()
	}
	if t.fragment || offload.Start != t.start {
		return false
	}
	switch t.protocol {
	case header.TCPProtocolNumber:
		const checksum = 16
		return len(t.payload) >= header.TCPMinimumSize && offload.Offset == checksum &&
			(offload.GSO == tun.GSONone || t.v4 == (offload.GSO == tun.GSOTCPv4))
	case header.UDPProtocolNumber:
		const checksum = 6
		return len(t.payload) >= header.UDPMinimumSize && offload.Offset == checksum && offload.GSO == tun.GSONone
	}
	return false
}

// transport is what an IP packet carries.
type transport struct {
	v4, fragment bool
	start        int // where payload starts
	protocol     tcpip.TransportProtocolNumber
	payload      []byte
	src, dst     tcpip.Address
}

// transportOf finds it, behind extension headers; false where the headers of IP are
// damaged. A fragment may have no payload here.
func transportOf(b []byte) (transport, bool) {
	if b[0]>>4 == 4 {
		ip := header.IPv4(b)
		if len(b) < header.IPv4MinimumSize || !ip.IsValid(len(b)) || !ip.IsChecksumValid() {
			return transport{}, false
		}
		return transport{
			v4: true, fragment: ip.More() || ip.FragmentOffset() != 0, protocol: ip.TransportProtocol(),
			start: int(ip.HeaderLength()), payload: ip.Payload(), src: ip.SourceAddress(), dst: ip.DestinationAddress(),
		}, true
	}
	ip := header.IPv6(b)
	if len(b) < header.IPv6MinimumSize || !ip.IsValid(len(b)) {
		return transport{}, false
	}
	next, rest := ip.NextHeader(), ip.Payload()
	for {
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(rest) < 8 {
				return transport{}, false
			}
			length := 8 * (int(rest[1]) + 1)
			if len(rest) < length {
				return transport{}, false
			}
			next, rest = rest[0], rest[length:]
			continue
		case header.IPv6FragmentExtHdrIdentifier:
			return transport{fragment: true}, true
		}
		return transport{
			protocol: tcpip.TransportProtocolNumber(next),
			start:    len(ip.Payload()) - len(rest) + header.IPv6MinimumSize, payload: rest,
			src: ip.SourceAddress(), dst: ip.DestinationAddress(),
		}, true
	}
}

// intact checks the checksum over the payload. Fragments, and protocols without one that
// we know, are intact.
func (t transport) intact() bool {
	if t.fragment {
		return true
	}
	switch t.protocol {
	case header.TCPProtocolNumber:
		if len(t.payload) < header.TCPMinimumSize {
			return false
		}
	case header.UDPProtocolNumber:
		if len(t.payload) < header.UDPMinimumSize {
			return false
		}
		if header.UDP(t.payload).Checksum() == 0 {
			return t.v4 // RFC 8200 §8.1: over IPv6 there must be one
		}
	case header.ICMPv4ProtocolNumber:
		return checksum.Checksum(t.payload, 0) == 0xffff
	case header.ICMPv6ProtocolNumber:
	default:
		return true
	}
	pseudo := header.PseudoHeaderChecksum(t.protocol, t.src, t.dst, uint16(len(t.payload)))
	return checksum.Checksum(t.payload, pseudo) == 0xffff
}
