package ike

import (
	"errors"
	"slices"

	"martlet/ike/message"
)

// How a mover goes over TCP where UDP does not pass (RFC 9329). A stream is a path like any
// other, but for this: what was asked on it is not repeated there; another one takes
// its place when it breaks; and on it the mover tries now and then whether UDP passes again
// (RFC 9329 §7.1).

// Streams is when an initiator opens TCP streams (RFC 9329 §5).
type Streams uint8

const (
	StreamsNever    Streams = iota
	StreamsFallback         // where UDP gives no answer
	StreamsAlways           // and nothing else
)

// openStream asks for a stream to the peer, unless one is on its way.
func (s *ikeSA) openStream() {
	if !s.opener || s.opening || s.conn.Streams == StreamsNever || s.e.now.Sub(s.opened) < streamAgain {
		return
	}
	s.opening = true
	s.ask(OpenStream{SA: s.id(), Connection: s.conn.Name, Remote: s.path.Remote.Addr()}, func(r Reply) {
		s.opening = false
		opened, ok := r.(StreamOpened)
		if !ok {
			opened.Err = errWrongReply
		}
		if opened.Err != nil {
			s.noStream(opened.Err)
			return
		}
		s.opened = s.e.now
		s.streamOpened(opened.Path)
	})
}

// streamOpened takes a stream: at once in place of one that broke or is stuck, else as
// one more way on which the outstanding request goes.
func (s *ikeSA) streamOpened(p Path) {
	switch {
	case s.state == stateConnecting && s.path.Stream:
		s.broken = false
		s.startAt(p)
		s.encapPath = p
	case s.state != stateEstablished:
		return
	case s.path.Stream:
		s.broken = false
		s.path = p
		s.moveTraffic()
		s.armReturn()
		s.tellStream()
	case s.probing:
		s.stream = p
	}
	if s.pending != nil {
		s.retransmit()
	}
}

// tellStream says something on a new stream: only that makes the peer send on it.
func (s *ikeSA) tellStream() {
	if s.mobike() {
		s.wantUpdate()
		return
	}
	s.check()
}

// noStream tries again later, as long as the SA lives.
func (s *ikeSA) noStream(err error) {
	switch {
	case s.state == stateConnecting:
		failed := errStreamLost(s, err)
		s.close(failed.What, failed)
	case s.broken:
		s.after(dueStream, streamAgain)
	}
}

var errStreamClosed = errors.New("the other end closed it, or the network")

// streamClosed takes the news that a stream of ours is gone.
func (e *Engine) streamClosed(p Path) {
	e.all(func(s *ikeSA) {
		if s.opener {
			e.enter("stream closed", s)
			s.streamClosed(p)
		}
	})
}

// streamClosed opens another stream. What was asked on the one that is gone may be lost,
// and goes again on the next (RFC 9329 §6.1).
func (s *ikeSA) streamClosed(p Path) {
	if s.stream == p {
		s.stream = Path{}
	}
	if s.path != p || s.state != stateConnecting && s.state != stateEstablished {
		return
	}
	s.broken = true
	s.losses++
	switch {
	case s.state == stateConnecting && s.losses > streamsLost:
		err := errStreamLost(s, errStreamClosed)
		s.close(err.What, err)
		return
	case s.e.now.Sub(s.opened) < streamAgain:
		s.after(dueStream, streamAgain)
	default:
		s.openStream()
	}
	if s.state == stateEstablished {
		// If nothing answers any more, this is what ends the SA.
		s.tellStream()
	}
}

// keepStream is what a change of this host's network means for an SA on a stream: if the
// stream lost its address another one is opened, and UDP may pass here.
func (s *ikeSA) keepStream(waited bool) {
	local := s.path.Local.Addr()
	if waited || !slices.ContainsFunc(s.paths, func(p Path) bool { return p.Local.Addr() == local }) {
		s.openStream()
	}
	if s.conn.Streams == StreamsAlways {
		s.paths = nil
	}
	if s.probing {
		return // the outstanding request goes by UDP too
	}
	s.returns = 0
	s.tryDatagrams()
}

// armReturn sets when UDP is tried again, or, where there is none, a stream opened.
func (s *ikeSA) armReturn() {
	switch {
	case !s.opener || !s.path.Stream:
	case s.broken:
		s.after(dueStream, streamAgain)
	case s.mayReturn():
		s.after(dueStream, min(returnFirst<<min(s.returns, 10), returnMost))
	}
}

// streamDue does what armReturn said.
func (s *ikeSA) streamDue() {
	switch {
	case !s.path.Stream:
	case s.broken:
		s.openStream()
	case s.state == stateEstablished:
		s.seek(false) // and then tryDatagrams
	}
}

// mayReturn tells whether an SA on a stream is to go by UDP when that passes. At a peer without
// MOBIKE that takes another proof of who we are, for which no person is asked.
func (s *ikeSA) mayReturn() bool {
	if s.conn.Streams != StreamsFallback {
		return false
	}
	for l := &s.conn.Local; l != nil && !s.mobike(); l = l.Next {
		if l.Method == AuthEAP && len(l.EAP.Password) == 0 && len(l.Credentials) == 0 {
			return false
		}
	}
	return true
}

// tryDatagrams asks the peer something by UDP, on the first of the ways that there are.
func (s *ikeSA) tryDatagrams() {
	switch {
	case !s.mayReturn():
	case !s.mobike():
		s.callByDatagrams(s.paths[0])
	case s.queued(func(t task) bool { _, ok := t.(*returnTask); return ok }):
	default:
		s.enqueue(&returnTask{path: s.paths[0]})
	}
}

// callByDatagrams opens an SA by UDP in the place of one on a stream, make before break. A peer
// without MOBIKE would follow anything that it hears of the old one by UDP, and if its answer does
// not pass, it is lost to us; of the new one it knows nothing before UDP has passed both ways.
// Where it gives no answer to the first message nothing has happened.
func (s *ikeSA) callByDatagrams(p Path) {
	conn := s.e.connection(s.conn.Name)
	if s.state != stateEstablished || s.moving || conn == nil {
		s.armReturn()
		return
	}
	s.moving = true
	next := s.e.newInitiator(conn, p, p)
	next.replaces, next.trial = s, true
	s.e.enter("call by UDP", next)
	next.connect()
}

// returnTask is a request that goes by UDP, and if that gives no answer, on the stream. The
// peer moves nothing because of it (RFC 4555 §3.8).
type returnTask struct{ path Path }

func (*returnTask) priority() priority { return prioLiveness }

func (t *returnTask) start(s *ikeSA) {
	if !s.path.Stream {
		s.done()
		return
	}
	s.request(message.Informational, natDetection(s.spii, s.spir, t.path)...)
}

func (*returnTask) expired(s *ikeSA) { s.peerDead() }

func (t *returnTask) response(s *ikeSA, _ []message.Payload) {
	if s.answer.path == t.path && s.path.Stream {
		s.returns = 0
		s.stream, s.path = s.path, t.path
		s.wantUpdate()
	} else {
		s.returns++
		s.armReturn()
	}
	s.done()
}
