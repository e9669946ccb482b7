package udpencap

import "sync/atomic"

// Counters is what a socket has met, in datagrams. Sockets that count have a method Counters.
type Counters struct {
	Received   uint64 // of the three kinds
	Sent       uint64
	Malformed  uint64 // of no kind, dropped
	ReadErrors uint64 // such as ICMP errors of earlier ones
	TooBig     uint64 // not sent, for they are longer than what passes and must not be cut
	Congested  uint64 // not sent, for a queue of this system is full
	Overflows  uint64 // dropped, for the receive buffer was full; some systems count those of a slab as one
}

// Add returns the sum.
func (c Counters) Add(o Counters) Counters {
	return Counters{
		Received:   c.Received + o.Received,
		Sent:       c.Sent + o.Sent,
		Malformed:  c.Malformed + o.Malformed,
		ReadErrors: c.ReadErrors + o.ReadErrors,
		TooBig:     c.TooBig + o.TooBig,
		Congested:  c.Congested + o.Congested,
		Overflows:  c.Overflows + o.Overflows,
	}
}

type counters struct {
	received, sent, malformed, readErrors, tooBig, congested, overflows atomic.Uint64
}

func (c *counters) snapshot() Counters {
	return Counters{
		Received:   c.received.Load(),
		Sent:       c.sent.Load(),
		Malformed:  c.malformed.Load(),
		ReadErrors: c.readErrors.Load(),
		TooBig:     c.tooBig.Load(),
		Congested:  c.congested.Load(),
		Overflows:  c.overflows.Load(),
	}
}
