package netstack

import (
	"bytes"
	"math"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// unreachable is what an ICMP error says, in both families.
type unreachable uint8

const (
	networkUnreachable unreachable = iota
	hostUnreachable
	portUnreachable
	prohibited
)

// RFC 792, destination unreachable; RFC 1812 §5.2.7.1 for code 13; RFC 4443 §3.1.
var (
	codes4 = [...]header.ICMPv4Code{
		networkUnreachable: header.ICMPv4NetUnreachable,
		hostUnreachable:    header.ICMPv4HostUnreachable,
		portUnreachable:    header.ICMPv4PortUnreachable,
		prohibited:         header.ICMPv4AdminProhibited,
	}
	codes6 = [...]header.ICMPv6Code{
		networkUnreachable: header.ICMPv6NetworkUnreachable,
		hostUnreachable:    header.ICMPv6AddressUnreachable,
		portUnreachable:    header.ICMPv6PortUnreachable,
		prohibited:         header.ICMPv6Prohibited,
	}
)

// quoted is how much of the payload behind the headers of IP an ICMP error has. RFC 792 wants 8
// octets, which is enough to tell whose packet it was.
const quoted = 64

// quote copies the start of a packet, for an ICMP error about it.
func quote(pkt *stack.PacketBuffer) []byte {
	out := bytes.Clone(pkt.NetworkHeader().Slice())
	out = append(out, pkt.TransportHeader().Slice()...)
	room := len(pkt.NetworkHeader().Slice()) + quoted - len(out)
	if n := min(room, pkt.Data().Size()); n > 0 {
		if b, ok := pkt.Data().PullUp(n); ok {
			out = append(out, b...)
		}
	}
	return out
}

// reject sends an ICMP error about a packet from client to destination, as from the
// destination: traffic selectors that let that packet in let such an answer out.
func (f *Forwarder) reject(client, destination netip.Addr, why unreachable, quote []byte) {
	// RFC 1812 §4.3.2.8, RFC 4443 §2.4(f): as many and no more.
	if !f.host.stack.AllowICMPMessage() {
		return
	}
	if client.Is4() {
		message := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(quote)))
		message.SetType(header.ICMPv4DstUnreachable)
		message.SetCode(codes4[why])
		f.icmp(client, destination, append(message, quote...))
		return
	}
	message := header.ICMPv6(make([]byte, header.ICMPv6DstUnreachableMinimumSize, header.ICMPv6DstUnreachableMinimumSize+len(quote)))
	message.SetType(header.ICMPv6DstUnreachable)
	message.SetCode(codes6[why])
	f.icmp(client, destination, append(message, quote...))
}

// icmp sends a message whose checksum is still to be made.
func (f *Forwarder) icmp(client, from netip.Addr, message []byte) {
	r, terr := f.route(client, from)
	if terr != nil {
		return
	}
	defer r.Release()
	headers := header.ICMPv4MinimumSize // as long in both families
	protocol := header.ICMPv4ProtocolNumber
	message[2], message[3] = 0, 0
	if client.Is4() {
		header.ICMPv4(message).SetChecksum(^checksum.Checksum(message, 0))
	} else {
		protocol = header.ICMPv6ProtocolNumber
		sum := header.PseudoHeaderChecksum(protocol, r.LocalAddress(), r.RemoteAddress(), uint16(len(message)))
		header.ICMPv6(message).SetChecksum(^checksum.Checksum(message, sum))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + headers,
		Payload:            buffer.MakeWithData(message[headers:]),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = protocol
	copy(pkt.TransportHeader().Push(headers), message)
	_ = r.WritePacket(stack.NetworkHeaderParams{Protocol: protocol, TTL: r.DefaultTTL()}, pkt)
}

// datagram sends a UDP datagram by a route; payload is copied.
func datagram(r *stack.Route, from, to uint16, payload []byte) tcpip.Error {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + header.UDPMinimumSize,
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	udp := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	length := uint16(header.UDPMinimumSize + len(payload))
	udp.Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: length})
	sum := r.PseudoHeaderChecksum(header.UDPProtocolNumber, length)
	sum = udp.CalculateChecksum(checksum.Combine(sum, checksum.Checksum(payload, 0)))
	// RFC 768: a sum of zero is sent as all ones.
	if sum != math.MaxUint16 {
		sum = ^sum
	}
	udp.SetChecksum(sum)
	return r.WritePacket(stack.NetworkHeaderParams{Protocol: header.UDPProtocolNumber, TTL: r.DefaultTTL()}, pkt)
}

// route is how packets that seem to come from another get to a client.
func (f *Forwarder) route(client, from netip.Addr) (*stack.Route, tcpip.Error) {
	return f.host.stack.FindRoute(nic, tcpip.AddrFromSlice(from.AsSlice()), tcpip.AddrFromSlice(client.AsSlice()), networkOf(client), false)
}

// addressOf is the address as it stood in the packet, so that one of IPv4 in the form for IPv6 stays
// that.
func addressOf(a tcpip.Address) netip.Addr {
	out, _ := netip.AddrFromSlice(a.AsSlice())
	return out
}

// answers tells whether a packet from a is one that may be answered.
//
// RFC 1122 §3.2.1.3, RFC 4291 §2.5: the others are no sources of a host's packets.
func (f *Forwarder) answers(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !f.isHost(a)
}
