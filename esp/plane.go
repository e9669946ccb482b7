package esp

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// Plane moves packets between a device and sockets through the children that are
// installed. Its methods may be called by any goroutine.
//
// It owns its goroutines: one for each reader of a socket, and one for each queue of the device.
type Plane struct {
	dev    tun.Device
	events Events
	log    *zap.Logger
	epoch  time.Time

	policy atomic.Pointer[policy] // read by the outbound loop
	sad    sad                    // read by the inbound loops

	in, out     counter
	drops       drops
	ikeMessages atomic.Uint64
	keepalives  atomic.Uint64

	queues []*queue // of dev

	mu       sync.Mutex // serialises changes, and guards what follows
	children map[uint64]*child
	groups   map[uint64]*group
	paths    map[netip.Addr]pathMTU
	sockets  map[udpencap.Socket]*boundSocket
	gone     udpencap.Counters // of sockets that are no more
	orders   uint64
	started  bool
	closed   bool

	done  chan struct{} // closed by Close
	loops sync.WaitGroup
}

type boundSocket struct {
	socket udpencap.Socket
	loops  sync.WaitGroup
}

// queue is a queue of the device, which has one outbound loop, and takes what inbound loops
// write, one at a time.
type queue struct {
	tun.Queue
	writing sync.Mutex
}

func (q *queue) write(frames []tun.Frame) (int, error) {
	q.writing.Lock()
	defer q.writing.Unlock()
	return q.Write(frames)
}

// New makes a plane over a device. Nothing moves before Start and AddSocket. The device
// belongs to the plane from then on. A nil log means none.
func New(dev tun.Device, h Events, log *zap.Logger) *Plane {
	if log == nil {
		log = zap.NewNop()
	}
	p := &Plane{
		dev:      dev,
		events:   h,
		log:      log,
		epoch:    time.Now(),
		children: make(map[uint64]*child),
		groups:   make(map[uint64]*group),
		paths:    make(map[netip.Addr]pathMTU),
		sockets:  make(map[udpencap.Socket]*boundSocket),
		done:     make(chan struct{}),
	}
	for _, q := range dev.Queues() {
		p.queues = append(p.queues, &queue{Queue: q})
	}
	p.policy.Store(newPolicy())
	return p
}

// Start begins to take packets from the device. A second call does nothing.
func (p *Plane) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return
	}
	p.started = true
	for _, q := range p.queues {
		p.loops.Go(newOutboundLoop(p, q).run)
	}
}

// AddSocket begins to take datagrams from a socket, IKE and ESP alike. It belongs to
// the plane from then on; others may go on to Write. After Close it is closed at once.
func (p *Plane) AddSocket(s udpencap.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.Close()
		return
	}
	b := &boundSocket{socket: s}
	p.sockets[s] = b
	for i, r := range s.Readers() {
		b.loops.Add(1)
		p.loops.Go(func() {
			defer b.loops.Done()
			newInboundLoop(p, s, r, p.queues[i%len(p.queues)]).run()
		})
	}
}

// RemoveSocket closes a socket and waits until nothing comes from it any more.
// Children whose path led through it keep it, and drop what they have to send, until
// they are moved.
func (p *Plane) RemoveSocket(s udpencap.Socket) {
	p.mu.Lock()
	b, ok := p.sockets[s]
	if ok {
		delete(p.sockets, s)
		p.gone = p.gone.Add(socketCounters(s))
	}
	p.mu.Unlock()
	if ok {
		s.Close()
		b.loops.Wait()
	}
}

// Close closes device and sockets, and waits for all loops. A second call waits too.
func (p *Plane) Close() {
	p.mu.Lock()
	var sockets []udpencap.Socket
	first := !p.closed
	if first {
		p.closed = true
		close(p.done)
		sockets = slices.Collect(maps.Keys(p.sockets))
	}
	p.mu.Unlock()
	// Without the lock: a loop that is in a callback may want it before it ends.
	if first {
		p.dev.Close()
		for _, s := range sockets {
			s.Close()
		}
	}
	p.loops.Wait()
}

