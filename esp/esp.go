// Package esp is the data plane: Encapsulating Security Payload in tunnel mode
// (RFC 4303) inside UDP (RFC 3948), between a tun.Device and udpencap sockets. It
// speaks to the control plane in the words of XFRM: install, switch, retire, move,
// remove; acquire, expire, remapped, unknown SPI.
//
// A Plane is the whole of it: New gives it the device and the Events of its owner,
// AddSocket the sockets; after Start its goroutines move packets through the
// children that Install gave it, and Close ends them. The journeys of a packet
// stand at the head of outbound.go and inbound.go. An Outbound and an Inbound are
// one direction of one SA, and can be used alone.
//
// The unit of work is not the packet but the super-packet, many packets of one flow.
// Nothing is allocated on the way of a packet. What comes from the network is
// hostile until its integrity and its number in the replay window are checked, and
// the inner packet until it lies within the selectors of its SA; what is dropped
// is counted by reason (Drops), and never logged one by one.
package esp

import (
	"net/netip"

	"martlet/crypto/suite"
)

// Selector is one traffic selector (RFC 4301 §4.4.1.1): a range of addresses of
// one family, a protocol (0 = any) and a range of ports. For ICMP the port holds
// type (high octet) and code. StartPort 65535 with EndPort 0 is OPAQUE. It has the
// fields of ike/message's, so that one converts to the other.
type Selector struct {
	Protocol           uint8
	StartPort, EndPort uint16
	From, To           netip.Addr
}

// Path is where the packets of a child SA go and come from. The socket is the one
// that is bound to Local's port; where Stream is set, that of the TCP streams.
type Path struct {
	Local, Remote netip.AddrPort
	Stream        bool
}

// protocol is what carries the packets.
func (p Path) protocol() uint8 {
	if p.Stream {
		return protoTCP
	}
	return protoUDP
}

// Keys is one direction of a child SA: algorithms and keys of one SPI. Integ is
// zero beside an AEAD. The slices belong to the SA from Install on.
type Keys struct {
	SPI      uint32
	Encr     suite.Transform
	Integ    suite.Transform
	EncrKey  suite.Secret // with salt, as suite.NewCipher wants it
	IntegKey suite.Secret
	ESN      bool // 64-bit sequence numbers on the wire's integrity check
}

// Volume is an amount of traffic in one direction: packets by their sequence numbers, and
// octets of inner packets. Zero fields are no limit.
type Volume struct{ Bytes, Packets uint64 }

// reached tells whether one of the limits is.
func (v Volume) reached(bytes, packets uint64) bool {
	return v.Bytes != 0 && bytes >= v.Bytes || v.Packets != 0 && packets >= v.Packets
}

// Child is a pair of SAs and the traffic that it carries.
type Child struct {
	ID            uint64 // chosen by the control plane, unique in the plane
	In, Out       Keys
	Local, Remote []Selector // of inner addresses: on our side, on the peer's
	Path          Path
	Window        int  // replay window in packets, 64 to 65536; 0 means 4096
	Pad           int  // octets to which shorter inner packets are padded (RFC 4303 §2.7)
	CopyDSCP      bool // copy the inner DSCP to the outer header
	KeepMSS       bool // leave the segment size that TCP offers as it is
	// Group, if not 0, names children with the same selectors that share their traffic, each
	// flow on one of them (RFC 9611 §3). Slot is the child's place: of those that have the same,
	// as a child and its successor, one is in service.
	Group uint64
	Slot  int
	// Soft is the traffic after which Expire asks for another child; 2^31 packets in any
	// case. After Hard nothing more is sent.
	Soft, Hard Volume
}
