package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// waiting is how many datagrams a flow keeps while it is being connected.
const waiting = 16

// flows is a UDP forward: each address that sends to a socket has a connected socket on the
// other side.
type flows struct {
	*serving
	from       net.PacketConn
	intoTunnel bool // from is on the host
	dial       func(context.Context) (net.Conn, error)

	mu    sync.Mutex
	table map[netip.AddrPort]*flow
}

type flow struct {
	client netip.AddrPort
	end    context.CancelFunc
	last   atomic.Int64 // when a datagram passed, in ns

	mu    sync.Mutex
	conn  net.Conn // nil while it is being connected
	early [][]byte
}

// serve forwards until stop is done; it closes the socket.
func (f *flows) serve() error {
	f.table = make(map[netip.AddrPort]*flow)
	defer closing(f.stop, f.from)()
	err := f.datagrams(f.from, 0, f.take)
	if f.stop.Err() != nil {
		err = f.stop.Err()
	}
	f.kill() // without the socket no flow is of use
	return err
}

// take sends one datagram on its way.
func (f *flows) take(b []byte, client netip.AddrPort) {
	f.mu.Lock()
	one := f.table[client]
	if one == nil {
		one = f.add(client)
	}
	f.mu.Unlock()
	one.last.Store(time.Now().UnixNano())
	one.mu.Lock()
	conn := one.conn
	kept := conn == nil && len(one.early) < waiting
	if kept {
		one.early = append(one.early, append([]byte(nil), b...))
	}
	one.mu.Unlock()
	if conn != nil {
		f.send(conn, b)
	} else if !kept {
		f.Counters.dropped.Add(1)
	}
}

func (f *flows) send(conn net.Conn, b []byte) {
	if _, err := conn.Write(b); err != nil {
		f.Counters.dropped.Add(1)
		return
	}
	f.Counters.datagram(f.intoTunnel, len(b))
}

// add makes a flow, and room for it. The caller holds mu.
func (f *flows) add(client netip.AddrPort) *flow {
	if len(f.table) >= f.Limits.flows() {
		var oldest *flow
		for _, one := range f.table {
			if oldest == nil || one.last.Load() < oldest.last.Load() {
				oldest = one
			}
		}
		oldest.end()
		delete(f.table, oldest.client)
		f.Counters.fail(Crowded)
	}
	one := &flow{client: client}
	one.last.Store(time.Now().UnixNano())
	var ctx context.Context
	ctx, one.end = context.WithCancel(f.live)
	f.table[client] = one
	f.tasks.Go(func() {
		defer f.Counters.enter()()
		defer one.end()
		f.run(ctx, one)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.table[client] == one {
			delete(f.table, client)
		}
	})
	return one
}

// run connects a flow and carries what comes back, until it is idle.
func (f *flows) run(ctx context.Context, one *flow) {
	conn, err := f.dial(ctx)
	if err != nil {
		return
	}
	defer closing(ctx, conn)()
	one.mu.Lock()
	for _, b := range one.early {
		f.send(conn, b)
	}
	one.conn, one.early = conn, nil
	one.mu.Unlock()

	var (
		idle   = f.Limits.udpIdle()
		client = net.UDPAddrFromAddrPort(one.client)
		buf    = make([]byte, usualDatagram)
	)
	for troubles := 0; ; {
		last := time.Unix(0, one.last.Load())
		if idle < forever {
			if time.Since(last) >= idle {
				return
			}
			conn.SetReadDeadline(last.Add(idle))
		}
		for {
			n, err := conn.Read(buf)
			whole := err == nil && n < len(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				// A port that is not open now may be later: ECONNREFUSED is not the end.
				if troubles++; errors.Is(err, net.ErrClosed) || troubles > mostTroubles {
					return
				}
			}
			if cut(n, buf, err) {
				buf = make([]byte, longestDatagram)
			}
			if !whole {
				f.Counters.dropped.Add(1)
				continue
			}
			troubles = 0
			one.last.Store(time.Now().UnixNano())
			if _, err := f.from.WriteTo(buf[:n], client); err != nil {
				f.Counters.dropped.Add(1)
				continue
			}
			f.Counters.datagram(!f.intoTunnel, n)
		}
	}
}
