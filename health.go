package martlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/config"
	"martlet/ike"
)

// health is what probes ask for that nobody else knows. The zero value is ready.
type health struct {
	since   time.Time   // of Start; read when running
	running atomic.Bool // Start has done its work
	started atomic.Bool // what Start is for was there once: a child SA, or open ports

	mu     sync.Mutex
	wishes map[string]wish // by connection: those that Connect was called for
	failed error           // what came of the last Connect, if that is all there is to tell
}

// wish is a connection that somebody wants to be up.
type wish struct {
	trying  int   // calls of Connect that are under way
	granted bool  // one of them was a success: the connection is to be up from then on
	err     error // what came of the last one
}

// wished notes that a connection is being brought up, until the caller says what came of it.
func (h *health) wished(connection string) (ended func(error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wishes == nil {
		h.wishes = map[string]wish{}
	}
	w := h.wishes[connection]
	w.trying++
	h.wishes[connection] = w
	return func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		w, ok := h.wishes[connection]
		if !ok {
			return // Disconnect was called meanwhile
		}
		w.trying--
		w.err, h.failed = err, err
		w.granted = w.granted || err == nil
		h.wishes[connection] = w
		if !w.granted && w.trying <= 0 {
			delete(h.wishes, connection)
		}
	}
}

// unwish ends the wish for a connection; for all, if the name is empty.
func (h *health) unwish(connection string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if connection == "" {
		h.wishes = nil
	}
	delete(h.wishes, connection)
	h.failed = nil
}

// required are the connections that are to be up, each with what came of the last try, nil where
// that is not known to have failed. What waits for packets is not among them.
func (n *Node) required() map[string]error {
	out := map[string]error{}
	n.health.mu.Lock()
	for name, w := range n.health.wishes {
		if conn := n.conf().Connections[name]; conn != nil && conn.Keep != config.KeepOnDemand {
			out[name] = w.err
		}
	}
	n.health.mu.Unlock()
	n.keepers.mu.Lock()
	defer n.keepers.mu.Unlock()
	for name, k := range n.keepers.of {
		if n.conf().Connections[name] != nil {
			out[name] = k.err
		}
	}
	return out
}

// readiness is whether all that is to be up is up.
type readiness struct {
	ready       bool
	why         string // in a sentence without its full stop
	connections []judged
}

// judged is a connection that is to be up.
type judged struct {
	name  string
	ready bool
	text  string
}

// String is readiness as a probe shows it: a line, and one for each connection.
func (r readiness) String() string {
	var b strings.Builder
	if !r.ready {
		b.WriteString("not ")
	}
	fmt.Fprintf(&b, "ready: %s\n", r.why)
	for _, c := range r.connections {
		fmt.Fprintf(&b, "%s: %s\n", c.name, c.text)
	}
	return b.String()
}

// reasons are what keeps a Node from being ready; nil if it is.
func (r readiness) reasons() []string {
	var out []string
	for _, c := range r.connections {
		if !c.ready {
			out = append(out, c.name+": "+c.text)
		}
	}
	if !r.ready && out == nil {
		out = []string{r.why}
	}
	return out
}

// probeWithin is how long engines have to answer a probe. Those who probe wait for a second, as a
// rule.
const probeWithin = time.Second

// Ready tells whether the Node does what it is for, and if not, what is missing: each connection
// that is to be up has a child SA, and its peer was heard lately enough for an SA to stand. A Node
// that only serves is ready when it listens. Nothing is sent to find out. It may be called at any
// time, also before Start and while the Node closes, and takes a second at most.
func (n *Node) Ready(ctx context.Context) (ready bool, why string) {
	r := n.readyNow(ctx)
	return r.ready, r.String()
}

