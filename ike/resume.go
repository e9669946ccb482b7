package ike

import (
	"crypto/hmac"
	"slices"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Session resumption (RFC 5723 §4): an initiator that lost its SA goes on with a ticket, by
// IKE_SESSION_RESUME in place of IKE_SA_INIT and with no other proof in IKE_AUTH than that
// it has the keys of before.

// authResumed is the method of both sides of a resumed SA.
const authResumed AuthMethod = 255

// resumeTries is how often IKE_SESSION_RESUME is sent before the initiator begins at the
// beginning.
const resumeTries = 4

// keptTicket is a ticket with what the initiator needs to use it.
type keptTicket struct {
	sealed        []byte
	until         time.Time
	conn          *Connection
	at            Path // of the SA in which it came
	suite         suite.Suite
	d             suite.Secret
	local, remote pki.Identity
}

// resumption is what a resumed SA has of the one before, in either role.
type resumption struct {
	local, remote pki.Identity
	claims        pki.Identity // what the peer has to name itself
	eapIdentity   string
	id            TicketID // on the gateway
	binding       [32]byte // the same
	path          Path     // of IKE_SESSION_RESUME, where the initiator begins anew if need be
}

// resumedProof is the proof of a resumed SA: prf(SK_p, octets) (RFC 5723 §5.1).
type resumedProof struct{}

func (*resumedProof) identity(s *ikeSA, _ pki.Identity) (pki.Identity, *Error) {
	return s.resumed.local, nil
}

func (*resumedProof) prove(s *ikeSA, octets []byte, then func([]message.Payload, *Error)) {
	key := s.keys.Pr
	if s.initiator {
		key = s.keys.Pi
	}
	then([]message.Payload{&message.Auth{Method: message.AuthPSK, Data: s.prf.Sum(key, octets)}}, nil)
}

func (*resumedProof) check(s *ikeSA, _ *Remote, p *peerProof) *Error {
	key := s.keys.Pi
	if s.initiator {
		key = s.keys.Pr
	}
	switch {
	case p.auth.Method != message.AuthPSK:
		return errMethod(s, p.auth.Method, AuthPSK)
	case p.id != s.resumed.claims:
		return errIdentity(s, p.id, s.resumed.claims)
	case !hmac.Equal(s.prf.Sum(key, p.octets), p.auth.Data):
		return errPSK(p.id)
	}
	return nil
}

// ticketRequest asks for a ticket, in IKE_AUTH.
func (s *ikeSA) ticketRequest() []message.Payload {
	if s.conn.Tickets <= 0 {
		return nil
	}
	return []message.Payload{notify(message.TicketRequest)}
}

// ticketAnswer gives the peer the ticket that it asked for, with the last answer of IKE_AUTH.
func (s *ikeSA) ticketAnswer() []message.Payload {
	if !s.wantsTicket {
		return nil
	}
	life := min(s.conn.Tickets, maxTicketLife)
	if s.authLifetime > 0 {
		// The peer has to prove itself anew then (RFC 4478 §3).
		life = min(life, s.authLifetime)
	}
	if life <= 0 || s.noTicket {
		return []message.Payload{notify(message.TicketNACK)}
	}
	t := &ticket{
		id: newTicketID(), until: s.e.now.Add(life), connection: s.conn.Name,
		suite: s.suite, d: s.keys.D, local: s.local, remote: s.remote, claimed: identityOf(s.auth.idi), eapIdentity: s.auth.eapIdentity,
		binding: s.binding,
	}
	sealed := s.e.sealTicket(t)
	if sealed == nil {
		return []message.Payload{notify(message.TicketNACK)}
	}
	s.ticketID = t.id
	return []message.Payload{notifyData(message.TicketLTOpaque, message.AppendTicket(nil, life, sealed))}
}

func newTicketID() TicketID { return TicketID(newNonce()[:len(TicketID{})]) }

// takeTicket keeps a ticket that the gateway gave.
func (s *ikeSA) takeTicket(ps []message.Payload) {
	n := message.FindNotify(ps, message.TicketLTOpaque)
	if n == nil || !s.opener || s.conn.Tickets <= 0 {
		return
	}
	life, sealed, ok := message.ParseTicket(n.Data)
	if !ok || len(sealed) > maxTicketLen {
		return
	}
	s.kept = &keptTicket{
		sealed: sealed, until: s.e.now.Add(min(life, s.conn.Tickets)), conn: s.conn, at: s.path,
		suite: s.suite, d: slices.Clone(s.keys.D), local: s.local, remote: s.remote,
	}
	s.e.tickets[s.conn.Name] = s.kept
}

// dropTicket forgets the ticket of an SA that ended in order: only what was lost is
// resumed.
func (s *ikeSA) dropTicket(err *Error) {
	lost := err != nil && err.Code.Class() == ClassNetwork && err.Code != CodeDeleted
	if !lost && s.kept != nil && s.e.tickets[s.conn.Name] == s.kept {
		delete(s.e.tickets, s.conn.Name)
	}
}

// ticketFor is the ticket with which an SA of a connection can be resumed. It is used
// once.
func (s *ikeSA) ticketFor() *keptTicket {
	t := s.e.tickets[s.conn.Name]
	if t == nil {
		return nil
	}
	delete(s.e.tickets, s.conn.Name)
	if t.conn != s.conn || !s.e.now.Before(t.until) || t.at.Remote.Addr() != s.path.Remote.Addr() ||
		!slices.ContainsFunc(s.conn.Proposals, t.suite.Narrows) {
		return nil
	}
	return t
}

// resumeKeys derives the keys of a resumed SA (RFC 5723 §5.1).
func (s *ikeSA) resumeKeys(with suite.Suite, d suite.Secret) error {
	var err error
	if s.prf, err = suite.NewPRF(with.PRF); err != nil {
		return err
	}
	s.suite = with
	return s.setKeys(s.prf.Sum(d, []byte("Resumption"), s.ni, s.nr))
}

// resumeTask is IKE_SESSION_RESUME of the initiator.
type resumeTask struct {
	ticket *keptTicket
	cookie []byte
}

func (*resumeTask) priority() priority { return prioSetup }

func (t *resumeTask) start(s *ikeSA) {
	s.ni = newNonce()
	t.send(s)
}

func (t *resumeTask) send(s *ikeSA) {
	var ps []message.Payload
	if t.cookie != nil {
		ps = append(ps, notifyData(message.Cookie, t.cookie))
	}
	ps = append(ps, &message.Nonce{Data: s.ni}, notifyData(message.TicketOpaque, t.ticket.sealed))
	ps = append(ps, initExtras(s.spii, 0, s.path, s.announces())...)
	m := message.Message{Header: s.header(message.IKESessionResume, 0, 0), Payloads: append(ps, s.redirectOffer()...)}
	if s.realI = m.Append(nil); s.realI == nil {
		t.expired(s)
		return
	}
	s.begin(message.IKESessionResume, [][]byte{s.realI})
	s.pending.limit = min(s.pending.limit, resumeTries)
}

func (t *resumeTask) response(*ikeSA, []message.Payload) {}

// expired begins at the beginning: the gateway may know nothing of resumption any more.
func (t *resumeTask) expired(s *ikeSA) { s.startOver() }

// startOver begins with IKE_SA_INIT after resumption came to nothing.
func (s *ikeSA) startOver() {
	if s.resumed != nil {
		s.startAt(s.resumed.path)
	}
	s.forgetRequest()
	s.responses.Reset()
	s.resumed, s.prf, s.keys, s.seal, s.open = nil, nil, IKEKeys{}, nil, nil
	s.spir, s.suite, s.nextID, s.realI, s.realR, s.exts, s.conds = 0, suite.Suite{}, 0, nil, nil, 0, 0
	s.queue = nil
	s.enqueue(&initTask{groups: usableKEs(s.conn.Proposals)})
	s.done()
}

// resumeResponse takes the answer to IKE_SESSION_RESUME. Nothing of it is protected; whoever
// forges a refusal costs us the short way and no more.
func (s *ikeSA) resumeResponse(h message.Header, raw []byte) {
	t, ok := s.active.(*resumeTask)
	if !ok || s.pending == nil || h.MessageID != 0 || s.state != stateConnecting {
		s.e.drop(DropUnsolicited)
		return
	}
	m, err := message.Parse(raw)
	if err != nil || message.CheckCritical(m.Payloads) != nil {
		s.e.drop(DropMalformed)
		return
	}
	if n := m.Notify(message.Cookie); n != nil {
		if t.cookie != nil || len(n.Data) == 0 || len(n.Data) > 64 {
			s.e.drop(DropRepeated)
			return
		}
		t.cookie = n.Data
		s.forgetRequest()
		t.send(s)
		return
	}
	nonce, ok := message.Find[*message.Nonce](m.Payloads)
	if m.Notify(message.TicketNACK) != nil || message.FindError(m.Payloads) != nil {
		s.startOver()
		return
	}
	conds, natt := detectNAT(m.Payloads, s.spii, h.SPIr, s.path)
	if !ok || h.SPIr == 0 || !natt {
		s.e.drop(DropMalformed)
		return
	}
	s.spir, s.nr, s.realR, s.conds = h.SPIr, nonce.Data, slices.Clone(raw), conds
	s.readExtensions(m.Payloads)
	s.resumed = &resumption{local: t.ticket.local, remote: t.ticket.remote, claims: t.ticket.remote, path: s.path}
	if err := s.resumeKeys(t.ticket.suite, t.ticket.d); err != nil {
		s.close("no keys", errInternal(err.Error()))
		return
	}
	s.answered()
	s.startAt(s.encapPath)
	s.stageDone(StageInit)
	s.enqueue(&authTask{})
	s.done()
}

// resumeRequest takes IKE_SESSION_RESUME. Up to the cookie it keeps nothing and computes
// nothing dear; a good ticket spares its holder puzzles (RFC 8019 §5).
func (e *Engine) resumeRequest(p Path, h message.Header, raw []byte) {
	if !h.FromInitiator() || h.SPIr != 0 || h.SPIi == 0 || h.MessageID != 0 || len(raw) > maxInitLen {
		e.drop(DropMalformed)
		return
	}
	hash := hashOfInit(raw, p.Remote.Addr())
	if s := e.inits[hash]; s != nil {
		e.enter("repeated IKE_SESSION_RESUME", s)
		s.repeatInit(p)
		return
	}
	m, err := message.Parse(raw)
	if err != nil || message.CheckCritical(m.Payloads) != nil {
		e.drop(DropMalformed)
		return
	}
	nonce, ok := message.Find[*message.Nonce](m.Payloads)
	n := m.Notify(message.TicketOpaque)
	if !ok || n == nil {
		e.drop(DropMalformed)
		return
	}
	o := initOffer{path: p, header: h, raw: raw, ps: m.Payloads}
	o.visitor = visitor{remote: p.Remote.Addr(), spii: h.SPIi, ni: nonce.Data, resumes: true}
	if c := m.Notify(message.Cookie); c != nil {
		o.visitor.cookie = c.Data
	}
	t, ok := e.openTicket(n.Data)
	conn := (*Connection)(nil)
	if ok {
		conn = e.resumable(p, t)
	}
	var natt bool
	o.conds, natt = detectNAT(o.ps, h.SPIi, 0, p)
	if conn == nil || !natt {
		e.refuse(p, DropTicket, nil)
		if e.gate.mayAnswer(e.now) {
			e.answerStateless(&o, notify(message.TicketNACK))
		}
		return
	}
	if e.admitted(&o) {
		e.resume(&o, hash, conn, t)
	}
}

// resumable is the connection that a ticket is for, if it would still let its holder in.
func (e *Engine) resumable(p Path, t *ticket) *Connection {
	for _, c := range e.candidatesFor(p) {
		last := &c.Remote
		for last.Next != nil {
			last = last.Next
		}
		if c.Name != t.connection || c.Tickets <= 0 || !slices.ContainsFunc(c.Proposals, t.suite.Narrows) {
			continue
		}
		if last.ID.Match(t.remote) {
			return c
		}
	}
	return nil
}

// resume makes the SA and the answer.
func (e *Engine) resume(o *initOffer, hash initHash, conn *Connection, t *ticket) {
	s := &ikeSA{
		spii: o.header.SPIi, spir: e.newIKESPI(), conn: conn, candidates: []*Connection{conn},
		created: e.now, stageAt: e.now, conds: o.conds,
		ni: o.visitor.ni, nr: newNonce(), realI: slices.Clone(o.raw), asked: hash,
		resumed: &resumption{local: t.local, remote: t.remote, claims: t.claimed, eapIdentity: t.eapIdentity, id: t.id, binding: t.binding},
	}
	s.startAt(o.path)
	e.link(s)
	e.inits[hash] = s
	e.enter("responder", s)
	s.place = e.gate.take(e.now, &o.visitor)
	s.after(dueLifetime, e.cfg.HalfOpen.lifetime())
	s.readExtensions(o.ps)
	s.serving = &exchange{id: 0, kind: message.IKESessionResume, path: o.path}
	if err := s.resumeKeys(t.suite, t.d); err != nil {
		s.close("no keys", errInternal(err.Error()))
		return
	}
	ps := append([]message.Payload{&message.Nonce{Data: s.nr}}, initExtras(s.spii, s.spir, s.serving.path, s.exts&^(extIntermediate|extPPK))...)
	if conn.Childless != ChildlessNever {
		ps = append(ps, notify(message.ChildlessIKEv2Supported))
	}
	m := message.Message{Header: s.header(message.IKESessionResume, 0, message.FlagResponse), Payloads: ps}
	s.realR = m.Append(nil)
	s.stageDone(StageInit)
	s.respondWith([][]byte{s.realR})
}

// authenticateResumed verifies the AUTH of a peer that resumes.
func (s *ikeSA) authenticateResumed(a *authentication, auth *message.Auth, ps []message.Payload) *Error {
	if auth == nil {
		return errWantsEAP(s)
	}
	remote := &Remote{Method: authResumed}
	a.round, a.eapIdentity = remote, s.resumed.eapIdentity
	err := (&resumedProof{}).check(s, remote, &peerProof{id: identityOf(a.idi), auth: auth, ps: ps, octets: s.signedOctets(true, a.idi)})
	if err == nil {
		s.remote = s.resumed.remote
	}
	return err
}
