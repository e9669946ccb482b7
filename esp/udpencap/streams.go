package udpencap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Streams is a Socket that has all TCP streams of a node (RFC 9329), those that it opened and
// those that peers opened to it.
//
// Nothing of it blocks for long: what a stream cannot take at once waits in a bounded
// queue, and when that is full ESP is dropped. Strangers are streams on which nobody has
// proven yet who he is: Hold makes an acquaintance of one. They are limited in number and in
// time, so that who opens streams and says nothing, or says it slowly, keeps nobody out
// for long.
type Streams struct {
	// Network opens the connections; nil is the operating system's.
	Network StreamNetwork
	// Closed, if not nil, is called when a stream that we opened is gone, once for each.
	Closed func(local, remote netip.AddrPort)
	// MaxStreams, MaxStrangers and MaxSource bound the streams that peers opened: all of
	// them, the strangers, and the strangers of one source (/32 or /64). Zero means
	// 20000, 1000 and 100.
	MaxStreams, MaxStrangers, MaxSource int

	counters counters
	ready    chan *stream // with whole messages, for Read
	current  *stream      // that Read is at
	done     chan struct{}
	tasks    sync.WaitGroup

	mu        sync.RWMutex
	of        map[streamID]*stream
	listening []net.Listener
	accepted  int
	strangers int
	sources   map[netip.Prefix]int // strangers
	closed    bool
}

var _ Socket = (*Streams)(nil)

// streamBatch is the messages that are worth reading at once.
const streamBatch = 64

// streamID is the two ends of a stream.
type streamID struct{ local, remote netip.AddrPort }

// How long streams may take. Strangers have the time that a person needs to type a
// password at EAP.
const (
	prefixWithin   = 10 * time.Second  // for the first octets
	messageWithin  = 20 * time.Second  // for a message that has begun
	strangerWithin = 200 * time.Second // until somebody has proven who he is
	unusedWithin   = 10 * time.Second  // that a stream stands when no SA uses it any more
	writeWithin    = 30 * time.Second  // for what waits to be taken by the system
	closeWithin    = time.Second       // for the same when the node ends
	acceptPause    = 100 * time.Millisecond
)

// NewStreams makes the socket, without any stream. The fields may be set before the first
// Listen or Dial.
func NewStreams() *Streams {
	return &Streams{
		ready:   make(chan *stream),
		done:    make(chan struct{}),
		of:      map[streamID]*stream{},
		sources: map[netip.Prefix]int{},
	}
}

var (
	errClosed   = fmt.Errorf("udpencap: streams: %w", net.ErrClosed)
	errNoStream = errors.New("udpencap: write: no such stream")
	errFull     = errors.New("udpencap: write: the stream does not take more")
	errTooLong  = errors.New("udpencap: write: the message is too long for a stream")
)

func (s *Streams) network() StreamNetwork {
	if s.Network == nil {
		return &TCP{}
	}
	return s.Network
}

// Listen lets peers open streams to a local address from now on. It returns the address,
// with the port that the system chose where local had none.
func (s *Streams) Listen(local netip.AddrPort) (netip.AddrPort, error) {
	l, err := s.network().ListenStream(local)
	if err != nil {
		return netip.AddrPort{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return netip.AddrPort{}, errClosed
	}
	s.listening = append(s.listening, l)
	s.tasks.Go(func() { s.accept(l) })
	return addrPortOf(l.Addr()), nil
}

// Dial opens a stream, and returns its local address. Only who began an IKE SA opens streams
// for it (RFC 9329 §6.1).
func (s *Streams) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (netip.AddrPort, error) {
	conn, err := s.network().DialStream(ctx, local, remote)
	if err != nil {
		return netip.AddrPort{}, err
	}
	st := newStream(conn, true)
	if !s.admit(st) {
		conn.Close()
		return netip.AddrPort{}, errClosed
	}
	return st.id.local, nil
}

func (s *Streams) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !s.pause(acceptPause) {
				return
			}
			continue // out of file descriptors, or a peer that went away
		}
		if !s.admit(newStream(conn, false)) {
			conn.Close()
		}
	}
}

// pause lets time go by, and tells whether to go on.
func (s *Streams) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.done:
		return false
	case <-t.C:
		return true
	}
}

// admit takes a stream in, if there is room.
func (s *Streams) admit(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.of[st.id]; used || s.closed {
		return false
	}
	if !st.dialed {
		if s.accepted >= cmp.Or(s.MaxStreams, 20000) ||
			s.strangers >= cmp.Or(s.MaxStrangers, 1000) ||
			s.sources[st.source] >= cmp.Or(s.MaxSource, 100) {
			return false
		}
		s.accepted++
		s.strangers++
		s.sources[st.source]++
		st.stranger = true
	}
	s.of[st.id] = st
	st.expire(time.Now().Add(strangerWithin))
	s.tasks.Go(func() { s.receive(st) })
	s.tasks.Go(st.transmit)
	return true
}

