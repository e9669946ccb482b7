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

const (
	seeds     = 1000
	longSeeds = 20000
)

// play runs one seed. A panic is a fault like others, so that it comes with its diagram.
func play(t testing.TB, seed uint64) (w *world) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w = newWorld(t, seed, newScenario(rng), rng)
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
	first, last := uint64(1), uint64(seeds)
	if os.Getenv("MARTLET_LONG") != "" {
		last = longSeeds
	}
	if s := os.Getenv("MARTLET_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal("MARTLET_SEED is no number: ", err)
		}
		first, last = n, n
	}
	if _, err := issue(); err != nil {
		t.Fatal(err)
	}
	failed, up, moves, rekeyed := 0, 0, 0, 0
	for seed := first; seed <= last; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			w := play(t, seed)
			up += len(w.a.sas)
			rekeyed += w.rekeyed
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
