package ike

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"

	"martlet/ike/message"
)

// Sessions with a hostile peer that knows SK_* (security.md A2): for every day, where the
// race detector looks on, and with MARTLET_LONG=1. MARTLET_SESSIONS says how many; test/run
// has 10,000 without the race detector.
const (
	hostileSessions = 2_000
	racedSessions   = 400
	longSessions    = 1_000_000
	hostileBatch    = 100 // sessions that one seed of the random numbers is for
)

func sessionsToPlay(t *testing.T) int {
	switch s := os.Getenv("MARTLET_SESSIONS"); {
	case s != "":
		n, err := strconv.Atoi(s)
		if err != nil || n < hostileSessions {
			t.Fatalf("MARTLET_SESSIONS is %q: want a number from %d on", s, hostileSessions)
		}
		return n
	case underRace():
		return racedSessions
	case os.Getenv("MARTLET_LONG") != "":
		return longSessions
	}
	return hostileSessions
}

// underRace tells whether the race detector is at work, which makes all this ten times
// slower and finds nothing where there is one goroutine.
func underRace() bool {
	b, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestHostilePeer: whatever a peer with the keys says, in either role and with every way of
// authentication, nothing panics, nobody is let in who has not proven who he is, and
// nothing is left.
func TestHostilePeer(t *testing.T) {
	sessions := sessionsToPlay(t)
	kinds := hostileKinds()
	count := hostileCount{up: map[string]int{}}
	goroutines := runtime.NumGoroutine()
	var heap []uint64
	for batch := range sessions / hostileBatch {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, uint64(batch))
			for i := range hostileBatch {
				r := rand.New(rand.NewPCG(uint64(batch), uint64(i)))
				if count.play(t, r, kinds); t.Failed() {
					t.Fatalf("session %d", i)
				}
			}
		})
		if t.Failed() {
			return
		}
		if batch%max(1, sessions/hostileBatch/8) == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = append(heap, m.HeapAlloc)
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 { // the two of a subtest end by themselves
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if first, last := heap[1], heap[len(heap)-1]; last > first+1<<20 {
		t.Errorf("the heap grew from %d octets to %d", first, last)
	}
	for _, k := range kinds {
		if count.up[k.name] == 0 && sessions >= hostileSessions {
			t.Errorf("%s: none came up", k.name)
		}
	}
	if count.tampered < 2*sessions || count.rekeyed < sessions/20 || count.moved < sessions/100 {
		t.Errorf("only %+v in %d sessions: the test does not test much", count, sessions)
	}
	t.Logf("%d sessions, %d messages tampered with, %d made up, %d IKE SAs replaced, %d moves, up: %v", sessions, count.tampered, count.crafted, count.rekeyed, count.moved, count.up)
}

// hostileCount is what happened in all sessions.
type hostileCount struct {
	up                                map[string]int // at the victim, by kind
	tampered, crafted, rekeyed, moved int
}

