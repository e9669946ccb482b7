package udpencap

import "sync/atomic"

// Counters is what a socket has met. Sockets that count have a method Counters.
type Counters struct {
	Received   uint64 // datagrams of the three kinds
	Sent       uint64
	Malformed  uint64 // datagrams of no kind, dropped
	ReadErrors uint64 // single datagrams, such as ICMP errors of earlier ones
}

// Add returns the sum.
func (c Counters) Add(o Counters) Counters {
	return Counters{c.Received + o.Received, c.Sent + o.Sent, c.Malformed + o.Malformed, c.ReadErrors + o.ReadErrors}
}

type counters struct{ received, sent, malformed, readErrors atomic.Uint64 }

func (c *counters) snapshot() Counters {
	return Counters{c.received.Load(), c.sent.Load(), c.malformed.Load(), c.readErrors.Load()}
}
