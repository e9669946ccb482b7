package martlet

import (
	"context"
	"sync"
	"time"
)

// EventKind names what an Event is about.
type EventKind string

// The kinds of events.
const (
	EventStage       EventKind = "stage"        // a named step of connecting is done; Stage and Took say which
	EventEstablished EventKind = "established"  // an IKE SA is up
	EventMoved       EventKind = "moved"        // one of the sides has another address
	EventChildUp     EventKind = "child-up"     // a child SA carries traffic
	EventChildDown   EventKind = "child-down"   // a child SA is gone
	EventChildFailed EventKind = "child-failed" // a child SA was refused; the IKE SA stays
	EventDown        EventKind = "down"         // an IKE SA is gone; Kept says whether it will be opened again, Replaced that another took its place
	EventRetry       EventKind = "retry"        // connecting failed, Text says why; another try follows after Took
	EventRekeyed     EventKind = "rekeyed"      // a child SA, or, where Child is empty, an IKE SA has fresh keys
	EventRekeyFailed EventKind = "rekey-failed" // it could not get any; it stays as long as it may
	EventWarning     EventKind = "warning"      // something a person should know
	EventRedirected  EventKind = "redirected"   // the gateway sends us to another, which Text names
	EventReloading   EventKind = "reloading"    // the configuration is read again, by ReloadFile
	EventReloaded    EventKind = "reloaded"     // that is done; where Text is not empty, it says why nothing was changed
)

// Event is one change of state of a Node. It holds no secret.
type Event struct {
	Time       time.Time     `json:"time"`
	Kind       EventKind     `json:"kind"`
	Connection string        `json:"connection,omitempty"` // its name in the configuration
	Child      string        `json:"child,omitempty"`      // of what concerns a child SA
	Peer       string        `json:"peer,omitempty"`       // the identity that it proved, where it did
	Stage      string        `json:"stage,omitempty"`      // StageResolve, or one of ike.Stage
	Took       time.Duration `json:"took_ns,omitempty"`
	Text       string        `json:"text,omitempty"`  // for people, as the selectors of a child, or why something is down
	Err        *Error        `json:"error,omitempty"` // of failures; nil where an end was in order
	Kept       bool          `json:"kept,omitempty"`
	Replaced   bool          `json:"replaced,omitempty"`
}

// Watch returns the Node's events from now on, so that it is called before what they tell of, until
// ctx or the Node ends, which closes the channel. A reader that falls more than 256 events behind loses the newest.
func (n *Node) Watch(ctx context.Context) <-chan Event {
	ch, stop := n.events.subscribe()
	context.AfterFunc(ctx, stop)
	return ch
}

// broadcaster passes events to all who watch, and counts them. The zero value is ready.
type broadcaster struct {
	tally tally
	mu    sync.Mutex
	to    map[chan Event]struct{}
	ended bool
}

const queuedForWatcher = 256

func (b *broadcaster) subscribe() (ch chan Event, stop func()) {
	ch = make(chan Event, queuedForWatcher)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		close(ch)
		return ch, func() {}
	}
	if b.to == nil {
		b.to = map[chan Event]struct{}{}
	}
	b.to[ch] = struct{}{}
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.to[ch]; ok {
			delete(b.to, ch)
			close(ch)
		}
	}
}

func (b *broadcaster) send(ev Event) {
	b.tally.add(&ev)
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.to {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (b *broadcaster) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for ch := range b.to {
		close(ch)
	}
	b.to = nil
}
