package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
)

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
		n.reportEstablished(h.Status, now)
	case ike.PathChanged:
		n.reportMoved(h, now)
	case ike.ChildUp:
		n.reportChildUp(h, now)
	case ike.ChildDown:
		n.reportChildDown(h, now)
	case ike.ChildFailed:
		n.logError("child failed", h.Connection, h.Err, zap.Stringer("peer", h.Peer), zap.Stringer("at", h.Path.Remote))
		n.events.send(Event{Time: now, Kind: EventChildFailed, Connection: h.Connection, Child: h.Name, Peer: h.Peer.String(), Err: h.Err})
		n.attempt(h.Connection, func(a *attempt) { a.failed(h) })
	case ike.ChildStands:
		n.attempt(h.Connection, func(a *attempt) { a.stands(h) })
	case ike.Rekeyed:
		n.reportRekeyed(h, now)
	case ike.RekeyFailed:
		n.logError("not rekeyed", h.Connection, h.Err, zap.String("child", h.Name), zap.Stringer("peer", h.Peer), zap.Stringer("at", h.Path.Remote))
		n.events.send(Event{Time: now, Kind: EventRekeyFailed, Connection: h.Connection, Child: h.Name, Peer: h.Peer.String(), Text: h.Err.What, Err: h.Err})
	case ike.PathMTU:
		n.probes.found(h)
	case ike.Down:
		n.reportDown(h, now)
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

func (n *Node) reportEstablished(st ike.Status, now time.Time) {
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
}

func (n *Node) reportMoved(h ike.PathChanged, now time.Time) {
	n.sockets.uses(h.SA, h.Path)
	n.probes.moved(h.SA, h.Path)
	n.blocked.passes(h.Connection, h.Path)
	n.log.Info("moved", zap.String("conn", h.Connection), zap.Stringer("from", h.Path.Local), zap.Stringer("to", h.Path.Remote),
		zap.Stringer("before", h.Before.Local), zap.Stringer("and", h.Before.Remote))
	n.events.send(Event{Time: now, Kind: EventMoved, Connection: h.Connection, Text: fmt.Sprintf("%v to %v", h.Path.Local, h.Path.Remote)})
}

// reportChildUp tells of a child that is new, or that has another's place.
func (n *Node) reportChildUp(h ike.ChildUp, now time.Time) {
	c, kind := h.Child, EventChildUp
	if h.Replaces != 0 {
		kind = EventRekeyed
		n.log.Info("child rekeyed", zap.String("conn", c.Connection), zap.String("child", c.Name), zap.Stringer("suite", c.Suite))
	} else {
		n.log.Info("child up", zap.String("conn", c.Connection), zap.String("child", c.Name),
			zap.Stringer("suite", c.Suite), zap.String("local", selectorsText(c.Local)), zap.String("remote", selectorsText(c.Remote)))
	}
	n.childUp(c)
	if h.Replaces == 0 {
		n.health.started.Store(true)
		n.kept(c.Connection)
		n.settle(c.Connection)
	}
	n.events.send(Event{
		Time: now, Kind: kind, Connection: c.Connection, Child: c.Name,
		Text: selectorsText(c.Local) + " === " + selectorsText(c.Remote),
	})
	n.attempt(c.Connection, func(a *attempt) { a.up(c) })
}

func (n *Node) reportChildDown(h ike.ChildDown, now time.Time) {
	if h.Replaced {
		n.log.Debug("the child before is gone", zap.String("conn", h.Connection), zap.String("child", h.Name), zap.String("reason", h.Reason))
		n.childDown(h.Child)
		return
	}
	n.log.Info("child down", zap.String("conn", h.Connection), zap.String("child", h.Name), zap.String("reason", h.Reason))
	n.childDown(h.Child)
	n.kept(h.Connection)
	n.events.send(Event{Time: now, Kind: EventChildDown, Connection: h.Connection, Child: h.Name, Text: h.Reason})
}

func (n *Node) reportRekeyed(h ike.Rekeyed, now time.Time) {
	st := h.Status
	n.peers.rekeyed(h.Old, h.New)
	n.saRekeyed(h.Old, h.New)
	n.sockets.rekeyed(h.Old, h.New)
	n.probes.rekeyed(h.Old, h.New, st.Path)
	n.log.Info("rekeyed", zap.String("conn", st.Connection), zap.Stringer("peer", st.Remote), zap.Stringer("suite", st.Suite))
	n.events.send(Event{Time: now, Kind: EventRekeyed, Connection: st.Connection, Peer: st.Remote.String()})
	n.attempt(st.Connection, func(a *attempt) { a.rekeyed(h) })
}

func (n *Node) reportDown(h ike.Down, now time.Time) {
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
