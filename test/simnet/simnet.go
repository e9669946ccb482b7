// Package simnet is a simulated network for tests: hosts with lossy links, NATs of
// every kind, blackouts and moving addresses. It carries UDP datagrams. All chance
// comes from one seed, so that a run can be repeated.
//
// It has two faces. Step-wise (New), it has its own virtual time and no goroutine: the
// test calls Step, and whatever happens, happens inside. Live (NewLive), it uses
// the package time, inside the bubble of testing/synctest, and Host is an
// udpencap.Listener for whole nodes; Tun is the other end, a tun.Device made of
// channels.
package simnet

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Datagram is one UDP datagram. Data includes the non-ESP marker where there is one.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
	ECN      uint8
}

// Fate is what became of a datagram.
type Fate uint8

const (
	Sent       Fate = iota // by its host; always the first
	Duplicated             // the link carries it once more
	Delivered
	Lost
	TooBig   // for the link's MTU; nothing is fragmented
	Dark     // the link is down
	Filtered // a NAT has no mapping for it, or does not let it in
	NoRoute  // nobody has the address
	NoSocket // nobody listens on the port, or the queue is full
)

// String is a word for diagrams.
func (f Fate) String() string {
	names := [...]string{"sent", "duplicated", "delivered", "lost", "too big", "dark", "filtered", "no route", "no socket"}
	return names[f]
}

// Record is one thing that happened to one datagram.
type Record struct {
	At       time.Time
	Number   uint64 // of the datagram; the same for all its records and copies
	Host     string // the sender, or for Delivered and NoSocket the receiver
	Datagram Datagram
	Fate     Fate
}

// Net is the network. In its live form its methods may be called by any goroutine.
type Net struct {
	live bool

	mu       sync.Mutex // guards everything below, and hosts and NATs
	now      time.Time  // not live
	rng      *rand.Rand
	events   events
	pumping  bool // live: a goroutine runs what is due
	order    uint64
	number   uint64
	hosts    []*Host
	nats     []*NAT
	trace    func(Record)
	captures []*capture
}

// New makes a step-wise network whose time begins at start.
func New(seed uint64, start time.Time) *Net {
	return &Net{now: start, rng: rand.New(rand.NewPCG(seed, 0x6d6172746c6574))}
}

// NewLive makes a network that runs by the package time: use it inside a
// synctest bubble. Step, RunUntil and Next are not for it.
func NewLive(seed uint64) *Net {
	n := New(seed, time.Time{})
	n.live = true
	return n
}

// Now is the network's time.
func (n *Net) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clock()
}

func (n *Net) clock() time.Time {
	if n.live {
		return time.Now()
	}
	return n.now
}

// After runs f when d has passed: within Step, or, live, on a goroutine of the network's,
// which f must not hold up.
func (n *Net) After(d time.Duration, f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.after(d, f)
}

func (n *Net) after(d time.Duration, f func()) {
	n.order++
	heap.Push(&n.events, event{n.clock().Add(max(d, 0)), n.order, f})
	switch {
	case !n.live:
	case d <= 0:
		// No timer: those that are due at once run beside each other in a bubble, and
		// the race detector of Go 1.26 breaks down over that.
		go n.pump()
	default:
		time.AfterFunc(d, n.pump)
	}
}

// pump runs what is due, one event after the other: timers of the same time fire in
// any order, and datagrams must not overtake each other by that.
func (n *Net) pump() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pumping {
		return // the other one sees our event too
	}
	n.pumping = true
	for len(n.events) > 0 && !n.events[0].at.After(n.clock()) {
		e := heap.Pop(&n.events).(event)
		n.mu.Unlock()
		e.run()
		n.mu.Lock()
	}
	n.pumping = false
}

// Next tells when the next event is due; false if there is none.
func (n *Net) Next() (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.events) == 0 {
		return time.Time{}, false
	}
	return n.events[0].at, true
}

// Step moves the time to the next event and runs it; false if there is none.
func (n *Net) Step() bool {
	n.mu.Lock()
	if len(n.events) == 0 {
		n.mu.Unlock()
		return false
	}
	e := heap.Pop(&n.events).(event)
	n.now = e.at
	n.mu.Unlock()
	e.run()
	return true
}

// RunUntil runs all events up to t, and sets the time to t.
func (n *Net) RunUntil(t time.Time) {
	for {
		next, ok := n.Next()
		if !ok || next.After(t) {
			break
		}
		n.Step()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.After(n.now) {
		n.now = t
	}
}

// Trace has f called with everything that happens. f must not call back.
func (n *Net) Trace(f func(Record)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trace = f
}

func (n *Net) record(number uint64, host string, d Datagram, fate Fate) {
	if n.trace != nil {
		n.trace(Record{n.clock(), number, host, d, fate})
	}
}

// event is something due; those of one time run in the order of their making.
type event struct {
	at    time.Time
	order uint64
	run   func()
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e events) Less(i, j int) bool {
	if c := e[i].at.Compare(e[j].at); c != 0 {
		return c < 0
	}
	return e[i].order < e[j].order
}

func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
