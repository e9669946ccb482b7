package ike

import (
	"container/heap"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"martlet/ike/message"
)

// Engine is a set of IKE SAs. It is driven by Handle alone, by one caller at a time,
// and does nothing between the calls.
type Engine struct {
	cfg  *Config
	now  time.Time
	acts []Action

	sas         map[message.SPI]*ikeSA // by our own SPI
	first, last *ikeSA                 // in order of creation
	inits       map[initHash]*ikeSA    // responders, by the request that made them
	inbound     map[uint32]struct{}    // ESP SPIs in use or promised
	children    map[ChildID]*child
	asks        map[AskID]*waiting
	timers      timerHeap
	gate        gate
	redirects   map[string][]time.Time // that were followed lately, by connection
	tokens      bucket                 // crash tokens that are compared
	ticketKeys  TicketKey              // of yesterday or before
	tickets     map[string]*keptTicket // that gateways gave us, by connection
	drops       [dropCount]uint64
	seats       int          // EAP conversations that cost a coroutine
	addresses   []netip.Addr // of this host

	current    *ikeSA // the SA that is worked on, for the case of a panic
	serial     uint64
	lastChild  uint64
	lastAsk    AskID
	hintLooked time.Time

	// trap is called at the head of every handler. Tests plant a panic there.
	trap func(where string, s *ikeSA)
}

// waiting is what goes on when an Ask is answered.
type waiting struct {
	sa   *ikeSA
	then func(Reply)
}

// New makes an engine without SAs. It keeps cfg and does not change it.
func New(cfg *Config) *Engine {
	e := &Engine{
		cfg:       cfg,
		sas:       map[message.SPI]*ikeSA{},
		inits:     map[initHash]*ikeSA{},
		inbound:   map[uint32]struct{}{},
		children:  map[ChildID]*child{},
		asks:      map[AskID]*waiting{},
		redirects: map[string][]time.Time{},
		tickets:   map[string]*keptTicket{}, ticketKeys: cfg.TicketKey,
	}
	e.gate.init(cfg.HalfOpen)
	return e
}

// Handle takes one event at the time now, which must not go back, and returns what
// is to be done, in that order. The slice is valid until the next call; what it
// points to is not changed later.
//
// A panic while one event is handled costs the SA concerned and nothing else.
func (e *Engine) Handle(now time.Time, ev Event) []Action {
	e.now = now
	clear(e.acts)
	e.acts = e.acts[:0]
	if _, ok := ev.(Tick); ok {
		// What one SA does at its time does not bring the time of another closer
		// than now, so that this ends; the bound is for a fault of ours.
		for range 2 * len(e.timers) {
			if len(e.timers) == 0 || e.timers[0].due.After(now) {
				break
			}
			s := e.timers[0]
			e.guard(func() {
				e.enter("tick", s)
				s.tick()
			})
		}
		return e.acts
	}
	e.guard(func() { e.dispatch(ev) })
	return e.acts
}

// Next is when Handle wants a Tick; zero is never.
func (e *Engine) Next() time.Time {
	if len(e.timers) == 0 {
		return time.Time{}
	}
	return e.timers[0].due
}

func (e *Engine) dispatch(ev Event) {
	switch ev := ev.(type) {
	case Datagram:
		e.datagram(ev.Path, ev.Data)
	case Initiate:
		e.initiate(ev)
	case Terminate:
		e.terminate(ev)
	case ProbeMTU:
		e.probeMTU(ev)
	case Check:
		e.check(ev.SA)
	case Prefer:
		e.prefer(ev.SA)
	case CloseChild:
		e.closeChild(ev.Child)
	case Reload:
		e.reload(ev)
	case Reauth:
		e.reauth(ev)
	case Rekey:
		e.rekey(ev)
	case ChildAged:
		e.childAged(ev)
	case Acquire:
		e.acquire(ev)
	case RedirectPeers:
		e.redirectPeers(ev)
	case Remapped:
		e.remapped(ev)
	case Moved:
		e.moved(ev)
	case StreamClosed:
		e.streamClosed(ev.Path)
	case UnknownSPI:
		e.unknownSPI(ev.Path, ev.SPI)
	case Answer:
		e.answer(ev)
	}
}

// enter notes that s is worked on from here.
func (e *Engine) enter(where string, s *ikeSA) {
	e.current = s
	if e.trap != nil {
		e.trap(where, s)
	}
}

