package martlet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
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

// report turns what the engine reports into the log line, the state of the host and the
// event that belong to it. It is called by the engines' goroutines.
func (n *Node) report(what ike.Happening) {
	now := time.Now()
	switch h := what.(type) {
	case ike.StageDone:
		n.log.Debug("stage done", zap.String("conn", h.Connection), zap.String("stage", string(h.Stage)), zap.Duration("took", h.Took))
		n.events.send(Event{Time: now, Kind: EventStage, Connection: h.Connection, Stage: string(h.Stage), Took: h.Took})
		n.attempt(h.Connection, func(a *attempt) { n.decide(a, h.SA) })
	case ike.Established:
		st := h.Status
		n.peers.established(st)
		n.sockets.uses(st.SA, st.Path)
		n.blocked.passes(st.Connection, st.Path)
		n.log.Info("established", zap.String("conn", st.Connection), zap.Stringer("peer", st.Remote),
			zap.Stringer("at", st.Path.Remote), zap.Stringer("suite", st.Suite))
		n.events.send(Event{Time: now, Kind: EventEstablished, Connection: st.Connection, Peer: st.Remote.String()})
		if st.Initiator {
			n.probes.begin(st.SA, st.Path)
		}
		if conn := n.conf().Connections[st.Connection]; conn != nil && opensBare(conn) {
			n.health.started.Store(true)
			n.attempt(st.Connection, func(a *attempt) { a.established(st.SA) })
		}
	case ike.PathChanged:
		n.sockets.uses(h.SA, h.Path)
		n.probes.moved(h.SA, h.Path)
		n.blocked.passes(h.Connection, h.Path)
		n.log.Info("moved", zap.String("conn", h.Connection), zap.Stringer("from", h.Path.Local), zap.Stringer("to", h.Path.Remote),
			zap.Stringer("before", h.Before.Local), zap.Stringer("and", h.Before.Remote))
		n.events.send(Event{Time: now, Kind: EventMoved, Connection: h.Connection, Text: fmt.Sprintf("%v to %v", h.Path.Local, h.Path.Remote)})
	case ike.ChildUp:
		c := h.Child
		if h.Replaces != 0 {
			n.childRekeyed(h, now)
			return
		}
		n.log.Info("child up", zap.String("conn", c.Connection), zap.String("child", c.Name),
			zap.Stringer("suite", c.Suite), zap.String("local", selectorsText(c.Local)), zap.String("remote", selectorsText(c.Remote)))
		n.childUp(c)
		n.health.started.Store(true)
		n.kept(c.Connection)
		n.settle(c.Connection)
		n.events.send(Event{
			Time: now, Kind: EventChildUp, Connection: c.Connection, Child: c.Name,
			Text: selectorsText(c.Local) + " === " + selectorsText(c.Remote),
		})
		n.attempt(c.Connection, func(a *attempt) { a.up(c) })
	case ike.ChildDown:
		if h.Replaced {
			n.log.Debug("the child before is gone", zap.String("conn", h.Connection), zap.String("child", h.Name), zap.String("reason", h.Reason))
			n.childDown(h.Child)
			return
		}
		n.log.Info("child down", zap.String("conn", h.Connection), zap.String("child", h.Name), zap.String("reason", h.Reason))
		n.childDown(h.Child)
		n.kept(h.Connection)
		n.events.send(Event{Time: now, Kind: EventChildDown, Connection: h.Connection, Child: h.Name, Text: h.Reason})
	case ike.ChildFailed:
		n.logError("child failed", h.Connection, h.Err, zap.Stringer("peer", h.Peer), zap.Stringer("at", h.Path.Remote))
		n.events.send(Event{Time: now, Kind: EventChildFailed, Connection: h.Connection, Child: h.Name, Peer: h.Peer.String(), Err: h.Err})
		n.attempt(h.Connection, func(a *attempt) { a.failed(h) })
	case ike.ChildStands:
		n.attempt(h.Connection, func(a *attempt) { a.stands(h) })
	case ike.Rekeyed:
		st := h.Status
		n.peers.rekeyed(h.Old, h.New)
		n.saRekeyed(h.Old, h.New)
		n.sockets.rekeyed(h.Old, h.New)
		n.probes.rekeyed(h.Old, h.New, st.Path)
		n.log.Info("rekeyed", zap.String("conn", st.Connection), zap.Stringer("peer", st.Remote), zap.Stringer("suite", st.Suite))
		n.events.send(Event{Time: now, Kind: EventRekeyed, Connection: st.Connection, Peer: st.Remote.String()})
		n.attempt(st.Connection, func(a *attempt) { a.rekeyed(h) })
	case ike.RekeyFailed:
		n.logError("not rekeyed", h.Connection, h.Err, zap.String("child", h.Name), zap.Stringer("peer", h.Peer), zap.Stringer("at", h.Path.Remote))
		n.events.send(Event{Time: now, Kind: EventRekeyFailed, Connection: h.Connection, Child: h.Name, Peer: h.Peer.String(), Text: h.Err.What, Err: h.Err})
	case ike.PathMTU:
		n.probes.found(h)
	case ike.Down:
		n.probes.ended(h.SA)
		n.peers.leave(h)
		n.unsay(h)
		n.saDown(h)
		n.sockets.left(h)
		if abandoned(h) && !n.limit.allow(handshakes, h.Path.Remote.Addr(), now) {
			n.log.Debug("down", zap.Stringer("at", h.Path.Remote), zap.String("reason", h.Reason))
		} else if h.Err != nil {
			n.logError("down", h.Connection, h.Err, zap.Stringer("at", h.Path.Remote))
		} else {
			n.log.Info("down", zap.String("conn", h.Connection), zap.Stringer("at", h.Path.Remote), zap.String("reason", h.Reason))
		}
		kept := n.kept(h.Connection)
		n.events.send(Event{Time: now, Kind: EventDown, Connection: h.Connection, Peer: h.Peer.String(), Text: h.Reason, Err: h.Err, Kept: kept, Replaced: h.Replaced})
		n.attempt(h.Connection, func(a *attempt) { a.down(h) })
	case ike.Alive:
		n.crossings.answered(h.SA)
	case ike.Warned:
		n.log.Warn(h.Text, zap.String("conn", h.Connection), zap.Stringer("at", h.Path.Remote))
		n.events.send(Event{Time: now, Kind: EventWarning, Connection: h.Connection, Text: h.Text})
	case ike.Redirected:
		n.log.Info("redirected", zap.String("conn", h.Connection), zap.Stringer("at", h.Path.Remote), zap.String("to", h.To))
		n.events.send(Event{Time: now, Kind: EventRedirected, Connection: h.Connection, Text: h.To})
		n.attempt(h.Connection, func(a *attempt) { a.redirected(h) })
	case ike.Refused:
		n.refused(h)
	}
}

