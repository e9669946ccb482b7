package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of buffers in octets. A direction in which nothing moves holds a small one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

const (
	// quiet is how long a direction keeps its large buffer when nothing comes.
	quiet = time.Second
	// halfClosed is how long a connection that one side has ended may be without an octet.
	halfClosed = time.Hour
)

// largeBuffers is a pool, which holds nothing that is not memory.
var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// relaying is one relayed connection.
type relaying struct {
	host, tunnel net.Conn
	moved        atomic.Uint64

	mu    sync.Mutex
	limit time.Duration // without an octet
	seen  uint64        // moved, when the timer was set
	timer *time.Timer
	over  bool
}

// relay carries octets between a connection of the host and one inside the tunnel, both
// ways, until both sides have ended, one has failed, neither has sent for
// longer than idle, or ctx is done. The end of one direction is passed on as such, and the
// failure of one is a reset of the other where the connection knows that. Both are
// closed when it returns.
func relay(ctx context.Context, host, tunnel net.Conn, idle time.Duration, c *Counters) {
	defer closing(ctx, host)()
	defer closing(ctx, tunnel)()
	r := &relaying{host: host, tunnel: tunnel, limit: idle}
	if idle < forever {
		r.arm()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.carry(tunnel, host, &c.sent)
	}()
	r.carry(host, tunnel, &c.received)
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (r *relaying) carry(to, from net.Conn, total *atomic.Uint64) {
	err := copyConn(to, from, func(n int) {
		r.moved.Add(uint64(n))
		total.Add(uint64(n))
	})
	if err != nil {
		r.abort()
		return
	}
	half, ok := to.(interface{ CloseWrite() error })
	if !ok {
		to.Close() // it has no other way to say that this is the end
		return
	}
	half.CloseWrite()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit = min(r.limit, halfClosed)
	if r.timer == nil {
		r.arm()
	}
}

// arm has check called after the limit. The caller holds mu, or is alone.
func (r *relaying) arm() { r.timer = time.AfterFunc(r.limit, r.check) }

// check ends the connection if nothing has moved for the limit.
func (r *relaying) check() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.moved.Load()
	switch {
	case r.over:
	case now == r.seen:
		r.abort()
	default:
		r.seen = now
		r.timer.Reset(r.limit)
	}
}

func (r *relaying) abort() {
	abort(r.host)
	abort(r.tunnel)
}

// abort closes a connection by a reset if it can, so that nobody takes what came for the whole.
func abort(conn net.Conn) {
	if l, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		l.SetLinger(0)
	}
	conn.Close()
}

// copyConn copies until from ends, which is no error, and calls moved for each piece.
//
// A connection that can write itself elsewhere, or fill itself, does so: one of a stack in
// this process then needs no buffer of ours. The methods of that kind of *net.TCPConn are not
// used: they hold 32 KiB all the time, or two pipes for splice.
func copyConn(to, from net.Conn, moved func(int)) error {
	if w, ok := from.(io.WriterTo); ok && !isTCP(from) {
		_, err := w.WriteTo(writerFunc(func(b []byte) (int, error) {
			n, err := to.Write(b)
			moved(n)
			return n, err
		}))
		return err
	}
	if r, ok := to.(io.ReaderFrom); ok && !isTCP(to) {
		_, err := r.ReadFrom(readerFunc(func(b []byte) (int, error) {
			n, err := from.Read(b)
			moved(n)
			return n, err
		}))
		return err
	}
	return copyLean(to, from, moved)
}

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

type (
	writerFunc func([]byte) (int, error)
	readerFunc func([]byte) (int, error)
)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
func (f readerFunc) Read(b []byte) (int, error)  { return f(b) }

// copyLean takes a large buffer when a small one was filled, and gives it back when nothing
// came for a while. It uses the read deadline of from for that.
func copyLean(to, from net.Conn, moved func(int)) error {
	var (
		small = make([]byte, smallBuffer)
		buf   = small
		large *[largeBuffer]byte
		until time.Time // deadline that is set, while large is not nil
	)
	defer func() {
		if large != nil {
			largeBuffers.Put(large)
		}
	}()
	for {
		if large != nil {
			// Setting a deadline costs; half the time is near enough.
			if now := time.Now(); until.Sub(now) < quiet/2 {
				until = now.Add(quiet)
				from.SetReadDeadline(until)
			}
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			moved(n)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && large != nil:
			largeBuffers.Put(large)
			large, buf = nil, small
			until = time.Time{}
			from.SetReadDeadline(until)
			continue
		default:
			return err
		}
		if n == len(small) && large == nil {
			large = largeBuffers.Get().(*[largeBuffer]byte)
			buf = large[:]
		}
	}
}
