package martlet

import (
	"context"
	"net"
	"slices"

	"martlet/config"
	"martlet/ike"
)

// attempt is one try to bring up a connection or a child, and who waits for it. It is
// guarded by Node.mu.
type attempt struct {
	child string // the child that is waited for; empty: the first one
	// An SA of the same connection may still be on its way down. Only what is told
	// of this one, or between begun and the time when it is known, is about us.
	sa    ike.SAID
	begun bool
	// rival is an SA on its way to another address of the peer, until one of the two is answered.
	rival ike.SAID
	heard bool // one was
	done  chan struct{}
	err   error
	ended bool
}

// about tells whether what happened to an SA concerns the attempt.
func (a *attempt) about(sa ike.SAID) bool {
	return !a.ended && a.begun && (a.sa == 0 || a.sa == sa)
}

// established ends the attempt at a connection that has no child at first.
func (a *attempt) established(sa ike.SAID) {
	if a.about(sa) && a.child == "" {
		a.end(nil)
	}
}

// opensBare tells whether a connection is open without a child: all of its children come later.
func opensBare(conn *config.Connection) bool {
	if conn.Childless != "prefer" && conn.Childless != "force" {
		return false
	}
	for _, child := range conn.Children {
		if child.Keep != config.KeepOnDemand && child.Keep != config.KeepManual {
			return false
		}
	}
	return true
}

func (a *attempt) up(c ike.ChildInfo) {
	if a.about(c.SA) && (a.child == "" || c.Name == a.child) {
		a.end(nil)
	}
}

// redirected goes on with the SA that takes the place of the one that was waited for.
func (a *attempt) redirected(h ike.Redirected) {
	if a.about(h.SA) && a.child == "" {
		a.sa = h.New
	}
}

func (a *attempt) stands(h ike.ChildStands) {
	if a.about(h.SA) && h.Name == a.child {
		a.end(nil)
	}
}

func (a *attempt) failed(h ike.ChildFailed) {
	if a.about(h.SA) && (a.child == "" || h.Name == a.child) {
		a.end(h.Err)
	}
}

func (a *attempt) rekeyed(h ike.Rekeyed) {
	if a.begun && a.sa == h.Old {
		a.sa = h.New
	}
}

func (a *attempt) down(h ike.Down) {
	switch {
	case a.rival != 0 && h.SA == a.rival:
		a.rival = 0
	case a.rival != 0 && h.SA == a.sa:
		a.sa, a.rival = a.rival, 0
	case !a.about(h.SA), a.sa == 0 && !h.Initiator:
	case h.Err != nil:
		a.end(h.Err)
	default:
		a.end(&Error{Code: ike.CodeTerminated, What: "the connection was closed", Why: h.Reason, Hint: "try again"})
	}
}

func (a *attempt) end(err *Error) {
	a.ended = true
	if err != nil {
		a.err = err
	}
	close(a.done)
}

// attempt calls f with the current attempt at a connection, if there is one.
func (n *Node) attempt(connection string, f func(*attempt)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.attempts[connection]; a != nil {
		f(a)
	}
}

// turn waits until nobody else brings up a connection or a child of it. The caller calls
// done when it is ready.
func (n *Node) turn(ctx context.Context, connection string) (done func(), err error) {
	n.mu.Lock()
	turn := n.turns[connection]
	if turn == nil {
		turn = make(chan struct{}, 1)
		n.turns[connection] = turn
	}
	n.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-n.ctx.Done():
		return nil, net.ErrClosed
	}
}

// await registers an attempt, begins it, and waits for its end. The caller has the turn.
func (n *Node) await(ctx context.Context, conn *config.Connection, a *attempt, begin func(*attempt) error) error {
	a.done = make(chan struct{})
	n.mu.Lock()
	n.attempts[conn.Name] = a
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.attempts, conn.Name)
		n.mu.Unlock()
	}()
	if err := begin(a); err != nil {
		return err
	}
	giveUp := func() {
		n.mu.Lock()
		both := []ike.SAID{a.sa, a.rival}
		n.mu.Unlock()
		for _, sa := range both {
			if a.child == "" && sa != 0 {
				n.engines.of(sa).post(ike.Terminate{SA: sa, Reason: "given up"})
			}
		}
	}
	select {
	case <-a.done:
		// An SA that failed since the host did is told of by the cause.
		if fault := n.host.whyFailed(); fault != nil {
			return fault
		}
		return a.err
	case <-n.host.failure():
		giveUp()
		return n.host.whyFailed()
	case <-ctx.Done():
		giveUp()
		return context.Cause(ctx)
	case <-n.ctx.Done():
		return net.ErrClosed
	}
}

func (n *Node) attemptSA(a *attempt) ike.SAID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return a.sa
}

// initiate begins an SA, and finds out which it is.
func (s *shard) initiate(a *attempt, ev ike.Initiate) {
	s.begin(ev, func() { a.begun = true }, func(sa ike.SAID) { a.sa = sa })
}

// begin is initiate with what is to be noted before and after, for which Node.mu is held.
func (s *shard) begin(ev ike.Initiate, before func(), after func(ike.SAID)) {
	set := func(f func()) {
		s.node.mu.Lock()
		defer s.node.mu.Unlock()
		f()
	}
	s.call(func(engine *ike.Engine) {
		set(before)
		s.handle(ev)
		all := engine.StatusesOf(func(connection string) bool { return connection == ev.Connection })
		for _, st := range slices.Backward(all) { // in order of creation
			if st.Initiator {
				set(func() { after(st.SA) })
				break
			}
		}
	})
}
