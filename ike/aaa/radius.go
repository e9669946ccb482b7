package aaa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"layeh.com/radius"

	"martlet/crypto/suite"
)

// Server is one RADIUS server.
type Server struct {
	Name   string
	Addr   netip.Addr
	Port   uint16 // of Access-Request; RFC 2865 says 1812
	Acct   uint16 // of Accounting-Request; RFC 2866 says 1813
	Secret suite.Secret
}

// RADIUSConfig is what a RADIUS client works by. It is not changed after NewRADIUS.
type RADIUSConfig struct {
	// Servers are asked in this order; the next one only when one is silent.
	Servers []Server
	// NASIdentifier is how we call ourselves.
	NASIdentifier string
	// Timeout is the wait before a request is repeated; each further one is twice as
	// long. After Tries transmissions the next server is asked.
	Timeout time.Duration
	Tries   int
	// DeadTime is how long a server that was silent is left alone while another answers.
	DeadTime time.Duration
	// Dial opens a datagram connection to a server; nil is the system's UDP.
	Dial func(ctx context.Context, server netip.AddrPort) (net.Conn, error)
	// Log may be nil.
	Log *zap.Logger
}

// RADIUS is a client of one or more RADIUS servers (RFC 2865 §1, RFC 2866 §1). It is safe
// for concurrent use.
type RADIUS struct {
	config  RADIUSConfig
	log     *zap.Logger
	servers []*server
	waiting atomic.Int64
	account accounting
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
}

// maxWaiting bounds the requests that wait for an answer; more are refused at once.
const maxWaiting = 1024

// The defaults of RADIUSConfig.
const (
	defaultTimeout  = time.Second
	defaultTries    = 3
	defaultDeadTime = 30 * time.Second
)

// server is a Server with the sockets to it.
type server struct {
	Server
	auth, acct *link
}

// NewRADIUS makes a client. Sockets are opened when they are needed.
func NewRADIUS(c RADIUSConfig) *RADIUS {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Tries <= 0 {
		c.Tries = defaultTries
	}
	if c.DeadTime <= 0 {
		c.DeadTime = defaultDeadTime
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", to.String())
		}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	r := &RADIUS{config: c, log: c.Log}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, s := range c.Servers {
		r.servers = append(r.servers, &server{
			Server: s,
			auth:   newLink(r, s, s.Port),
			acct:   newLink(r, s, s.Acct),
		})
	}
	r.account.start(r)
	return r
}

// Close waits until the accounting records that are queued have been delivered, or until
// ctx ends, and closes the sockets.
func (r *RADIUS) Close(ctx context.Context) {
	r.account.drain(ctx)
	r.cancel()
	for _, s := range r.servers {
		s.auth.close()
		s.acct.close()
	}
	r.tasks.Wait()
}

// SilentError says that no server gave an answer that counts.
type SilentError struct {
	// Tried has a line for each server that was asked: what came of it.
	Tried []string
}

// Error lists the servers.
func (e *SilentError) Error() string {
	return "aaa: no RADIUS server answers: " + strings.Join(e.Tried, "; ")
}

// errBusy is the error of a client that has too much to do.
var errBusy = fmt.Errorf("aaa: %d requests wait for RADIUS already", maxWaiting)

// port chooses which of a server's ports a request is for.
type port func(*server) *link

// exchange sends a request to the first server that answers. Pinned, if not nil, is the only
// one that may be asked (one that began a conversation, RFC 3579 §2.6.1 with State). Build
// makes the request, once for each server since each has its own secret.
func (r *RADIUS) exchange(ctx context.Context, pinned *server, to port, build func(suite.Secret) *radius.Packet) (*reply, error) {
	if r.waiting.Add(1) > maxWaiting {
		r.waiting.Add(-1)
		return nil, errBusy
	}
	defer r.waiting.Add(-1)
	order := []*server{pinned}
	if pinned == nil {
		order = r.order(to)
	}
	silent := &SilentError{}
	for _, s := range order {
		got, err := to(s).exchange(ctx, build(s.Secret))
		if err == nil {
			to(s).alive()
			got.from = s
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if ours := (*unsendableError)(nil); errors.As(err, &ours) || errors.Is(err, net.ErrClosed) && r.ctx.Err() != nil {
			return nil, err
		}
		to(s).silent(err)
		silent.Tried = append(silent.Tried, fmt.Sprintf("%s (%v): %v", s.Name, to(s).to, err))
	}
	return nil, silent
}

// order is the servers to ask: those that are not dead, else all. One whose dead time is over
// is tried by a single request; the others learn from that.
func (r *RADIUS) order(to port) []*server {
	var out []*server
	now := time.Now()
	for _, s := range r.servers {
		if to(s).usable(now) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return r.servers
	}
	return out
}
