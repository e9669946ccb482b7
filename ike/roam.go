package ike

import (
	"net/netip"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// How a mover, the initiator of the first IKE SA, keeps a way to its peer. Requests are the
// probes: the one that is outstanding goes out on every way that may work, and the way on
// which its answer comes is taken (RFC 4555 §3.10).

// moved takes the news that this host's network is another one, or that the host woke.
func (e *Engine) moved(ev Moved) {
	e.addresses = slices.Clone(ev.Addresses)
	e.all(func(s *ikeSA) {
		e.enter("moved", s)
		switch {
		case s.state == stateConnecting && s.opener:
			s.seek(ev.Woken)
			return
		case s.state != stateEstablished:
			return
		}
		if s.opener {
			s.seek(ev.Woken)
			return
		}
		s.tellAddresses()
		if ev.Woken {
			s.checkNow(wakeTries)
		}
	})
}

// seek asks for the ways that there are to the peer; woken says that it has perhaps given us
// up meanwhile.
func (s *ikeSA) seek(woken bool) {
	s.seeks++
	s.seeking = true
	now := s.seeks
	s.ask(FindPaths{SA: s.id(), Connection: s.conn.Name, Path: s.path, Remotes: s.reachable()}, func(r Reply) {
		found, ok := r.(PathsFound)
		if now == s.seeks {
			s.seeking = false
		}
		switch {
		case !ok || now != s.seeks:
		case s.state == stateConnecting:
			s.giveUpAddress(found.Paths)
		case s.state == stateEstablished:
			s.takePaths(found.Paths, woken)
		}
	})
}

// giveUpAddress ends an SA that is being opened from an address that this host has no more:
// there is nothing to move yet, and no answer can come.
func (s *ikeSA) giveUpAddress(paths []Path) {
	local := s.path.Local.Addr()
	if !slices.ContainsFunc(paths, func(p Path) bool { return p.Local.Addr() == local }) {
		err := errAddressGone(s)
		s.close(err.What, err)
	}
}

// reachable is where the peer may be: where it is, unless it said that it is not there any
// more, and what else it listed.
func (s *ikeSA) reachable() []netip.Addr {
	at := s.path.Remote.Addr()
	if len(s.remotes) > 0 && !slices.Contains(s.remotes, at) {
		return slices.Clone(s.remotes)
	}
	out := []netip.Addr{at}
	for _, a := range s.remotes {
		if a != at {
			out = append(out, a)
		}
	}
	return out
}

// takePaths goes the best way, if that is another one than now. Without any the SA is kept
// as it is until there is one.
func (s *ikeSA) takePaths(paths []Path, woken bool) {
	s.paths = slices.Clone(paths)
	if len(s.paths) == 0 {
		s.offline = true
		return
	}
	waited := s.offline
	s.offline = false
	if s.path.Stream {
		s.keepStream(waited)
		return
	}
	if best := s.paths[0]; best != s.path {
		s.roam(best)
		return
	}
	if waited {
		s.hasten()
	}
	if waited || !s.probing {
		// The same address, but perhaps another network, with a NAT that knows nothing
		// of us.
		tries := 0
		if woken {
			tries = wakeTries
		}
		s.checkNow(tries)
	}
}

// roam goes on another way. What the children send moves along at once where the old way
// is gone and the peer stays at an address that we know to be its own; else when the
// peer has answered.
func (s *ikeSA) roam(p Path) {
	s.path = p
	if p.Remote == s.espPath.Remote && !s.espPath.Stream && !slices.Contains(s.paths, s.espPath) {
		s.moveTraffic()
	}
	s.probing = true
	s.hasten()
	if s.mobike() {
		s.wantUpdate()
		return
	}
	// The peer follows the newest message (RFC 7296 §2.23), or it does not.
	s.checkNow(0)
}

// wayAnswered takes the way on which an answer came while several were tried.
func (s *ikeSA) wayAnswered(p Path) {
	switch {
	case !s.probing:
		return
	case p == s.path:
		s.probing = false
		if !s.mobike() {
			s.moveTraffic()
			s.renewChildren()
		}
	case s.answer.tries < 2:
		// It was sent on the way before, which is not to be kept for that.
	case s.mobike() && (p == s.stream || slices.Contains(s.paths, p)):
		s.probing = false
		s.path = p
		s.wantUpdate()
	}
}

// renewChildren replaces the children at a peer without MOBIKE. It has followed our messages;
// not each such peer also sends the packets of the children that it has to where we are now,
// but those of new ones it does.
func (s *ikeSA) renewChildren() {
	for _, c := range s.children {
		s.rekeyChild(c, true)
	}
}

// doubt begins to try other ways when a request stays unanswered for long. A peer without
// MOBIKE may not follow us: then another SA from where we are now is tried beside, before this
// one is given up.
func (s *ikeSA) doubt() {
	tries := s.pending.tries
	if _, ok := s.active.(*returnTask); ok {
		tries -= returnTries // on a way that needs no further doubt
	}
	switch {
	case !s.opener || s.state != stateEstablished || tries < doubtTries:
		return
	case s.mobike():
		if !s.probing {
			s.probing = true
			s.seek(false)
		}
	case s.probing && !s.moving:
		s.reauthenticate()
	}
	if tries == doubtTries && (s.mobike() || s.path.Stream) {
		s.openStream()
	}
}

// parked tells whether the outstanding request must wait until there is a way to the peer.
func (s *ikeSA) parked() bool { return s.offline && s.state == stateEstablished }

// wantUpdate tells the peer where we are, unless that is about to be told anyway. An
// update that is outstanding may have been sent before the change.
func (s *ikeSA) wantUpdate() {
	if !slices.ContainsFunc(s.queue, func(t task) bool { _, ok := t.(*updateTask); return ok }) {
		s.enqueue(&updateTask{})
	}
}

// updateTask tells the peer that our address, or the address that we use of it, is another
// one (RFC 4555 §3.5).
type updateTask struct{ path Path }

func (*updateTask) priority() priority { return prioMOBIKE }

func (t *updateTask) start(s *ikeSA) {
	t.path = s.path
	ps := append([]message.Payload{notify(message.UpdateSAAddresses)}, natDetection(s.spii, s.spir, s.path)...)
	s.request(message.Informational, ps...)
}

func (t *updateTask) expired(s *ikeSA) { s.peerDead() }

func (t *updateTask) response(s *ikeSA, ps []message.Payload) {
	switch n := message.FindError(ps); {
	case s.path != t.path || s.strayed(t.path):
		// The peer may have heard it on another path first, and think that we are there.
		s.wantUpdate()
	case n != nil:
		t.refused(s, n)
		return
	default:
		if conds, ok := detectNAT(ps, s.spii, s.spir, s.path); ok {
			s.setConditions(conds)
			s.seen(destinationHash(ps))
		}
		s.moveTraffic()
	}
	s.done()
}

// refused goes another way where the peer does not want this one (RFC 4555 §3.5).
func (t *updateTask) refused(s *ikeSA, n *message.Notify) {
	s.paths = slices.DeleteFunc(s.paths, func(p Path) bool { return p == t.path })
	if len(s.paths) == 0 {
		s.abandon(errAddressRefused(s, n), &message.Delete{Protocol: suite.ProtocolIKE})
		return
	}
	s.path = s.paths[0]
	s.wantUpdate()
	s.done()
}

// destinationHash is the peer's NAT_DETECTION_DESTINATION_IP, nil without one.
func destinationHash(ps []message.Payload) []byte {
	if n := message.FindNotify(ps, message.NATDetectionDestinationIP); n != nil {
		return n.Data
	}
	return nil
}
