package ike

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"martlet/ike/message"
)

// mobility is where an SA's messages and packets go, and what may become of that. The SA
// that replaces another in a rekey takes it over.
type mobility struct {
	path    Path // of IKE messages
	espPath Path // of the children's packets: path, once the peer has answered from there

	// A mover decides about paths: who opened the first IKE SA of the line, whoever rekeyed
	// it since (RFC 4555 §1.3), which is what ikeSA.opener says.
	remotes []netip.Addr // a mover's: where the peer can be reached besides path
	paths   []Path       // a mover's: ways to the peer, the best first
	probing bool         // a mover's: path may be dead; the first way that answers is taken
	offline bool         // a mover's: there is no way to the peer
	seeks   int          // questions for ways; only the answer to the last one counts
	seeking bool         // that one is still to come
	stream  Path         // a mover's: a stream beside path, zero if there is none
	opening bool         // a mover's: a stream is being opened
	broken  bool         // a mover's: path is a stream that is gone
	losses  int          // a mover's: streams that broke since something was answered
	opened  time.Time    // a mover's: when the last stream was
	returns int          // a mover's, on a stream: tries of UDP that got no answer
	seenAs  []byte       // the hash of the address at which the peer last saw us

	mtu *mtuSearch // nil: none under way

	refuted Path // where the peer said it was and did not answer; zero: nowhere

	told []netip.Addr // the further addresses of ours that the peer knows of
}

// mobike tells whether both sides can do MOBIKE.
func (s *ikeSA) mobike() bool { return s.supports(extMOBIKE) && !s.conn.NoMOBIKE }

// startAt sets the path of an SA that has no children yet.
func (s *ikeSA) startAt(p Path) { s.path, s.espPath = p, p }

// follow takes over the path of an authentic and newest message. Before AUTH a
// responder goes where IKE_AUTH came from (RFC 7296 §2.23). With MOBIKE the initiator says
// where to go, and a message without UPDATE_SA_ADDRESSES changes nothing (RFC 4555 §3.8).
func (s *ikeSA) follow(p Path) {
	switch {
	case p == s.path, s.state == stateClosed, s.state == stateReplaced:
	case s.state == stateConnecting && s.initiator:
	case s.state == stateConnecting:
		s.startAt(p)
	case (!s.mobike() || p.Stream && s.path.Stream) && s.mayFollow(p):
		s.goTo(p)
	case p == s.refuted:
		// It sends from there after all: ask again.
		s.path, s.refuted = p, Path{}
		s.wantCheck()
	}
}

// mayFollow tells whether the peer may be where an authentic message or packet came from:
// a peer behind a NAT does not know its address, and one without MOBIKE cannot tell
// it. Whom we called stays where it is, unless a NAT is before it. Streams are the caller's
// to open, and its newest one counts (RFC 9329 §6.1).
func (s *ikeSA) mayFollow(p Path) bool {
	if p.Stream && s.path.Stream {
		return !s.opener && s.conn.mayComeFrom(p.Remote.Addr())
	}
	return p.Encap && (s.opener || s.conn.mayComeFrom(p.Remote.Addr())) && (s.is(condNATThere) || !s.mobike() && !s.opener)
}

// remapped takes what the data plane tells: the newest authentic packet of a child came
// from elsewhere. The next newest one from the old place undoes it.
func (e *Engine) remapped(ev Remapped) {
	c, ok := e.children[ev.Child]
	if !ok || !slices.Contains(c.sa.children, c) {
		return // what is late on a child that was replaced tells nothing
	}
	e.enter("remapped", c.sa)
	if s := c.sa; ev.Path != s.espPath && s.mayFollow(ev.Path) {
		s.goTo(ev.Path)
	}
}

// goTo moves the SA and its children to where the peer was found.
func (s *ikeSA) goTo(p Path) {
	s.path = p
	s.moveTraffic()
	if p.Stream {
		s.hasten() // what was asked on the stream before may be lost
	}
}

// moveTraffic sends the children's packets where IKE messages go.
func (s *ikeSA) moveTraffic() {
	if s.espPath == s.path {
		return
	}
	before := s.espPath
	s.espPath = s.path
	for _, c := range s.children {
		c.Path = s.path
		c.logKeys() // Wireshark finds them by the addresses
		s.e.do(Move{Child: c.ID, Path: s.path})
	}
	if before.Stream != s.path.Stream {
		s.armKeepalive()
		s.armReturn()
	}
	s.e.report(PathChanged{SA: s.id(), Connection: s.conn.Name, Before: before, Path: s.path})
}

// setConditions takes what NAT detection found anew.
func (s *ikeSA) setConditions(c condition) {
	s.conds = c
	s.armKeepalive()
}

// seen compares the address at which the peer sees us with the one before, by the hash that
// it sent, and tells whether it is another one: the mapping of a NAT has changed. As long
// as nothing was heard of it the peer is thought to see the address that we know.
func (s *ikeSA) seen(hash []byte) (changed bool) {
	before := s.seenAs
	if before == nil {
		before = message.NATDetection(s.spii, s.spir, s.path.Local)
	}
	s.seenAs = hash
	return !bytes.Equal(before, hash)
}

// ways are the paths on which the outstanding request is sent now. Datagrams are the same
// on all of them, so that the peer executes one and answers each where it came from.
func (s *ikeSA) ways() []Path {
	if t, ok := s.active.(*returnTask); ok && s.state == stateEstablished && s.pending.tries < returnTries {
		return []Path{t.path}
	}
	switch tries := s.pending.tries; {
	case s.state != stateEstablished || tries == 0:
	case s.probing && s.mobike():
		ways := []Path{s.path}
		for _, p := range s.paths {
			if p != s.path {
				ways = append(ways, p)
			}
		}
		if s.stream != (Path{}) && s.stream != s.path {
			ways = append(ways, s.stream)
		}
		return ways
	case tries >= checkTries && !s.opener && s.path != s.espPath && s.e.has(s.espPath.Local.Addr()):
		// The peer does not answer where it said that it is. If it is we who moved, the way
		// before is none.
		return []Path{s.path, s.espPath}
	}
	return []Path{s.path}
}

// strayed tells whether the request that was just answered was on any other path than p.
func (s *ikeSA) strayed(p Path) bool {
	return slices.ContainsFunc(s.answer.via, func(x Path) bool { return x != p })
}

// remind sends the answer that made this SA out of another once more, on a way that is being
// tried. If it was lost while we moved, the peer does not know this SA, and asks again where
// we are no more.
func (s *ikeSA) remind(way Path) {
	if s.probing && s.forerunner != nil && s.forerunner.reply != nil {
		s.send(way, s.forerunner.reply)
	}
}

// hasten sends the outstanding request at once and counts its repetitions anew: the path
// has changed.
func (s *ikeSA) hasten() {
	if s.pending == nil {
		return
	}
	if t, ok := s.active.(*probeTask); ok && t.whole(s) {
		t.cut(s)
		return
	}
	s.pending.tries, s.pending.wait = 0, s.e.cfg.Retransmit.first()
	s.transmit()
}
