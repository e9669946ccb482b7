// Package udpencap is the sockets that carry IKE and ESP: UDP datagrams told
// apart as RFC 3948 §2 and RFC 7296 §3.1 say, and where UDP does not pass, messages on
// TCP streams (RFC 9329).
//
// Whether IKE messages carry the non-ESP marker (four zero octets) is a property of
// the socket: one that speaks from or to port 500 never has it, all others always, so
// that no octet is ever guessed.
package udpencap

import (
	"iter"
	"net/netip"
	"slices"
)

// Kind tells what a datagram holds.
type Kind uint8

const (
	IKE       Kind = iota // an IKE message, without its marker
	ESP                   // an ESP packet, from the SPI on
	Keepalive             // one octet 0xFF (RFC 3948 §2.3)
	// TooBig is no datagram: a datagram of ours to Remote was longer than what passes. It is
	// the word of a router (RFC 1191, RFC 8201) or of this system, and not authentic. It is
	// about an address: the port may be missing.
	TooBig
)

// Packet is one datagram, or many ESP packets of the same length that came or go together.
// In what is read, Data is lent and may be changed in place.
type Packet struct {
	Kind Kind
	Data []byte
	// Segment, if not 0, says that Data is several ESP packets of this length that follow each
	// other; the last may be shorter. Of TooBig it is the longest IP packet in octets that
	// passes.
	Segment int
	Local   netip.AddrPort // where it arrived; when sending, the source, whose zero Addr leaves the choice to the system
	Remote  netip.AddrPort
	ECN     uint8 // the two ECN bits of the outer header (RFC 3168 §5)
	DSCP    uint8 // when sending: the DSCP of the outer header
	// DF, when sending, says that nobody may cut the datagram into fragments: where it is too
	// long it is lost, and TooBig comes. A system that cannot say so ignores it.
	DF bool
}

// Count is the number of datagrams.
func (p *Packet) Count() int {
	if p.Segment == 0 || p.Kind == TooBig {
		return 1
	}
	return (len(p.Data) + p.Segment - 1) / p.Segment
}

// Datagrams are the parts of Data that are one datagram each.
func (p *Packet) Datagrams() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if p.Segment == 0 {
			yield(p.Data)
			return
		}
		for part := range slices.Chunk(p.Data, p.Segment) {
			if !yield(part) {
				return
			}
		}
	}
}

// Socket is what is bound to one local address, or all TCP streams of a node.
type Socket interface {
	// LocalAddr is the bound address; its Addr is unspecified for a wildcard.
	LocalAddr() netip.AddrPort
	// Encap reports whether this socket marks IKE messages and carries ESP.
	Encap() bool
	// Stream reports whether this socket is TCP streams. One has all streams of
	// a node, told apart by both addresses of a Packet.
	Stream() bool
	// Readers are where datagrams arrive; at least one. Those of one inbound SPI all come
	// from one of them.
	Readers() []Reader
	// Write sends each packet, and returns how many it sent before the first
	// error. Nothing is kept. Any number of goroutines may call it.
	Write(packets []Packet) (n int, err error)
	// Close makes a blocked Read return an error that wraps net.ErrClosed.
	Close() error
}

// Reader is a part of what arrives at a socket. One goroutine may use it.
type Reader interface {
	// Read blocks until at least one datagram is there, and fills packets from the start
	// with what is there. Datagrams that are none of the kinds (empty, or too short for any)
	// are counted and not returned. Errors of single datagrams, such as ICMP unreachable, are
	// not returned either. The memory is lent until the next Read.
	Read(packets []Packet) (n int, err error)
	// ReadMore is Read that does not wait, and leaves what was lent before as it is. It
	// returns 0 where nothing is there, or where there is no memory until the next Read.
	ReadMore(packets []Packet) (n int, err error)
	// Batch is the number of packets worth passing to Read at once.
	Batch() int
}

// Listener opens sockets: the operating system's (UDP), or those of a simulated
// network. Port 0 asks for an ephemeral port.
type Listener interface {
	Listen(local netip.AddrPort, encap bool) (Socket, error)
}