// guard runs f. If that panics, the message is counted as lost and the SA that it
// was about is gone; all others are as they were.
func (e *Engine) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			e.afterPanic(r)
		}
		e.current = nil
	}()
	e.current = nil
	f()
}

func (e *Engine) afterPanic(r any) {
	e.drop(DropPanic)
	err := panicError(r)
	s := e.current
	if s == nil || s.gone {
		e.report(Warned{Text: err.What + "\n" + err.Detail})
		return
	}
	// The SA may be in any state, so that taking it apart may fail too.
	defer func() {
		if recover() != nil {
			e.unlink(s)
		}
	}()
	s.close("internal error", err)
	e.unlink(s)
}

// panicError describes a panic by its places only: values could be keys.
func panicError(r any) *Error {
	what := "a fault in this program"
	if err, ok := r.(runtime.Error); ok {
		what += ": " + err.Error()
	}
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d\n", f.Function, f.Line)
		if !more {
			break
		}
	}
	return &Error{
		Code: CodeInternal, What: what,
		Why:    "a handler panicked; only the IKE SA that it worked on is lost",
		Hint:   "report it with the lines below",
		Detail: b.String(),
	}
}

func (e *Engine) do(a Action)        { e.acts = append(e.acts, a) }
func (e *Engine) report(h Happening) { e.do(Report{h}) }

// answer goes on where an Ask stopped.
func (e *Engine) answer(a Answer) {
	w, ok := e.asks[a.ID]
	if !ok {
		return
	}
	delete(e.asks, a.ID)
	e.enter("answer", w.sa)
	w.sa.forgetAsk(a.ID)
	w.then(a.Value)
}

// newIKESPI makes an SPI of our own: random, unique, never 0, with the shard in its
// low bits.
func (e *Engine) newIKESPI() message.SPI {
	for {
		spi := message.SPI(e.sharded(randomUint64()))
		if _, used := e.sas[spi]; !used && spi != 0 {
			return spi
		}
	}
}

// newESPSPI reserves an inbound SPI: random, unique, not one of the reserved 0 to 255
// (RFC 4303 §2.1), with the shard in its low bits. By the high octet udpencap chooses the reader.
func (e *Engine) newESPSPI() uint32 {
	for {
		spi := uint32(e.sharded(randomUint64()))
		if _, used := e.inbound[spi]; !used && spi > 255 {
			e.inbound[spi] = struct{}{}
			return spi
		}
	}
}

func (e *Engine) releaseESPSPI(spi uint32) { delete(e.inbound, spi) }

func (e *Engine) sharded(v uint64) uint64 {
	mask := uint64(1)<<e.cfg.ShardBits - 1
	return v&^mask | uint64(e.cfg.Shard)&mask
}

// newChildID is unique in the process: the shard is in the high octet.
func (e *Engine) newChildID() ChildID {
	e.lastChild++
	return ChildID(uint64(e.cfg.Shard)<<56 | e.lastChild)
}

func (e *Engine) connection(name string) *Connection {
	for _, c := range e.cfg.Connections {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// all calls f for every SA that there is, in order of creation; f may remove the one it got,
// and is not called for those that it makes.
func (e *Engine) all(f func(*ikeSA)) {
	last := e.serial
	for s := e.first; s != nil && s.serial <= last; {
		next := s.next
		f(s)
		s = next
	}
}

// link puts a new SA into the tables.
func (e *Engine) link(s *ikeSA) {
	e.serial++
	s.e, s.serial, s.heapAt = e, e.serial, -1
	e.sas[s.own()] = s
	s.prev = e.last
	if e.last != nil {
		e.last.next = s
	} else {
		e.first = s
	}
	e.last = s
}

// unlink takes an SA and all that waits for it out of the tables. It may be called
// twice.
func (e *Engine) unlink(s *ikeSA) {
	if s.gone {
		return
	}
	s.gone = true
	s.removeRetired(true)
	if n := s.successor; n != nil && n.forerunner == s {
		n.forerunner = nil
	}
	s.stopEAP()
	if s.heapAt >= 0 {
		heap.Remove(&e.timers, s.heapAt)
	}
	for _, id := range s.asks {
		delete(e.asks, id)
	}
	delete(e.sas, s.own())
	s.forgetInit()
	e.gate.release(&s.place)
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	default:
		e.first = s.next
	}
	switch {
	case s.next != nil:
		s.next.prev = s.prev
	default:
		e.last = s.prev
	}
}

func randomUint64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func newNonce() []byte {
	b := make([]byte, nonceLen)
	rand.Read(b)
	return b
}
