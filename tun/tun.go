// Package tun is the host side of the tunnel: a Device that lends the IP packets
// which leave the host and takes those that arrive.
//
// Open makes one of the operating system's, which takes rights; its Queues are read
// and written by one goroutine each. What is read and written are Frames: a packet,
// or a super-packet where the system has such, with what Offload says about it. A
// Frame's memory is its lender's, until the next call.
//
// The sub-packages set up the host around it (route, dns, firewall), keep our own
// sockets out of it (outside), tell when the host has moved (netmon), replace the device
// where there is no privilege (netstack, with proxy for the ways into it), or give it to
// one program alone (enclave).
package tun

// Frame is one IP packet on its way between host and tunnel, or a super-packet: many
// packets of one flow as one, which Offload says how to cut apart. It lies in one or several
// pieces of memory that follow each other; the first holds the whole headers.
type Frame struct {
	Offload Offload
	Pieces  [][]byte
}

// Offload is what the virtio header of a packet says (Virtio 1.2 §5.1.6): which work is left
// to who takes it. Zero is a complete packet.
type Offload struct {
	GSO     GSO
	Header  int // of a super-packet: octets of IP and transport headers
	Segment int // of a super-packet: octets of payload in each packet; the last may have fewer
	// Partial says that the transport checksum is only that of the pseudo header, not
	// inverted. From Start on, the checksum is to be made and put at Start+Offset.
	// A super-packet is always partial.
	Partial       bool
	Start, Offset int
}

// GSO is the kind of a super-packet, with the numbers of virtio.
type GSO uint8

const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDP   GSO = 5 // of datagrams in either family
)

// Device is a network interface of IP packets without link-layer header: a TUN
// device, an in-process stack, or a channel in tests.
type Device interface {
	// Name is the interface's name as the operating system shows it.
	Name() string
	// MTU is the longest packet in octets.
	MTU() int
	SetMTU(mtu int) error
	// Queues are where packets come and go; at least one. The packets of a flow all
	// come from one queue, and may go to any.
	Queues() []Queue
	// Takes tells whether Write takes super-packets of a kind. Read may give any.
	Takes(kind GSO) bool
	// Close may be called by anybody, and makes a blocked Read return an error that
	// wraps os.ErrClosed.
	Close() error
}

// Queue is one of a device's queues. One goroutine may Read while another Writes; each of
// the two is called by one goroutine at a time.
type Queue interface {
	// Read blocks until there is at least one frame and fills frames from the start with
	// what is there. The memory is lent: it is valid, and may be changed, until the next
	// Read or TryRead. A frame read has one piece, and Read lends also what lies between
	// its length and its capacity: at least 64 octets.
	Read(frames []Frame) (n int, err error)
	// TryRead is Read that does not wait: it returns 0 where nothing is there.
	TryRead(frames []Frame) (n int, err error)
	// Write takes frames, and keeps no reference to them after it returned.
	// What the host does not take (queue full, malformed) is dropped there, and
	// n counts the frames that were taken.
	Write(frames []Frame) (n int, err error)
	// Batch is the number of frames worth passing to Read at once.
	Batch() int
}
