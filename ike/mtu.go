package ike

import (
	"slices"

	"martlet/ike/message"
)

// How large outer packets may be (RFC 4821, RFC 8899: without ICMP), found out by IKE messages.
// A request must be answered or the SA dies, and the window has one place. So a probe is the
// same request in two forms: first one datagram of the size that is to be tested, and if
// that is not answered, cut into fragments that pass everywhere (RFC 7383 §2.5.2). An answer before
// the second form was sent proves the size. One that comes later may be for either, and proves
// nothing.
//
// There are peers that announce fragmentation and throw fragments of INFORMATIONAL away: strongSwan
// with its mediation extension, which is how Debian builds it, takes them for something else. For
// these there is a third form, the same request without the padding. RFC 7296 §2.1 wants that a
// request is repeated bit for bit, but what tells a repetition is its ID; the padding says nothing,
// so that whichever form comes first, the answer is the same; and without an answer the SA would be
// lost.

const (
	probeTries   = 3  // transmissions of the first form
	cutTries     = 2  // of the second
	probeRounds  = 2  // probes without an answer to that, before a size is too large
	probeBreaks  = 16 // probes of one search that had to give way to something else
	smallPacket4 = 576
	smallPacket6 = 1280 // RFC 7383 §2.5.1
)

// usualSizes are the MTUs that are met, in octets of an IP packet: Ethernet, PPPoE, and what
// tunnels and mobile networks leave of these.
var usualSizes = []int{1280, 1300, 1380, 1400, 1420, 1460, 1480, 1492, 1500}

// mtuSearch is the state of a ProbeMTU.
type mtuSearch struct {
	path    Path
	low     int
	unknown bool  // there is no way to find out
	sizes   []int // that may be tried, ascending, all above low
	passed  int   // how many of them, from the first on, are known to pass
	failed  int   // the first of those that do not
	size    int   // of the largest packet that was answered; 0: none
	rounds  int   // the size at hand was tried in vain
	breaks  int
}

// probeMTU begins a search.
func (e *Engine) probeMTU(ev ProbeMTU) {
	s := e.sas[message.SPI(ev.SA)].newest()
	if s == nil || s.state != stateEstablished {
		return
	}
	e.enter("probe MTU", s)
	m := &mtuSearch{path: s.path, low: ev.Low}
	s.mtu = m
	for _, size := range append(slices.Clone(usualSizes), ev.High) {
		if size > ev.Low && size <= ev.High && !slices.Contains(m.sizes, size) && s.probeLen(size) > s.smallLen() {
			m.sizes = append(m.sizes, size)
		}
	}
	slices.Sort(m.sizes)
	m.failed = len(m.sizes)
	if s.path.Stream || s.fragmentSize(s.path) <= 0 {
		m.sizes, m.failed, m.unknown = nil, 0, true // the second form would be none
	}
	s.goOnProbing()
}

// next is the index of the size to try: the largest, and then that in the middle of what is open.
func (m *mtuSearch) next() int {
	if m.failed == len(m.sizes) {
		return m.failed - 1
	}
	return (m.passed + m.failed) / 2
}

// goOnProbing makes the next probe of a search, or ends it.
func (s *ikeSA) goOnProbing() {
	m := s.mtu
	switch {
	case m == nil:
	case m.path != s.path || s.probing || s.state != stateEstablished:
		s.mtu = nil
	case m.passed >= m.failed:
		s.mtu = nil
		r := PathMTU{SA: s.id(), Connection: s.conn.Name, Path: m.path, Size: m.low}
		switch {
		case m.unknown:
			r.Size = 0
		case m.size > 0:
			r.Size, r.Passed = m.size, true
		}
		s.e.report(r)
	case !s.queued(func(t task) bool { _, ok := t.(*probeTask); return ok }):
		s.enqueue(&probeTask{})
	}
}

// overhead is the octets of an outer packet around an IKE message.
func overhead(p Path) int {
	n := 20 + 8
	if !p.Remote.Addr().Unmap().Is4() {
		n = 40 + 8
	}
	if p.Encap {
		n += 4 // the non-ESP marker
	}
	return n
}

