// Package tun is the host side of the tunnel: a Device that lends the IP packets
// which leave the host and takes those that arrive. Its sub-packages set up the
// host around it (route, firewall) and replace it where there is no privilege
// (netstack).
package tun

// Frame is one IP packet on its way between host and tunnel, in one or several
// pieces of memory that follow each other.
type Frame struct {
	Pieces [][]byte
}

// Device is a network interface of IP packets without link-layer header: a TUN
// device, an in-process stack, or a channel in tests.
//
// One goroutine may Read while another Writes; each method may be called by one
// goroutine at a time. Close may be called by anybody, and makes a blocked Read
// return an error that wraps os.ErrClosed.
type Device interface {
	// Name is the interface's name as the operating system shows it.
	Name() string
	// MTU is the longest packet in octets.
	MTU() int
	SetMTU(mtu int) error
	// Read blocks until there is at least one packet and fills frames from the
	// start. The memory is lent: it is valid, and may be changed, until the next
	// Read. A frame read has one piece.
	Read(frames []Frame) (n int, err error)
	// Write takes packets, and keeps no reference to them after it returned.
	// What the host does not take (queue full, malformed) is dropped there, and
	// n counts those that were taken.
	Write(frames []Frame) (n int, err error)
	// Batch is the number of frames worth passing to Read at once.
	Batch() int
	Close() error
}
