// Package netmon tells when the network of the host is another one than before: addresses,
// links and default routes. The system says so: Linux by rtnetlink, macOS and the BSDs by a
// routing socket (PF_ROUTE), Windows by callbacks of its IP Helper. Where it does not, the
// interfaces are looked at every few seconds. It tells too when the host may have slept,
// because peers have then waited in vain.
//
// Only the part of Linux was ever run, and what is common to all. Those of macOS, FreeBSD,
// OpenBSD and Windows were compiled and vetted, no more.
package netmon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Change says that something is not as it was: an address, a link, a default route, or the
// time. What it was is not told, because the answer is the same: all ways to a peer are looked
// for again.
type Change struct {
	Woken bool // the host has slept, or this process stood still
}

// Monitor watches the network.
type Monitor interface {
	// Changes tells of changes, the last one if several were not read. The channel is closed
	// by Close.
	Changes() <-chan Change
	// Addresses are those of the host that other hosts can reach, those of the interface
	// that is not to be watched left out.
	Addresses() []netip.Addr
	// Close ends it and waits for its goroutines. A second call does nothing.
	Close() error
}

// How often, and how long, something is waited for.
const (
	settle  = 100 * time.Millisecond // of quiet, before changes are told
	hurry   = 500 * time.Millisecond // after the first change it is told all the same
	poll    = 5 * time.Second        // where the system tells nothing, and for the clock
	snoozed = 10 * time.Second       // more than this between two looks at the clock is a sleep
)

// monitor is a Monitor of what an operating system's file tells it.
type monitor struct {
	ignore  string // the tunnel's own interface
	log     *zap.Logger
	looks   atomic.Bool // at the default routes too: not all that decides of them is told
	changes chan Change
	stop    chan struct{}
	closing sync.Once
	tasks   sync.WaitGroup
}

// New watches the network, but for the interface of the name ignore, which is the tunnel's
// own. It fails where the interfaces cannot even be listed.
func New(ignore string, log *zap.Logger) (Monitor, error) {
	if log == nil {
		log = zap.NewNop()
	}
	if _, err := links(); err != nil {
		return nil, fmt.Errorf("netmon: the interfaces of this host cannot be listed: %w", err)
	}
	m := newMonitor(ignore, log)
	in, err := m.listen()
	if err != nil {
		in = make(chan news)
		m.tasks.Go(func() { m.lookOut(in, err) })
	}
	m.begin(in)
	return m, nil
}

func newMonitor(ignore string, log *zap.Logger) *monitor {
	return &monitor{ignore: ignore, log: log, changes: make(chan Change, 1), stop: make(chan struct{})}
}

// begin compares with what there is now from here on.
func (m *monitor) begin(in <-chan news) {
	before := m.picture()
	m.tasks.Go(func() { m.run(before, in) })
}

// Changes implements Monitor.
func (m *monitor) Changes() <-chan Change { return m.changes }

// Close implements Monitor.
func (m *monitor) Close() error {
	m.closing.Do(func() {
		close(m.stop)
		m.tasks.Wait()
		close(m.changes)
	})
	return nil
}

// run gathers what comes in quick succession and tells of it once.
func (m *monitor) run(before string, in <-chan news) {
	clock := time.NewTicker(poll)
	defer clock.Stop()
	last := time.Now().Round(0)
	var first time.Time // of what is not told yet
	var sure bool
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-m.stop:
			return
		case n := <-in:
			if first.IsZero() {
				first = time.Now()
			}
			sure = sure || n.sure
			quiet.Reset(max(0, min(settle, hurry-time.Since(first))))
		case <-quiet.C:
			now := m.picture()
			if sure || now != before {
				m.tell(Change{})
			}
			before, first, sure = now, time.Time{}, false
		case <-clock.C:
			// The monotonic clock stands still while some systems sleep.
			now := time.Now().Round(0)
			if slept(last, now) {
				m.tell(Change{Woken: true})
			}
			last = now
		}
	}
}

// slept tells whether more time has passed between two looks at the clock than should have.
func slept(last, now time.Time) bool { return now.Sub(last) > poll+snoozed }

// tell replaces what was not read yet.
func (m *monitor) tell(c Change) {
	select {
	case before := <-m.changes:
		c.Woken = c.Woken || before.Woken
	default:
	}
	m.changes <- c
}

// picture is the interfaces that are up with their addresses, and those that lead out if they
// are to be looked at, in words that can be compared.
func (m *monitor) picture() string {
	var lines []string
	m.interfaces(func(i net.Interface, addrs []netip.Addr) {
		lines = append(lines, fmt.Sprint(i.Name, i.Flags, addrs))
	})
	if m.looks.Load() {
		for _, v4 := range []bool{true, false} {
			name, _, _ := DefaultInterface(v4, m.ignore)
			lines = append(lines, "default "+name)
		}
	}
	return strings.Join(lines, "\n")
}

// Addresses implements Monitor.
func (m *monitor) Addresses() []netip.Addr {
	var out []netip.Addr
	m.interfaces(func(_ net.Interface, addrs []netip.Addr) { out = append(out, addrs...) })
	return out
}

// link is an interface with its addresses.
type link struct {
	net.Interface
	addrs []netip.Addr
}

// LinkMTU is the MTU of the interface that has an address.
func LinkMTU(addr netip.Addr) (mtu int, ok bool) {
	all, err := links()
	if err != nil {
		return 0, false
	}
	i := slices.IndexFunc(all, func(l link) bool { return slices.Contains(l.addrs, addr.WithZone("")) })
	if i < 0 {
		return 0, false
	}
	return all[i].MTU, true
}

// interfaces calls f for each interface that is up, with its addresses that are of use.
func (m *monitor) interfaces(f func(net.Interface, []netip.Addr)) {
	all, err := links()
	if err != nil {
		m.log.Warn("the interfaces of this host cannot be listed", zap.Error(err))
		return
	}
	for _, l := range all {
		if l.Name == m.ignore || l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 {
			continue
		}
		usable := slices.DeleteFunc(l.addrs, func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
		slices.SortFunc(usable, netip.Addr.Compare)
		f(l.Interface, usable)
	}
}
