// Package udpencap is the sockets that carry IKE and ESP: UDP datagrams told
// apart as RFC 3948 §2 and RFC 7296 §3.1 say, and where UDP does not pass, messages on
// TCP streams (RFC 9329).
//
// Whether IKE messages carry the non-ESP marker (four zero octets) is a property of
// the socket: one that speaks from or to port 500 never has it, all others always, so
// that no octet is ever guessed.
package udpencap

import "net/netip"

// Kind tells what a datagram holds.
type Kind uint8

const (
	IKE       Kind = iota // an IKE message, without its marker
	ESP                   // an ESP packet, from the SPI on
	Keepalive             // one octet 0xFF (RFC 3948 §2.3)
)

// Packet is one datagram. In what Read fills, Data is lent until the next Read of
// that socket and may be changed in place.
type Packet struct {
	Kind   Kind
	Data   []byte
	Local  netip.AddrPort // where it arrived; when sending, the source, whose zero Addr leaves the choice to the system
	Remote netip.AddrPort
	ECN    uint8 // the two ECN bits of the outer header (RFC 3168 §5)
	DSCP   uint8 // when sending: the DSCP of the outer header
}

// Socket is one bound socket. One goroutine may Read; any number may Write.
// Close makes a blocked Read return an error that wraps net.ErrClosed.
type Socket interface {
	// LocalAddr is the bound address; its Addr is unspecified for a wildcard.
	LocalAddr() netip.AddrPort
	// Encap reports whether this socket marks IKE messages and carries ESP.
	Encap() bool
	// Stream reports whether this socket is TCP streams. One has all streams of
	// a node, told apart by both addresses of a Packet.
	Stream() bool
	// Read blocks until at least one datagram is there. Datagrams that are none
	// of the kinds (empty, or too short for any) are counted and not returned.
	// Errors of single datagrams, such as ICMP unreachable, are not returned either.
	Read(packets []Packet) (n int, err error)
	// Write sends each packet, and returns how many it sent before the first
	// error. Nothing is kept.
	Write(packets []Packet) (n int, err error)
	// Batch is the number of packets worth passing to Read at once.
	Batch() int
	Close() error
}

// Listener opens sockets: the operating system's (UDP), or those of a simulated
// network. Port 0 asks for an ephemeral port.
type Listener interface {
	Listen(local netip.AddrPort, encap bool) (Socket, error)
}
