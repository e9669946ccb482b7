package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// serving is one call of a Serve: what it started, and until when that may go on.
type serving struct {
	*Options
	stop context.Context // is done when nothing new may begin
	live context.Context // is done when what has begun must end: Limits.Drain later
	kill context.CancelFunc

	tasks        sync.WaitGroup // added to by the goroutine of Serve and by tasks
	clients      atomic.Int64
	associations atomic.Int64
}

// begin starts a serving. Whoever calls it calls end, from the same goroutine.
func (o Options) begin(ctx context.Context) *serving {
	v := &serving{Options: o.defaulted(), stop: ctx}
	v.live, v.kill = context.WithCancel(context.WithoutCancel(ctx))
	return v
}

// end waits for all tasks; what has not ended by itself after Limits.Drain is ended.
func (v *serving) end() {
	if d := v.Limits.drain(); d > 0 {
		timer := time.AfterFunc(d, v.kill)
		defer timer.Stop()
	} else {
		v.kill()
	}
	v.tasks.Wait()
	v.kill()
}

// accept hands each connection to handle, in a goroutine of its own, until stop is done
// or the listener closed. Handle closes the connection; it is closed too when live is done.
// The listener is closed in the end.
func (v *serving) accept(l net.Listener, handle func(net.Conn)) error {
	unhook := context.AfterFunc(v.stop, func() { l.Close() })
	defer unhook()
	defer l.Close()
	for {
		conn, err := acceptOne(v.stop, l, v.Log)
		if err != nil {
			return err
		}
		if v.clients.Add(1) > int64(v.Limits.clients()) {
			v.clients.Add(-1)
			v.Counters.fail(Crowded)
			v.Log.Debug("too many clients", zap.Stringer("client", conn.RemoteAddr()))
			abort(conn)
			continue
		}
		v.tasks.Go(func() {
			defer v.clients.Add(-1)
			defer v.Counters.enter()()
			defer closing(v.live, conn)()
			handle(conn)
		})
	}
}

// acceptOne accepts a connection. It tries again, more and more slowly, while the listener
// says that it cannot, for want of descriptors for instance. It returns nil, and
// no connection, never: an error is that of stop, or that the listener is closed.
func acceptOne(stop context.Context, l net.Listener, log *zap.Logger) (net.Conn, error) {
	wait := patience{first: 5 * time.Millisecond, most: time.Second}
	for {
		conn, err := l.Accept()
		if err == nil {
			return conn, nil
		}
		if stop.Err() != nil {
			return nil, stop.Err()
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if wait.next == 0 {
			log.Warn("a listener does not accept, and is tried again", zap.Stringer("at", l.Addr()), zap.Error(err))
		}
		if !wait.pause(stop) {
			return nil, stop.Err()
		}
	}
}

// patience is a wait that doubles.
type patience struct{ first, most, next time.Duration }

// pause waits, and reports whether ctx is not done.
func (p *patience) pause(ctx context.Context) bool {
	p.next = min(max(p.first, 2*p.next), p.most)
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// closing closes conn when ctx is done, or when the function that it returns is called.
func closing(ctx context.Context, conn interface{ Close() error }) (now func()) {
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	return func() {
		unhook()
		conn.Close()
	}
}
