package ike

import (
	"time"

	"martlet/ike/message"
)

// heardNow notes that something authentic came, and puts the liveness check off.
func (s *ikeSA) heardNow() {
	s.heard = s.e.now
	s.armLiveness(s.e.now)
}

// armLiveness sets the next check, counted from when something was heard.
func (s *ikeSA) armLiveness(heard time.Time) {
	every := s.conn.liveness()
	if s.state != stateEstablished || every <= 0 {
		return
	}
	next := heard.Add(every)
	if look := s.e.now.Add(oneWay / 2); s.opener && look.Before(next) {
		next = look
	}
	s.set(dueLiveness, next)
}

// patience is how long a peer may be silent: until it is asked, and then until it is clear that it
// does not answer. 0 is for ever.
func (s *ikeSA) patience() time.Duration {
	every := s.conn.liveness()
	if every <= 0 {
		return 0
	}
	return every + s.e.cfg.Retransmit.longest()
}

// armKeepalive starts NAT keepalives where we are behind a NAT
// (RFC 3948 §4, RFC 7296 §2.23).
func (s *ikeSA) armKeepalive() {
	every := s.conn.keepalive()
	if !s.is(condNATHere) || every <= 0 || s.path.Stream { // RFC 9329 §6.6
		s.set(dueKeepalive, time.Time{})
		return
	}
	s.after(dueKeepalive, every)
}

// usage asks when the children last heard and sent something; then gets the times in
// nanoseconds ago, negative for never.
func (s *ikeSA) usage(then func(heard, sent int64)) {
	if len(s.children) == 0 {
		then(-1, -1)
		return
	}
	ids := make([]ChildID, len(s.children))
	for i, c := range s.children {
		ids[i] = c.ID
	}
	s.ask(Usage{Children: ids}, func(r Reply) {
		u, ok := r.(UsageReply)
		if !ok {
			u = UsageReply{Heard: -1, Sent: -1}
		}
		then(u.Heard, u.Sent)
	})
}

// livenessDue checks the peer, if ESP has not heard it either (RFC 7296 §2.4). Who opened the
// connection does not wait for long while it sends and nothing comes back: the way that the
// peer sends on may be dead, or the peer.
func (s *ikeSA) livenessDue() {
	if s.state != stateEstablished || s.checking {
		return
	}
	s.checking = true
	s.usage(func(heard, sent int64) {
		s.checking = false
		if s.state != stateEstablished {
			return
		}
		quiet := s.e.now.Sub(s.heard)
		if heard >= 0 {
			quiet = min(quiet, time.Duration(heard))
		}
		// What was sent just now can have no answer yet; what was sent at the last look can.
		waited := s.unanswered && quiet >= oneWay
		s.unanswered = s.opener && sent >= 0 && time.Duration(sent) < quiet && quiet >= oneWay/2
		if quiet >= s.conn.liveness() || waited {
			s.unanswered = false
			s.check()
			return
		}
		s.armLiveness(s.e.now.Add(-quiet))
	})
}

// check asks the peer whether it lives. Any request does that, so nothing is queued
// where one is under way.
func (s *ikeSA) check() {
	if s.active == nil && len(s.queue) == 0 {
		s.enqueue(&livenessTask{})
		return
	}
	s.armLiveness(s.e.now)
}

// checkNow asks the peer at once whether it can be reached, with so many transmissions; 0 is
// as many as usual.
func (s *ikeSA) checkNow(tries int) {
	if s.active == nil && len(s.queue) == 0 {
		s.enqueue(&livenessTask{tries: tries})
	}
}

// livenessTask is an INFORMATIONAL exchange that changes nothing (RFC 7296 §1.4). With MOBIKE
// a mover learns from it whether a NAT has given it another address (RFC 4555 §3.8).
type livenessTask struct {
	tries int  // transmissions; 0 is as many as of other requests
	told  bool // the answer is reported
}

func (*livenessTask) priority() priority { return prioLiveness }

func (t *livenessTask) start(s *ikeSA) {
	var ps []message.Payload
	if s.opener && s.mobike() {
		ps = natDetection(s.spii, s.spir, s.path)
	} else if s.peerToken != nil {
		// A peer that crashed answers nothing that is shorter than its answer.
		ps = []message.Payload{&message.VendorID{Data: []byte("martlet")}}
	}
	s.request(message.Informational, ps...)
	if s.pending != nil && t.tries > 0 {
		s.pending.limit = min(s.pending.limit, t.tries)
	}
}

func (t *livenessTask) response(s *ikeSA, ps []message.Payload) {
	if t.told {
		s.e.report(Alive{SA: s.id()})
	}
	if hash := destinationHash(ps); hash != nil && s.opener && s.mobike() && s.answer.path == s.path && s.seen(hash) {
		s.wantUpdate()
	}
	s.done()
}

func (*livenessTask) expired(s *ikeSA) { s.peerDead() }

// keepaliveDue sends a NAT keepalive, if nothing else kept the mapping.
func (s *ikeSA) keepaliveDue() {
	if s.state != stateEstablished && s.state != stateDeleting {
		return
	}
	every := s.conn.keepalive()
	if idle := s.e.now.Sub(s.sent); idle < every {
		s.set(dueKeepalive, s.sent.Add(every))
		return
	}
	s.usage(func(_, sent int64) {
		if s.state == stateClosed {
			return
		}
		if sent >= 0 && time.Duration(sent) < every {
			s.set(dueKeepalive, s.e.now.Add(every-time.Duration(sent)))
			return
		}
		s.e.do(Send{Path: s.path, Data: []byte{0xff}, Keepalive: true})
		s.after(dueKeepalive, every)
	})
}

// hint makes the peer prove that it lives because something unauthenticated says that
// it does not, but not often.
func (s *ikeSA) hint() {
	if s.state != stateEstablished || s.checking || !s.hinted.IsZero() && s.e.now.Sub(s.hinted) < hintInterval {
		return
	}
	s.hinted = s.e.now
	s.check()
}

// unknownSPI takes the hint that a peer sends ESP for which there is no SA.
func (e *Engine) unknownSPI(p Path, spi uint32) {
	if !e.mayHint() {
		return
	}
	known := false
	e.all(func(s *ikeSA) {
		if s.path.Remote == p.Remote {
			known = true
			e.enter("unknown SPI", s)
			s.hint()
		}
	})
	if !known {
		e.unknownESP(p, spi)
	}
}

// mayHint limits how often all SAs are looked through because of something that anybody
// could have sent.
func (e *Engine) mayHint() bool {
	if !e.hintLooked.IsZero() && e.now.Sub(e.hintLooked) < time.Second {
		return false
	}
	e.hintLooked = e.now
	return true
}