func (n *Node) readyNow(ctx context.Context) readiness {
	switch {
	case !n.health.running.Load():
		return readiness{why: "it is not started yet"}
	case n.ending.Load():
		return readiness{why: "it is ending"}
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	required := n.required()
	var found []ike.Status
	if len(required) > 0 {
		wanted := func(name string) bool { _, ok := required[name]; return ok }
		err := n.engines.visit(ctx, func(e *ike.Engine) { found = append(found, e.StatusesOf(wanted)...) })
		if err != nil {
			return readiness{why: err.Error()}
		}
	}
	return n.readiness(required, found)
}

// readiness judges by the SAs of the required connections; there may be others among them.
func (n *Node) readiness(required map[string]error, found []ike.Status) readiness {
	r := readiness{ready: true}
	down := 0
	for _, name := range slices.Sorted(maps.Keys(required)) {
		conn := n.conf().Connections[name]
		if conn == nil {
			continue // a reload has just taken it away
		}
		j := judged{name: name}
		j.ready, j.text = n.judge(conn, found, required[name])
		r.connections = append(r.connections, j)
		if !j.ready {
			r.ready = false
			down++
		}
	}
	switch {
	case n.ending.Load():
		r.ready, r.why = false, "it is ending"
	case n.host.whyFailed() != nil:
		r.ready, r.why = false, reasonOf(n.host.whyFailed())
	case len(r.connections) > 0:
		r.why = fmt.Sprintf("%d of %d connections that are to be up are", len(r.connections)-down, len(r.connections))
	case n.Serve:
		r.why = "it listens, and no connection is to be up all the time"
	case n.awaitsPackets():
		r.why = "it waits for packets that open a connection"
	default:
		r.ready, r.why = false, "no connection was brought up"
		n.health.mu.Lock()
		defer n.health.mu.Unlock()
		if err := n.health.failed; err != nil {
			r.why += ": " + reasonOf(err)
		}
	}
	return r
}

// judge tells of one connection whether it is ready, and why not. With several SAs, as while one
// takes another's place, one that is ready is enough.
func (n *Node) judge(conn *config.Connection, found []ike.Status, failed error) (ready bool, text string) {
	opening := false
	for i := range slices.Backward(found) { // of a newer SA it is more worth to tell
		st := &found[i]
		switch {
		case st.Connection != conn.Name:
			continue
		case st.State != "established":
			opening = opening || st.State == "connecting"
			continue
		}
		silent := time.Since(n.heard(st))
		var why string
		switch {
		case len(st.Children) == 0 && !opensBare(conn):
			why = "the IKE SA stands, but no child SA"
		case st.Patience > 0 && silent > st.Patience:
			why = fmt.Sprintf("nothing authentic was heard of the peer for %v; of one that lives something is within %v", silent.Round(time.Second), st.Patience.Round(time.Second))
		default:
			ready = true
			why = fmt.Sprintf("up, and the peer was heard %v ago", silent.Round(time.Second))
		}
		if missing := missingOf(conn, st); len(missing) > 0 {
			why += "; it lacks child " + strings.Join(missing, ", ")
		}
		if ready {
			return true, why
		}
		if text == "" {
			text = why
		}
	}
	if text == "" {
		text = "no tunnel"
	}
	if failed != nil {
		text += ": " + reasonOf(failed)
	}
	if opening {
		text += "; one is being opened"
	}
	return false, text
}

// heard is when something authentic last came by an SA, by IKE or ESP.
func (n *Node) heard(st *ike.Status) time.Time {
	ids := make([]uint64, len(st.Children))
	for i, c := range st.Children {
		ids[i] = uint64(c.ID)
	}
	if esp, _ := n.plane.Usage(ids); esp.After(st.Heard) {
		return esp
	}
	return st.Heard
}

// awaitsPackets tells whether there is a connection that packets open.
func (n *Node) awaitsPackets() bool {
	n.demands.mu.Lock()
	defer n.demands.mu.Unlock()
	return len(n.demands.armed) > 0
}

// reasonOf is an error in a sentence: what happened, of one that says more.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.What
	}
	return err.Error()
}

// startedUp tells whether the Node has been of use once: the first child SA was up, or, of one
// that only serves, it listens.
func (n *Node) startedUp() (ok bool, text string) {
	if n.health.started.Load() {
		return true, "started\n"
	}
	if !n.health.running.Load() {
		return false, "not started: it opens device and ports\n"
	}
	required := n.required()
	if n.Serve && len(required) == 0 {
		n.health.started.Store(true)
		return true, "started\n"
	}
	text = "not started: no child SA was up yet\n"
	for _, name := range slices.Sorted(maps.Keys(required)) {
		if err := required[name]; err != nil {
			text += name + ": " + reasonOf(err) + "\n"
		}
	}
	return false, text
}

// Alive tells whether the event loops of all engines answer, and if not, why. One that is not
// started yet or ends is alive: it takes the time that it needs. It may be called at any time, and
// takes a second at most.
func (n *Node) Alive(ctx context.Context) (ok bool, text string) {
	if !n.health.running.Load() || n.ending.Load() {
		return true, "alive\n"
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if err := n.engines.visit(ctx, func(*ike.Engine) {}); err != nil {
		return false, "not alive: " + err.Error() + "\n"
	}
	return true, "alive\n"
}
