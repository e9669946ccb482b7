package ike

import (
	"encoding/binary"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Several child SAs with the same selectors, one for each processor or queue, so that one SA
// is not what limits the traffic (RFC 9611 §3). Who opens the first one says in it that more
// may follow; if the peer says so too, they make a group, and who opened the first fills it.
// The first is not bound to a resource: it carries everything until there are others.

// usualParallel is how many SAs with the same selectors a peer may have where the
// configuration says nothing.
const usualParallel = 16

// parallel is how many SAs with the same selectors there may be.
func (c *ChildConfig) parallel() int {
	if c.Parallel == 0 {
		return usualParallel
	}
	return c.Parallel
}

// resourceInfo is SA_RESOURCE_INFO. What identifies the resource is for people who look for
// a fault, and left out of the first SA, which has none (RFC 9611 §5.1).
func resourceInfo(slot int) message.Payload {
	if slot == 0 {
		return notify(message.SAResourceInfo)
	}
	return notifyData(message.SAResourceInfo, binary.BigEndian.AppendUint32(nil, uint32(slot)))
}

func hasResourceInfo(ps []message.Payload) bool {
	return message.FindNotify(ps, message.SAResourceInfo) != nil
}

// alike are the SAs of a configured child that have the same selectors.
func (s *ikeSA) alike(cfg *ChildConfig, local, remote []message.Selector) []*child {
	var out []*child
	for _, c := range s.those(cfg) {
		if sameSelectors(c.Local, local) && sameSelectors(c.Remote, remote) {
			out = append(out, c)
		}
	}
	return out
}

// sameSelectors compares them as sets.
func sameSelectors(a, b []message.Selector) bool { return within(a, b) && within(b, a) }

// placeInGroup finds the group that a new SA belongs to, and its place in it.
func (s *ikeSA) placeInGroup(a *childAnswer) {
	if !a.resource {
		return
	}
	taken := map[int]bool{}
	for _, c := range s.alike(a.cfg, a.local, a.remote) {
		if c.Group != 0 && (a.group == 0 || a.group == c.Group) {
			a.group = c.Group
			taken[c.Slot] = true
		}
	}
	for taken[a.slot] {
		a.slot++
	}
}

// admitResource answers, on the responder, a request for one SA of a group.
func (s *ikeSA) admitResource(r *childRequest, a *childAnswer) *Error {
	if !r.resource {
		return nil
	}
	if n := len(s.alike(a.cfg, a.local, a.remote)); n >= a.cfg.parallel() {
		return errMaxQueue(a.cfg, n)
	}
	a.resource = a.cfg.parallel() > 1
	return nil
}

// fill opens the next SA of the group of a child, if it is ours to fill.
func (s *ikeSA) fill(c *child) {
	if c.Group == 0 || len(s.alike(c.cfg, c.Local, c.Remote)) >= c.cfg.Parallel {
		return
	}
	s.enqueue(&createTask{cfg: c.cfg, beside: &beside{local: c.Local, remote: c.Remote, suite: c.Suite}})
}

// beside is what an SA has that is to stand beside others: all but keys are the same
// (RFC 9611 §3).
type beside struct {
	local, remote []message.Selector
	suite         suite.Suite
}

// full tells whether the group needs no other SA, or is gone.
func (b *beside) full(s *ikeSA, cfg *ChildConfig) bool {
	n := len(s.alike(cfg, b.local, b.remote))
	return n == 0 || n >= cfg.Parallel
}

// proposals are the algorithms of the others, with the groups that are configured.
func (b *beside) proposals(cfg *ChildConfig) []suite.Proposal {
	return preferring(cfg.Proposals, b.suite)[:1]
}

// fits tells whether an answer makes an SA like the others.
func (b *beside) fits(a *childAnswer) bool {
	return a.resource && a.suite.Encr == b.suite.Encr && a.suite.Integ == b.suite.Integ && a.suite.ESN == b.suite.ESN &&
		sameSelectors(a.local, b.local) && sameSelectors(a.remote, b.remote)
}

// enough gives up to fill a group. That the peer has enough (TS_MAX_QUEUE) is in order.
func (t *createTask) enough(s *ikeSA, err *Error) {
	t.releaseOffer(s)
	if err.Notify != message.TSMaxQueue {
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: "no more SAs for child " + t.cfg.Name + ": " + err.What + ": " + err.Why})
	}
	s.done()
}

// groups counts what stands of a configured child, each group once.
func groups(these []*child) int {
	n := 0
	var seen []ChildID
	for _, c := range these {
		if c.Group != 0 && slices.Contains(seen, c.Group) {
			continue
		}
		seen = append(seen, c.Group)
		n++
	}
	return n
}
