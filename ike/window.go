package ike

import (
	"math"
	"slices"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// window is the message IDs of an SA in both directions, each of size 1
// (RFC 7296 §2.3), with what has to be repeated.
type window struct {
	nextID  uint32   // of our next request
	pending *request // ours, not answered yet
	answer  answer   // the last one

	expectID      uint32       // of the peer's next request
	serving       *exchange    // the peer's request of that ID, while it is worked on
	reply         [][]byte     // to the request before that
	replyOpen     suite.Cipher // which opens that request
	replyExchange message.ExchangeType

	requests, responses message.Reassembly // the peer's
}

// request is one of ours with its datagrams, which are repeated bit for bit.
type request struct {
	id       uint32
	exchange message.ExchangeType
	grams    [][]byte
	tries    int // transmissions so far
	limit    int // of tries
	wait     time.Duration
	via      []Path // on which it was sent
}

// answer is where a response came from, and where its request had gone.
type answer struct {
	path  Path
	via   []Path
	tries int // transmissions since the path was chosen
}

// exchange is a request of the peer that waits for our answer.
type exchange struct {
	id   uint32
	kind message.ExchangeType
	path Path
}

func (s *ikeSA) header(kind message.ExchangeType, id uint32, flags message.Flags) message.Header {
	if s.initiator {
		flags |= message.FlagInitiator
	}
	return message.Header{SPIi: s.spii, SPIr: s.spir, Exchange: kind, Flags: flags, MessageID: id}
}

func (s *ikeSA) nextIV() uint64 {
	s.iv++
	return s.iv
}

// fragmentSize is the size above which messages are cut, 0 for never.
func (s *ikeSA) fragmentSize(p Path) int {
	if !s.supports(extFragmentation) {
		return 0
	}
	return s.conn.maxDatagram(p)
}

// request sends a protected request of the active task.
func (s *ikeSA) request(kind message.ExchangeType, payloads ...message.Payload) {
	if s.nextID == math.MaxUint32 {
		s.close("message IDs are used up", errInternal("the message IDs of an IKE SA are used up"))
		return
	}
	var clear message.Payload
	if kind == message.IKEAuth && s.solution != nil {
		// RFC 8019 §7.2.2: before SK, so that it can be looked at first.
		clear, s.solution = s.solution, nil
	}
	grams := message.SealBehind(s.header(kind, s.nextID, 0), clear, payloads, s.seal, s.nextIV, s.fragmentSize(s.path))
	s.begin(kind, grams)
}

// begin makes grams the outstanding request and sends them.
func (s *ikeSA) begin(kind message.ExchangeType, grams [][]byte) {
	r := s.e.cfg.Retransmit
	s.pending = &request{id: s.nextID, exchange: kind, grams: grams, limit: r.tries(), wait: r.first()}
	s.transmit()
}

// transmit sends the outstanding request once more and arms its repetition.
func (s *ikeSA) transmit() {
	if s.parked() {
		s.set(dueRetransmit, time.Time{})
		return
	}
	p := s.pending
	if t, ok := s.active.(*probeTask); ok && t.whole(s) {
		s.e.do(Send{Path: s.path, Data: p.grams[0], DontFragment: true})
		s.sent = s.e.now
		p.via = []Path{s.path}
		p.tries++
		s.after(dueRetransmit, jitter(p.wait))
		return
	}
	for _, way := range s.ways() {
		used := slices.Contains(p.via, way)
		if used && way.Stream {
			continue // TCP repeats what is lost (RFC 9329 §6.2)
		}
		s.send(way, p.grams)
		if !used {
			p.via = append(p.via, way)
		}
		s.remind(way)
	}
	p.tries++
	s.after(dueRetransmit, jitter(p.wait))
	r := s.e.cfg.Retransmit
	p.wait = min(time.Duration(float64(p.wait)*r.factor()), r.maximum())
	s.doubt()
}

// jitter changes d by up to ±10 %.
func jitter(d time.Duration) time.Duration {
	const steps = 1 << 20
	r := int64(randomUint64()%(2*steps)) - steps
	return d + time.Duration(int64(d)/10*r/steps)
}

// retransmit repeats the outstanding request, or ends its task.
func (s *ikeSA) retransmit() {
	if s.pending == nil {
		return
	}
	if t, ok := s.active.(*probeTask); ok && t.overdue(s) {
		t.cut(s)
		return
	}
	if s.pending.tries < s.pending.limit {
		s.transmit()
		return
	}
	s.pending = nil
	if s.state == stateClosed {
		s.e.unlink(s)
		return
	}
	s.active.expired(s)
}

// answered ends the outstanding request: its answer is there.
func (s *ikeSA) answered() {
	s.pending = nil
	s.losses = 0
	s.nextID++
	s.responses.Reset()
	s.set(dueRetransmit, time.Time{})
}

// respond answers the request that is served, and keeps the bytes for repetitions.
func (s *ikeSA) respond(payloads ...message.Payload) {
	x := s.serving
	s.respondWith(message.Seal(s.header(x.kind, x.id, message.FlagResponse), payloads, s.seal, s.nextIV, s.fragmentSize(x.path)))
}

func (s *ikeSA) respondWith(grams [][]byte) {
	x := s.serving
	s.serving = nil
	s.expectID = x.id + 1
	s.reply, s.replyExchange, s.replyOpen = grams, x.kind, s.open
	s.send(x.path, grams)
	if s.opener && s.state != stateConnecting && x.path != s.path {
		// It came to where we are no more, and its sender does not know that yet.
		s.send(s.path, grams)
	}
}

func (s *ikeSA) send(p Path, grams [][]byte) {
	for _, g := range grams {
		s.e.do(Send{Path: p, Data: g})
	}
	s.sent = s.e.now
}

// admitRequest tells whether a request is the one that is due; others are counted.
// One that has been answered gets the same answer again, once it is known to be
// authentic (RFC 7296 §2.1).
func (s *ikeSA) admitRequest(h message.Header) (due, repeated bool) {
	switch {
	case s.reply != nil && h.MessageID == s.expectID-1 &&
		h.Exchange == s.replyExchange && h.Exchange != message.IKESAInit && h.Exchange != message.IKESessionResume:
		return false, true
	case h.MessageID < s.expectID:
		s.e.drop(DropReplayed)
	case h.MessageID > s.expectID:
		s.e.drop(DropMessageID)
	case s.serving != nil:
		s.e.drop(DropRepeated)
	default:
		return true, false
	}
	return false, false
}

// repeat sends the stored answer again. A request in fragments is answered at the
// first one only (RFC 7383 §2.6.1).
func (s *ikeSA) repeat(p Path, enc *message.Encrypted) {
	s.e.drop(DropRepeated)
	if enc.Fragment <= 1 {
		s.send(p, s.reply)
	}
}

// assemble returns the payload chain of a message, and false while fragments of it
// are missing.
func (s *ikeSA) assemble(h message.Header, enc *message.Encrypted, text []byte) (message.PayloadType, []byte, bool) {
	if enc.Fragment == 0 {
		return enc.First, text, true
	}
	asm := &s.requests
	if h.IsResponse() {
		asm = &s.responses
	}
	_, before := asm.Pending()
	first, whole, done := asm.Add(h.MessageID, enc, text)
	if _, after := asm.Pending(); after && !before {
		s.after(dueReassembly, reassemblyLife)
	}
	return first, whole, done
}
