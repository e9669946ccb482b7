package ike

import (
	"bytes"
	"slices"
	"time"

	"martlet/crypto/kex"
	"martlet/ike/message"
)

// initiate opens an IKE SA.
func (e *Engine) initiate(ev Initiate) {
	conn := e.connection(ev.Connection)
	if conn == nil {
		e.report(Down{
			Connection: ev.Connection, Initiator: true, Path: ev.Path, Reason: "no such connection",
			Err: errInternal("connection " + ev.Connection + " is not configured in this engine"),
		})
		return
	}
	s := e.newInitiator(conn, ev.Path, ev.Encap)
	s.purpose = purpose{ev.Child, ev.Packet}
	if old := e.sas[message.SPI(ev.Replaces)].newest(); old != nil && !old.moving {
		s.replaces, s.afresh, old.moving = old, true, true
	}
	e.enter("initiate", s)
	s.connect()
}

// newInitiator makes an SA that is to be opened on a path, with encapsulation on another.
func (e *Engine) newInitiator(conn *Connection, path, encap Path) *ikeSA {
	s := &ikeSA{
		initiator: true, opener: true, conn: conn, spii: e.newIKESPI(),
		encapPath: encap, created: e.now, stageAt: e.now,
	}
	s.startAt(path)
	if path.Encap {
		s.encapPath = path
	}
	e.link(s)
	return s
}

// connect sends the first message.
func (s *ikeSA) connect() {
	if !s.afresh && !s.trial {
		if t := s.ticketFor(); t != nil {
			s.enqueue(&resumeTask{ticket: t})
			return
		}
	}
	s.enqueue(&initTask{groups: usableKEs(s.conn.Proposals)})
}

// initTask is IKE_SA_INIT of the initiator.
type initTask struct {
	groups   []uint16 // that we offer
	pair     kex.Initiator
	cookie   []byte
	solution *message.PuzzleSolution // of the puzzle that came with the cookie
	asked    time.Time               // when the request was sent first as it is now
	trip     time.Duration           // how long the last cookie was on its way
	restarts int
	early    *Error // what an unprotected message said
	waiting  bool   // for a computation
}

func (*initTask) priority() priority { return prioSetup }

func (t *initTask) start(s *ikeSA) {
	if len(t.groups) == 0 {
		s.close("nothing to offer", errNothingToOffer(s.conn))
		return
	}
	s.ni = newNonce()
	t.keyAndSend(s, t.groups[0])
}

// keyAndSend makes a key pair of the group and sends the request.
func (t *initTask) keyAndSend(s *ikeSA, group uint16) {
	t.waiting = true
	s.generate(group, func(pair kex.Initiator, err error) {
		t.waiting = false
		if err != nil {
			s.close("key exchange failed", errInternal(err.Error()))
			return
		}
		t.pair = pair
		t.send(s)
	})
}

func (t *initTask) send(s *ikeSA) {
	var ps []message.Payload
	if t.cookie != nil {
		// RFC 7296 §2.6: the cookie stands first and all else is as it was.
		ps = append(ps, notifyData(message.Cookie, t.cookie))
	}
	if t.solution != nil {
		ps = append(ps, t.solution)
	}
	ps = append(ps,
		wireProposals(s.conn.Proposals, nil),
		&message.KE{Method: t.pair.Method(), Data: t.pair.Public()},
		&message.Nonce{Data: s.ni},
	)
	ps = append(ps, initExtras(s.spii, 0, s.path, s.announces())...)
	ps = append(ps, s.redirectOffer()...)
	m := message.Message{Header: s.header(message.IKESAInit, 0, 0), Payloads: ps}
	s.realI = m.Append(nil)
	if s.realI == nil {
		s.close("proposals do not fit a message", errInternal("the proposals do not fit an IKE_SA_INIT message"))
		return
	}
	t.asked = s.e.now
	s.begin(message.IKESAInit, [][]byte{s.realI})
	if s.trial {
		s.pending.limit = min(s.pending.limit, returnTries)
	}
}

func (t *initTask) expired(s *ikeSA) {
	if t.early != nil {
		s.close(t.early.What, t.early)
		return
	}
	s.close("no answer", errUnreachable(s))
}

// response is not used: IKE_SA_INIT is not protected and comes by initResponse.
func (t *initTask) response(*ikeSA, []message.Payload) {}

// initResponse takes an answer to IKE_SA_INIT. Nothing of it can be verified yet, so
// errors are believed only when nothing better comes.
func (s *ikeSA) initResponse(h message.Header, raw []byte) {
	t, ok := s.active.(*initTask)
	if !ok || s.pending == nil || t.waiting || h.MessageID != 0 || s.state != stateConnecting {
		s.e.drop(DropUnsolicited)
		return
	}
	m, err := message.Parse(raw)
	if err != nil || message.CheckCritical(m.Payloads) != nil {
		s.e.drop(DropMalformed)
		return
	}
	if n := m.Notify(message.Cookie); n != nil {
		t.takeCookie(s, n, m.Notify(message.PuzzleDemand))
		return
	}
	if n := m.Notify(message.Redirect); n != nil {
		t.redirected(s, n)
		return
	}
	if n := m.Notify(message.InvalidKEPayload); n != nil {
		t.takeInvalidKE(s, n)
		return
	}
	if n := message.FindError(m.Payloads); n != nil {
		t.suspect(s, errInitRefused(s, n))
		return
	}
	t.accept(s, h, m.Payloads, bytes.Clone(raw))
}

