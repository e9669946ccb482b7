// Package proxy lets programs of the host use a tunnel without a device of it: a SOCKS5 and
// HTTP proxy, forwards of single ports in both directions, a relay for DNS, and a pipe
// between standard input and output and a connection. It knows nothing of IKE or ESP; the
// inside of the tunnel is a Network.
//
// What a client asks for is dialled by the Network and never by the host, and names are
// resolved by the Network too. The host is dialled in two places only, both named by whoever runs
// the proxy: the target of a Remote forward, and the resolvers of the host in a DNS.
//
// Every server has a method Serve that owns the listener it is given: it closes the listener when
// its context is done, and returns when everything that it started has ended. While the tunnel
// is away listeners stay up; a client waits, up to Limits.Dial, and is then told why.
package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Network is the inside of a tunnel. All methods may be called by anybody at any time. Errors
// are those of package net, so that errors.Is finds syscall.ECONNREFUSED and the like.
type Network interface {
	// DialContext connects to "host:port"; network is "tcp" or "udp". A host that is
	// a name is resolved inside the tunnel. It may wait for the tunnel until ctx is done. It
	// must not reach the loopback of the host, not by a name either.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen takes TCP connections that come through the tunnel; address is a literal address
	// and a port, and [::] means all inner addresses of both families.
	Listen(network, address string) (net.Listener, error)
	// ListenPacket takes and sends UDP datagrams inside the tunnel, by the rules of Listen;
	// port 0 takes a free one. Its addresses are of type *net.UDPAddr.
	ListenPacket(network, address string) (net.PacketConn, error)
	// LookupNetIP resolves a name inside the tunnel; network is "ip".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Resolvers are the name servers inside the tunnel, as they are now; a port of 0 means
	// 53. It may wait for the tunnel until ctx is done. The slice is the caller's.
	Resolvers(ctx context.Context) ([]netip.AddrPort, error)
}

// Options are what all servers of this package have in common. Only Network is needed.
type Options struct {
	Network  Network
	Limits   Limits
	Log      *zap.Logger // nil: none
	Counters *Counters   // nil: nobody counts; servers may share it
}

func (o *Options) log() *zap.Logger {
	if o.Log == nil {
		return zap.NewNop()
	}
	return o.Log.Named("proxy")
}

// defaulted is a copy in which nothing is missing.
func (o Options) defaulted() *Options {
	o.Log = o.log()
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	return &o
}

// Limits bound what clients can use up. Zero is the default, a negative value means no limit.
type Limits struct {
	Clients      int           // connections at the same time, of each listener: 1024
	Associations int           // of SOCKS5 UDP ASSOCIATE at the same time: 128
	Flows        int           // of a UDP forward: 512; the one that was idle longest makes room
	Queries      int           // of DNS at the same time: 512
	Handshake    time.Duration // for a SOCKS5 handshake, or the header of an HTTP request: 10 s
	Dial         time.Duration // to connect, and to wait for the tunnel: 30 s
	Query        time.Duration // for the answer to a DNS query, over all resolvers: 10 s
	Idle         time.Duration // of a TCP connection without an octet in either direction: none
	UDPIdle      time.Duration // of an association or flow without a datagram: 2 min
	// Drain is how long connections may go on when the context of Serve is done: not at all.
	Drain time.Duration
}

// forever stands for no limit of time.
const forever time.Duration = 1 << 62

func number(v, byDefault int) int {
	switch {
	case v == 0:
		return byDefault
	case v < 0:
		return math.MaxInt
	}
	return v
}

func span(v, byDefault time.Duration) time.Duration {
	switch {
	case v == 0:
		return byDefault
	case v < 0:
		return forever
	}
	return v
}

func (l *Limits) clients() int             { return number(l.Clients, 1024) }
func (l *Limits) associations() int        { return number(l.Associations, 128) }
func (l *Limits) flows() int               { return number(l.Flows, 512) }
func (l *Limits) queries() int             { return number(l.Queries, 512) }
func (l *Limits) handshake() time.Duration { return span(l.Handshake, 10*time.Second) }
func (l *Limits) dial() time.Duration      { return span(l.Dial, 30*time.Second) }
func (l *Limits) query() time.Duration     { return span(l.Query, 10*time.Second) }
func (l *Limits) idle() time.Duration      { return span(l.Idle, forever) }
func (l *Limits) udpIdle() time.Duration   { return span(l.UDPIdle, 2*time.Minute) }
func (l *Limits) drain() time.Duration     { return span(l.Drain, 0) }

// User is somebody who may use a Server.
type User struct{ Name, Password string }

// String keeps the password to itself.
func (u User) String() string { return u.Name + ":[redacted]" }

// GoString does the same for %#v.
func (u User) GoString() string { return "proxy.User{" + u.String() + "}" }

// known reports whether one of users has this name and password. It takes the same time
// whatever is wrong.
func known(users []User, name, password string) bool {
	digest := func(name, password string) [sha256.Size]byte {
		n, p := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
		return sha256.Sum256(append(n[:], p[:]...))
	}
	got, found := digest(name, password), 0
	for _, u := range users {
		want := digest(u.Name, u.Password)
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return found == 1
}

// dial connects inside the tunnel, within the limit of time, and counts failures.
func (o *Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Limits.dial())
	defer cancel()
	conn, err := o.Network.DialContext(ctx, network, address)
	if err != nil {
		o.failed(err, address)
		return nil, err
	}
	return conn, nil
}

// failed counts an error, and tells it to those who debug.
func (o *Options) failed(err error, address string) {
	kind := classify(err)
	o.Counters.fail(kind)
	o.Log.Debug("not connected", zap.String("to", address), zap.Stringer("kind", kind), zap.Error(err))
}
