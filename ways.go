package martlet

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"martlet/config"
	"martlet/ike"
)

// ways are where the tunnels lead just now, for programs that dial in this process.
type ways struct {
	mu       sync.Mutex
	children map[ike.ChildID]way
}

// way is what one child leads to, and the addresses on our side that it is for one by one.
type way struct {
	sa     ike.SAID
	remote []netip.Prefix
	own    []netip.Prefix
}

// up adds a child, and tells whether it is for single addresses on our side.
func (w *ways) up(c ike.ChildInfo) (own bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.children == nil {
		w.children = map[ike.ChildID]way{}
	}
	single := slices.DeleteFunc(prefixesOf(c.Local), func(p netip.Prefix) bool { return !p.IsSingleIP() })
	w.children[c.ID] = way{sa: c.SA, remote: prefixesOf(c.Remote), own: single}
	return len(single) > 0
}

// down is up undone.
func (w *ways) down(id ike.ChildID) (own bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.children[id]
	delete(w.children, id)
	return len(c.own) > 0
}

func (w *ways) rekeyed(before, after ike.SAID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, c := range w.children {
		if c.sa == before {
			c.sa = after
			w.children[id] = c
		}
	}
}

// lead tells whether a child leads to an address; to any at all, if that is the zero one.
func (w *ways) lead(to netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.children {
		if !to.IsValid() || slices.ContainsFunc(c.remote, func(p netip.Prefix) bool { return p.Contains(to) }) {
			return true
		}
	}
	return false
}

// own are the single addresses that children are for on our side, of those SAs that gave no
// virtual address.
func (w *ways) own(given func(ike.SAID) bool) []netip.Prefix {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []netip.Prefix
	for _, c := range w.children {
		if !given(c.sa) {
			out = append(out, c.own...)
		}
	}
	return sortedPrefixes(out)
}

// ready waits until a tunnel leads to an address, or, if that is the zero one, until any is up.
// It does not wait for what nobody is bringing up.
func (n *Node) ready(ctx context.Context, to netip.Addr) (err error) {
	if n.ways.lead(to) {
		return nil
	}
	n.summon(to)
	late := n.attend(ctx, func() bool {
		switch {
		case n.ways.lead(to):
		case n.ending.Load():
			err = net.ErrClosed
		case n.coming(to):
			return false
		case n.ways.lead(netip.Addr{}):
			err = os.NewSyscallError("connect", syscall.ENETUNREACH)
		default:
			err = fmt.Errorf("no tunnel is up: %w", os.NewSyscallError("connect", syscall.ENETDOWN))
		}
		return true
	})
	return cmp.Or(err, late)
}

// attend looks after each event, and each second since that somebody begins or gives up is none,
// whether what is waited for has come.
func (n *Node) attend(ctx context.Context, come func() bool) error {
	events, stop := n.events.subscribe()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !come() {
		select {
		case <-events:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the tunnel is not up: %w", context.Cause(ctx))
		}
	}
	return nil
}

// coming tells whether somebody is bringing up what may lead to an address.
func (n *Node) coming(to netip.Addr) bool {
	for _, conn := range n.conf().Connections {
		if n.isArmed(conn.Name) && slices.ContainsFunc(onDemand(conn), func(c *config.Child) bool { return leadsTo(c, to) }) {
			return true
		}
		n.mu.Lock()
		busy := len(n.turns[conn.Name]) > 0
		n.mu.Unlock()
		if busy || n.isKept(conn.Name) && !n.complete(conn) {
			return true
		}
	}
	return false
}

// leadsTo tells whether a child is for an address on the peer's side; the zero one is any.
func leadsTo(c *config.Child, to netip.Addr) bool {
	return !to.IsValid() || slices.ContainsFunc(prefixesOf(messageSelectors(c.RemoteTS)), func(p netip.Prefix) bool { return p.Contains(to) })
}
