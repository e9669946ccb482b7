package ike

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// TestRow57Caps: per source without and with a cookie, and in total.
func TestRow57Caps(t *testing.T) {
	now := epoch
	var g gate
	g.init(HalfOpen{})
	addr := netip.MustParseAddr("192.0.2.7")
	ni := make([]byte, 32)
	judge := func(g *gate, now time.Time, addr netip.Addr, spi message.SPI, ni, cookie []byte) verdict {
		v, puzzle := g.judge(now, &visitor{remote: addr, spii: spi, ni: ni, cookie: cookie, prfs: []uint16{suite.PRFHMACSHA256}})
		if puzzle.Difficulty > 0 && !now.Before(epoch) && g.total < g.cfg.puzzleTotal() && g.from[sourcePrefix(addr)].half < g.cfg.puzzlePrefix() {
			t.Errorf("a puzzle of %d without load", puzzle.Difficulty)
		}
		return v
	}
	take := func(addr netip.Addr) place { return g.take(now, &visitor{remote: addr}) }
	for i := range 3 {
		if v := judge(&g, now, addr, 1, ni, nil); v != pass {
			t.Fatalf("request %d: %v", i, v)
		}
		take(addr)
	}
	if v := judge(&g, now, addr, 1, ni, nil); v != demand {
		t.Fatalf("fourth request: %v", v)
	}
	if v := judge(&g, now, netip.MustParseAddr("192.0.2.8"), 1, ni, nil); v != pass {
		t.Fatalf("another source pays for it: %v", v)
	}
	cookie := g.cookie(now, &visitor{remote: addr, spii: 1, ni: ni}, message.Puzzle{})
	for name, c := range map[string]struct {
		now    time.Time
		addr   netip.Addr
		spi    message.SPI
		ni     []byte
		cookie []byte
		want   verdict
	}{
		"good":          {now, addr, 1, ni, cookie, pass},
		"other address": {now, netip.MustParseAddr("192.0.2.9").Next(), 1, ni, cookie, pass}, // no load there
		"other SPI":     {now, addr, 2, ni, cookie, badProof},
		"other nonce":   {now, addr, 1, ni[:31], cookie, badProof},
		"cut":           {now, addr, 1, ni, cookie[:cookieLen-1], badProof},
		"long":          {now, addr, 1, ni, append(bytes.Clone(cookie), 0), badProof},
		"empty":         {now, addr, 1, ni, []byte{}, badProof},
		"altered":       {now, addr, 1, ni, append(bytes.Clone(cookie[:cookieLen-1]), cookie[cookieLen-1]^1), badProof},
		"late":          {now.Add(time.Minute), addr, 1, ni, cookie, badProof},
		"secret gone":   {now.Add(time.Hour), addr, 1, ni, cookie, badProof},
	} {
		copied := g
		if v := judge(&copied, c.now, c.addr, c.spi, c.ni, c.cookie); v != c.want {
			t.Errorf("%s: verdict %v, want %v", name, v, c.want)
		}
	}
	// 1,000 from one source that answers cookies (security.md B2), and no more.
	for range 997 {
		take(addr)
	}
	if v := judge(&g, now, addr, 1, ni, cookie); v != full {
		t.Errorf("request 1001 of a source: %v", v)
	}
	// From 100 in total everybody needs a cookie, and for a while after.
	if v := judge(&g, now, netip.MustParseAddr("2001:db8::1"), 1, ni, nil); v != demand {
		t.Errorf("under load: %v", v)
	}
	var places []place
	for i := range 9000 {
		places = append(places, take(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
	}
	other := netip.MustParseAddr("203.0.113.1")
	if v := judge(&g, now, other, 1, ni, g.cookie(now, &visitor{remote: other, spii: 1, ni: ni}, message.Puzzle{})); v != full {
		t.Errorf("request 10001: %v", v)
	}
	for i := range places {
		g.release(&places[i])
		g.release(&places[i])
	}
	if g.total != 1000 || len(g.from) != 1 {
		t.Errorf("%d places taken by %d sources after all were given back", g.total, len(g.from))
	}
}

// TestDemandsStayOn: cookies and puzzles stay on for 10 s after the load that turned them
// on has gone, for everybody or for the prefix, and leave nothing behind.
func TestDemandsStayOn(t *testing.T) {
	for name, cfg := range map[string]HalfOpen{
		"total":  {CookieTotal: 4, CookiePrefix: 1000, PuzzleTotal: 6, PuzzlePrefix: 1000},
		"prefix": {CookieTotal: 1000, CookiePrefix: 4, PuzzleTotal: 1000, PuzzlePrefix: 6},
	} {
		t.Run(name, func(t *testing.T) {
			now := epoch
			var g gate
			g.init(cfg)
			v := &visitor{remote: netip.MustParseAddr("2001:db8::7"), spii: 1, ni: make([]byte, 32), prfs: []uint16{suite.PRFHMACSHA256}}
			neighbour := *v
			neighbour.remote = netip.MustParseAddr("2001:db8::ffff")
			stranger := *v
			stranger.remote = netip.MustParseAddr("2001:db8:0:1::7")
			check := func(when string, v *visitor, want verdict, puzzle bool) {
				t.Helper()
				got, p := g.judge(now, v)
				if got != want || (p.Difficulty > 0) != puzzle {
					t.Errorf("%s, %v: verdict %d with puzzle %d", when, v.remote, got, p.Difficulty)
				}
			}
			var places []place
			for i := range 6 {
				want := pass
				if i >= 4 {
					want = demand
				}
				check("filling", v, want, false)
				places = append(places, g.take(now, v))
			}
			all := pass
			if name == "total" {
				all = demand
			}
			check("full load", v, demand, true)
			check("full load", &neighbour, demand, true)
			check("full load", &stranger, all, all == demand)
			for i := range places {
				g.release(&places[i])
			}
			now = now.Add(demandStaysOn - time.Millisecond)
			check("just after", &neighbour, demand, true)
			now = now.Add(time.Second)
			check("later", v, pass, false)
			check("later", &stranger, pass, false)
			now = now.Add(sweepInterval)
			check("swept", v, pass, false)
			if len(g.from) != 0 || g.total != 0 {
				t.Errorf("%d sources kept", len(g.from))
			}
		})
	}
}

// TestPuzzleAtTheDoor: a solution opens one SA, an unsolved puzzle is only let in with the
// little that is left for those who cannot, and more load makes it harder.
func TestPuzzleAtTheDoor(t *testing.T) {
	now := epoch
	var g gate
	g.init(HalfOpen{CookieTotal: -1, PuzzleTotal: -1, PuzzlePrefix: 10})
	v := &visitor{remote: netip.MustParseAddr("192.0.2.7"), spii: 1, ni: make([]byte, 32), prfs: []uint16{suite.PRFHMACSHA256}}
	what, puzzle := g.judge(now, v)
	if what != demand || puzzle.Difficulty != minDifficulty || puzzle.PRF != suite.PRFHMACSHA256 {
		t.Fatalf("verdict %d, puzzle %+v", what, puzzle)
	}
	v.cookie = g.cookie(now, v, puzzle)
	for range unsolvedBurst {
		if what, _ := g.judge(now, v); what != pass {
			t.Fatalf("without a solution: verdict %d", what)
		}
	}
	if what, p := g.judge(now, v); what != demand || p.Difficulty == 0 {
		t.Errorf("without a solution, too many: verdict %d", what)
	}
	keys, err := solvePuzzle(puzzle, v.cookie)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": {}, "cut": keys[:31], "one key four times": bytes.Repeat(keys[:8], 4), "not solved": make([]byte, 32),
		"endless": make([]byte, 4*(maxPuzzleKeyLen+1)),
	} {
		v.solution = &message.PuzzleSolution{Data: data}
		if what, _ := g.judge(now, v); what != demand {
			t.Errorf("%s: verdict %d", name, what)
		}
	}
	v.solution = &message.PuzzleSolution{Data: keys}
	if what, _ := g.judge(now, v); what != pass {
		t.Errorf("solved: verdict %d", what)
	}
	p := g.take(now, v)
	if what, _ := g.judge(now, v); what != demand {
		t.Errorf("solved, for the second time: verdict %d", what)
	}
	resumed := visitor{remote: v.remote, spii: 2, ni: v.ni, resumes: true}
	resumed.cookie = g.cookie(now, &resumed, message.Puzzle{})
	if what, _ := g.judge(now, &resumed); what != pass {
		t.Errorf("with a ticket: verdict %d", what)
	}
	for range 39 {
		g.take(now, v)
	}
	if _, p := g.judge(now, v); p.Difficulty != minDifficulty+3 {
		t.Errorf("difficulty %d for a prefix with 40 half-open, want %d", p.Difficulty, minDifficulty+3)
	}
	g.release(&p)
	now = now.Add(time.Minute)
	g.judge(now, &visitor{remote: netip.MustParseAddr("192.0.2.8")})
	if len(g.spent) != 0 {
		t.Errorf("%d solutions remembered", len(g.spent))
	}
}

func TestShareOfTheLimits(t *testing.T) {
	whole, none := HalfOpen{}.Share(1), HalfOpen{CookieTotal: -1}.Share(4)
	if whole.Total != 10000 || whole.CookieTotal != 100 || none.cookieTotal() != -1 {
		t.Errorf("%+v, %+v", whole, none)
	}
	if part := (HalfOpen{Total: 1000, Prefix: 7}).Share(4); part.Total != 250 || part.CookieTotal != 25 || part.prefix() != 7 {
		t.Errorf("a quarter is %+v", part)
	}
}
