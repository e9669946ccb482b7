package ike

import (
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// state is where an IKE SA stands.
type state uint8

const (
	// stateConnecting: before both AUTH payloads were verified.
	stateConnecting state = iota
	stateEstablished
	// stateDeleting: our DELETE is on its way; the peer may still ask things.
	stateDeleting
	// stateReplaced: another IKE SA has its place, or it was made in vain. It answers
	// until the side that closes it has done so.
	stateReplaced
	// stateClosed: gone for everybody, its end was reported. It only repeats its
	// last answer, or its last request, until its lifetime ends.
	stateClosed
)

func (s state) String() string {
	switch s {
	case stateConnecting:
		return "connecting"
	case stateEstablished:
		return "established"
	case stateDeleting:
		return "deleting"
	case stateReplaced:
		return "replaced"
	case stateClosed:
	}
	return "closed"
}

// extension is what the peer supports.
type extension uint16

const (
	extFragmentation extension = 1 << iota
	extSignatureHashes
	extMOBIKE
	extEAPOnly
	extRedirect
	extIntermediate
	extPPK
	extChildless
	extMultipleAuth
	extWindows // what is particular to the client built into Windows
)

// condition is what is true of an SA now.
type condition uint8

const (
	condNATHere     condition = 1 << iota // the peer sees us at another address than we do
	condNATThere                          // we see the peer at another address than it does
	condEncapForced                       // no NAT was seen; UDP encapsulation is only our wish
)

// lineage is what an IKE SA hands on to the one that takes its place: who the peer is, and
// what it can and may.
type lineage struct {
	kept          *keptTicket // that the gateway gave us
	ticketID      TicketID    // of the one that we gave the peer
	exts          extension
	ppk           mixedPPK
	peerHashes    []pki.HashID
	local, remote pki.Identity
	barred        []string      // children that the peer may not open
	authLifetime  time.Duration // after which the peer has to prove itself again; 0 never
	uncut         bool          // the peer seems to throw fragments of INFORMATIONAL away
	hurried       bool          // it was told that the peer wants that too soon
	since         time.Time     // the first one was established
	line          message.SPI   // its SPIi
	stages        []StageDone
	sets          map[string]*childSet // by name of the configured child

	redirectedFrom message.GatewayID // in either role (RFC 5685 §3)
}

// takeover is that another SA is to be replaced by a new one, which has nothing of it. The SA
// that comes of this one by rekeying takes that over too, on either side.
type takeover struct {
	replaces *ikeSA             // goes when this one has all its children
	reopened []ChildID          // those of them that were tried
	left     []string           // names of those that it had when it ended before its time
	afresh   bool               // it is for another proof of who is there
	trial    bool               // it is by UDP where the other one is on a stream; UDP may not pass
	moving   bool               // another SA is to take the place of this one
	leaving  *message.GatewayID // to which one, while the way there is being found
}

// ikeSA is one IKE SA with its children, in either role.
type ikeSA struct {
	e          *Engine
	serial     uint64
	prev, next *ikeSA
	gone       bool

	initiator  bool    // of the exchange that made this SA
	opener     bool    // of the connection: rekeying does not change that
	purpose    purpose // of an initiator
	state      state
	spii, spir message.SPI
	conn       *Connection   // of a responder before AUTH: the best guess
	candidates []*Connection // of a responder before AUTH
	encapPath  Path          // where an initiator goes on after IKE_SA_INIT

	// What was agreed in IKE_SA_INIT.
	suite        suite.Suite
	prf          suite.PRF
	keys         IKEKeys
	seal, open   suite.Cipher
	iv           uint64
	ni, nr       []byte
	realI, realR []byte   // the messages; nil once AUTH was verified
	moreKEs      []uint16 // additional key exchanges that are still to be done
	intAuth      IntAuth
	received     []byte // the last IKE_INTERMEDIATE of the peer, without encryption
	conds        condition
	caHashes     [][20]byte // the peer's CERTREQs
	wantsOCSP    bool       // one of which asks for OCSP responses (RFC 4806 §3)
	unvouched    *Vouch     // of the last certificates that were verified; nil: nothing to ask
	asked        initHash   // of the IKE_SA_INIT that made a responder's SA
	place        place      // of a half-open responder

	peerToken []byte // that the peer can show when it lost the SA (RFC 6290 §4.1); nil: none

	saidMethods bool // the peer sent SUPPORTED_AUTH_METHODS (RFC 9593 §3.1)
	peerMethods []message.AuthAnnouncement

	// The puzzle of IKE_AUTH (RFC 8019 §7.2): asked for in IKE_SA_INIT, until it is solved.
	puzzle   message.Puzzle
	puzzled  bool
	solution *message.PuzzleSolution // an initiator's, on its way

	// Session resumption (RFC 5723 §4).
	resumed     *resumption // nil: this SA began with IKE_SA_INIT
	wantsTicket bool        // the peer does
	noTicket    bool        // the runner does not
	binding     [32]byte    // what the runner binds a ticket to

	superseded   bool // another SA has taken its place
	surplus      bool // the same, from the beginning: what the peer still sends is taken
	awaitsDelete bool // closed, and the peer is expected to say so too

	// What was agreed in IKE_AUTH.
	lease Lease
	eap   *conversation   // under way
	auth  *authentication // of a responder before AUTH, once IKE_AUTH has begun

	lineage
	takeover
	mobility
	window
	queue    []task
	active   task
	asks     []AskID
	children []*child
	retired  []*child // that were replaced, and still take what comes late
	delayed  []delayed
	promised uint32   // SPI of a child that the peer asked for, while its keys are made
	early    []uint32 // SPIs that the peer deleted while a child is being opened

	successor  *ikeSA    // that has its place
	inPlaceOf  *ikeSA    // whose place it may get: not decided yet
	followUp   *followUp // what the peer is opening
	holding    bool      // the peer is making a successor: nothing more is asked on this one
	failures   int       // of rekeying, one after the other
	forerunner *ikeSA    // whose place this one has, as long as it is there
	unproven   int       // tries to authenticate again that failed, one after the other

	deadlines [deadlines]time.Time
	due       time.Time
	heapAt    int

	created    time.Time
	stageAt    time.Time
	heard      time.Time // something authentic by IKE
	sent       time.Time // anything by IKE
	hinted     time.Time // when a hint last caused a liveness check
	unanswered bool      // at the last look something had been sent and nothing heard since
	checking   bool      // a liveness check or its question is under way
}

// own is our SPI.
func (s *ikeSA) own() message.SPI {
	if s.initiator {
		return s.spii
	}
	return s.spir
}

// peer is the peer's SPI, 0 before IKE_SA_INIT was answered.
func (s *ikeSA) peer() message.SPI {
	if s.initiator {
		return s.spir
	}
	return s.spii
}

func (s *ikeSA) id() SAID { return SAID(s.own()) }

func (s *ikeSA) supports(x extension) bool { return s.exts&x != 0 }
func (s *ikeSA) is(c condition) bool       { return s.conds&c != 0 }

// ask puts a question to the runner and goes on with then when it is answered, unless
// the SA is gone by then.
func (s *ikeSA) ask(q Question, then func(Reply)) {
	s.e.lastAsk++
	id := s.e.lastAsk
	s.e.asks[id] = &waiting{sa: s, then: then}
	s.asks = append(s.asks, id)
	s.e.do(Ask{ID: id, Question: q})
}

func (s *ikeSA) forgetAsk(id AskID) {
	for i, x := range s.asks {
		if x == id {
			s.asks = append(s.asks[:i], s.asks[i+1:]...)
			return
		}
	}
}

// forgetAsks makes all answers that are still to come void.
func (s *ikeSA) forgetAsks() {
	for _, id := range s.asks {
		delete(s.e.asks, id)
	}
	s.asks = nil
}

// work lets the runner compute f, which must touch nothing of the engine.
func (s *ikeSA) work(f func() (any, error), then func(any, error)) {
	s.ask(Work{Run: func() Reply {
		v, err := f()
		return WorkDone{Value: v, Err: err}
	}}, func(r Reply) {
		done, ok := r.(WorkDone)
		if !ok {
			then(nil, errWrongReply)
			return
		}
		then(done.Value, done.Err)
	})
}

// stageDone reports a stage that ended now.
func (s *ikeSA) stageDone(stage Stage) {
	d := StageDone{SA: s.id(), Connection: s.conn.Name, Stage: stage, Took: s.e.now.Sub(s.stageAt)}
	s.stageAt = s.e.now
	s.stages = append(s.stages, d)
	s.e.report(d)
}

// establish marks the SA established. The caller has verified the peer's AUTH, and
// sent its own or is about to.
func (s *ikeSA) establish() {
	s.state = stateEstablished
	s.since, s.line = s.e.now, s.spii
	s.realI, s.realR, s.candidates, s.caHashes, s.auth = nil, nil, nil, nil, nil
	s.intAuth, s.received = IntAuth{}, nil
	s.e.gate.release(&s.place)
	s.heardNow()
	s.armKeepalive()
	s.armReturn()
	s.grow()
	s.limitAuth()
	s.stageDone(StageAuth)
	s.e.report(Established{Status: s.status()})
}

// close ends the SA at once and reports it. Answers that are outstanding are void.
func (s *ikeSA) close(reason string, err *Error) {
	if s.state != stateClosed {
		s.end(reason, err)
	}
	s.e.unlink(s)
}

// linger ends the SA for everybody but keeps it until its lifetime is over, so that
// the last answer can be repeated, or the last request gets its answer.
func (s *ikeSA) linger(reason string, err *Error) {
	if s.state != stateClosed {
		s.end(reason, err)
	}
	s.forgetPending()
	s.after(dueLifetime, s.e.cfg.HalfOpen.lifetime())
}

// end removes all that depends on the SA, and reports.
func (s *ikeSA) end(reason string, err *Error) {
	established := s.state == stateEstablished || s.state == stateDeleting
	old := s.replaces.newest()
	stands := old != nil && !old.gone && old.state != stateClosed
	quiet := s.state == stateReplaced || s.trial && stands && s.spir == 0
	s.state = stateClosed
	coming := s.leaveTo()
	s.notTakenOver()
	for len(s.children) > 0 {
		s.removeChild(s.children[0], reason)
	}
	if s.surplus {
		s.drain()
	} else {
		s.removeRetired(true)
	}
	s.releaseOffers()
	s.forgetAsks()
	s.stopEAP()
	if t := s.replacing(); t != nil && t.rival != nil {
		t.rival.made.close(reason, nil)
	}
	s.queue, s.delayed = nil, nil
	for _, d := range []deadline{dueInitError, dueReassembly, dueLiveness, dueKeepalive, dueStream, dueRekey, dueHard, dueReauth, dueChildren} {
		s.set(d, time.Time{})
	}
	if s.surplus {
		s.armChildren()
	}
	s.requests.Reset()
	s.responses.Reset()
	if quiet {
		return
	}
	s.dropTicket(err)
	down := Down{
		SA: s.id(), Initiator: s.opener, Established: established, Replaced: s.superseded || stands || coming, Ticket: s.ticketID,
		Peer: s.remote, Path: s.path, Reason: reason, Err: err,
	}
	if s.conn != nil {
		down.Connection = s.conn.Name
	}
	s.e.report(down)
}

// releaseOffers gives back the SPIs of children that were offered and not answered, or
// are being answered.
func (s *ikeSA) releaseOffers() {
	s.dropFollowUp()
	if s.promised != 0 {
		s.e.releaseESPSPI(s.promised)
		s.promised = 0
	}
	if t, ok := s.active.(childOfferer); ok {
		t.releaseOffer(s)
	}
}

func (s *ikeSA) lifetimeOver() {
	if s.state == stateClosed || s.state == stateReplaced {
		s.close("replaced", nil)
		return
	}
	if s.state == stateConnecting && !s.initiator {
		s.close("not completed in time", errHalfOpen(s))
		return
	}
	// The request that made an established SA is no longer expected again.
	s.forgetInit()
}

// forgetInit lets the IKE_SA_INIT that made this SA make another.
func (s *ikeSA) forgetInit() {
	if s.asked != (initHash{}) && s.e.inits[s.asked] == s {
		delete(s.e.inits, s.asked)
	}
}