// childRekeyed tells that a child has another's place.
func (n *Node) childRekeyed(h ike.ChildUp, now time.Time) {
	c := h.Child
	n.log.Info("child rekeyed", zap.String("conn", c.Connection), zap.String("child", c.Name), zap.Stringer("suite", c.Suite))
	n.childUp(c)
	n.events.send(Event{
		Time: now, Kind: EventRekeyed, Connection: c.Connection, Child: c.Name,
		Text: selectorsText(c.Local) + " === " + selectorsText(c.Remote),
	})
	n.attempt(c.Connection, func(a *attempt) { a.up(c) })
}

// handshakes is the kind of line that tells of abandoned ones. It is no Drop: no message was.
const handshakes ike.Drop = 0

// abandoned tells whether a peer began an SA and let it lie, which anybody can do.
func abandoned(h ike.Down) bool {
	return !h.Initiator && !h.Established && h.Err != nil && h.Err.Code == ike.CodeUnreachable
}

// refused logs what was turned away at the door, sparingly, so that a flood does not
// fill the log. What any peer may meet on its way in is no warning.
func (n *Node) refused(h ike.Refused) {
	level := zap.WarnLevel
	if slices.Contains([]ike.Drop{ike.DropCookieRequired, ike.DropCookieInvalid, ike.DropInvalidKE}, h.Reason) {
		level = zap.DebugLevel
	}
	what := "refused: " + h.Reason.String()
	entry := n.log.Check(level, what)
	if entry == nil || !n.limit.allow(h.Reason, h.Path.Remote.Addr(), time.Now()) {
		return
	}
	at := zap.Stringer("at", h.Path.Remote)
	if err, ok := errors.AsType[*Error](h.Err); ok {
		n.logError(what, "", err, at)
		return
	}
	entry.Write(at, zap.Error(h.Err))
}

func (n *Node) logError(what, connection string, err *Error, more ...zap.Field) {
	about := zap.Skip()
	if connection != "" {
		about = zap.String("conn", connection)
	}
	n.log.Warn(what, append([]zap.Field{
		about, zap.String("what", err.What), zap.String("why", err.Why),
		zap.String("hint", err.Hint), zap.String("code", string(err.Code)),
	}, more...)...)
	if err.Detail != "" {
		n.log.Info(fmt.Sprintf("%s: details\n%s", what, err.Detail), about)
	}
}

// sparing lets one line of each kind through a second, and of one that comes from the same
// place again, as a repeated message does, one in ten.
type sparing struct {
	mu   sync.Mutex
	last map[ike.Drop]logged
}

type logged struct {
	at   time.Time
	from netip.Addr
}

func (s *sparing) allow(kind ike.Drop, from netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[ike.Drop]logged{}
	}
	last, wait := s.last[kind], time.Second
	if from == last.from {
		wait = 10 * time.Second
	}
	if now.Sub(last.at) < wait {
		return false
	}
	s.last[kind] = logged{now, from}
	return true
}
