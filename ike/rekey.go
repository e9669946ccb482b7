package ike

import (
	"time"

	"martlet/ike/message"
)

// Replacing SAs before they are old (RFC 7296 §2.8): what begins it, and what becomes of
// it when it fails. How it is done stands in create_child.go and rekey_ike.go.

// rekey replaces an SA by command.
func (e *Engine) rekey(ev Rekey) {
	if ev.Child != 0 {
		if c, ok := e.children[ev.Child]; ok {
			e.enter("rekey child", c.sa)
			c.sa.rekeyChild(c, true)
		}
		return
	}
	if s, ok := e.sas[message.SPI(ev.SA)]; ok {
		e.enter("rekey", s)
		s.rekey(true)
	}
}

// childAged takes the news of the data plane that a child has carried what its keys may.
func (e *Engine) childAged(ev ChildAged) {
	c, ok := e.children[ev.Child]
	if !ok {
		return
	}
	s := c.sa
	e.enter("child aged", s)
	if ev.Hard {
		s.endOfLife(c)
	} else if !s.supports(extWindows) {
		s.rekeyChild(c, false)
	}
}

// rekeyChild asks the peer for a child in place of c.
func (s *ikeSA) rekeyChild(c *child, command bool) {
	if s.state != stateEstablished || c.deleting || c.successor != nil {
		return
	}
	if s.supports(extWindows) {
		s.rekeyFailed(c.Name, errWindows(c))
		return
	}
	for _, t := range append([]task{s.active}, s.queue...) {
		if t, ok := t.(*createTask); ok && t.old == c {
			return
		}
	}
	s.enqueue(&createTask{cfg: c.cfg, old: c, command: command})
}

// rekey asks the peer for an IKE SA in place of s.
func (s *ikeSA) rekey(command bool) {
	if s.state != stateEstablished || s.queued(func(t task) bool { _, ok := t.(*rekeyTask); return ok }) {
		return
	}
	s.enqueue(&rekeyTask{command: command})
}

// rekeyFailed reports that an SA was not replaced; name is the child's, or empty for the
// IKE SA.
func (s *ikeSA) rekeyFailed(name string, err *Error) {
	s.e.report(RekeyFailed{SA: s.id(), Connection: s.conn.Name, Peer: s.remote, Path: s.path, Name: name, Err: err})
}

// childRekeyFailed tries again later, unless the child is gone or has been replaced.
func (s *ikeSA) childRekeyFailed(t *createTask, err *Error) {
	c := t.old
	if c.sa != s || c.deleting || c.successor != nil || s.state != stateEstablished {
		return
	}
	c.failures++
	busy := err.Remote && err.Notify == message.TemporaryFailure
	if !busy || c.failures == maxBusy {
		s.rekeyFailed(c.Name, errRekey(err, t))
	}
	if t.command && !busy && (c.rekeyAt.IsZero() || c.rekeyAt.After(s.e.now.Add(failedMost))) {
		return // it was a try only; its time comes
	}
	c.rekeyAt = s.retryAt(c.failures, busy, c.ends)
	s.armChildren()
}

// rekeyIKEFailed does the same for the IKE SA.
func (s *ikeSA) rekeyIKEFailed(t *rekeyTask, err *Error) {
	if s.state != stateEstablished {
		return
	}
	s.failures++
	busy := err.Remote && err.Notify == message.TemporaryFailure
	if !busy || s.failures == maxBusy {
		s.rekeyFailed("", err)
	}
	due := s.deadlines[dueRekey]
	if t.command && !busy && (due.IsZero() || due.After(s.e.now.Add(failedMost))) {
		return
	}
	s.set(dueRekey, s.retryAt(s.failures, busy, s.deadlines[dueHard]))
}

// freshIDs replaces the SA before its message IDs are used up, in either direction
// (RFC 7296 §2.2).
func (s *ikeSA) freshIDs() {
	if s.state == stateEstablished && max(s.nextID, s.expectID) >= lastIDs {
		if at := s.deadlines[dueRekey]; s.failures == 0 || at.IsZero() {
			s.rekey(false)
		}
	}
}

// Waits and bounds of what is tried again.
const (
	busyWait   = 2 * time.Second // after TEMPORARY_FAILURE
	busyMost   = 30 * time.Second
	maxBusy    = 4 // times that a peer may be busy before a person is told
	failedWait = 10 * time.Second
	failedMost = 5 * time.Minute

	retiredLife   = 5 * time.Second  // for what is late on a child that was replaced
	redundantLife = 30 * time.Second // for the peer to delete a child that it made in vain
	replacedLife  = time.Minute      // of an IKE SA that was replaced, if the peer does not delete it
	lastIDs       = 1<<32 - 1<<16    // message IDs from here on are for replacing the IKE SA
)
