package aaa

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"layeh.com/radius"

	"martlet/crypto/suite"
)

// link is a socket to one port of one server. Every request under way has an identifier
// of its own, so that there are 256 at most; more wait.
type link struct {
	radius *RADIUS
	name   string // of the server
	to     netip.AddrPort
	secret suite.Secret
	free   chan byte // the identifiers that nobody uses, longest unused first

	mu      sync.Mutex
	conn    net.Conn // nil until it is needed
	closed  bool
	dead    time.Time // left alone until then: the server was silent
	pending [256]*pending
}

// pending is a request that waits for its answer.
type pending struct {
	code  radius.Code
	nonce [16]byte
	reply chan *reply // has room for one

	mu     sync.Mutex
	refuse error // why the last thing that came was not taken
}

// reply is a server's answer to a request whose authenticator was nonce.
type reply struct {
	*radius.Packet
	nonce [16]byte
	from  *server
}

func newLink(r *RADIUS, s Server, port uint16) *link {
	l := &link{radius: r, name: s.Name, to: netip.AddrPortFrom(s.Addr, port), secret: s.Secret, free: make(chan byte, 256)}
	for i := range 256 {
		l.free <- byte(i)
	}
	return l
}

// usable tells whether the server may be asked now.
func (l *link) usable(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead.IsZero() {
		return true
	}
	if now.Before(l.dead) {
		return false
	}
	l.dead = now.Add(l.radius.config.DeadTime)
	return true
}

func (l *link) alive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead.IsZero() {
		l.radius.log.Info("a RADIUS server answers again", zap.String("server", l.name), zap.Stringer("at", l.to))
	}
	l.dead = time.Time{}
}

func (l *link) silent(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead.IsZero() {
		l.radius.log.Warn("a RADIUS server does not answer", zap.String("server", l.name), zap.Stringer("at", l.to), zap.Error(err))
	}
	l.dead = time.Now().Add(l.radius.config.DeadTime)
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn != nil {
		_ = l.conn.Close() // nothing is lost with it
		l.conn = nil
	}
}

// exchange sends a request until it is answered, or often enough. The bytes are the same
// each time (RFC 2865 §2.5), so that the server knows a repetition.
func (l *link) exchange(ctx context.Context, request *radius.Packet) (*reply, error) {
	var id byte
	select {
	case id = <-l.free:
		defer func() { l.free <- id }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b, err := sealRequest(request, id)
	if err != nil {
		return nil, &unsendableError{err}
	}
	p := &pending{code: request.Code, nonce: request.Authenticator, reply: make(chan *reply, 1)}
	l.expect(id, p)
	defer l.expect(id, nil)

	wait := l.radius.config.Timeout
	for range l.radius.config.Tries {
		if err := l.send(ctx, b); err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			p.note(err)
		}
		// Up to a tenth earlier or later, so that many who wait do not come at once.
		timer := time.NewTimer(wait - wait/10 + rand.N(wait/5+1))
		select {
		case got := <-p.reply:
			timer.Stop()
			return got, nil
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-l.radius.ctx.Done():
			timer.Stop()
			return nil, net.ErrClosed
		case <-timer.C:
		}
		wait *= 2
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	return nil, errNothing
}

// unsendableError is of a request that cannot be written, since the peer's EAP packet is longer
// than RADIUS has room for. The server is not to blame.
type unsendableError struct{ error }

// errNothing also is what a wrong secret looks like: a server drops what it cannot verify.
var errNothing = errors.New("nothing came; it is down, does not know us as a client, or has another secret")

// note keeps why the request cannot be sent or an answer not be taken.
func (p *pending) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

func (l *link) expect(id byte, p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[id] = p
}

// send writes a packet, over a new socket where there is none.
func (l *link) send(ctx context.Context, b []byte) error {
	conn, err := l.open(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		l.drop(conn)
		return fmt.Errorf("an error of ours: %w", err)
	}
	return nil
}

func (l *link) open(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.conn != nil {
		return l.conn, nil
	}
	conn, err := l.radius.config.Dial(ctx, l.to)
	if err != nil {
		return nil, fmt.Errorf("an error of ours: %w", err)
	}
	l.conn = conn
	l.radius.tasks.Go(func() { l.receive(conn) })
	return conn, nil
}

// drop closes a socket that fails; the next request opens another.
func (l *link) drop(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		l.conn = nil
	}
	_ = conn.Close() // it failed already
}

// receive takes answers from a socket until that fails. The socket is connected, so that
// the system drops what others send.
func (l *link) receive(conn net.Conn) {
	defer l.drop(conn)
	buf := make([]byte, radius.MaxPacketLength)
	refused := 0
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, syscall.ECONNREFUSED) && refused < maxWaiting {
			// One for each packet that was sent, if nothing listens there.
			refused++
			l.refused()
			continue
		}
		if err != nil {
			return
		}
		refused = 0
		l.take(buf[:n])
	}
}

// refused notes that nobody listens, which anybody can pretend: the tries go on.
func (l *link) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pending {
		if p != nil {
			p.note(errRefused)
		}
	}
}

var errRefused = errors.New("nothing listens there")

// answers are the codes that answer a request's.
var answers = map[radius.Code][]radius.Code{
	radius.CodeAccessRequest:     {radius.CodeAccessAccept, radius.CodeAccessReject, radius.CodeAccessChallenge},
	radius.CodeAccountingRequest: {radius.CodeAccountingResponse},
}

// take hands an answer to the request that waits for it. What does not fit is dropped, and
// the request goes on waiting.
func (l *link) take(b []byte) {
	if len(b) < headerLen {
		return
	}
	l.mu.Lock()
	p := l.pending[b[1]]
	l.mu.Unlock()
	if p == nil {
		return
	}
	packet, err := openAnswer(slices.Clone(b), p.nonce, l.secret)
	if err == nil && !slices.Contains(answers[p.code], packet.Code) {
		err = errMalformed
	}
	if err != nil {
		p.note(err)
		return
	}
	select {
	case p.reply <- &reply{Packet: packet, nonce: p.nonce}:
	default: // a second answer
	}
}
