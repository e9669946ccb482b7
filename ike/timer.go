package ike

import (
	"cmp"
	"container/heap"
	"time"
)

// deadline names one of the times at which an SA wants to be woken.
type deadline uint8

const (
	dueRetransmit deadline = iota // repeat the outstanding request
	dueInitError                  // believe what an unprotected error said
	dueReassembly                 // give up incomplete fragments
	dueLifetime                   // end of a half-open SA, or of a closed one that still repeats its answer
	dueLiveness                   // nothing was heard for long
	dueKeepalive                  // nothing was sent for long
	dueStream                     // open a TCP stream again, or try whether UDP passes
	dueRekey                      // replace the SA
	dueHard                       // end it, if that was not possible
	dueReauth                     // prove again who is there, or end the SA of a peer that did not
	dueChildren                   // the same for one of its children; or a delayed task
	dueFollowUp                   // forget what additional key exchanges of the peer were for
)

const deadlines = int(dueFollowUp) + 1

// set arms a deadline of the SA; the zero time disarms it.
func (s *ikeSA) set(d deadline, at time.Time) {
	s.deadlines[d] = at
	var due time.Time
	for _, t := range s.deadlines {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	if due.Equal(s.due) || s.gone {
		return
	}
	s.due = due
	switch {
	case due.IsZero():
		heap.Remove(&s.e.timers, s.heapAt)
	case s.heapAt < 0:
		heap.Push(&s.e.timers, s)
	default:
		heap.Fix(&s.e.timers, s.heapAt)
	}
}

// after arms a deadline d from now.
func (s *ikeSA) after(d deadline, wait time.Duration) { s.set(d, s.e.now.Add(wait)) }

// tick does what is due.
func (s *ikeSA) tick() {
	for d := range deadline(deadlines) {
		if at := s.deadlines[d]; s.gone || at.IsZero() || at.After(s.e.now) {
			continue
		}
		s.set(d, time.Time{})
		switch d {
		case dueRetransmit:
			s.retransmit()
		case dueInitError:
			s.believeInitError()
		case dueReassembly:
			s.requests.Reset()
			s.responses.Reset()
		case dueLifetime:
			s.lifetimeOver()
		case dueLiveness:
			s.livenessDue()
		case dueKeepalive:
			s.keepaliveDue()
		case dueStream:
			s.streamDue()
		case dueRekey:
			s.rekey(false)
		case dueHard:
			s.terminate("its lifetime is over and nobody replaced it")
		case dueReauth:
			s.reauthDue()
		case dueFollowUp:
			s.dropFollowUp()
		case dueChildren:
			s.childrenDue()
		}
	}
}

// timerHeap orders SAs by what is due first; of equals the older SA comes first.
type timerHeap []*ikeSA

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	return cmp.Or(h[i].due.Compare(h[j].due), cmp.Compare(h[i].serial, h[j].serial)) < 0
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

// Push is heap.Push's half: call that.
func (h *timerHeap) Push(x any) {
	s := x.(*ikeSA)
	s.heapAt = len(*h)
	*h = append(*h, s)
}

// Pop is heap.Pop's half: call that.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.heapAt = -1
	return s
}
