package netstack

import "sync/atomic"

// ForwardStatus is what a Forwarder did and does. Numbers that are not of now only grow.
type ForwardStatus struct {
	TCP  ForwardCounters `json:"tcp"`
	UDP  ForwardCounters `json:"udp"`
	Echo ForwardCounters `json:"echo"`
	// Refused counts packets and connections that were turned away because of where they
	// wanted to, by why; those never seen are left out.
	Refused map[Reason]uint64 `json:"refused"`
	// NoEcho says why the host lets no ICMP echo out, by family; empty: not known that it does not.
	NoEcho4 string `json:"no_echo4,omitempty"`
	NoEcho6 string `json:"no_echo6,omitempty"`
}

// ForwardCounters are those of one transport. What is counted is connections, flows, or
// echo requests.
type ForwardCounters struct {
	Open    int    `json:"open"`    // now
	Waiting int    `json:"waiting"` // now: TCP connections that have not begun, or have ended but for the last acknowledgment
	Opened  uint64 `json:"opened"`
	// Refused counts what the destinations forbid.
	Refused uint64 `json:"refused"`
	// Failed is what the host could not reach, or was not answered.
	Failed uint64 `json:"failed"`
	// Full counts what a bound turned away or ended early.
	Full uint64 `json:"full"`
	// Idle counts what ended because nothing came for long.
	Idle uint64 `json:"idle"`
	// Dropped counts datagrams that came faster than they could go on.
	Dropped uint64 `json:"dropped"`
	// Octets of payload from clients and to them.
	FromClients uint64 `json:"from_clients"`
	ToClients   uint64 `json:"to_clients"`
}

type counters struct {
	opened, refused, failed, full, idle, dropped, fromClients, toClients atomic.Uint64
}

func (c *counters) snapshot(open int) ForwardCounters {
	return ForwardCounters{
		Open: open, Opened: c.opened.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(), Full: c.full.Load(),
		Idle: c.idle.Load(), Dropped: c.dropped.Load(), FromClients: c.fromClients.Load(), ToClients: c.toClients.Load(),
	}
}

// Status is a snapshot; it may be asked for often.
func (f *Forwarder) Status() ForwardStatus {
	s := ForwardStatus{
		UDP:     f.udp.snapshot(f.flows.len()),
		Echo:    f.echo.snapshot(f.echoes.len()),
		Refused: map[Reason]uint64{},
		NoEcho4: f.echo4.failure(),
		NoEcho6: f.echo6.failure(),
	}
	waiting := f.pending.len() // some may not be in sessions yet
	s.TCP = f.tcp.snapshot(max(f.sessions.len()-waiting, 0))
	s.TCP.Waiting = waiting + f.leaving.len()
	for r := range reasons {
		if n := f.refused[r].Load(); n > 0 {
			s.Refused[r] = n
		}
	}
	return s
}
