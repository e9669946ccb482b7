package ike

import (
	"net/netip"
	"slices"

	"martlet/ike/message"
)

// One configured child may be several SAs. A peer may take but one pair of selectors for an
// SA, or hold what it shares with us in children of its own (RFC 7296 §2.9). So all of a
// child is asked for at once; when the answer leaves some of it out, the rest is asked for
// by further requests, each for as much as the peer takes. A round of such requests ends
// when nothing is left that the peer has not refused.

// Packet is what a packet that wants a child looks like as selectors, from our side; the
// zero Packet is none.
type Packet struct{ Local, Remote message.Selector }

func (p Packet) isZero() bool { return !p.Local.From.IsValid() || !p.Remote.From.IsValid() }

// in tells whether the selectors of both sides hold the packet.
func (p Packet) in(local, remote []message.Selector) bool {
	return within([]message.Selector{p.Local}, local) && within([]message.Selector{p.Remote}, remote)
}

// region is the traffic between one selector of ours and one of the peer's.
type region struct{ local, remote message.Selector }

// sensible tells whether any packet can be in the region.
func (x region) sensible() bool {
	p, q := x.local.Protocol, x.remote.Protocol
	return x.local.From.Is4() == x.remote.From.Is4() && (p == q || p == 0 || q == 0)
}

func (x region) meet(y region) (region, bool) {
	local, ok := x.local.Intersect(y.local)
	remote, also := x.remote.Intersect(y.remote)
	return region{local, remote}, ok && also
}

func (x region) contains(y region) bool {
	return x.local.Contains(y.local) && x.remote.Contains(y.remote)
}

// minus is what of x lies outside of a part of it.
func (x region) minus(part region) []region {
	var out []region
	for _, l := range subtract(x.local, part.local) {
		out = append(out, region{l, x.remote})
	}
	for _, r := range subtract(x.remote, part.remote) {
		out = append(out, region{part.local, r})
	}
	return out
}

// subtract is the addresses of s outside of a part of it. Where the part is narrower in
// protocol or ports there is nothing that selectors could say of the rest.
func subtract(s, part message.Selector) []message.Selector {
	if s.Protocol != part.Protocol || s.StartPort != part.StartPort || s.EndPort != part.EndPort {
		return nil
	}
	var out []message.Selector
	piece := func(from, to netip.Addr) {
		rest := s
		rest.From, rest.To = from, to
		out = append(out, rest)
	}
	if s.From.Less(part.From) {
		piece(s.From, part.From.Prev())
	}
	if part.To.Less(s.To) {
		piece(part.To.Next(), s.To)
	}
	return out
}

// childSet is what is known of the SAs of one configured child.
type childSet struct {
	single  bool     // the peer takes one pair of selectors for an SA
	more    bool     // its last answer said that another SA could have more
	refused []region // in this round
	tries   int      // that came to nothing in this round
	want    int      // SAs that there were when the last round ended; 0 while one is under way
}

// Bounds of a round.
const (
	maxSplits  = 64 // SAs of one configured child that we open
	maxRefusal = 16 // requests that come to nothing
	maxCuts    = 1 << 16
)

func (s *ikeSA) setOf(cfg *ChildConfig) *childSet {
	if s.sets == nil {
		s.sets = map[string]*childSet{}
	}
	set := s.sets[cfg.Name]
	if set == nil {
		set = &childSet{}
		s.sets[cfg.Name] = set
	}
	return set
}

// begin starts a round.
func (c *childSet) begin() { c.refused, c.tries, c.want, c.more = nil, 0, 0, false }

// those are the SAs of a configured child that stand, without those that have a successor.
func (s *ikeSA) those(cfg *ChildConfig) []*child {
	var out []*child
	for _, c := range s.children {
		if c.cfg.Name == cfg.Name && !c.deleting && c.successor == nil {
			out = append(out, c)
		}
	}
	return out
}

// covered tells whether an SA of a configured child takes a packet.
func (s *ikeSA) covered(cfg *ChildConfig, p Packet) bool {
	return slices.ContainsFunc(s.those(cfg), func(c *child) bool { return p.in(c.Local, c.Remote) })
}

// leftOver is what no SA of a configured child has. Of a pair of selectors of which one has
// a part, the peer holds the rest back, and it is left out; with cut, it is left over. A peer
// that cuts it into so many pieces that it costs something to find the rest gets no further
// request.
func (s *ikeSA) leftOver(cfg *ChildConfig, cut bool) []region {
	var out []region
	these, budget := s.those(cfg), maxCuts
	for _, l := range s.localSelectors(cfg) {
		for _, r := range s.remoteSelectors(cfg) {
			rest := []region{{l, r}}
			if !rest[0].sensible() {
				continue
			}
			for _, c := range these {
				if rest = withoutChild(rest, c, cut, &budget); budget < 0 {
					return nil
				}
			}
			if out = append(out, rest...); len(out) >= maxSelectors {
				return out[:maxSelectors]
			}
		}
	}
	return out
}

