package esp

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"martlet/esp/udpencap"
)

// Counter counts inner packets and their octets.
type Counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type counter struct{ packets, bytes atomic.Uint64 }

func (c *counter) add(packets, bytes uint64) {
	c.packets.Add(packets)
	c.bytes.Add(bytes)
}

func (c *counter) snapshot() Counter { return Counter{c.packets.Load(), c.bytes.Load()} }

// ChildStats is what a child has carried. In counts what the host took, Out what a
// socket took.
type ChildStats struct {
	ID        uint64
	In, Out   Counter
	Drops     Drops
	Path      Path
	Heard     time.Time // last authentic packet; zero for never
	Sent      time.Time // last packet sent; zero for never
	Installed time.Time
}

// Stats is what a plane has carried since it was made, children removed since
// included.
type Stats struct {
	In, Out    Counter
	Drops      Drops
	IKE        uint64 // messages received
	Keepalives uint64 // NAT keepalives received
	Sockets    udpencap.Counters
	Children   []ChildStats // those installed now, by ID
}

// Stats takes a snapshot. The counters are read one by one, so that a packet on its
// way may be in one and not yet in another.
func (p *Plane) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.totals()
	for _, c := range p.children {
		s.Children = append(s.Children, p.childStats(c))
	}
	slices.SortFunc(s.Children, func(a, b ChildStats) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// Totals is Stats without the Children, of which there may be many.
func (p *Plane) Totals() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.totals()
}

// totals wants mu.
func (p *Plane) totals() Stats {
	s := Stats{
		In:         p.in.snapshot(),
		Out:        p.out.snapshot(),
		Drops:      p.drops.snapshot(),
		IKE:        p.ikeMessages.Load(),
		Keepalives: p.keepalives.Load(),
		Sockets:    p.gone,
	}
	for b := range maps.Values(p.sockets) {
		s.Sockets = s.Sockets.Add(socketCounters(b.socket))
	}
	return s
}

// socketCounters reads the counters of a socket that has some.
func socketCounters(s udpencap.Socket) udpencap.Counters {
	if c, ok := s.(interface{ Counters() udpencap.Counters }); ok {
		return c.Counters()
	}
	return udpencap.Counters{}
}

// ChildStats is Stats of one child; ok tells whether it is installed.
func (p *Plane) ChildStats(id uint64) (s ChildStats, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.children[id]
	if !ok {
		return s, false
	}
	return p.childStats(c), true
}

func (p *Plane) childStats(c *child) ChildStats {
	return ChildStats{
		ID:        c.id,
		In:        c.rx.carried.snapshot(),
		Out:       c.tx.carried.snapshot(),
		Drops:     c.drops.snapshot(),
		Path:      c.route.Load().path,
		Heard:     p.wall(c.rx.last.Load()),
		Sent:      p.wall(c.tx.last.Load()),
		Installed: p.wall(c.installed),
	}
}

// Usage tells when something authentic was last heard, and something last sent, on
// any of the children; zero for never. The times are those of the batch, and carry a
// monotonic reading.
func (p *Plane) Usage(ids []uint64) (heard, sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rx, tx int64
	for _, id := range ids {
		if c, ok := p.children[id]; ok {
			rx, tx = max(rx, c.rx.last.Load()), max(tx, c.tx.last.Load())
		}
	}
	return p.wall(rx), p.wall(tx)
}

// now is the plane's clock: nanoseconds since it was made, never 0. A loop reads it
// once a batch.
func (p *Plane) now() int64 { return int64(time.Since(p.epoch)) + 1 }

// wall is the time of a reading of now; that of 0 is zero.
func (p *Plane) wall(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return p.epoch.Add(time.Duration(at - 1))
}
