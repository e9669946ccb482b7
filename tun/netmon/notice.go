package netmon

import (
	"net"
	"net/netip"
)

// about is what a notice is about.
type about int

const (
	aLink     about = iota // came, went, or is another one than before
	anAddress              // came or went
	aRoute                 // came or went, in the table that this host's own packets take
	aLoss                  // other notices were lost
)

// notice is one thing that a system tells, in the same words whatever the system.
type notice struct {
	about about
	link  int          // the index of the interface; 0 if that is not told
	to    netip.Prefix // where a route leads
}

// news is what to make of a notice: something may have changed, or (sure) has.
type news struct{ sure bool }

// news tells whether a notice matters, and how. own is the index of the tunnel's own interface;
// it is called for a default route only. Other routes come with their addresses, or are too
// many.
func (n notice) news(own func() int) (_ news, matters bool) {
	switch {
	case n.about == aLoss: // of a default route, perhaps
		return news{sure: true}, true
	case n.about != aRoute:
		return news{}, true
	case n.to.Bits() != 0, n.link != 0 && n.link == own():
		return news{}, false
	}
	return news{sure: true}, true
}

// notify passes on what matters, until the monitor is closed.
func (m *monitor) notify(out chan<- news, n notice) {
	w, matters := n.news(m.own)
	if !matters {
		return
	}
	select {
	case out <- w:
	case <-m.stop:
	}
}

// own is the index of the tunnel's own interface; 0 if there is none of that name.
func (m *monitor) own() int {
	i, err := net.InterfaceByName(m.ignore)
	if err != nil {
		return 0
	}
	return i.Index
}
