package netstack

import (
	"net/netip"
	"sync"
	"time"
)

// lasting is what a ledger has entries of: each knows when it was last used, in time since
// the Forwarder began.
type lasting interface {
	comparable
	lastUse() time.Duration
	owner() netip.Addr // the client
}

// ledger holds what clients have open: so many of each and so many in total. Finding an
// entry is cheap and using it touches no ledger; who has to find the oldest looks at all.
type ledger[K comparable, V lasting] struct {
	total, each int
	wg          *sync.WaitGroup // if not nil, has one more for each entry, which whoever serves it takes off

	mu      sync.Mutex
	closed  bool
	entries map[K]V
	clients map[netip.Addr]map[K]V
}

func newLedger[K comparable, V lasting](total, each int) *ledger[K, V] {
	return &ledger[K, V]{total: total, each: each, entries: map[K]V{}, clients: map[netip.Addr]map[K]V{}}
}

func (l *ledger[K, V]) get(k K) (V, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.entries[k]
	return v, ok
}

// admission says what became of a new entry.
type admission uint8

const (
	admitted admission = iota
	known              // there is one of the same key
	full               // there is no room
	shut               // the ledger is closed
)

// admit adds an entry if there is room.
func (l *ledger[K, V]) admit(k K, v V) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.entries[k]; ok {
		return known
	}
	switch {
	case l.closed:
		return shut
	case len(l.entries) >= l.total || len(l.clients[v.owner()]) >= l.each:
		return full
	}
	l.add(k, v)
	return admitted
}

// insert adds an entry, and takes out the one that was not used for longest where there is
// no room: one of the same client if that has too many.
func (l *ledger[K, V]) insert(k K, v V) (evicted V, did admission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var none V
	if _, ok := l.entries[k]; ok {
		return none, known
	}
	if l.closed {
		return none, shut
	}
	from := l.clients[v.owner()]
	if len(from) < l.each {
		from = nil
		if len(l.entries) >= l.total {
			from = l.entries
		}
	}
	if from != nil {
		var oldest K
		for key, e := range from {
			if evicted == none || e.lastUse() < evicted.lastUse() {
				oldest, evicted = key, e
			}
		}
		l.take(oldest)
	}
	l.add(k, v)
	return evicted, admitted
}

func (l *ledger[K, V]) add(k K, v V) {
	if l.wg != nil {
		l.wg.Add(1)
	}
	client := v.owner()
	l.entries[k] = v
	of := l.clients[client]
	if of == nil {
		of = map[K]V{}
		l.clients[client] = of
	}
	of[k] = v
}

func (l *ledger[K, V]) take(k K) {
	client := l.entries[k].owner()
	delete(l.entries, k)
	of := l.clients[client]
	delete(of, k)
	if len(of) == 0 {
		delete(l.clients, client)
	}
}

// remove takes an entry out, if it is still this one.
func (l *ledger[K, V]) remove(k K, v V) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok := l.entries[k]; !ok || now != v {
		return false
	}
	l.take(k)
	return true
}

func (l *ledger[K, V]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// all are the entries now; with close no more are taken from then on.
func (l *ledger[K, V]) all(closing bool) []V {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = l.closed || closing
	return valuesOf(l.entries)
}

func (l *ledger[K, V]) of(client netip.Addr) []V {
	l.mu.Lock()
	defer l.mu.Unlock()
	return valuesOf(l.clients[client])
}

func valuesOf[K comparable, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
