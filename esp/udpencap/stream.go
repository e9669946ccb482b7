package udpencap

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// stream is one TCP connection. Two goroutines have it: receive of Streams, and transmit.
type stream struct {
	id     streamID
	conn   net.Conn
	dialed bool
	source netip.Prefix

	stranger bool // guarded by Streams.mu
	users    int  // SAs; guarded by Streams.mu

	// What was read belongs to receive, and between ready and resume to Read.
	buf         []byte
	start, stop int
	bad         bool
	resume      chan struct{}
	partial     bool      // a message has begun
	wholeBy     time.Time // when it must be whole

	ended chan struct{}
	once  sync.Once

	mu        sync.Mutex
	until     time.Time // when the stream ends; zero: not by itself
	waiting   []byte    // to be sent
	spare     []byte    // the other buffer; transmit's
	finishing bool
	wake      chan struct{} // full: there is something in waiting, or the stream is to finish
}

const (
	firstBuffer = 2 << 10
	fullBuffer  = 2 * maxFrame // so that a message behind a long one is read along
	// maxWaiting is the octets of ESP that wait in a queue. As much again may be on its way
	// to the system. A longer queue delays what is in the tunnel and helps nobody.
	maxWaiting = 128 << 10
	// maxWaitingIKE is the same for IKE.
	maxWaitingIKE = maxWaiting + 256<<10
	// keptBuffer is the octets that either buffer of a queue keeps when nothing waits, of which
	// there may be very many: enough for steady traffic, not for what a burst has left.
	keptBuffer = 32 << 10
)

func newStream(conn net.Conn, dialed bool) *stream {
	st := &stream{
		id:     streamID{addrPortOf(conn.LocalAddr()), addrPortOf(conn.RemoteAddr())},
		conn:   conn,
		dialed: dialed,
		buf:    make([]byte, firstBuffer),
		resume: make(chan struct{}, 1),
		ended:  make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	bits := 32
	if st.id.remote.Addr().Is6() {
		bits = 64
	}
	st.source, _ = st.id.remote.Addr().WithZone("").Prefix(bits)
	if dialed {
		st.waiting = append(st.waiting, streamPrefix...)
		st.wake <- struct{}{}
	}
	return st
}

// end closes the connection.
func (st *stream) end() {
	st.once.Do(func() {
		close(st.ended)
		st.conn.Close()
	})
}

// expire sets when the stream ends; the zero time is not by itself.
func (st *stream) expire(at time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.until = at
	st.arm()
}

// arm sets how long the connection is read. The caller holds mu: who sets the time last
// must have seen what the others set.
func (st *stream) arm() time.Time {
	at := st.until
	if st.partial && (at.IsZero() || st.wholeBy.Before(at)) {
		at = st.wholeBy
	}
	// An error is one of a connection that is closed, which Read tells too.
	_ = st.conn.SetReadDeadline(at)
	return at
}

// wait notes whether a message has begun and is to be whole in time, and arms the connection.
func (st *stream) wait(partial bool, within time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if partial && !st.partial {
		st.wholeBy = time.Now().Add(within)
	}
	st.partial = partial
	st.arm()
}

// late tells whether the time of the stream is over. A deadline that was met may be an old one.
func (st *stream) late() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	at := st.arm()
	return !at.IsZero() && !time.Now().Before(at)
}

// readPrefix tells whether the peer speaks of IKE at all.
func (st *stream) readPrefix() bool {
	st.wait(true, prefixWithin)
	var b [len(streamPrefix)]byte
	for n := 0; n < len(b); {
		m, err := st.conn.Read(b[n:])
		n += m
		if string(b[:n]) != streamPrefix[:n] || err != nil && !st.goesOn(err) {
			return false
		}
	}
	st.wait(false, 0)
	return true
}

// goesOn tells whether reading can go on after an error.
func (st *stream) goesOn(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !st.late()
}

// fill reads until there is a whole message, and reports false when the stream has ended.
func (st *stream) fill() bool {
	if st.bad {
		return false
	}
	st.makeRoom()
	for {
		data, _, err := cutFrame(st.buf[:st.stop])
		if err != nil {
			return true // take counts it
		}
		if data != nil {
			return true
		}
		st.makeRoom()
		st.wait(st.stop > 0, messageWithin)
		n, err := st.conn.Read(st.buf[st.stop:])
		st.stop += n
		if n == 0 && (err == nil || !st.goesOn(err)) {
			return false
		}
	}
}

// makeRoom moves what is left to the front, and makes a buffer larger that was full: there
// is a long message, or much to read. Who only says that a message is long gets no memory.
func (st *stream) makeRoom() {
	full := st.stop == len(st.buf)
	n := copy(st.buf, st.buf[st.start:st.stop])
	st.start, st.stop = 0, n
	if full && len(st.buf) < fullBuffer {
		buf := make([]byte, min(4*len(st.buf), fullBuffer))
		copy(buf, st.buf[:n])
		st.buf = buf
	}
}

// take cuts messages off what was read. One that is none of the kinds ends the stream
// behind those before it (RFC 9329 §3): from there on nothing can be made out any more.
func (st *stream) take(packets []Packet) (n, malformed int) {
	for n < len(packets) && !st.bad {
		data, size, err := cutFrame(st.buf[st.start:st.stop])
		if err == nil && data == nil {
			break
		}
		kind, data, ok := classify(data, true)
		if err != nil || !ok {
			st.bad = true
			return n, 1
		}
		st.start += size
		packets[n] = Packet{Kind: kind, Data: data, Local: st.id.local, Remote: st.id.remote}
		n++
	}
	return n, 0
}

// queue puts a packet behind what waits to be sent.
func (st *stream) queue(p *Packet) error {
	size, limit := frameLen(p), maxWaiting
	if size > maxFrame {
		return errTooLong
	}
	if p.Kind == IKE {
		limit = maxWaitingIKE
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.finishing:
		return errNoStream
	case len(st.waiting)+size > limit:
		if p.Kind == IKE {
			st.end()
		}
		return errFull
	}
	st.waiting = appendFrame(st.waiting, p)
	st.notify()
	return nil
}

func (st *stream) notify() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// finish lets the stream end when all that waits was sent.
func (st *stream) finish() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.finishing = true
	_ = st.conn.SetWriteDeadline(time.Now().Add(closeWithin))
	st.notify()
}

// next is what is to be sent, all of it; last says that nothing comes after. What was
// returned before belongs to the queue again.
func (st *stream) next() (b []byte, last bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.waiting, st.spare = st.spare[:0], st.waiting
	if !st.finishing {
		_ = st.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	}
	return st.spare, st.finishing
}

// sent says that what next returned is sent. When nothing waits behind it, buffers that a burst has
// made large are let go.
func (st *stream) sent() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.waiting) > 0 {
		return
	}
	if cap(st.waiting) > keptBuffer {
		st.waiting = nil
	}
	if cap(st.spare) > keptBuffer {
		st.spare = nil
	}
}

// transmit sends what is queued until the stream ends.
func (st *stream) transmit() {
	defer st.end()
	for {
		select {
		case <-st.wake:
		case <-st.ended:
			return
		}
		b, last := st.next()
		if len(b) > 0 {
			if _, err := st.conn.Write(b); err != nil {
				return
			}
			st.sent()
		}
		if last {
			return
		}
	}
}