// takeCookie repeats the request with a cookie (RFC 7296 §2.6). One that comes too early
// to answer the request as it is now belongs to a repetition of the one before. To take it
// would be wrong: the answer that is on its way would no longer be to our last request,
// which AUTH covers.
//
// A puzzle that comes with the cookie is solved first, if that can be done in some seconds
// (RFC 8019 §7.1.2).
func (t *initTask) takeCookie(s *ikeSA, n, demand *message.Notify) {
	switch {
	case len(n.Data) == 0 || len(n.Data) > 64:
		s.e.drop(DropMalformed)
	case bytes.Equal(n.Data, t.cookie), s.e.now.Sub(t.asked) < t.trip:
		s.e.drop(DropRepeated)
	case t.again(s):
		t.cookie, t.trip, t.solution = n.Data, s.e.now.Sub(t.asked), nil
		var puzzle message.Puzzle
		asked := false
		if demand != nil {
			puzzle, asked = message.ParsePuzzle(demand.Data)
		}
		if !asked {
			t.send(s)
			return
		}
		t.waiting = true
		s.solve(puzzle, t.cookie, func(solution *message.PuzzleSolution) {
			t.waiting = false
			t.solution = solution
			t.send(s)
		})
	}
}

// takeInvalidKE repeats the request with the group that the responder wants, if we
// offered it (RFC 7296 §1.2, §2.7).
func (t *initTask) takeInvalidKE(s *ikeSA, n *message.Notify) {
	group, ok := groupOf(n)
	switch {
	case !ok:
		s.e.drop(DropMalformed)
	case !slices.Contains(t.groups, group):
		t.suspect(s, errForeignGroup(s, group))
	case group == t.pair.Method():
		s.e.drop(DropRepeated)
	case t.again(s):
		t.keyAndSend(s, group)
	}
}

// again counts a restart and tells whether there may be another.
func (t *initTask) again(s *ikeSA) bool {
	if t.restarts == maxRestarts {
		t.suspect(s, errLoop(s))
		return false
	}
	t.restarts++
	t.early = nil
	s.set(dueInitError, time.Time{})
	s.forgetRequest()
	return true
}

// suspect remembers an error that anybody could have sent, shows it, and waits a
// little for a better answer.
func (t *initTask) suspect(s *ikeSA, err *Error) {
	if t.early != nil {
		s.e.drop(DropRepeated)
		return
	}
	t.early = err
	s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: err.What + " (not protected; waiting for a better answer)"})
	s.after(dueInitError, unprotectedGrace)
}

// believeInitError ends the attempt with what an unprotected message said.
func (s *ikeSA) believeInitError() {
	t, ok := s.active.(*initTask)
	if ok && t.early != nil {
		s.close(t.early.What, t.early)
	}
}

// accept takes the answer that opens the SA.
func (t *initTask) accept(s *ikeSA, h message.Header, ps []message.Payload, raw []byte) {
	sa, ok1 := message.Find[*message.SA](ps)
	ke, ok2 := message.Find[*message.KE](ps)
	nonce, ok3 := message.Find[*message.Nonce](ps)
	if !ok1 || !ok2 || !ok3 || h.SPIr == 0 {
		s.e.drop(DropMalformed)
		return
	}
	got, _, ok := chosen(sa, s.conn.Proposals)
	if !ok || got.KE.ID != ke.Method || ke.Method != t.pair.Method() {
		t.suspect(s, errBadChoice(s, sa))
		return
	}
	conds, ok := detectNAT(ps, s.spii, h.SPIr, s.path)
	if !ok {
		t.suspect(s, errNoNATT())
		return
	}
	if len(got.AddKEs()) > 0 && message.FindNotify(ps, message.IntermediateExchangeSupported) == nil {
		t.suspect(s, errNoIntermediate())
		return
	}
	if s.conn.PPKRequired && message.FindNotify(ps, message.UsePPK) == nil {
		t.suspect(s, errPPKUnsupported(s))
		return
	}
	t.waiting = true
	s.set(dueInitError, time.Time{}) // this is the better answer
	s.finish(t.pair, ke.Data, func(shared []byte, err error) {
		t.waiting = false
		if err != nil {
			t.suspect(s, errKeyExchange(err))
			return
		}
		s.spir, s.suite, s.nr, s.realR, s.conds = h.SPIr, got, nonce.Data, raw, conds
		s.readExtensions(ps)
		s.readCertReqs(ps)
		if n := message.FindNotify(ps, message.PuzzleDemand); n != nil {
			s.puzzle, s.puzzled = message.ParsePuzzle(n.Data)
		}
		if err := s.keyed(shared); err != nil {
			s.close("no keys", errInternal(err.Error()))
			return
		}
		s.answered()
		s.set(dueInitError, time.Time{})
		s.startAt(s.encapPath)
		s.stageDone(StageInit)
		s.setupNext()
		s.done()
	})
}
