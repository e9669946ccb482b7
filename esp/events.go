package esp

import "martlet/esp/udpencap"

// Events is what the plane tells its owner. The methods are called from the packet
// loops, several at once: they must return soon. They may call the plane's methods,
// except Close and RemoveSocket, which wait for the loops.
type Events interface {
	// IKE hands over an IKE message, without marker. Its Data is lent until the
	// method returns.
	IKE(s udpencap.Socket, p udpencap.Packet)
	// Acquire says that the host wants to send something that no child takes. It
	// comes at most once a second for a destination, and 50 times a second in all.
	// The packet is dropped.
	Acquire(f Flow)
	// UnknownSPI says that ESP with an SPI of no SA came over a path: the peer may
	// have an SA that we lost, or somebody guesses. At most 10 times a second for
	// each socket.
	UnknownSPI(path Path, spi uint32)
	// Remapped says that an authentic packet of a child, with the highest
	// sequence number so far, came from another address than the child's path has. It
	// comes once for each new address, and again after a second while nobody moves
	// the child.
	Remapped(child uint64, path Path)
	// Expire says that a child must be replaced: soft when either direction has
	// reached Child.Soft, hard when one has reached Child.Hard or the outbound sequence
	// numbers are used up, and nothing is sent any more. Once each for a direction.
	Expire(child uint64, hard bool)
}

// limiter is a token bucket on the plane's clock. It belongs to one goroutine.
type limiter struct {
	every int64 // nanoseconds for a token
	burst int64 // tokens at most
	until int64 // the time to which tokens are used
}

// newLimiter makes a full bucket.
func newLimiter(every, burst int64) limiter {
	return limiter{every: every, burst: burst, until: -every * burst}
}

// allow takes a token if there is one.
func (l *limiter) allow(now int64) bool {
	l.until = max(l.until, now-l.burst*l.every)
	if l.until+l.every > now {
		return false
	}
	l.until += l.every
	return true
}
