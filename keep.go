package martlet

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
)

// keepers hold open the connections that are to be up: whenever one is lost, or one of its
// children, it is opened again, for as long as it takes.
type keepers struct {
	mu sync.Mutex
	of map[string]*keeper // by connection
}

// keeper holds one connection open.
type keeper struct {
	node   *Node
	name   string
	wake   chan struct{} // full: something happened to the connection
	fresh  chan struct{} // full: this host has another network than at the last try
	cancel context.CancelFunc

	tries int // that failed in a row; of run alone

	// For the status, guarded by keepers.mu.
	next time.Time // when the next try is due
	err  error     // what came of the last one; nil while there is nothing to wait for
}

// How long a keeper waits between tries: twice as long each time. Another try with refused
// credentials seldom helps, and may lock an account.
const (
	retryFirst        = time.Second
	retryMax          = time.Minute
	retryRefusedFirst = 15 * time.Second
	retryRefusedMax   = 15 * time.Minute
	// upForGood is how long a connection must have stood for the next loss to count as the first.
	upForGood = time.Minute
)

// keep holds a connection open from now on, if that is what it is for.
func (n *Node) keep(conn *config.Connection) {
	if conn.Keep != config.KeepUp {
		return
	}
	n.keepers.mu.Lock()
	defer n.keepers.mu.Unlock()
	if n.keepers.of[conn.Name] != nil || n.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	k := &keeper{node: n, name: conn.Name, wake: make(chan struct{}, 1), fresh: make(chan struct{}, 1), cancel: cancel}
	if n.keepers.of == nil {
		n.keepers.of = map[string]*keeper{}
	}
	n.keepers.of[conn.Name] = k
	n.tasks.Go(func() { k.run(ctx) })
}

// letGo ends the keeping of a connection; of all, if the name is empty.
func (n *Node) letGo(connection string) {
	n.keepers.mu.Lock()
	defer n.keepers.mu.Unlock()
	for name, k := range n.keepers.of {
		if connection == "" || connection == name {
			k.cancel()
			delete(n.keepers.of, name)
		}
	}
}

// kept tells whether somebody holds a connection open, and has him look at it.
func (n *Node) kept(connection string) bool {
	n.keepers.mu.Lock()
	defer n.keepers.mu.Unlock()
	k := n.keepers.of[connection]
	if k == nil {
		return false
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return true
}

// isKept tells whether somebody holds a connection open.
func (n *Node) isKept(connection string) bool {
	n.keepers.mu.Lock()
	defer n.keepers.mu.Unlock()
	return n.keepers.of[connection] != nil
}

// hurry ends all waits: what failed on one network may work on another.
func (k *keepers) hurry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range k.of {
		select {
		case one.fresh <- struct{}{}:
		default:
		}
	}
}

// waiting are those that wait for their next try.
func (k *keepers) waiting() []WaitingStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []WaitingStatus
	for _, name := range slices.Sorted(maps.Keys(k.of)) {
		if one := k.of[name]; one.err != nil {
			known, _ := errors.AsType[*Error](one.err)
			out = append(out, WaitingStatus{Connection: name, Next: one.next, Text: one.err.Error(), Err: known})
		}
	}
	return out
}

// conn is the connection as it is configured now, nil if it is not any more.
func (k *keeper) conn() *config.Connection { return k.node.conf().Connections[k.name] }

// complete tells whether there is nothing to do.
func (k *keeper) complete() bool {
	conn := k.conn()
	return conn == nil || k.node.complete(conn)
}

func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		began, conn := time.Now(), k.conn()
		if conn == nil {
			return // a reload took it away
		}
		select {
		case <-k.fresh: // this try will be on that network
		default:
		}
		err := k.node.bringUp(ctx, conn)
		switch {
		case k.over(ctx):
			return
		case err != nil:
			k.wait(ctx, k.failed(err))
			continue
		}
		k.up()
		for k.complete() {
			select {
			case <-k.wake:
			case <-ctx.Done():
				return
			}
		}
		if k.over(ctx) {
			return
		}
		if time.Since(began) < upForGood {
			k.wait(ctx, k.failed(errLost))
			continue
		}
		k.tries = 0
		// A gateway that starts again is not called by all its peers in the same moment.
		k.wait(ctx, rand.N(retryFirst))
	}
}

