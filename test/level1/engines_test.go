package level1

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
)

// seeds is for every day, longSeeds for MARTLET_LONG=1.
const (
	seeds     = 1500
	longSeeds = 20_000
)

// seedRange is the seeds to play, both ends included.
func seedRange(t testing.TB) (first, last uint64) {
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal("MARTLET_SEED is neither a number nor a range such as 1-5000: ", err)
		}
		return n
	}
	s := os.Getenv("MARTLET_SEED")
	from, to, isRange := strings.Cut(s, "-")
	switch {
	case isRange:
		return number(from), number(to)
	case s != "":
		return number(s), number(s)
	case os.Getenv("MARTLET_LONG") != "":
		return 1, longSeeds
	}
	return 1, seeds
}

// play runs one seed. A panic is a fault like others, so that it comes with its diagram.
func play(t testing.TB, seed uint64) (w *world) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w = newWorld(t, seed, newScenario(rng), rng)
	w.eavesdrop = seed%8 == 0
	defer func() {
		if p := recover(); p != nil {
			w.fault("panic: %v\n%s", p, debug.Stack())
		}
	}()
	w.run()
	return w
}

// TestSeeds plays two engines over a bad network, and checks the invariants that design
// demands: in the end both agree, traffic passes, nothing is left.
func TestSeeds(t *testing.T) {
	first, last := seedRange(t)
	if _, err := issue(); err != nil {
		t.Fatal(err)
	}
	failed, up, moves, rekeyed, probed, surplus := 0, 0, 0, 0, 0, 0
	for seed := first; seed <= last; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			w := play(t, seed)
			up += len(w.a.sas)
			rekeyed += w.rekeyed
			probed += w.probed
			surplus += w.surplus
			moves += w.a.moves + w.b.moves
			if first == last {
				t.Logf("%+v\n%s", w.sc, &w.diagram)
			}
			if len(w.faults) == 0 {
				return
			}
			t.Errorf("%s", strings.Join(w.faults, "\n"))
			if failed++; failed <= 3 && first != last {
				t.Logf("%+v\n%s", w.sc, &w.diagram)
			}
		})
	}
	if first != last && up < int(last-first)/2 {
		t.Errorf("only %d SAs in %d seeds: the test does not test much", up, last-first+1)
	}
	if first != last && rekeyed < int(last-first) {
		t.Errorf("only %d IKE SAs were replaced in %d seeds: the test does not test much", rekeyed, last-first+1)
	}
	if first != last && surplus < int(last-first)/20 {
		t.Errorf("only %d SAs crossed others in %d seeds: the test does not test much", surplus, last-first+1)
	}
	if first != last && probed < int(last-first)/3 {
		t.Errorf("only %d searches for a path's MTU came to an end in %d seeds: the test does not test much", probed, last-first+1)
	}
	if first != last && moves < int(last-first)/4 {
		t.Errorf("packets went another way only %d times in %d seeds: the test does not test much", moves, last-first+1)
	}
}

// TestSameSeedSameRun: the same events at the same times give the same actions.
func TestSameSeedSameRun(t *testing.T) {
	if _, err := issue(); err != nil {
		t.Fatal(err)
	}
	for seed := uint64(1); seed <= 20; seed++ {
		var first string
		for round := range 2 {
			t.Run(fmt.Sprintf("%d/%d", seed, round), func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, seed)
				got := play(t, seed).diagram.String()
				if round == 0 {
					first = got
				} else if got != first {
					t.Errorf("another run than before: %s", firstDifference(strings.Split(first, "\n"), strings.Split(got, "\n")))
				}
			})
		}
	}
}
