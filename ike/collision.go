package ike

import (
	"bytes"
	"slices"
	"time"

	"martlet/ike/message"
)

// What is decided when both sides ask for something at once (RFC 7296 §2.8.1, §2.8.2,
// §2.25). The rules:
//
//   - While we replace, or end, an IKE SA, nothing of its children is made or replaced: the
//     peer is told TEMPORARY_FAILURE. So it is when it wants to replace the IKE SA while we
//     make, replace or end a child of it. Both try again after a while of their own.
//   - A child that we are ending, or whose place another has, is not replaced again:
//     TEMPORARY_FAILURE. One that is not there: CHILD_SA_NOT_FOUND.
//   - Both replace one SA: both requests are answered. Of the two new SAs the one whose
//     exchange has the lowest of the four nonces is closed by who asked for it; who asked
//     for the other one closes the old SA. Children go to the IKE SA that stays.
//   - Only one side notices: the other one ends the old SA as if there were no collision, by
//     which the first one knows, and forgets its own request.
//   - A peer that has not deleted what it replaced before, several times over, is told
//     TEMPORARY_FAILURE until it has, or until that is too old.
//   - Both open the same child: the same nonces decide which one is closed.

// lower is the lower one of two nonces, octet by octet (RFC 7296 §2.8.1).
func lower(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

// refusal is what the peer is told in place of an answer to its CREATE_CHILD_SA; 0 lets
// it pass. It is asked again when a long computation is over.
func (s *ikeSA) refusal() message.NotifyType {
	if s.state != stateEstablished || s.replacing() != nil {
		return message.TemporaryFailure
	}
	return 0
}

// refusalOfRekey is refusal for the request to replace a child.
func (s *ikeSA) refusalOfRekey(old *child) message.NotifyType {
	switch n := s.refusal(); {
	case n != 0:
		return n
	case !slices.Contains(s.children, old):
		return message.ChildSANotFound
	case old.deleting, old.successor != nil, len(s.children)+len(s.retired) >= 2*maxChildren:
		return message.TemporaryFailure
	}
	return 0
}

// refusalOfRekeyIKE is refusal for the request to replace the SA itself.
func (s *ikeSA) refusalOfRekeyIKE() message.NotifyType {
	if s.state != stateEstablished || s.forerunners() >= maxForerunners {
		return message.TemporaryFailure
	}
	switch s.active.(type) {
	case *createTask, *deleteChildTask, *authTask:
		return message.TemporaryFailure
	}
	return 0
}

// forerunners counts the SAs in whose place this one is and that nobody has deleted yet.
func (s *ikeSA) forerunners() int {
	n := 0
	for s = s.forerunner; s != nil; s = s.forerunner {
		n++
	}
	return n
}

// replacing is our own request to replace the SA that is under way, or nil.
func (s *ikeSA) replacing() *rekeyTask {
	t, _ := s.active.(*rekeyTask)
	return t
}

// rival is what the peer made by a request that crosses ours.
type rival[T any] struct {
	made   *T
	lowest []byte // nonce of its exchange
}

// loses tells whether the SA of our exchange, whose lower nonce is given, stays.
func (r *rival[T]) loses(lowest []byte) bool {
	return r == nil || bytes.Compare(r.lowest, lowest) < 0
}

// noteRival tells our own request to replace old, if there is one under way, that the peer
// replaced it by made.
func (s *ikeSA) noteRival(old, made *child, lowest []byte) {
	if t, ok := s.active.(*createTask); ok && t.old == old {
		t.rival = &rival[child]{made, lowest}
	}
}

// settle decides what becomes of the child that our request made in place of another.
func (s *ikeSA) settle(t *createTask, made *Child, kept *child, began *childAnswer) {
	// Where the old child is gone by now the peer has deleted it, because it has won. One that
	// it made and that is gone without a successor is what it lost.
	r := t.rival
	lives := r != nil && (r.made.sa != nil || r.made.successor != nil)
	if r != nil && t.old.sa == nil || lives && !r.loses(t.exchange.lowest()) {
		kept.quiet = true
		s.enqueue(&deleteChildTask{spi: kept.SPIIn, child: kept, superseded: true})
		return
	}
	t.old.successor = kept
	s.e.do(Switch{Child: made.ID})
	s.childUp(made, began, t.old.ID)
	if t.old.sa != nil {
		s.enqueue(&deleteChildTask{spi: t.old.SPIIn, child: t.old, superseded: true})
	}
	if lives {
		// The peer closes it. If it does not, we do.
		r.made.successor = kept
		r.made.rekeyAt, r.made.ends = time.Time{}, s.e.now.Add(redundantLife)
		s.armChildren()
	}
}

// settleTwins closes a child that we opened while the peer opened the same one, unless
// both are of a group (RFC 9611 §3).
func (s *ikeSA) settleTwins(made *child) {
	for _, twin := range s.children {
		if twin == made || twin.Name != made.Name || twin.ours == made.ours || twin.lowest == nil || twin.deleting || twin.successor != nil || twin.Group != 0 && made.Group != 0 ||
			!slices.Equal(twin.Local, made.Local) || !slices.Equal(twin.Remote, made.Remote) {
			continue
		}
		loser := made
		if bytes.Compare(twin.lowest, made.lowest) < 0 {
			loser = twin
		}
		if loser.ours {
			s.enqueue(&deleteChildTask{spi: loser.SPIIn, child: loser})
		}
		return
	}
}

// settleIKE decides which SA takes the place of s: the one that our request made or the
// peer's.
func (s *ikeSA) settleIKE(t *rekeyTask, made *ikeSA) {
	r := t.rival
	if r != nil && !r.made.gone && r.made.state == stateReplaced && !r.loses(t.exchange.lowest()) {
		s.handOver(r.made)
		s.after(dueLifetime, replacedLife) // the peer closes it
		made.state = stateReplaced
		made.enqueue(&deleteTask{reason: "closed: the peer's SA stays"})
		return
	}
	s.handOver(made)
	s.enqueue(&deleteTask{reason: "replaced"})
	if r != nil && !r.made.gone {
		r.made.after(dueLifetime, replacedLife) // so it does that one
	}
}

// yield gives up our own request to replace s, in favour of the peer's where there is one;
// it reports whether there was.
func (s *ikeSA) yield() bool {
	t := s.replacing()
	if t == nil || t.rival == nil || t.rival.made.gone || t.rival.made.state != stateReplaced {
		return false
	}
	s.handOver(t.rival.made)
	return true
}
