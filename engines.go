package martlet

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/ike/message"
)

// engines are the IKE engines, one goroutine each. IKE_SA_INIT requests go to an
// engine by source prefix; whatever belongs to an SA goes by our own SPI, which has
// the engine's number in its low bits.
type engines struct {
	node   *Node
	shards []*shard
	bits   uint8
	seed   maphash.Seed
	work   chan struct{} // a place for each computation that runs beside the engines
}

// shard is one engine and the goroutine that owns it.
type shard struct {
	node   *Node
	engine *ike.Engine
	log    *zap.Logger
	// in takes events from anywhere; calls take functions to run beside the engine.
	// Datagrams are dropped when in is full, everything else waits.
	in    chan ike.Event
	calls chan func(*ike.Engine)
	// mine is events that the engine's own actions made; it goes before in.
	mine []ike.Event
}

const (
	queuedEvents = 1024
	idleTick     = time.Hour // when an engine has nothing due
)

func newEngines(n *Node) *engines {
	e := &engines{node: n, seed: maphash.MakeSeed()}
	if n.Serve {
		e.bits = uint8(bits.TrailingZeros(uint(n.footprint.processors(64))))
	}
	e.work = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	connections := connectionsOf(n.conf(), n.Serve)
	for i := range 1 << e.bits {
		cfg := &ike.Config{Connections: connections, Shard: uint8(i), ShardBits: e.bits, CrashSecret: n.secrets.crash, TicketKey: n.secrets.tickets, HalfOpen: halfOpenOf(n.conf()).Share(1 << e.bits)}
		cfg.KeyLog = n.logKeys
		e.shards = append(e.shards, &shard{
			node:   n,
			engine: ike.New(cfg),
			log:    n.log.Named("ike"),
			in:     make(chan ike.Event, queuedEvents),
			calls:  make(chan func(*ike.Engine)),
		})
	}
	return e
}

func (e *engines) start() {
	for _, s := range e.shards {
		e.node.tasks.Go(s.run)
	}
}

// receive hands an IKE message to its engine. The data is copied. It never blocks.
func (e *engines) receive(from udpencap.Socket, p udpencap.Packet) {
	s := e.route(p.Data, p.Remote.Addr())
	d := ike.Datagram{
		Path: ike.Path{Local: p.Local, Remote: p.Remote, Encap: from.Encap(), Stream: from.Stream()},
		Data: slices.Clone(p.Data),
	}
	select {
	case s.in <- d:
	default: // the peer repeats what matters
	}
}

// route finds the engine for a message. It looks at the fixed fields of the header only.
func (e *engines) route(data []byte, from netip.Addr) *shard {
	if len(data) < message.HeaderLen || e.bits == 0 {
		return e.shards[0]
	}
	spi := binary.BigEndian.Uint64(data[8:16])
	if message.Flags(data[19])&message.FlagInitiator == 0 {
		spi = binary.BigEndian.Uint64(data[:8]) // the responder sent it, so we are the initiator
	}
	if spi == 0 {
		prefix, _ := from.Unmap().Prefix(prefixBits(from.Unmap()))
		return e.shards[maphash.Comparable(e.seed, prefix)&(1<<e.bits-1)]
	}
	return e.shards[spi&(1<<e.bits-1)]
}

// prefixBits is how much of an address makes out a source.
func prefixBits(a netip.Addr) int {
	if a.Is4() {
		return 32
	}
	return 64
}

// of is the engine that has an SA.
func (e *engines) of(sa ike.SAID) *shard { return e.shards[uint64(sa)&(1<<e.bits-1)] }

// ofESP is the engine that would have chosen an inbound SPI.
func (e *engines) ofESP(spi uint32) *shard { return e.shards[spi&(1<<e.bits-1)] }

// everywhere gives an event to all engines.
func (e *engines) everywhere(ev ike.Event) {
	for _, s := range e.shards {
		s.post(ev)
	}
}

// reload puts connections in force. It has been done in all engines when it returns: what is
// begun next must not be judged by the connections of before.
func (e *engines) reload(ev ike.Reload) {
	for _, s := range e.shards {
		s.call(func(*ike.Engine) { s.handle(ev) })
	}
}

// statuses is what all engines have.
func (e *engines) statuses() []ike.Status { return e.collect((*ike.Engine).Statuses) }

// statusesOf is what they have of a connection: of many SAs only those cost something.
func (e *engines) statusesOf(connection string) []ike.Status {
	return e.collect(func(engine *ike.Engine) []ike.Status {
		return engine.StatusesOf(func(name string) bool { return name == connection })
	})
}

func (e *engines) collect(from func(*ike.Engine) []ike.Status) []ike.Status {
	var all []ike.Status
	for _, s := range e.shards {
		s.call(func(engine *ike.Engine) { all = append(all, from(engine)...) })
	}
	return all
}

// visit calls f beside each engine, one after the other, as statuses does. Where one is busy until
// ctx is done the error tells that; there is none when the Node has ended.
func (e *engines) visit(ctx context.Context, f func(*ike.Engine)) error {
	for i, s := range e.shards {
		done := make(chan struct{})
		select {
		case s.calls <- func(engine *ike.Engine) { defer close(done); f(engine) }:
			<-done
		case <-ctx.Done():
			return fmt.Errorf("engine %d of %d did not answer in time: it works on one thing for long, or is stuck", i+1, len(e.shards))
		case <-s.node.ctx.Done():
			return nil
		}
	}
	return nil
}

// shutdown deletes all SAs and waits until they are gone, or for the given time.
func (e *engines) shutdown(wait time.Duration) {
	deadline := time.Now().Add(wait)
	e.everywhere(ike.Terminate{Reason: "the program ends"})
	watch, stop := e.node.events.subscribe()
	defer stop()
	for len(e.statuses()) > 0 {
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-watch:
			timer.Stop()
		case <-timer.C:
			return
		}
	}
}

// post queues an event, waiting for a place in the queue as long as the Node lives.
func (s *shard) post(ev ike.Event) {
	select {
	case s.in <- ev:
	case <-s.node.ctx.Done():
	}
}

// call runs f beside the engine and waits for it; not at all once the Node ended.
func (s *shard) call(f func(*ike.Engine)) {
	done := make(chan struct{})
	select {
	case s.calls <- func(e *ike.Engine) { defer close(done); f(e) }:
		<-done
	case <-s.node.ctx.Done():
	}
}

// run owns the engine until the Node ends.
func (s *shard) run() {
	timer := time.NewTimer(idleTick)
	defer timer.Stop()
	for {
		s.arm(timer)
		select {
		case ev := <-s.in:
			s.handle(ev)
		case f := <-s.calls:
			f(s.engine)
		case <-timer.C: // arm looks what is due
		case <-s.node.ctx.Done():
			return
		}
	}
}

// arm does what is due, before what waits in the queues, and sets the timer to what
// is due next.
func (s *shard) arm(timer *time.Timer) {
	if next := s.engine.Next(); !next.IsZero() && time.Until(next) <= 0 {
		s.handle(ike.Tick{})
	}
	wait := idleTick
	if next := s.engine.Next(); !next.IsZero() {
		wait = max(0, time.Until(next))
	}
	timer.Reset(wait)
}

// handle gives an event to the engine and does what comes out, and then the events
// that this made.
func (s *shard) handle(ev ike.Event) {
	s.mine = append(s.mine, ev)
	for len(s.mine) > 0 {
		ev, s.mine = s.mine[0], s.mine[1:]
		for _, action := range s.engine.Handle(time.Now(), ev) {
			s.do(action)
		}
	}
	s.mine = nil
}