// withoutChild takes what a child has away from regions, as long as the budget lasts.
func withoutChild(regions []region, c *child, cut bool, budget *int) []region {
	for _, l := range c.Local {
		for _, r := range c.Remote {
			if *budget -= len(regions); *budget < 0 {
				return nil
			}
			var rest []region
			for _, x := range regions {
				part, ok := x.meet(region{l, r})
				switch {
				case !ok:
					rest = append(rest, x)
				case cut:
					rest = append(rest, x.minus(part)...)
				}
			}
			regions = rest
		}
	}
	return regions
}

// selectorOffer is what a request for a child asks for.
type selectorOffer struct{ local, remote []message.Selector }

func (o *selectorOffer) many() bool { return len(o.local) > 1 || len(o.remote) > 1 }

// wholeOffer is all of a configured child, behind the packet that wants it.
func (s *ikeSA) wholeOffer(cfg *ChildConfig, p Packet) selectorOffer {
	return s.behind(p, cfg, s.localSelectors(cfg), s.remoteSelectors(cfg))
}

// behind puts the selectors of a packet of the configured child before others: the peer
// narrows to some that hold it (RFC 7296 §2.9).
func (s *ikeSA) behind(p Packet, cfg *ChildConfig, local, remote []message.Selector) selectorOffer {
	if p.isZero() || !p.in(s.localSelectors(cfg), s.remoteSelectors(cfg)) {
		return selectorOffer{local, remote}
	}
	first := func(x message.Selector, list []message.Selector) []message.Selector {
		rest := slices.DeleteFunc(slices.Clone(list), func(y message.Selector) bool { return y == x })
		list = append([]message.Selector{x}, rest...)
		return list[:min(len(list), maxSelectors)]
	}
	return selectorOffer{first(p.Local, local), first(p.Remote, remote)}
}

// nextOffer is what is asked for next; it reports false when nothing is left.
func (s *ikeSA) nextOffer(t *createTask) (selectorOffer, bool) {
	set := s.setOf(t.cfg)
	p := t.packet
	if !p.isZero() && !p.in(s.localSelectors(t.cfg), s.remoteSelectors(t.cfg)) {
		p = Packet{}
	}
	these := s.those(t.cfg)
	if groups(these) >= maxSplits {
		return selectorOffer{}, false
	}
	if len(these) == 0 && !set.single && !t.alone && len(set.refused) == 0 {
		return s.wholeOffer(t.cfg, p), true
	}
	left := slices.DeleteFunc(s.leftOver(t.cfg, set.more || !p.isZero()), func(x region) bool {
		return slices.ContainsFunc(set.refused, func(no region) bool { return no.contains(x) })
	})
	if !p.isZero() {
		at := slices.IndexFunc(left, func(x region) bool { return x.contains(region{p.Local, p.Remote}) })
		if at < 0 {
			return selectorOffer{}, false
		}
		left[0], left[at] = left[at], left[0]
	}
	switch {
	case len(left) == 0:
		return selectorOffer{}, false
	case t.alone:
		host := region{hostSelector(p.Local.From), hostSelector(p.Remote.From)}
		host, _ = host.meet(left[0])
		return selectorOffer{[]message.Selector{host.local}, []message.Selector{host.remote}}, true
	case set.single:
		return selectorOffer{[]message.Selector{left[0].local}, []message.Selector{left[0].remote}}, true
	}
	o := rectangle(left)
	return s.behind(p, t.cfg, o.local, o.remote), true
}

// rectangle is the first region with as many others as make lists of selectors all pairs of
// which are left.
func rectangle(left []region) selectorOffer {
	first := left[0]
	var o selectorOffer
	for _, x := range left {
		if x.local == first.local && !slices.Contains(o.remote, x.remote) {
			o.remote = append(o.remote, x.remote)
		}
	}
	for _, x := range left {
		all := !slices.Contains(o.local, x.local)
		for _, r := range o.remote {
			all = all && slices.Contains(left, region{x.local, r})
		}
		if all {
			o.local = append(o.local, x.local)
		}
	}
	return o
}

// openMore asks for what is left of a configured child, or ends the round.
func (s *ikeSA) openMore(cfg *ChildConfig) {
	next := &createTask{cfg: cfg, further: true}
	if _, ok := s.nextOffer(next); ok {
		s.enqueue(next)
		return
	}
	s.endRound(cfg)
}

// endRound notes what stands, and tells people of what the peer refused.
func (s *ikeSA) endRound(cfg *ChildConfig) {
	set := s.setOf(cfg)
	these := s.those(cfg)
	set.want = groups(these)
	if len(these) > 0 && len(set.refused) > 0 {
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: refusedText(cfg, set.refused)})
	}
}

// incomplete are the configured children of which an SA is gone that stood when all of them
// had been opened.
func (s *ikeSA) incomplete() []string {
	var out []string
	for _, cfg := range s.conn.Children {
		if set := s.sets[cfg.Name]; set != nil && set.want > groups(s.those(cfg)) {
			out = append(out, cfg.Name)
		}
	}
	return out
}
