package proxy

import "sync/atomic"

// Counters are what servers count; the zero value is ready. Servers may share one.
type Counters struct {
	accepted, open              atomic.Uint64 // open goes down too
	sent, received              atomic.Uint64
	datagramsSent, datagramsGot atomic.Uint64
	dropped, queries            atomic.Uint64
	failures                    [failures]atomic.Uint64
}

// Counts is the state of Counters at one moment.
type Counts struct {
	Accepted          uint64           // connections, associations and flows that were let in
	Open              uint64           // of these, now
	Sent              uint64           // octets into the tunnel
	Received          uint64           // octets out of the tunnel
	DatagramsSent     uint64           // into the tunnel
	DatagramsReceived uint64           // out of the tunnel
	DatagramsDropped  uint64           // of a stranger, malformed, fragments, too long, too many
	Queries           uint64           // of DNS
	Failures          [failures]uint64 // by Failure, which is the index
}

// Snapshot reads all counters, one after the other.
func (c *Counters) Snapshot() Counts {
	s := Counts{
		Accepted: c.accepted.Load(), Open: c.open.Load(),
		Sent: c.sent.Load(), Received: c.received.Load(),
		DatagramsSent: c.datagramsSent.Load(), DatagramsReceived: c.datagramsGot.Load(),
		DatagramsDropped: c.dropped.Load(), Queries: c.queries.Load(),
	}
	for i := range c.failures {
		s.Failures[i] = c.failures[i].Load()
	}
	return s
}

func (c *Counters) fail(kind Failure) { c.failures[kind].Add(1) }

// enter counts somebody in, until the function that it returns is called.
func (c *Counters) enter() (leave func()) {
	c.accepted.Add(1)
	c.open.Add(1)
	return func() { c.open.Add(^uint64(0)) }
}

// datagram counts one of n octets into the tunnel, or out of it.
func (c *Counters) datagram(intoTunnel bool, n int) {
	if intoTunnel {
		c.datagramsSent.Add(1)
		c.sent.Add(uint64(n))
	} else {
		c.datagramsGot.Add(1)
		c.received.Add(uint64(n))
	}
}
