package ike

import (
	"slices"
	"time"

	"martlet/ike/message"
)

// Two peers that are to call each other may do so at once, and then there are two IKE SAs with
// the same children where one is wanted. The rules, by which no packet is lost and both ends
// give up the same one:
//
//   - Who opened an SA sends on it as soon as it stands: the peer has it, since it has answered.
//     The other end cannot know that its answer arrived; it sends on what it had before until the
//     first packet comes on this one, or until the peer has answered a Check on it.
//   - That of which the SPIi is lower stays. Both ends know both SPIs; neither knows the clock
//     of the other.
//   - Nothing ends before the peer was asked on both SAs and has answered: it may have lost one
//     of them, in a crash say, and that is not the one that must stay.
//   - Who opened the one that stays ends the other one (Terminate, with Surplus). A peer that
//     does not has a few seconds, and then we do.
//
// The SAs may be of different engines, so that the runner does this, by Check, Prefer and
// Terminate.

const (
	surplusPause = time.Second // from the last packet on a surplus SA to its DELETE
	surplusLife  = time.Minute // of its children, however long the DELETE takes
)

// Crossing finds two SAs of those of one connection that crossed: the one that stays, and the
// one that goes.
func Crossing(sas []Status) (stays, goes Status, found bool) {
	stands := func(s Status) bool { return s.State == "established" && len(s.Children) > 0 }
	for i, a := range sas {
		for _, b := range sas[i+1:] {
			switch {
			case !stands(a) || !stands(b) || a.Initiator == b.Initiator || a.Remote != b.Remote:
			case a.Line > b.Line:
				return b, a, true
			default:
				return a, b, true
			}
		}
	}
	return Status{}, Status{}, false
}

// check asks the peer whether it has an SA.
func (e *Engine) check(id SAID) {
	if s := e.sas[message.SPI(id)].newest(); s != nil && s.state == stateEstablished {
		e.enter("check", s)
		s.enqueue(&livenessTask{told: true})
	}
}

// prefer switches to the children of an SA.
func (e *Engine) prefer(id SAID) {
	s := e.sas[message.SPI(id)].newest()
	if s == nil || s.state != stateEstablished {
		return
	}
	e.enter("prefer", s)
	for _, c := range s.children {
		if c.successor == nil && !c.deleting {
			e.do(Switch{Child: c.ID})
		}
	}
}

// endSurplus ends an SA beside which there is another one with the same children, without loss
// of a packet.
func (s *ikeSA) endSurplus(reason string) {
	if s = s.newest(); s.state != stateEstablished {
		s.terminate(reason)
		return
	}
	s.state, s.superseded, s.surplus = stateDeleting, true, true
	s.queue, s.delayed = nil, nil
	s.dropFollowUp()
	s.drain()
	s.later(&deleteTask{reason: reason}, surplusPause)
}

// drain ends the sending on the children of a surplus SA; what comes is still taken for a while.
func (s *ikeSA) drain() {
	for _, c := range slices.Clone(s.children) {
		s.e.do(Retire{Child: c.ID})
		s.forgetChild(c, "another SA carries the same")
		s.retired = append(s.retired, c)
	}
	life := surplusLife
	if s.state == stateClosed {
		life = retiredLife
	}
	for _, c := range s.retired {
		c.ends = s.e.now.Add(life)
	}
	s.armChildren()
}
