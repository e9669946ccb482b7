package ike

import (
	"crypto/sha256"
	"math/bits"
	"net/netip"
	"time"

	"martlet/ike/message"
)

// gate is the door of the responder: it decides about a request without SA before any
// state and any Diffie-Hellman (RFC 7296 §2.6, RFC 8019 §4). It counts half-open SAs, in
// total and by source, and asks more of who comes in the more there are: nothing, then a
// cookie, then a cookie and a puzzle.
type gate struct {
	cfg   HalfOpen
	total int
	all   load
	from  map[netip.Prefix]*source
	spent map[proofID]time.Time // solutions that opened an SA, until their cookies die
	swept time.Time

	secrets [2][sha256.Size]byte // newest first
	version uint32
	renewAt time.Time

	answers  bucket // errors that we send to strangers
	unsolved bucket // initiators without solution that come in where puzzles are asked for
}

// load tells until when cookies and puzzles are asked for. Both stay on for a while after
// the number that turned them on has gone, so that they do not flap.
type load struct{ cookies, puzzles time.Time }

func (l *load) note(now time.Time, cookies, puzzles bool) {
	if cookies || puzzles {
		l.cookies = now.Add(demandStaysOn)
	}
	if puzzles {
		l.puzzles = now.Add(demandStaysOn)
	}
}

// source is what comes from one prefix.
type source struct {
	half int
	load load
}

// place is what a half-open SA takes of the gate's room.
type place struct {
	prefix netip.Prefix
	held   bool
}

// bucket lets so many things through a second, and some at once. The zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

func (b *bucket) allow(now time.Time, perSecond, burst float64) bool {
	b.used = max(0, b.used-max(0, now.Sub(b.at).Seconds())*perSecond)
	b.at = now
	if b.used > burst-1 {
		return false
	}
	b.used++
	return true
}

const (
	demandStaysOn  = 10 * time.Second
	sweepInterval  = 10 * time.Second
	answersPerSec  = 100
	answersBurst   = 200
	unsolvedPerSec = 100
	unsolvedBurst  = 200
)

func (g *gate) init(cfg HalfOpen) {
	g.cfg = cfg
	g.from = map[netip.Prefix]*source{}
	g.spent = map[proofID]time.Time{}
}

// sourcePrefix is what counts as one source: an IPv4 address or an IPv6 /64.
func sourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// verdict is what the gate says about a request.
type verdict uint8

const (
	pass     verdict = iota
	demand           // send a cookie, perhaps with a puzzle, and forget the request
	badProof         // the same, but there was a cookie that is not good any more
	full
)

// visitor is what a request without SA brings.
type visitor struct {
	remote   netip.Addr
	spii     message.SPI
	ni       []byte
	cookie   []byte                  // nil: none
	solution *message.PuzzleSolution // nil: none
	prfs     []uint16                // that it knows, for a puzzle
	resumes  bool                    // with a ticket of ours, which is proof enough of its worth
}

// judge decides about a visitor. Where the verdict is demand or badProof the puzzle goes
// with the cookie, unless its difficulty is 0.
func (g *gate) judge(now time.Time, v *visitor) (verdict, message.Puzzle) {
	g.sweep(now)
	src := g.from[sourcePrefix(v.remote)]
	if src == nil {
		src = &source{} // kept by take only
	}
	if g.total >= g.cfg.total() || src.half >= max(g.cfg.prefix(), g.cfg.prefixVerified()) {
		return full, message.Puzzle{}
	}
	g.all.note(now, g.total >= g.cfg.cookieTotal(), g.total >= g.cfg.puzzleTotal())
	src.load.note(now, src.half >= g.cfg.cookiePrefix(), src.half >= g.cfg.puzzlePrefix())
	cookies := now.Before(g.all.cookies) || now.Before(src.load.cookies)
	puzzles := now.Before(g.all.puzzles) || now.Before(src.load.puzzles)
	asked, verified := g.verify(now, v)
	switch {
	case !verified && cookies && v.cookie != nil:
		return badProof, g.puzzle(v, src, puzzles)
	case !verified && cookies:
		return demand, g.puzzle(v, src, puzzles)
	case !verified && src.half >= g.cfg.prefix(), src.half >= g.cfg.prefixVerified():
		return full, message.Puzzle{}
	case !puzzles || v.resumes:
		return pass, message.Puzzle{}
	case g.solved(v, asked):
		return pass, message.Puzzle{}
	}
	// RFC 8019 §7.1.4: who cannot solve puzzles is served with less, not with nothing.
	if g.unsolved.allow(now, unsolvedPerSec, unsolvedBurst) {
		return pass, message.Puzzle{}
	}
	return demand, g.puzzle(v, src, true)
}

// puzzle is what a visitor has to solve: the more half-open SAs its prefix has, the
// harder.
func (g *gate) puzzle(v *visitor, src *source, wanted bool) message.Puzzle {
	if !wanted || v.resumes || len(v.prfs) == 0 {
		return message.Puzzle{}
	}
	harder := bits.Len(uint(src.half / max(1, g.cfg.puzzlePrefix())))
	return message.Puzzle{PRF: v.prfs[0], Difficulty: uint8(min(minDifficulty+harder, maxDifficulty))}
}

// second is the puzzle that somebody who has solved one has to solve for IKE_AUTH too, which
// costs us a signature: the load is still there.
func (g *gate) second(now time.Time, v *visitor) (message.Puzzle, bool) {
	src := g.from[sourcePrefix(v.remote)]
	if src == nil {
		src = &source{}
	}
	if v.solution == nil || !now.Before(g.all.puzzles) && !now.Before(src.load.puzzles) {
		return message.Puzzle{}, false
	}
	p := g.puzzle(v, src, true)
	return p, p.Difficulty > 0
}

// solved tells whether a visitor with a good cookie solved the puzzle that came with it,
// and for the first time.
func (g *gate) solved(v *visitor, asked message.Puzzle) bool {
	if asked.Difficulty == 0 || v.solution == nil {
		return false
	}
	_, again := g.spent[proofIDOf(v.cookie)]
	return !again && checkSolution(asked, v.cookie, v.solution)
}

// take counts a half-open SA of a visitor that passed; release gives its place back,
// once. A solved puzzle opens one SA only.
func (g *gate) take(now time.Time, v *visitor) place {
	p := place{prefix: sourcePrefix(v.remote), held: true}
	src := g.from[p.prefix]
	if src == nil {
		src = &source{}
		g.from[p.prefix] = src
	}
	g.total++
	src.half++
	if v.cookie != nil && v.solution != nil {
		g.spent[proofIDOf(v.cookie)] = now.Add(cookieLife + time.Second)
	}
	return p
}

func (g *gate) release(p *place) {
	if !p.held {
		return
	}
	p.held = false
	g.total--
	src := g.from[p.prefix]
	if src.half--; src.half == 0 && src.load == (load{}) {
		delete(g.from, p.prefix)
	}
}

// sweep forgets now and then what has cooled down.
func (g *gate) sweep(now time.Time) {
	if now.Sub(g.swept) < sweepInterval {
		return
	}
	g.swept = now
	for prefix, src := range g.from {
		if src.half == 0 && !now.Before(src.load.cookies) {
			delete(g.from, prefix)
		}
	}
	for id, until := range g.spent {
		if !now.Before(until) {
			delete(g.spent, id)
		}
	}
}

// mayAnswer limits how many errors go to strangers.
func (g *gate) mayAnswer(now time.Time) bool {
	return g.answers.allow(now, answersPerSec, answersBurst)
}