// play is one session.
func (c *hostileCount) play(t *testing.T, r *rand.Rand, kinds []hostileKind) {
	k := pickKind(r, kinds)
	client, gateway := k.make(t)
	role := []string{"client", "gateway"}[r.IntN(2)]
	ignorant := r.IntN(4) == 0
	if ignorant {
		k.ignorant[role](map[string]*Connection{"client": client, "gateway": gateway}[role])
	}
	w, a, b := hostilePair(t, client, gateway)
	m := &saboteur{
		r: r, w: w, self: a, victim: b, share: []float64{0, 0.1, 0.3, 0.6}[r.IntN(4)],
		genuine: map[string]bool{}, proven: map[string]bool{},
	}
	if role == "gateway" {
		m.self, m.victim = b, a
	}
	w.fate = m.fate
	a.initiate("home", b)
	for range r.IntN(12) {
		w.run(m.upTo([]int{50, 500, 5000}[r.IntN(3)]))
		c.crafted += m.act(a, b)
	}
	w.run(10 * time.Second)
	up := len(found[Established](m.victim))
	for d := range m.proven {
		if !m.genuine[d] {
			delete(m.proven, d)
		}
	}
	if ignorant && up != 0 || up*k.proofs[role] > len(m.proven) {
		t.Errorf("%s: %d SAs at the %s by a hostile %s, who showed %d proofs", k.name, up, m.victim.name, role, len(m.proven))
	}
	w.fate = nil
	for range 2 {
		a.handle(Terminate{})
		b.handle(Terminate{})
		w.run(10 * time.Minute)
	}
	empty(t, a, b)
	if n := len(a.sent) + len(b.sent); n > 3000 {
		t.Errorf("%s: %d datagrams", k.name, n)
	}
	for _, h := range []*host{a, b} {
		if h.count(DropPanic) == 0 {
			continue
		}
		for _, d := range found[Down](h) {
			if d.Err != nil && d.Err.Code == CodeInternal {
				t.Errorf("%s: %s\n%s", h.name, d.Err.What, d.Err.Detail)
			}
		}
		t.Errorf("%s: a panic", h.name)
	}
	if up > 0 {
		c.up[k.name]++
	}
	c.tampered += m.tampered
	c.rekeyed += len(found[Rekeyed](m.victim))
	c.moved += len(found[PathChanged](m.victim))
}

func pickKind(r *rand.Rand, kinds []hostileKind) hostileKind {
	total := 0
	for _, k := range kinds {
		total += k.share
	}
	n := r.IntN(total)
	for _, k := range kinds {
		if n -= k.share; n < 0 {
			return k
		}
	}
	panic("unreachable")
}

func (m *saboteur) upTo(milliseconds int) time.Duration {
	return time.Duration(m.r.IntN(milliseconds)) * time.Millisecond
}

// act does one thing of either side's, or sends what is not due at all. It returns how many
// messages it made up.
func (m *saboteur) act(a, b *host) int {
	h := []*host{a, b}[m.r.IntN(2)]
	switch m.r.IntN(13) {
	case 0:
		if up := h.established(); len(up) > 0 {
			h.handle(Rekey{SA: up[0].SA})
		}
	case 1:
		for id := range h.installed {
			h.handle(Rekey{Child: id})
			break
		}
	case 2:
		for id := range h.installed {
			h.handle(CloseChild{Child: id})
			break
		}
	case 3:
		c := h.e.cfg.Connections[0]
		h.handle(Acquire{Connection: c.Name, Child: c.Children[len(c.Children)-1].Name})
	case 4:
		h.move([][]string{{awayAddr}, {homeAddr, awayAddr}}[m.r.IntN(2)]...)
	case 5:
		a.initiate("home", b)
	case 6:
		h.handle(Reauth{Within: time.Minute})
	case 7: // time for liveness checks, and for rekeying if there is much
		m.w.run(m.upTo(3_600_000))
	case 8: // something old
		if n := len(m.self.sent); n > 0 {
			m.w.carry(m.self.sent[m.r.IntN(n)])
		}
	default:
		return m.speakUp()
	}
	return 0
}

// speakUp sends messages that are not due: any exchange, as request and as answer, with the
// number that is due or one beside it.
func (m *saboteur) speakUp() int {
	s := m.self.e.last
	if s == nil || s.seal == nil {
		return 0
	}
	kinds := []message.ExchangeType{
		message.IKEAuth, message.CreateChildSA, message.Informational, message.IKEIntermediate, message.IKEFollowupKE,
		message.IKESessionResume, message.IKESAInit, message.ExchangeType(m.r.IntN(256)),
	}
	kind, id, flags := kinds[m.r.IntN(len(kinds))], s.nextID, message.Flags(0)
	if m.one(2) {
		id, flags = s.expectID, message.FlagResponse
	}
	if m.one(3) {
		id += uint32(m.r.IntN(4)) - 2
	}
	ps := m.mutate(nil, s)
	m.w.post(m.w.delay, m.victim, Datagram{Path: m.victim.path(m.self, true), Data: m.sealed(s, kind, id, flags, ps)})
	if flags == 0 && m.one(2) {
		s.nextID++ // as if its engine had asked it
	}
	return 1
}
