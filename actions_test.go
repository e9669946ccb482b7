package martlet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"martlet/config"
	"martlet/esp"
	"martlet/ike"
)

// Computations that find no place in time are given up: who wanted them has given up too,
// and in a flood they would pile up without end.
func TestWorkIsNotQueuedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := &Node{ctx: ctx, engines: &engines{work: make(chan struct{}, 1)}}
		s := &shard{node: n, in: make(chan ike.Event, 1)}
		n.engines.work <- struct{}{} // somebody computes for hours
		ran := false
		s.aside(7, func() ike.Reply { ran = true; return nil })
		answer, ok := (<-s.in).(ike.Answer)
		if !ok || answer.ID != 7 {
			t.Fatalf("got %v", answer)
		}
		if done, ok := answer.Value.(ike.WorkDone); !ok || done.Err == nil || ran {
			t.Errorf("got %v, ran %v", answer.Value, ran)
		}
		n.tasks.Wait()
	})
}

// What waits for the network or the host takes no place of a computation, and gets on while
// all of them are taken.
func TestWaitingTakesNoPlaceOfWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := &Node{ctx: ctx, engines: &engines{work: make(chan struct{}, 1)}, Config: &config.Config{}}
		s := &shard{node: n, in: make(chan ike.Event, 1)}
		n.engines.work <- struct{}{}
		began := time.Now()
		for _, q := range []ike.Question{ike.Reach{}, ike.FindPaths{}, ike.Configure{}} {
			s.ask(ike.Ask{ID: 1, Question: q})
			answer, _ := (<-s.in).(ike.Answer)
			if _, given := answer.Value.(ike.WorkDone); given || time.Since(began) > 0 {
				t.Errorf("%T: %v after %v", q, answer.Value, time.Since(began))
			}
		}
		n.tasks.Wait()
	})
}

// TestAcquireDoesNotWait: a packet that no child takes does not hold up those behind it while a
// connection is being armed, which sets up the host.
func TestAcquireDoesNotWait(t *testing.T) {
	n := &Node{Config: &config.Config{}}
	n.demands.mu.Lock()                   // as arm does
	(&planeEvents{n}).Acquire(esp.Flow{}) // where it waits, it does so for ever
	n.demands.mu.Unlock()
	n.tasks.Wait()
}
