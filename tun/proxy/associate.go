package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// datagramHeader is that of SOCKS5, before an address that is not a name.
const datagramHeader = 3 + longestIPAddress

const (
	lookupsAtOnce = 8                // of names, for each association
	namesKept     = 64               // the same
	nameKept      = 30 * time.Second // without knowledge of its TTL
)

// association is one UDP ASSOCIATE: a socket on the host for the client, and one in the
// tunnel for all destinations. It lives no longer than the client's TCP connection.
// RFC 1928 §7
type association struct {
	*socksClient
	outer  net.PacketConn // towards the client
	inner  net.PacketConn // towards the tunnel
	client netip.Addr
	// port is that of the client: announced, or 0 until its first datagram.
	port   atomic.Uint32
	last   atomic.Int64 // when a datagram passed, in ns
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	names   map[string]resolved
	looking int
}

type resolved struct {
	addr  netip.Addr
	until time.Time
}

// associate is the command UDP ASSOCIATE.
func (c *socksClient) associate(announced destination) {
	if c.associations.Add(1) > int64(c.Limits.associations()) {
		c.associations.Add(-1)
		c.refuse(replyFailure, Crowded, announced)
		return
	}
	defer c.associations.Add(-1)
	local, remote := addrPort(c.conn.LocalAddr()), addrPort(c.conn.RemoteAddr())
	a := &association{socksClient: c, client: remote.Addr(), names: make(map[string]resolved)}
	a.port.Store(uint32(announced.port))
	var err error
	if a.outer, err = (&net.ListenConfig{}).ListenPacket(c.live, "udp", netip.AddrPortFrom(local.Addr(), 0).String()); err == nil {
		defer a.outer.Close()
		a.inner, err = c.listenInside()
	}
	if err != nil {
		c.refuse(replyFailure, classify(err), announced)
		return
	}
	a.ctx, a.cancel = context.WithCancel(c.live)
	defer a.cancel()
	defer closing(a.ctx, a.inner)()
	defer closing(a.ctx, a.outer)()
	if c.write(socksReply(replySucceeded, addrPort(a.outer.LocalAddr()))) != nil {
		return
	}
	a.run()
}

// run carries datagrams until the client's connection ends, or none came for too long.
func (a *association) run() {
	a.last.Store(time.Now().UnixNano())
	idle := a.Limits.udpIdle()
	if idle < forever {
		a.tasks.Go(func() { a.watch(idle) })
	}
	a.tasks.Go(func() { a.outward(); a.cancel() })
	a.tasks.Go(func() { a.inward(); a.cancel() })
	a.tasks.Go(func() {
		<-a.ctx.Done()
		a.conn.Close() // ends the copy below
	})
	// "A UDP association terminates when the TCP connection that the UDP ASSOCIATE request
	// arrived on terminates."
	var nothing [64]byte
	for {
		if _, err := a.conn.Read(nothing[:]); err != nil {
			break
		}
	}
	a.cancel()
	a.outer.Close()
	a.inner.Close()
	a.tasks.Wait()
}

// watch ends the association when it was idle.
func (a *association) watch(idle time.Duration) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-timer.C:
			left := idle - time.Since(time.Unix(0, a.last.Load()))
			if left <= 0 {
				a.cancel()
				return
			}
			timer.Reset(left)
		}
	}
}

func (a *association) drop() { a.Counters.dropped.Add(1) }

// outward carries datagrams of the client into the tunnel.
func (a *association) outward() {
	a.datagrams(a.outer, 0, func(b []byte, from netip.AddrPort) {
		// "It MUST drop any datagrams arriving from any source IP address other than the one
		// recorded for the particular association."
		if from.Addr() != a.client {
			a.drop()
			return
		}
		fragment, d, payload, err := parseDatagram(b)
		if err != nil || fragment != 0 || d.port == 0 || d.check() != nil {
			a.drop()
			return
		}
		if !a.port.CompareAndSwap(0, uint32(from.Port())) && a.port.Load() != uint32(from.Port()) {
			a.drop()
			return
		}
		a.last.Store(time.Now().UnixNano())
		if !d.addr.IsValid() {
			if d.addr = a.remembered(d.name); !d.addr.IsValid() {
				a.resolve(d, append([]byte(nil), payload...))
				return
			}
		}
		if !a.send(payload, netip.AddrPortFrom(d.addr, d.port)) {
			a.drop()
		}
	})
}

func (a *association) send(payload []byte, to netip.AddrPort) bool {
	if _, err := a.inner.WriteTo(payload, net.UDPAddrFromAddrPort(to)); err != nil {
		return false
	}
	a.Counters.datagram(true, len(payload))
	return true
}

func (a *association) remembered(name string) netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.names[name]; ok && time.Now().Before(r.until) {
		return r.addr
	}
	return netip.Addr{}
}

// resolve looks a name up inside the tunnel and sends the payload then.
func (a *association) resolve(d destination, payload []byte) {
	a.mu.Lock()
	busy := a.looking >= lookupsAtOnce
	if !busy {
		a.looking++
	}
	a.mu.Unlock()
	if busy {
		a.drop()
		return
	}
	a.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, a.Limits.dial())
		defer cancel()
		addrs, err := a.Network.LookupNetIP(ctx, "ip", d.name)
		if err != nil {
			a.failed(err, d.String())
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.looking--
		for _, addr := range addrs {
			addr = addr.Unmap().WithZone("")
			if outside(addr) || !a.send(payload, netip.AddrPortFrom(addr, d.port)) {
				continue
			}
			if len(a.names) >= namesKept {
				clear(a.names)
			}
			a.names[d.name] = resolved{addr, time.Now().Add(nameKept)}
			return
		}
		a.drop()
	})
}

// inward carries datagrams out of the tunnel to the client.
func (a *association) inward() {
	a.datagrams(a.inner, datagramHeader, func(b []byte, from netip.AddrPort) {
		port := uint16(a.port.Load())
		if port == 0 {
			a.drop() // nobody knows yet where to
			return
		}
		n := len(b) - datagramHeader
		// The header ends where the payload begins.
		var header [datagramHeader]byte
		h := appendAddress(header[:3], from)
		b = b[datagramHeader-len(h):]
		copy(b, h)
		if _, err := a.outer.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.client, port))); err != nil {
			a.drop()
			return
		}
		a.last.Store(time.Now().UnixNano())
		a.Counters.datagram(false, n)
	})
}
