package ike

import (
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// terminate deletes what the event names.
func (e *Engine) terminate(t Terminate) {
	reason := t.Reason
	if reason == "" {
		reason = "terminated by command"
	}
	if t.SA != 0 {
		if s, ok := e.sas[message.SPI(t.SA)]; ok {
			e.enter("terminate", s)
			switch {
			case t.Replaced:
				s.replaced(reason)
			case t.Surplus:
				s.endSurplus(reason)
			default:
				s.terminate(reason)
			}
		}
		return
	}
	e.all(func(s *ikeSA) {
		if t.Connection == "" || s.conn != nil && s.conn.Name == t.Connection {
			e.enter("terminate", s)
			s.terminate(reason)
		}
	})
}

func (s *ikeSA) terminate(reason string) {
	switch s.state {
	case stateEstablished:
		s.state = stateDeleting
		s.queue = nil
		s.dropFollowUp()
		if s.offline {
			s.hasten() // what waits for a network waits no longer
		}
		s.enqueue(&deleteTask{reason: reason})
	case stateConnecting:
		t, ok := s.active.(*authTask)
		switch {
		case ok && s.pending != nil:
			// The peer may have the SA already. Its answer is waited for, so that
			// the SA can be deleted there.
			s.end(reason, nil)
		case ok && t.idr != nil: // between two rounds
			s.end(reason, nil)
			s.lastRequest(&message.Delete{Protocol: suite.ProtocolIKE})
		default:
			s.close(reason, nil)
		}
	case stateReplaced:
		if s.successor != nil {
			s.successor.terminate(reason)
		}
	case stateDeleting, stateClosed:
	}
}

// replaced ends an SA in whose place the peer has another. The DELETE is for a peer
// that did not mean this one, on another device of the same identity.
func (s *ikeSA) replaced(reason string) {
	if s.successor != nil {
		s.successor.replaced(reason)
		return
	}
	if s.state != stateEstablished || s.pending != nil || s.active != nil {
		s.close(reason, nil)
		return
	}
	s.end(reason, nil)
	s.lastRequest(&message.Delete{Protocol: suite.ProtocolIKE})
}

// deleteTask deletes the IKE SA and all its children (RFC 7296 §1.4.1).
type deleteTask struct {
	reason string
	err    *Error // why, if not in order
}

func (*deleteTask) priority() priority { return prioDelete }

func (t *deleteTask) start(s *ikeSA) {
	if s.state == stateEstablished {
		s.state = stateDeleting
	}
	s.request(message.Informational, &message.Delete{Protocol: suite.ProtocolIKE})
	if s.pending != nil {
		s.pending.limit = min(s.pending.limit, deleteTries)
	}
}

func (t *deleteTask) response(s *ikeSA, _ []message.Payload) { t.over(s) }
func (t *deleteTask) expired(s *ikeSA)                       { t.over(s) }

func (t *deleteTask) over(s *ikeSA) {
	if s.surplus {
		s.linger(t.reason, t.err) // until what is late has come
		return
	}
	s.close(t.reason, t.err)
}

// abandon ends an SA that cannot go on, at once for us, and tells the peer by a
// last request that is repeated a few times (RFC 7296 §2.21.2). No request of ours
// may be outstanding.
func (s *ikeSA) abandon(err *Error, ps ...message.Payload) {
	s.end(err.What, err)
	s.lastRequest(ps...)
}

// lastRequest sends a request on an SA that is closed; its answer, or that none
// comes, ends it.
func (s *ikeSA) lastRequest(ps ...message.Payload) {
	s.active = nil
	s.request(message.Informational, ps...)
	if s.pending != nil {
		s.pending.limit = min(s.pending.limit, deleteTries)
	}
}

// forgetRequest ends the repetition of the outstanding request.
func (s *ikeSA) forgetRequest() {
	s.pending = nil
	s.set(dueRetransmit, time.Time{})
}

// forgetPending gives up the outstanding request and its task.
func (s *ikeSA) forgetPending() {
	s.forgetRequest()
	s.active = nil
}

// closedResponse takes the answer to the last request of a closed SA. If that was
// IKE_AUTH, the peer may have established an SA that nobody here wants any more, or be
// about to.
func (s *ikeSA) closedResponse(ps []message.Payload) {
	if _, ok := s.active.(*authTask); ok {
		auth, _ := message.Find[*message.Auth](ps)
		if _, eap := message.Find[*message.EAP](ps); eap || auth != nil {
			s.lastRequest(&message.Delete{Protocol: suite.ProtocolIKE})
			return
		}
	}
	s.e.unlink(s)
}
