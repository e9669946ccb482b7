package ike

import (
	"slices"

	"martlet/ike/message"
)

// priority orders what waits to be asked of the peer; higher goes first: delete >
// MOBIKE > rekey IKE > rekey child > create child > DPD. The
// gaps are for those that come later.
type priority uint8

const (
	prioProbe       priority = 5
	prioLiveness    priority = 10
	prioCreateChild priority = 20
	prioRekeyChild  priority = 30
	prioRekey       priority = 40
	prioRedirect    priority = 55
	prioDeleteChild priority = 60
	prioMOBIKE      priority = 65
	prioDelete      priority = 70
	prioSetup       priority = 80 // IKE_SA_INIT, IKE_AUTH
)

// task makes one request and takes its response. An SA works on one at a time; the
// others are queued.
type task interface {
	priority() priority
	// start makes the request: at once, or after an Ask. A task for which there is
	// nothing to do any more calls done.
	start(s *ikeSA)
	// response takes the payloads of the answer, and calls done, now or later. The
	// request is no longer outstanding.
	response(s *ikeSA, ps []message.Payload)
	// expired is called in place of response when the peer does not answer.
	expired(s *ikeSA)
}

// childOfferer is a task that holds the SPI of a child that is not there yet.
type childOfferer interface{ releaseOffer(s *ikeSA) }

// enqueue puts t behind the tasks of its own priority and above, and starts it if
// nothing else is under way.
func (s *ikeSA) enqueue(t task) {
	if s.state == stateClosed {
		return
	}
	at := len(s.queue)
	for at > 0 && s.queue[at-1].priority() < t.priority() {
		at--
	}
	s.queue = slices.Insert(s.queue, at, t)
	if probe, ok := s.active.(*probeTask); ok {
		probe.giveWay(s)
	}
	s.startNext()
}

// done ends the active task and starts the next.
func (s *ikeSA) done() {
	s.active = nil
	s.early = nil
	if s.replaces != nil && s.state == stateEstablished {
		s.takeOver()
	}
	s.startNext()
}

func (s *ikeSA) startNext() {
	if s.active != nil || len(s.queue) == 0 || s.gone || s.holding {
		return
	}
	t := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	s.active = t
	s.e.enter("task", s)
	t.start(s)
}

// queued tells whether a task that satisfies f is queued or under way.
func (s *ikeSA) queued(f func(task) bool) bool {
	return s.active != nil && f(s.active) || slices.ContainsFunc(s.queue, f)
}

// peerDead ends an SA whose peer does not answer. One that was to be deleted has ended in order.
func (s *ikeSA) peerDead() {
	for _, t := range s.queue {
		if t, ok := t.(*deleteTask); ok {
			t.expired(s)
			return
		}
	}
	s.close("the peer does not answer", errPeerDead(s))
}
