package level2

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"martlet/config"
	"martlet/esp/udpencap"
	"martlet/test/simnet"
)

// losing is a host's network that loses messages of IKE by chance, and nothing of ESP.
type losing struct {
	*bind
	mu   sync.Mutex
	rng  *rand.Rand
	part float64
}

// Listen implements udpencap.Listener.
func (l *losing) Listen(local netip.AddrPort, encap bool) (udpencap.Socket, error) {
	s, err := l.bind.Listen(local, encap)
	return &losingSocket{s, l}, err
}

type losingSocket struct {
	udpencap.Socket
	l *losing
}

func (s *losingSocket) Write(packets []udpencap.Packet) (int, error) {
	for i := range packets {
		if packets[i].Kind == udpencap.IKE && s.l.loses() {
			continue
		}
		if _, err := s.Socket.Write(packets[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

func (l *losing) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Float64() < l.part
}

// caller starts a node that calls its peer at once, and loses part of its messages of IKE.
func (w *world) caller(host *simnet.Host, cfg *config.Config, seed uint64, part float64) *end {
	w.Helper()
	e := w.node(host, cfg, true)
	e.Bind = &losing{bind: e.bind, rng: rand.New(rand.NewPCG(seed, 2)), part: part}
	if err := e.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { e.close() })
	return e
}

// common counts the SAs with a child that both ends have.
func common(a, b *end) (n int) {
	for _, x := range a.Status().SAs {
		for _, y := range b.Status().SAs {
			if x.SPIi == y.SPIi && len(x.Children) > 0 && len(y.Children) > 0 {
				n++
			}
		}
	}
	return n
}

// agree waits until two ends have the same SA and no other, with one child.
func (w *world) agree(a, b *end) {
	w.Helper()
	// Ten transmissions of a request may all be lost. Who sent it gives the SA up and opens another
	// one; the other end learns that by a request of its own that nobody answers. Each takes half a
	// minute.
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Minute)
	defer cancel()
	ofA, ofB := a.Watch(ctx), b.Watch(ctx)
	for {
		synctest.Wait()
		x, y := a.Status().SAs, b.Status().SAs
		if len(x) == 1 && len(y) == 1 && x[0].SPIi == y[0].SPIi && len(x[0].Children) == 1 && len(y[0].Children) == 1 &&
			x[0].Children[0].SPIIn == y[0].Children[0].SPIOut {
			return
		}
		select {
		case <-ofA:
		case <-ofB:
		}
		if ctx.Err() != nil {
			w.Fatalf("no agreement: %s has %+v, and %s has %+v", a.host.Name, x, b.host.Name, y)
		}
	}
}

// Two peers call each other at once, and two SAs come of it. From the moment when one of them
// stands at both ends no packet is lost, whichever message of IKE is lost or late, the surplus
// goes soon, and it is the same one at both ends.
func TestPeersThatCallEachOtherLoseNothing(t *testing.T) {
	const seeds = 12
	ran, crossed := 0, 0
	for seed := range uint64(seeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			inBubble(t, 6700+seed, func(w *world) { crossing(w, seed, &crossed) })
			ran++
		})
	}
	if ran == seeds && crossed < 8 {
		t.Errorf("only %d crossed: the test does not test much", crossed)
	}
}

func crossing(w *world, seed uint64, crossed *int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	line := simnet.Link{Latency: 10 * time.Millisecond, Reorder: 0.2, ReorderBy: 20 * time.Millisecond}
	part := []float64{0, 0, 0.2, 0.4}[rng.IntN(4)]
	near, far := sites(config.KeepUp, config.KeepUp)
	a := w.caller(w.net.Host("near", line, clientAddr), near, 2*seed, part)
	pass(time.Duration(rng.IntN(60)) * time.Millisecond)
	b := w.caller(w.net.Host("far", line, gatewayAddr), far, 2*seed+1, part)
	began := time.Now()
	for common(a, b) == 0 {
		if pass(time.Millisecond); time.Since(began) > time.Minute {
			w.Fatal("no SA in a minute")
		}
	}
	flows := []flow{{a, b, mustAddr("10.2.0.1"), serverAddr}, {b, a, serverAddr, mustAddr("10.2.0.1")}}
	got := []int{0, 0}
	const count = 2000
	var two, one time.Time
	for n := range count {
		for _, f := range flows {
			f.from.tun.Inject(packet(f.src, f.dst, n))
		}
		pass(5 * time.Millisecond)
		switch sas := common(a, b); {
		case sas > 1 && two.IsZero():
			two = time.Now()
		case sas == 1 && !two.IsZero() && one.IsZero():
			one = time.Now()
		}
		if n%50 == 49 {
			for i, f := range flows {
				got[i] += len(f.to.take())
			}
		}
	}
	pass(time.Second)
	for i, f := range flows {
		if got[i] += len(f.to.take()); got[i] != count {
			w.Errorf("seed %d (losing %v): %d of %d packets arrived at %s", seed, part, got[i], count, f.to.host.Name)
		}
	}
	w.agree(a, b)
	if two.IsZero() {
		return
	}
	*crossed++
	if part > 0 {
		return // how long it takes is for chance to say
	}
	if took := one.Sub(two); one.IsZero() || took > 1500*time.Millisecond {
		w.Errorf("seed %d: two SAs stood for %v", seed, took)
	}
}