// over tells whether there is nothing to keep any more: what is lost now the node itself closes.
func (k *keeper) over(ctx context.Context) bool { return ctx.Err() != nil || k.node.ending.Load() }

var errLost = &Error{
	Code: ike.CodePeerDead, What: "the connection, or a child of it, was lost soon after it was up",
	Why: "it stood for less than a minute", Hint: "the gateway's log tells why it closes it",
}

// failed notes a failure, and returns how long to wait.
func (k *keeper) failed(err error) time.Duration {
	wait := pauseAfter(k.tries, err)
	k.node.keepers.mu.Lock()
	k.err, k.next = err, time.Now().Add(wait)
	k.node.keepers.mu.Unlock()
	// Who hears of it finds it in the status.
	k.node.retries(k.name, k.tries, wait, err)
	k.tries++
	return wait
}

// pauseAfter is how long to wait after a try that failed, the one after so many others.
func pauseAfter(tries int, err error) time.Duration {
	first, longest := retryFirst, retryMax
	if known, ok := errors.AsType[*Error](err); ok && known.Code.Class() == ClassAuthentication {
		first, longest = retryRefusedFirst, retryRefusedMax
	}
	wait := first << min(tries, 20)
	if wait > longest || wait <= 0 {
		wait = longest
	}
	return wait - rand.N(wait/4) // so that many clients do not keep step
}

// retries tells that a try failed, the one after so many others, and when the next follows.
func (n *Node) retries(connection string, tries int, wait time.Duration, err error) {
	known, _ := errors.AsType[*Error](err)
	n.log.Info("another try follows", zap.String("conn", connection), zap.Int("failed", tries+1), zap.Duration("in", wait), zap.Error(err))
	n.events.send(Event{Time: time.Now(), Kind: EventRetry, Connection: connection, Took: wait, Text: err.Error(), Err: known})
}

// up notes that there is nothing to wait for.
func (k *keeper) up() {
	k.node.keepers.mu.Lock()
	defer k.node.keepers.mu.Unlock()
	k.err, k.next = nil, time.Time{}
}

// wait lets time go by, or less where the peer comes to us meanwhile.
func (k *keeper) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-k.wake:
			if k.complete() {
				return
			}
		case <-k.fresh:
			k.tries = 0
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// bringUp opens what is missing of a connection: the IKE SA, or children of one that
// stands.
func (n *Node) bringUp(ctx context.Context, conn *config.Connection) error {
	if err := n.connect(ctx, conn, want{}); err != nil {
		return err
	}
	for _, child := range n.missing(conn) {
		if err := n.OpenChild(ctx, conn.Name, child); err != nil {
			return err
		}
	}
	return nil
}

// complete tells whether a connection stands with all the children that belong to it from
// the start.
func (n *Node) complete(conn *config.Connection) bool {
	_, ok := n.established(conn.Name)
	return ok && len(n.missing(conn)) == 0
}

// missing are the children of a connection that are to be up and are not, or not all of their
// SAs.
func (n *Node) missing(conn *config.Connection) []string {
	st, _ := n.established(conn.Name)
	return missingOf(conn, &st)
}

// missingOf are those of them that an SA lacks.
func missingOf(conn *config.Connection, st *ike.Status) []string {
	var out []string
	for name, child := range conn.Children {
		if (child.Keep == "" || child.Keep == config.KeepUp) &&
			(slices.Contains(st.Incomplete, name) || !slices.ContainsFunc(st.Children, func(c ike.ChildInfo) bool { return c.Name == name })) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