// known ends a stream's time as a stranger. The caller holds mu.
func (s *Streams) known(st *stream) {
	if !st.stranger {
		return
	}
	st.stranger = false
	s.strangers--
	if s.sources[st.source]--; s.sources[st.source] == 0 {
		delete(s.sources, st.source)
	}
}

// Hold says that an SA whose peer has proven who it is uses a stream from now on. Each Hold
// is ended by a Release.
func (s *Streams) Hold(local, remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[streamID{unmap(local), unmap(remote)}]; st != nil {
		s.known(st)
		st.users++
		st.expire(time.Time{})
	}
}

// Release says that an SA does not use a stream any more. When none does it is closed, after
// some seconds, in which what is on its way can arrive. Of a stream that nobody holds it
// says that none is going to.
func (s *Streams) Release(local, remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[streamID{unmap(local), unmap(remote)}]
	if st == nil {
		return
	}
	if st.users = max(0, st.users-1); st.users == 0 {
		st.expire(time.Now().Add(unusedWithin))
	}
}

// drop forgets a stream that has ended.
func (s *Streams) drop(st *stream) {
	st.end()
	s.mu.Lock()
	delete(s.of, st.id)
	s.known(st)
	if !st.dialed {
		s.accepted--
	}
	s.mu.Unlock()
	if s.Closed != nil && st.dialed {
		s.Closed(st.id.local, st.id.remote)
	}
}

// LocalAddr is invalid: each stream has its own.
func (s *Streams) LocalAddr() netip.AddrPort { return netip.AddrPort{} }

// Listening are the addresses on which peers can open streams.
func (s *Streams) Listening() []netip.AddrPort {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []netip.AddrPort
	for _, l := range s.listening {
		out = append(out, addrPortOf(l.Addr()))
	}
	return out
}

// Encap is true: RFC 9329 §3.1 has the non-ESP marker on streams too.
func (s *Streams) Encap() bool { return true }

// Stream is true.
func (s *Streams) Stream() bool { return true }

// Readers is the socket itself.
func (s *Streams) Readers() []Reader { return []Reader{s} }

// Batch is how many messages a stream may well have ready.
func (s *Streams) Batch() int { return streamBatch }

// Counters is what all streams have met so far.
func (s *Streams) Counters() Counters { return s.counters.snapshot() }

// Read returns messages of one stream, and waits for the first.
func (s *Streams) Read(packets []Packet) (int, error) {
	for len(packets) > 0 {
		if s.current == nil {
			select {
			case s.current = <-s.ready:
			case <-s.done:
				return 0, errClosed
			}
		}
		n, malformed := s.current.take(packets)
		s.counters.received.Add(uint64(n))
		s.counters.malformed.Add(uint64(malformed))
		if n > 0 {
			return n, nil
		}
		// All is taken, and was used: the next Read says so.
		s.current.resume <- struct{}{}
		s.current = nil
	}
	return 0, nil
}

// ReadMore is 0: Read takes all that a stream has.
func (s *Streams) ReadMore([]Packet) (int, error) { return 0, nil }

// receive reads a stream until it ends.
func (s *Streams) receive(st *stream) {
	defer s.drop(st)
	if !st.dialed && !st.readPrefix() {
		s.counters.malformed.Add(1)
		return
	}
	for st.fill() {
		select {
		case s.ready <- st:
		case <-st.ended:
			return
		}
		select {
		case <-st.resume:
		case <-st.ended:
			return
		}
	}
}

// Write queues each packet on the stream between its addresses. What does not fit is lost,
// as on UDP; an IKE message that does not fit ends the stream, since the peer has taken
// nothing for long.
func (s *Streams) Write(packets []Packet) (int, error) {
	var st *stream
	for i := range packets {
		p := &packets[i]
		if id := (streamID{unmap(p.Local), unmap(p.Remote)}); st == nil || st.id != id {
			s.mu.RLock()
			st = s.of[id]
			closed := s.closed
			s.mu.RUnlock()
			switch {
			case closed:
				return i, errClosed
			case st == nil:
				return i, errNoStream
			}
		}
		part := *p
		part.Segment = 0
		for part.Data = range p.Datagrams() {
			if err := st.queue(&part); err != nil {
				return i, err
			}
			s.counters.sent.Add(1)
		}
	}
	return len(packets), nil
}

// Close ends all streams, after what waits in their queues was sent or a second is over.
func (s *Streams) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	listening := s.listening
	for _, st := range s.of {
		st.finish()
	}
	s.mu.Unlock()
	close(s.done)
	for _, l := range listening {
		l.Close()
	}
	s.tasks.Wait()
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return unmap(t.AddrPort())
	}
	return netip.AddrPort{}
}
