package martlet

import (
	"net/netip"
	"sync/atomic"

	"martlet/ike"
)

// captureFilter leaves out what is known to be of other connections than one. What belongs to none,
// as a peer that has not said yet who it is, stays: it may be what is looked for. A nil one leaves
// out nothing.
type captureFilter struct {
	connection string
	known      atomic.Pointer[knownEnds]
}

// knownEnds are addresses of the connection, and of all others.
type knownEnds struct{ ours, others addressSet }

// addressSet is addresses by themselves and ranges.
type addressSet struct {
	single map[netip.Addr]struct{}
	ranges []addressRange
}

type addressRange struct{ from, to netip.Addr }

func (s *addressSet) add(from, to netip.Addr) {
	if from != to {
		s.ranges = append(s.ranges, addressRange{from, to})
		return
	}
	if s.single == nil {
		s.single = map[netip.Addr]struct{}{}
	}
	s.single[from] = struct{}{}
}

func (s *addressSet) has(a netip.Addr) bool {
	if _, ok := s.single[a]; ok {
		return true
	}
	for _, r := range s.ranges {
		if r.from.Compare(a) <= 0 && a.Compare(r.to) <= 0 && a.BitLen() == r.from.BitLen() {
			return true
		}
	}
	return false
}

// passes tells whether a packet between two addresses is wanted.
func (f *captureFilter) passes(a, b netip.Addr) bool {
	if f == nil {
		return true
	}
	a, b = a.Unmap(), b.Unmap()
	known := f.known.Load()
	return known.ours.has(a) || known.ours.has(b) || !known.others.has(a) && !known.others.has(b)
}

// ofConnection tells whether what is of a connection is wanted; it is empty where nobody knows.
func (f *captureFilter) ofConnection(name string) bool {
	return f == nil || name == "" || name == f.connection
}

// learn takes what there is: outside the addresses of peers, inside what is behind them.
func (f *captureFilter) learn(all []ike.Status, inner bool) {
	known := &knownEnds{}
	for _, st := range all {
		set := &known.others
		if st.Connection == f.connection {
			set = &known.ours
		}
		if !inner {
			remote := st.Path.Remote.Addr().Unmap()
			set.add(remote, remote)
			continue
		}
		for _, c := range st.Children {
			for _, sel := range c.Remote {
				set.add(sel.From, sel.To)
			}
		}
	}
	f.known.Store(known)
}
