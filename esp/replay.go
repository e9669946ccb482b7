package esp

import "math"

// Sizes of the replay window, in packets.
const (
	minWindow     = 64
	maxWindow     = 65536
	defaultWindow = 4096
)

// window is the anti-replay window of an inbound SA (RFC 4303 §3.4.3): the size
// sequence numbers up to top, with a bit for each that was accepted. It is a ring of
// bits; the length is a power of two, at least size. Numbers above top have no valid
// bit: advance clears them.
//
// Check and commit are apart, because only a number whose packet proved authentic
// may change anything.
type window struct {
	bits []uint64
	mask uint64 // ring length in bits, minus one
	size uint64
	top  uint64 // the highest number accepted; 0 is none, as 0 is never sent
}

func newWindow(size int) window {
	ring := minWindow
	for ring < size {
		ring *= 2
	}
	return window{bits: make([]uint64, ring/64), mask: uint64(ring - 1), size: uint64(size)}
}

// check tells whether seq may be accepted: 0, DropReplay or DropTooOld.
func (w *window) check(seq uint64) Drop {
	switch {
	case seq == 0:
		return DropReplay
	case seq > w.top:
		return 0
	case w.top-seq >= w.size:
		return DropTooOld
	}
	i := seq & w.mask
	if w.bits[i/64]>>(i%64)&1 != 0 {
		return DropReplay
	}
	return 0
}

// commit accepts seq, which check let through, and tells whether it is the
// highest so far.
func (w *window) commit(seq uint64) (newest bool) {
	if newest = seq > w.top; newest {
		w.advance(seq)
	}
	i := seq & w.mask
	w.bits[i/64] |= 1 << (i % 64)
	return newest
}

// advance moves top up to seq and clears the bits of the numbers between.
func (w *window) advance(seq uint64) {
	n := seq - w.top
	if n > w.mask {
		clear(w.bits)
		w.top = seq
		return
	}
	for next := w.top + 1; n > 0; {
		i := next & w.mask
		k := min(64-i%64, n)
		w.bits[i/64] &^= (math.MaxUint64 >> (64 - k)) << (i % 64)
		next += k
		n -= k
	}
	w.top = seq
}

// infer completes the low half of an extended sequence number, taking that number
// which lies in or above the window (RFC 4303 appendix A2.2). It reports false where
// that would be below zero or above the last number.
func (w *window) infer(low uint32) (seq uint64, ok bool) {
	high, topLow := uint32(w.top>>32), uint32(w.top)
	bottom := topLow - uint32(w.size) + 1 // modulo 2^32, as the RFC has it
	if uint64(topLow) >= w.size-1 {
		// The window lies within one half-space.
		if low < bottom {
			high++
			if high == 0 {
				return 0, false
			}
		}
	} else if low >= bottom {
		// The window reaches back into the half-space before.
		if high == 0 {
			return 0, false
		}
		high--
	}
	return uint64(high)<<32 | uint64(low), true
}
