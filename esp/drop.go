package esp

import (
	"iter"
	"sync/atomic"
)

// Drop is why a packet was dropped. It is an error, so that what Seal and Open return
// costs no allocation and counts under its own name. The set is closed.
type Drop uint8

const (
	_              Drop = iota
	DropNoPolicy        // out: no child's selectors hold the packet
	DropNoSA            // in: no SA has this SPI
	DropTooShort        // in: too short for the SA's algorithms, or no whole blocks
	DropReplay          // in: the sequence number was accepted before
	DropTooOld          // in: the sequence number lies before the window
	DropBadICV          // in: the integrity check failed
	DropBadPadding      // in: pad length or padding is not RFC 4303 §2.4's
	DropNextHeader      // in: the next header is no IP version: no tunnel mode
	DropDummy           // in: a dummy packet (RFC 4303 §2.6)
	DropBadInner        // both: the inner packet is malformed or cannot be routed
	DropSelector        // in: the inner packet is outside the SA's selectors
	DropECN             // in: congestion marked on a packet that cannot tell (RFC 6040 §4.2)
	DropLoop            // both: an IKE or ESP packet of our own sockets, which routes led into the tunnel
	DropExhausted       // out: no sequence number is left
	DropTooBig          // out: longer than what passes to the peer; who sent it is told
	DropDevice          // in: the host did not take the packet
	DropSocket          // out: the socket did not take the packet
	DropPanic           // both: a batch in which a fault of ours was met
	dropEnd
)

var dropNames = [dropEnd]string{
	DropNoPolicy:   "no-policy",
	DropNoSA:       "no-sa",
	DropTooShort:   "too-short",
	DropReplay:     "replay",
	DropTooOld:     "too-old",
	DropBadICV:     "bad-icv",
	DropBadPadding: "bad-padding",
	DropNextHeader: "next-header",
	DropDummy:      "dummy",
	DropBadInner:   "bad-inner",
	DropSelector:   "selector",
	DropECN:        "ecn",
	DropLoop:       "loop",
	DropExhausted:  "exhausted",
	DropTooBig:     "too-big",
	DropDevice:     "device",
	DropSocket:     "socket",
	DropPanic:      "panic",
}

// String is the reason's stable name, as in "bad-icv".
func (d Drop) String() string {
	if d == 0 || d >= dropEnd {
		return "unknown"
	}
	return dropNames[d]
}

func (d Drop) Error() string { return "esp: packet dropped: " + d.String() }

// Drops counts dropped packets by reason, indexed by Drop.
type Drops [dropEnd]uint64

// All gives each reason with its count, in the order of the constants.
func (d *Drops) All() iter.Seq2[Drop, uint64] {
	return func(yield func(Drop, uint64) bool) {
		for r := Drop(1); r < dropEnd; r++ {
			if !yield(r, d[r]) {
				return
			}
		}
	}
}

// Total is the number of packets dropped for any reason.
func (d *Drops) Total() uint64 {
	var sum uint64
	for _, n := range d {
		sum += n
	}
	return sum
}

// drops is what Drops is a snapshot of.
type drops [dropEnd]atomic.Uint64

func (d *drops) snapshot() (s Drops) {
	for i := range d {
		s[i] = d[i].Load()
	}
	return s
}