// probeLen is the length of the longest message with SK that an outer packet of a size holds.
func (s *ikeSA) probeLen(size int) int {
	fixed := message.SealedLen(0, s.seal) - message.PaddedLen(0, s.seal)
	text := size - overhead(s.path) - fixed
	return fixed + text/s.seal.BlockLen()*s.seal.BlockLen()
}

// smallLen is the length of a message that passes everywhere.
func (s *ikeSA) smallLen() int {
	size := smallPacket4
	if !s.path.Remote.Addr().Unmap().Is4() {
		size = smallPacket6
	}
	size -= overhead(s.path)
	if limit := s.fragmentSize(s.path); limit > 0 {
		size = min(size, limit)
	}
	return size
}

// probeTask asks nothing, in a message of the size that is to be tested.
type probeTask struct {
	search *mtuSearch
	path   Path
	size   int               // of the outer packet
	ps     []message.Payload // of the request
	form   probeForm         // that was sent last
}

// probeForm is how a probe looks.
type probeForm uint8

const (
	probeWhole probeForm = iota
	probeCut
	probeBare
)

func (*probeTask) priority() priority { return prioProbe }

func (t *probeTask) start(s *ikeSA) {
	m := s.mtu
	if m == nil || m.path != s.path || s.probing || s.state != stateEstablished || m.passed >= m.failed {
		s.done()
		s.goOnProbing() // which ends it
		return
	}
	length := s.probeLen(m.sizes[m.next()])
	*t = probeTask{search: m, path: s.path, size: length + overhead(s.path)}
	// RFC 7296 §3.10.1: a status that the peer does not know is ignored. Pad length, and no padding.
	text := length - message.SealedLen(0, s.seal) + message.PaddedLen(0, s.seal) - 1
	t.ps = []message.Payload{notifyData(message.Padding, make([]byte, text-message.NotifyLen))}
	grams := message.Seal(s.header(message.Informational, s.nextID, 0), t.ps, s.seal, s.nextIV, 0)
	s.begin(message.Informational, grams)
}

// whole tells whether the first form is outstanding.
func (t *probeTask) whole(s *ikeSA) bool { return t.form == probeWhole && s.pending != nil }

// overdue tells whether a form has been sent often enough.
func (t *probeTask) overdue(s *ikeSA) bool {
	switch t.form {
	case probeWhole:
		return s.pending.tries >= probeTries
	case probeCut:
		return s.pending.tries >= cutTries
	case probeBare:
	}
	return false
}

// cut sends the next form in place of the one before, with as many tries as any request has. It
// has the same ID, so that a peer that has seen another one repeats its answer.
func (t *probeTask) cut(s *ikeSA) {
	ps := t.ps
	if t.form++; t.form == probeCut && s.uncut {
		t.form++
	}
	if t.form == probeBare {
		ps = nil
	}
	r := s.e.cfg.Retransmit
	p := s.pending
	p.grams = message.Seal(s.header(message.Informational, p.id, 0), ps, s.seal, s.nextIV, s.smallLen())
	p.tries, p.limit, p.wait, p.via = 0, r.tries(), r.first(), nil
	s.transmit()
}

// giveWay ends the test, so that the peer's answer comes soon: something else is to be asked.
func (t *probeTask) giveWay(s *ikeSA) {
	if t.whole(s) {
		if t.search.breaks++; t.search.breaks < probeBreaks {
			t.search.rounds--
		}
		t.cut(s)
	}
}

func (t *probeTask) response(s *ikeSA, _ []message.Payload) {
	m := t.search
	s.uncut = t.form == probeBare || s.uncut && t.form == probeWhole
	switch {
	case m != s.mtu || s.path != t.path:
	case t.form == probeWhole:
		m.passed, m.size, m.rounds = m.next()+1, t.size, 0
	default:
		if m.rounds++; m.rounds >= probeRounds {
			m.failed, m.rounds = m.next(), 0
		}
	}
	s.done()
	s.goOnProbing()
}

func (t *probeTask) expired(s *ikeSA) { s.peerDead() }