// Install puts a child into the plane. What it receives is taken at once. What
// the host sends goes through it unless an older child takes the same; then the older
// one keeps it until Switch, until it is removed, or until the first authentic packet
// arrives on the new one (by which the initiator of a rekey shows that it has
// switched). Until then a further child of a group carries none of the group's traffic.
//
// It fails on algorithms and key lengths that do not fit, selectors and windows out of
// range, an ID or inbound SPI in use, and a path whose socket the plane does not have.
// A caller that took its values from a negotiation meets none of these.
func (p *Plane) Install(c Child) error {
	ch, err := newChild(&c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.routeFor(c.Path)
	if err != nil {
		return err
	}
	if _, ok := p.children[ch.id]; ok {
		return fmt.Errorf("esp: child %d is installed already", ch.id)
	}
	if p.sad.lookup(ch.spi) != nil {
		return fmt.Errorf("esp: inbound SPI %#08x is in use", ch.spi)
	}
	ch.route.Store(ch.limited(r, p.pathOf(r.path.Remote.Addr())))
	p.orders++
	ch.order = p.orders
	ch.installed = p.now()
	p.children[ch.id] = ch
	p.sad.add(ch.spi, ch)
	p.join(ch, c.Group)
	p.policy.Store(p.policy.Load().with(ch))
	return nil
}

// Switch makes a child take what the host sends, before any other with the same
// selectors.
func (p *Plane) Switch(id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, err := p.child(id)
	if err != nil {
		return err
	}
	if ch.retired {
		return fmt.Errorf("esp: child %d is retired", id)
	}
	p.policy.Store(p.policy.Load().front(ch))
	p.serve(ch)
	return nil
}

// follow switches to a child on which the first authentic packet has come, if an
// older one goes before it.
func (p *Plane) follow(ch *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.children[ch.id] != ch || ch.retired {
		return // removed in the meantime
	}
	if ch.serving == 0 {
		p.serve(ch)
	}
	if policy := p.policy.Load(); policy.behind(ch) {
		p.policy.Store(policy.front(ch))
	}
}

// Move changes where a child's packets go, and from where they are expected.
func (p *Plane) Move(id uint64, path Path) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, err := p.child(id)
	if err != nil {
		return err
	}
	r, err := p.routeFor(path)
	if err != nil {
		return err
	}
	ch.route.Store(ch.limited(r, p.pathOf(r.path.Remote.Addr())))
	return nil
}

// Retire ends what a child sends. What it receives is taken until Remove: packets that the
// peer sent before it knew may still be on their way.
func (p *Plane) Retire(id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, err := p.child(id)
	if err != nil {
		return err
	}
	ch.retired = true
	p.policy.Store(p.policy.Load().without(ch))
	p.leave(ch)
	return nil
}

// Remove takes a child out of the plane, both directions. Packets that a loop has in
// hand may still pass.
func (p *Plane) Remove(id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, err := p.child(id)
	if err != nil {
		return err
	}
	delete(p.children, id)
	p.sad.remove(ch.spi)
	p.policy.Store(p.policy.Load().without(ch))
	p.leave(ch)
	return nil
}

func (p *Plane) child(id uint64) (*child, error) {
	ch, ok := p.children[id]
	if !ok {
		return nil, fmt.Errorf("esp: child %d is not installed", id)
	}
	return ch, nil
}

// routeFor finds the socket of a path: of those that are bound to its local port, that
// with its local address, else the wildcard of the remote's family, else, where
// the path leaves the address to the system, any of that family.
func (p *Plane) routeFor(path Path) (*route, error) {
	path.Local = netip.AddrPortFrom(path.Local.Addr().Unmap(), path.Local.Port())
	path.Remote = netip.AddrPortFrom(path.Remote.Addr().Unmap(), path.Remote.Port())
	if !path.Remote.IsValid() || path.Remote.Port() == 0 {
		return nil, fmt.Errorf("esp: path to %v: want an address and a port", path.Remote)
	}
	best, rank := udpencap.Socket(nil), 0
	for s := range p.sockets {
		if n := fits(s, path); n > rank {
			best, rank = s, n
		}
	}
	if best == nil {
		return nil, fmt.Errorf("esp: path from %v to %v: no socket that carries ESP is bound to port %d", path.Local, path.Remote, path.Local.Port())
	}
	return &route{path: path, socket: best}, nil
}

// fits ranks a socket for a path; 0 is not at all.
func fits(s udpencap.Socket, path Path) int {
	if s.Stream() || path.Stream {
		if s.Stream() && path.Stream {
			return 1
		}
		return 0
	}
	bound := s.LocalAddr()
	local := path.Local.Addr()
	switch {
	case !s.Encap() || bound.Port() != path.Local.Port() || bound.Addr().Is4() != path.Remote.Addr().Is4():
		return 0
	case bound.Addr() == local:
		return 3
	case bound.Addr().IsUnspecified():
		return 2
	case unspecified(local):
		return 1
	}
	return 0
}

func unspecified(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

// pause waits after an error of a device or socket that may pass; it reports false
// when the loop must end.
func (p *Plane) pause(err error, what string) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return false
	}
	p.log.Warn("cannot read packets", zap.String("from", what), zap.Error(err))
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-p.done:
		return false
	case <-t.C:
		return true
	}
}

// drop counts a packet that is lost; ch may be nil.
func (p *Plane) drop(ch *child, why Drop) { p.dropMany(ch, why, 1) }

func (p *Plane) dropMany(ch *child, why Drop, n int) {
	p.drops[why].Add(uint64(n))
	if ch != nil {
		ch.drops[why].Add(uint64(n))
	}
}
