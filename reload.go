package martlet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
)

// Reload puts another configuration in force. It is checked as a whole first: with any fault in
// it, or where it changes what only a new start can, everything stays as it is. Connections
// that are gone are closed. Those of which what is negotiated differs are replaced, make
// before break: by us where we opened them, and by their peers, who are told to, where they
// did. All others keep their SAs; users, secrets, certificates and lists of revoked ones count
// from the next proof of identity on.
func (n *Node) Reload(next *config.Config) error {
	if err := next.Complete(); err != nil {
		return err
	}
	if n.engines == nil || n.ending.Load() {
		return errNotRunning
	}
	n.reloading.Lock()
	defer n.reloading.Unlock()
	before := n.conf()
	if keys := before.NeedsRestart(next); len(keys) > 0 {
		return &Error{
			Code: ike.CodeReload,
			What: "nothing was changed: " + strings.Join(keys, ", ") + " cannot change while the program runs",
			Why:  "device, ports, files and RADIUS servers are opened once",
			Hint: "start martlet again, or take back the change of these keys",
		}
	}
	var gone, changed, moved []string
	for _, name := range slices.Sorted(maps.Keys(before.Connections)) {
		conn := before.Connections[name]
		switch now := next.Connections[name]; {
		case now == nil:
			gone = append(gone, name)
		case !slices.Equal(conn.Remote, now.Remote) || conn.Port != now.Port || conn.LocalPort != now.LocalPort:
			moved = append(moved, name)
		case !conn.SameSAs(now):
			changed = append(changed, name)
		}
	}
	for _, name := range gone {
		n.letGo(name)
		n.disarm(name)
	}
	n.peers.reload(next)
	n.vouch.Store(newRevocation(next, n.vouch.Load().fetch, n.log.Named("revocation")))
	if n.host != nil {
		n.host.reload(next)
	}
	n.current.Store(next)
	if n.forwarder != nil {
		if err := n.forwarder.SetDestinations(n.destinations()); err != nil {
			n.log.Error("clients may go where they could before: " + err.Error())
		}
	}
	n.engines.reload(ike.Reload{Connections: connectionsOf(next, n.Serve), Changed: changed, Moved: moved})
	n.rearm(before, next)
	for _, name := range moved {
		n.transfer(next.Connections[name])
	}
	n.log.Info("reloaded", zap.Strings("closed", gone), zap.Strings("replaced", slices.Concat(changed, moved)))
	return nil
}

// ReloadFile reads the configuration again by Load, and puts it in force as Reload does. Who
// watches hears when it begins and when it is done.
func (n *Node) ReloadFile() (err error) {
	n.events.send(Event{Time: time.Now(), Kind: EventReloading})
	defer func() {
		done := Event{Time: time.Now(), Kind: EventReloaded}
		if err != nil {
			done.Text = err.Error()
			done.Err, _ = errors.AsType[*Error](err)
		}
		n.events.send(done)
	}()
	if n.Load == nil {
		return &Error{Code: ike.CodeReload, What: "there is no file to read again", Why: "the configuration was made in the program", Hint: "call Reload"}
	}
	next, err := n.Load()
	if err == nil {
		err = n.Reload(next)
	}
	if faults, ok := errors.AsType[config.Errors](err); ok {
		return &Error{
			Code: ike.CodeReload, What: fmt.Sprintf("nothing was changed: the file has %d faults", len(faults)),
			Why: faults[0].Error(), Hint: "mend them; `martlet check` lists them", Detail: err.Error(),
		}
	}
	return err
}

var errNotRunning = &Error{
	Code: ike.CodeTerminated, What: "the Node is not running", Hint: "call Start first",
}

// rearm keeps up, or waits for packets of, what now is to be so, and what was so no more not.
func (n *Node) rearm(before, next *config.Config) {
	for _, name := range slices.Sorted(maps.Keys(next.Connections)) {
		conn, old := next.Connections[name], before.Connections[name]
		if conn.Keep != config.KeepUp {
			n.letGo(name)
		}
		armed := n.isArmed(name)
		n.disarm(name)
		if n.Serve && (old == nil || old.Keep != conn.Keep) {
			n.keep(conn)
		}
		if armed || n.Serve {
			n.arm(conn)
		}
		n.kept(name) // its children may be others
	}
}

// transfer opens a connection whose peer is elsewhere now, and closes the SA that we have then.
func (n *Node) transfer(conn *config.Connection) {
	n.tasks.Go(func() {
		done, err := n.turn(n.ctx, conn.Name)
		if err != nil {
			return
		}
		defer done()
		remotes, err := n.resolve(n.ctx, conn)
		for _, remote := range remotes {
			// It may have been rekeyed meanwhile, or be gone.
			st, ok := n.established(conn.Name)
			if !ok || !st.Initiator {
				return
			}
			if err = n.try(n.ctx, conn, goal{remote: remote}, want{}, st.SA); err == nil {
				return
			}
		}
		n.log.Warn("the connection could not be opened at its new place; the one before stands", zap.String("conn", conn.Name), zap.Error(err))
	})
}
