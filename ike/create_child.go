package ike

import (
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// has tells whether a child of a configuration stands.
func (s *ikeSA) has(cfg *ChildConfig) bool {
	return slices.ContainsFunc(s.children, func(c *child) bool { return c.Name == cfg.Name && !c.deleting })
}

// createTask opens a further child (RFC 7296 §1.3.1), or one in place of another
// (§1.3.3).
type createTask struct {
	cfg      *ChildConfig
	old      *child // that is to be replaced; nil: none
	command  bool   // a person wants it, it is not old's time
	exchange keyExchange
	offer    *childOffer
	rival    *rival[child] // what the peer put in old's place meanwhile
	tries    int           // that were told TEMPORARY_FAILURE, for a new child

	packet  Packet         // that wants a new child
	alone   bool           // it is asked for by itself: the peer takes no more for an SA
	further bool           // a round has begun (split.go)
	first   bool           // without it the IKE SA is of no use
	fixed   *selectorOffer // what the new child must take; nil: what is left over
	stood   []*child       // of cfg when the request was sent
	beside  *beside        // it is one more of a group (resource.go)
}

func (t *createTask) priority() priority {
	if t.old != nil {
		return prioRekeyChild
	}
	return prioCreateChild
}

func (t *createTask) start(s *ikeSA) {
	if t.needless(s) {
		s.done()
		return
	}
	if t.old == nil && t.fixed == nil && t.beside == nil && !t.further {
		s.setOf(t.cfg).begin()
		t.further = true
	}
	// RFC 7296 §2.8: the same algorithms are preferred.
	proposals := s.followable(t.cfg.Proposals)
	if t.old != nil {
		proposals = s.followable(preferring(t.cfg.Proposals, t.old.Suite))
	}
	if t.beside != nil {
		proposals = s.followable(t.beside.proposals(t.cfg))
	}
	t.exchange = keyExchange{groups: usableKEs(proposals)}
	t.exchange.begin(s, func(err *Error) { t.send(s, err) })
}

// needless tells whether there is nothing to do any more.
func (t *createTask) needless(s *ikeSA) bool {
	if t.old != nil {
		return t.old.sa != s || t.old.deleting || t.old.successor != nil
	}
	switch {
	case t.beside != nil:
		return t.beside.full(s, t.cfg)
	case t.further:
		return false
	case t.fixed != nil:
		return s.holds(t.cfg, t.fixed.local, t.fixed.remote)
	case t.packet.isZero():
		set := s.sets[t.cfg.Name]
		return s.has(t.cfg) && (set == nil || set.want <= groups(s.those(t.cfg)))
	}
	return s.covered(t.cfg, t.packet)
}

// holds tells whether one SA of a configured child takes all of some selectors. A side that
// follows an address is as it is.
func (s *ikeSA) holds(cfg *ChildConfig, local, remote []message.Selector) bool {
	return slices.ContainsFunc(s.those(cfg), func(c *child) bool {
		return (cfg.LocalDynamic || within(local, c.Local)) && (cfg.RemoteDynamic || within(remote, c.Remote))
	})
}

// asks is what the request for a new child asks for.
func (t *createTask) asks(s *ikeSA) (selectorOffer, bool) {
	switch {
	case t.beside != nil:
		return selectorOffer{t.beside.local, t.beside.remote}, true
	case t.fixed != nil:
		return *t.fixed, true
	}
	return s.nextOffer(t)
}

// send sends the request, unless there is no key pair for it.
func (t *createTask) send(s *ikeSA, err *Error) {
	switch {
	case err != nil:
		t.fail(s, err)
		return
	case s.state != stateEstablished, t.needless(s): // about to be deleted, or replaced meanwhile
		t.releaseOffer(s)
		s.done()
		return
	}
	if t.offer == nil {
		of := selectorOffer{}
		if t.old == nil {
			var left bool
			if of, left = t.asks(s); !left {
				t.nothingLeft(s)
				return
			}
		}
		t.offer = s.offerChild(t.cfg, of, true)
		t.stood = s.those(t.cfg)
		switch {
		case t.old != nil:
			t.offer.resource = false // its successor is bound as it is (RFC 9611 §3)
		case t.beside != nil:
			t.offer.proposals = s.followable(t.beside.proposals(t.cfg))
			t.offer.slot = len(s.alike(t.cfg, of.local, of.remote))
		}
	}
	if t.old == nil {
		s.request(message.CreateChildSA, t.offer.payloads(t.exchange.payloads()...)...)
		return
	}
	t.offer.proposals = s.followable(preferring(t.cfg.Proposals, t.old.Suite))
	t.offer.tsi, t.offer.tsr = t.old.Local, t.old.Remote
	rekey := &message.Notify{Protocol: suite.ProtocolESP, SPI: spiBytes(t.old.SPIIn), Notify: message.RekeySA}
	s.request(message.CreateChildSA, append([]message.Payload{rekey}, t.offer.payloads(t.exchange.payloads()...)...)...)
}

func (t *createTask) releaseOffer(s *ikeSA) {
	if t.offer != nil {
		s.e.releaseESPSPI(t.offer.spi)
		t.offer = nil
	}
}

func (t *createTask) expired(s *ikeSA) { s.peerDead() }

// fail gives up, for now where an old child is to be replaced.
func (t *createTask) fail(s *ikeSA, err *Error) {
	t.releaseOffer(s)
	switch {
	case t.beside != nil:
		t.enough(s, err)
		return
	case t.old != nil:
		s.childRekeyFailed(t, err)
	case t.first && len(s.children) == 0:
		s.childFailed(t.cfg.Name, err)
		s.abandon(err, &message.Delete{Protocol: suite.ProtocolIKE})
		return
	default:
		s.childFailed(t.cfg.Name, err)
		if t.fixed == nil {
			s.endRound(t.cfg)
		}
	}
	s.done()
}

// nothingLeft ends a task that finds nothing to ask for.
func (t *createTask) nothingLeft(s *ikeSA) {
	if !t.packet.isZero() && !s.covered(t.cfg, t.packet) {
		t.fail(s, errNothingLeft(t))
		return
	}
	s.endRound(t.cfg)
	s.e.report(ChildStands{SA: s.id(), Connection: s.conn.Name, Name: t.cfg.Name})
	s.done()
}

// refusesSelectors tells whether an error is about what was asked for (RFC 7296 §2.9).
func refusesSelectors(n message.NotifyType) bool {
	return n == message.TSUnacceptable || n == message.SinglePairRequired
}

// single notes that the peer does not take selectors that come together.
func (t *createTask) single(s *ikeSA, why message.NotifyType) {
	set := s.setOf(t.cfg)
	// RFC 7296 §2.9: the packet's own pair of addresses is what such a peer wants.
	t.alone = why == message.SinglePairRequired && !t.packet.isZero() && !t.alone
	set.single = true
	set.tries++
}

// refusedSelectors goes on when the peer refuses what was asked for, or gives nothing of it that we
// do not have: with less of it, or with something else that is left.
func (t *createTask) refusedSelectors(s *ikeSA, why message.NotifyType, err *Error) {
	set := s.setOf(t.cfg)
	asked := selectorOffer{t.offer.tsi, t.offer.tsr}
	t.releaseOffer(s)
	switch {
	case t.fixed != nil || set.tries >= maxRefusal:
		t.fail(s, err)
		return
	case asked.many() || t.alone || why == message.SinglePairRequired && !t.packet.isZero():
		t.single(s, why)
	default:
		set.refused = append(set.refused, region{asked.local[0], asked.remote[0]})
		set.tries++
		if !t.packet.isZero() {
			t.fail(s, err)
			return
		}
	}
	t.further = true
	if _, left := s.nextOffer(t); !left {
		if !s.has(t.cfg) {
			t.fail(s, err)
			return
		}
		s.endRound(t.cfg)
	} else {
		s.enqueue(t) // before done, which may find that nothing is left to do
	}
	s.done()
}

func (t *createTask) response(s *ikeSA, ps []message.Payload) {
	if n := message.FindNotify(ps, message.InvalidKEPayload); n != nil && !t.exchange.following() {
		t.exchange.again(s, n, func(err *Error) { t.send(s, err) })
		return
	}
	if n := message.FindError(ps); n != nil {
		t.refused(s, n)
		return
	}
	if t.exchange.following() {
		t.exchange.followed(s, ps)
		return
	}
	a, err := s.acceptAnswer(t.offer, ps)
	if err != nil {
		t.undo(s, ps, err)
		return
	}
	t.exchange.finish(s, a.suite, ps, func(shared []byte, err *Error) {
		if err != nil {
			t.undo(s, ps, err)
			return
		}
		t.finish(s, a, shared)
	})
}

// refused takes an error in place of an answer.
func (t *createTask) refused(s *ikeSA, n *message.Notify) {
	err := errChildRefused(s, t.offer, n)
	if n.Notify == message.NoProposalChosen && len(t.exchange.groups) == 0 {
		// The first child of an SA never has a key exchange, so that it tells nothing of this.
		err.Hint = hintPFS
	}
	switch {
	case (n.Notify == message.TemporaryFailure || n.Notify == message.StateNotFound) && t.old == nil && t.tries < maxRestarts:
		// RFC 7296 §2.25: the peer is busy with the IKE SA. RFC 9370 §2.2.4: or forgot what
		// additional key exchanges were for.
		t.releaseOffer(s)
		t.tries++
		s.later(t, backoff(t.tries, busyWait, busyMost))
		s.done()
		return
	case n.Notify == message.ChildSANotFound && t.old != nil:
		t.lost(s)
		return
	case refusesSelectors(n.Notify) && t.old == nil && t.beside == nil:
		t.refusedSelectors(s, n.Notify, err)
		return
	}
	t.fail(s, err)
}

// lost takes the news that the peer does not have the child that we want to replace: ours
// is of no use, and a new one is opened (RFC 7296 §2.25).
func (t *createTask) lost(s *ikeSA) {
	t.releaseOffer(s)
	if old := t.old; old.sa == s {
		replaced := old.successor != nil
		s.retire(old, "the peer does not have it any more")
		if !replaced {
			s.enqueue(&createTask{cfg: t.cfg, fixed: &selectorOffer{old.Local, old.Remote}})
		}
	}
	s.done()
}

// finish puts the child into service.
func (t *createTask) finish(s *ikeSA, a *childAnswer, shared []byte) {
	if slices.Contains(s.early, a.spiOut) {
		if t.old != nil && t.old.sa == s && t.old.successor == nil {
			s.enqueue(&deleteChildTask{spi: t.old.SPIIn, child: t.old})
		}
		t.fail(s, errChildDeleted(a))
		return
	}
	switch {
	case t.old != nil:
		a.group, a.slot = t.old.Group, t.old.Slot
	case t.beside != nil && !t.beside.fits(a):
		s.enqueue(&deleteChildTask{spi: t.offer.spi})
		t.fail(s, errNotAlike(a))
		return
	default:
		s.placeInGroup(a)
	}
	if t.givesNothing(s, a) {
		s.enqueue(&deleteChildTask{spi: t.offer.spi})
		t.refusedSelectors(s, message.TSUnacceptable, errNothingNew(a))
		return
	}
	c, err := s.keyedChild(a, true, shared, t.exchange.ni, t.exchange.nr, t.exchange.more...)
	if err != nil {
		t.fail(s, err)
		return
	}
	t.offer = nil
	kept := s.install(c, a)
	kept.ours = true
	if t.old == nil {
		kept.lowest = t.exchange.lowest()
		s.childUp(c, a, 0)
		s.settleTwins(kept)
		switch {
		case t.beside != nil:
			s.e.do(Switch{Child: c.ID}) // the peer has it
		case t.fixed == nil:
			s.setOf(t.cfg).more = a.more
			s.openMore(t.cfg)
		}
		s.fill(kept)
	} else {
		kept.inherit(t.old)
		s.settle(t, c, kept, a)
	}
	s.done()
}

// givesNothing tells whether a new child takes no more than one that stood before. A peer
// that holds back what was asked for gives again what it gave before.
func (t *createTask) givesNothing(s *ikeSA, a *childAnswer) bool {
	return t.old == nil && t.beside == nil && slices.ContainsFunc(t.stood, func(c *child) bool {
		return c.sa == s && !c.deleting && within(a.local, c.Local) && within(a.remote, c.Remote)
	})
}

// undo gives up a child that the peer has and we cannot take, and deletes it there.
func (t *createTask) undo(s *ikeSA, ps []message.Payload, err *Error) {
	spi := t.offer.spi
	t.fail(s, err)
	if sa, ok := message.Find[*message.SA](ps); ok && len(sa.Proposals) > 0 {
		s.enqueue(&deleteChildTask{spi: spi})
	}
}
