package ike

import (
	"encoding/binary"
	"slices"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// rekeyTask makes an IKE SA in place of this one (RFC 7296 §1.3.2, §2.18).
type rekeyTask struct {
	command   bool // a person wants it, it is not yet time
	exchange  keyExchange
	proposals []suite.Proposal
	spi       message.SPI
	rival     *rival[ikeSA] // what the peer made to take our place meanwhile
}

func (*rekeyTask) priority() priority { return prioRekey }

func (t *rekeyTask) start(s *ikeSA) {
	if s.state != stateEstablished {
		s.done()
		return
	}
	// What is in use is what both sides can do; and some clients cannot recover from
	// another group.
	t.proposals = s.followable(preferring(s.conn.Proposals, s.suite))
	t.exchange = keyExchange{groups: usableKEs(t.proposals)}
	t.spi = s.e.newIKESPI()
	t.exchange.begin(s, func(err *Error) { t.send(s, err) })
}

func (t *rekeyTask) send(s *ikeSA, err *Error) {
	switch {
	case err != nil:
		t.fail(s, err)
		return
	case t.rival != nil && s.yield():
		return
	case s.state != stateEstablished: // about to be deleted
		s.done()
		return
	}
	ps := []message.Payload{wireProposals(t.proposals, binary.BigEndian.AppendUint64(nil, uint64(t.spi)))}
	ps = append(ps, t.exchange.payloads()...)
	s.request(message.CreateChildSA, append(ps, s.e.crashToken(t.spi, true)...)...)
}

// expired: where the peer has made its own SA in place of this one it lives, and has
// forgotten this one.
func (t *rekeyTask) expired(s *ikeSA) {
	if !s.yield() {
		s.peerDead()
	}
}

func (t *rekeyTask) fail(s *ikeSA, err *Error) {
	if s.yield() {
		return
	}
	s.rekeyIKEFailed(t, err)
	s.done()
}

func (t *rekeyTask) response(s *ikeSA, ps []message.Payload) {
	if n := message.FindNotify(ps, message.InvalidKEPayload); n != nil && !t.exchange.following() {
		t.exchange.again(s, n, func(err *Error) { t.send(s, err) })
		return
	}
	if n := message.FindError(ps); n != nil {
		t.fail(s, errRekeyRefused(s, n))
		return
	}
	if t.exchange.following() {
		t.exchange.followed(s, ps)
		return
	}
	sa, ok := message.Find[*message.SA](ps)
	if !ok {
		t.broken(s, errChildIncomplete())
		return
	}
	got, spi, ok := chosen(sa, t.proposals)
	if !ok || len(spi) != 8 || binary.BigEndian.Uint64(spi) == 0 {
		t.broken(s, errBadChoice(s, sa))
		return
	}
	t.exchange.finish(s, got, ps, func(shared []byte, err *Error) {
		if err != nil {
			t.broken(s, err)
			return
		}
		made, failed := s.heir(true, t.spi, message.SPI(binary.BigEndian.Uint64(spi)), got, t.exchange.ni, t.exchange.nr, shared, t.exchange.more...)
		if failed != nil {
			t.broken(s, errInternal(failed.Error()))
			return
		}
		made.takeCrashToken(ps)
		s.settleIKE(t, made)
	})
}

// broken ends an SA for which the peer has another by now that we cannot use.
func (t *rekeyTask) broken(s *ikeSA, err *Error) {
	if !s.yield() {
		s.abandon(err, &message.Delete{Protocol: suite.ProtocolIKE})
	}
}

// rekeyIKERequest takes the peer's request for an IKE SA in place of this one. The number
// of the chosen proposal is echoed, whatever it is.
func (s *ikeSA) rekeyIKERequest(sa *message.SA, ni []byte, ps []message.Payload) {
	if why := s.refusalOfRekeyIKE(); why != 0 {
		s.respond(notify(why))
		return
	}
	offered := plainProposals(sa, func(p message.Proposal) bool {
		return p.Protocol == suite.ProtocolIKE && len(p.SPI) == 8 && binary.BigEndian.Uint64(p.SPI) != 0
	})
	var group uint16
	if ke, ok := message.Find[*message.KE](ps); ok {
		group = ke.Method
	}
	ours := supportedKEs(s.followable(preferring(s.conn.Proposals, s.suite)))
	choice, err := suite.Select(offered, slices.Concat(onlyGroup(ours, group), ours), false)
	if err != nil {
		s.rekeyFailed("", errRefusedProposal(err))
		s.respond(notify(message.NoProposalChosen))
		return
	}
	p := sa.Proposals[choice.Index]
	s.holding = true // what we ask for now would belong to the new SA
	s.answerExchange(choice.Suite, ps, &ikeOpening{
		own: s.e.newIKESPI(), peer: message.SPI(binary.BigEndian.Uint64(p.SPI)), suite: choice.Suite, num: p.Num, ni: ni, ps: ps,
	})
}

// ikeOpening is a request of the peer for an IKE SA in place of this one on its way.
type ikeOpening struct {
	own, peer message.SPI
	suite     suite.Suite
	num       uint8 // of the chosen proposal
	ni        []byte
	ps        []message.Payload // of the request
}

func (*ikeOpening) refusal(s *ikeSA) message.NotifyType { return s.refusalOfRekeyIKE() }

func (o *ikeOpening) payloads(s *ikeSA, between ...message.Payload) []message.Payload {
	answer := &message.SA{Proposals: []message.Proposal{{
		Num: o.num, SPI: binary.BigEndian.AppendUint64(nil, uint64(o.own)), Proposal: o.suite.Proposal(),
	}}}
	return append(append([]message.Payload{answer}, between...), s.e.crashToken(o.own, false)...)
}

func (*ikeOpening) void(s *ikeSA) {
	s.holding = false
	s.startNext()
}

func (o *ikeOpening) finish(s *ikeSA, got *agreed) {
	s.holding = false
	made, err := s.heir(false, o.peer, o.own, o.suite, o.ni, got.nr, got.shared, got.more...)
	if err != nil {
		s.badRequest(err)
		return
	}
	made.takeCrashToken(o.ps)
	s.respond(got.answer(s, o)...)
	if t := s.replacing(); t != nil {
		// RFC 7296 §2.8.2: which one stays is decided when our own is answered.
		if old := t.rival; old != nil {
			old.made.close("another request of the peer", nil)
		}
		t.rival = &rival[ikeSA]{made, lower(o.ni, got.nr)}
		made.inPlaceOf = s
		return
	}
	s.handOver(made)
}

// heir makes the SA that is to take the place of s. It has nothing yet of what s has
// but its peer.
func (s *ikeSA) heir(initiator bool, spii, spir message.SPI, with suite.Suite, ni, nr, shared []byte, more ...[]byte) (*ikeSA, error) {
	n := &ikeSA{
		initiator: initiator, opener: s.opener, state: stateReplaced,
		spii: spii, spir: spir, conn: s.conn, encapPath: s.encapPath, mobility: s.mobility,
		suite: with, ni: ni, nr: nr, conds: s.conds, lease: s.lease, lineage: s.lineage,
		created: s.e.now, stageAt: s.e.now,
	}
	var err error
	if n.prf, err = suite.NewPRF(with.PRF); err != nil {
		return nil, err
	}
	s.e.link(n)
	if err := n.setKeys(RekeyedSKEYSEED(s.prf, s.keys.D, ni, nr, shared, more...)); err != nil {
		s.e.unlink(n)
		return nil, err
	}
	return n, nil
}

// handOver gives n the place of s: children, and what we want to ask. s only
// answers from here on.
func (s *ikeSA) handOver(n *ikeSA) {
	s.e.enter("hand over", n)
	n.state, n.inPlaceOf = stateEstablished, nil
	n.mobility, n.lease, n.conds = s.mobility, s.lease, s.conds
	n.opening = false // the answer goes to the SA that asked
	n.takeover, s.takeover = s.takeover, takeover{}
	n.seenAs = nil // a hash with the SPIs in it
	n.children, s.children = s.children, nil
	n.retired, s.retired = s.retired, nil
	n.superseded, n.surplus, s.surplus = s.superseded, s.surplus, false
	n.delayed, s.delayed = s.delayed, nil
	for _, c := range n.children {
		c.sa, c.SA = n, n.id()
	}
	queue := s.queue
	switch s.active.(type) {
	case nil, *rekeyTask, *livenessTask, *deleteTask, *probeTask:
	default:
		queue = append([]task{s.active}, queue...) // it is asked anew
	}
	s.active, s.queue = nil, nil
	n.queue = slices.DeleteFunc(queue, func(t task) bool { _, ok := t.(*rekeyTask); return ok })

	terminating := s.state == stateDeleting
	s.dropFollowUp()
	s.holding = false
	s.state, s.successor, n.forerunner = stateReplaced, n, s
	s.forgetRequest()
	s.forgetAsks()
	for _, d := range []deadline{dueReassembly, dueLiveness, dueKeepalive, dueRekey, dueHard, dueChildren} {
		s.set(d, time.Time{})
	}
	n.set(dueReauth, s.deadlines[dueReauth])
	s.set(dueReauth, time.Time{})
	s.after(dueLifetime, replacedLife)

	n.set(dueLifetime, time.Time{})
	n.heardNow()
	n.armKeepalive()
	n.armReturn()
	n.armChildren()
	n.grow()
	n.e.report(Rekeyed{Old: s.id(), New: n.id(), Status: n.status()})
	if terminating {
		n.state = stateDeleting
	}
	// What s had asked is void.
	if n.probing || n.seeking {
		n.seek(false)
	}
	if to := n.leaving; to != nil {
		n.moving, n.leaving = false, nil
		n.leave(*to)
	}
	n.startNext()
	n.goOnProbing()
}
