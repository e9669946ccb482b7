package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

type flowKey struct{ client, dest netip.AddrPort }

// flow is the datagrams of a client from one port to one destination. They have one
// connected socket of the host, so that only that destination answers.
//
// RFC 4787 §5 REQ-8 asks for this filtering where strictness counts more than games: what a
// client may not reach must not reach it.
type flow struct {
	f      *Forwarder
	key    flowKey
	target netip.AddrPort
	quote  []byte          // of the first datagram
	ctx    context.Context // ends with it
	cancel context.CancelFunc
	used   atomic.Int64

	mu       sync.Mutex
	ended    bool
	conn     net.Conn // once it is connected
	queue    []*stack.PacketBuffer
	octets   int
	draining bool // somebody empties the queue
}

// What a flow keeps of datagrams that came before its socket was there, or too fast.
const (
	flowPackets = 64
	flowOctets  = 128 << 10
)

func (w *flow) lastUse() time.Duration { return time.Duration(w.used.Load()) }
func (w *flow) owner() netip.Addr      { return w.key.client.Addr() }
func (w *flow) touch()                 { w.used.Store(int64(w.f.now())) }

// takeDatagram gets the datagrams that belong to no socket of the stack, inside
// Stack.Write. Where it does not take one, the stack says that the port is unreachable.
func (f *Forwarder) takeDatagram(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	key := flowKey{
		client: netip.AddrPortFrom(addressOf(id.RemoteAddress), id.RemotePort),
		dest:   netip.AddrPortFrom(addressOf(id.LocalAddress), id.LocalPort),
	}
	w, ok := f.flows.get(key)
	if !ok {
		// RFC 768: who sends from port 0 waits for no answer; a flow is for those who do.
		if !f.answers(key.client.Addr()) || key.client.Port() == 0 {
			return true
		}
		target, why := f.target(key.dest)
		if why != Allowed {
			silent := f.refuse(&f.udp, why)
			if why == Own && f.isHost(key.dest.Addr()) {
				return false
			}
			if !silent {
				f.reject(key.client.Addr(), key.dest.Addr(), prohibited, quote(pkt))
			}
			return true
		}
		w = &flow{f: f, key: key, target: target, quote: quote(pkt)}
		w.touch()
		w.ctx, w.cancel = context.WithCancel(f.ctx)
		evicted, did := f.flows.insert(key, w)
		if evicted != nil {
			f.udp.full.Add(1)
			evicted.end()
		}
		if did != admitted {
			w.cancel()
			return true
		}
		f.udp.opened.Add(1)
		go w.run()
	}
	w.push(pkt)
	return true
}

// push queues a datagram, or drops it.
func (w *flow) push(pkt *stack.PacketBuffer) {
	// RFC 768: the length may be less than what IP carries.
	size := int(header.UDP(pkt.TransportHeader().Slice()).Length()) - header.UDPMinimumSize
	if size < 0 || size > pkt.Data().Size() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	if len(w.queue) >= flowPackets || w.octets+size > flowOctets {
		w.f.udp.dropped.Add(1)
		return
	}
	w.touch()
	pkt = pkt.Clone()
	pkt.Data().CapLength(size)
	w.queue = append(w.queue, pkt)
	w.octets += size
	if w.conn != nil && !w.draining {
		w.drain()
	}
}

// drain empties the queue on a goroutine of its own, which ends when it is empty. The
// caller has the lock.
func (w *flow) drain() {
	w.draining = true
	w.f.wg.Go(func() {
		for {
			w.mu.Lock()
			queue := w.queue
			w.queue, w.octets = nil, 0
			if len(queue) == 0 {
				w.draining = false
				w.mu.Unlock()
				return
			}
			w.mu.Unlock()
			for _, pkt := range queue {
				w.send(pkt)
				pkt.DecRef()
			}
		}
	})
}

// send hands a datagram to the destination.
func (w *flow) send(pkt *stack.PacketBuffer) {
	b, ok := pkt.Data().PullUp(pkt.Data().Size())
	if !ok && pkt.Data().Size() > 0 {
		return
	}
	w.f.udp.fromClients.Add(uint64(len(b)))
	_, err := w.conn.Write(b)
	if errors.Is(err, syscall.ECONNREFUSED) {
		// That is about an earlier one, and has kept this from being sent.
		w.complain(err)
		_, err = w.conn.Write(b)
	}
	if err != nil {
		w.complain(err)
	}
}

// run connects the flow, and carries what comes back until the flow ends.
func (w *flow) run() {
	defer w.f.wg.Done()
	defer w.end()
	conn, ok := w.connect()
	if !ok {
		return
	}
	r, terr := w.f.route(w.key.client.Addr(), w.key.dest.Addr())
	if terr != nil {
		return
	}
	defer r.Release()
	in := newReader(conn, &w.f.blocks)
	defer in.release()
	for {
		b, err := in.read()
		if err != nil {
			if !w.complain(err) {
				return
			}
			continue
		}
		w.touch()
		w.f.udp.toClients.Add(uint64(len(b)))
		_ = datagram(r, w.key.dest.Port(), w.key.client.Port(), b)
	}
}

// connect opens the socket outside.
func (w *flow) connect() (net.Conn, bool) {
	ctx, cancel := context.WithTimeout(w.ctx, w.f.cfg.DialTimeout)
	defer cancel()
	conn, why, err := w.f.dial(ctx, "udp", w.key.dest, w.target)
	switch {
	case why != Allowed:
		w.f.refuse(&w.f.udp, why)
		w.f.reject(w.key.client.Addr(), w.key.dest.Addr(), prohibited, w.quote)
		return nil, false
	case err != nil:
		if w.ctx.Err() == nil && !w.complain(err) {
			w.f.udp.failed.Add(1)
		}
		return nil, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		conn.Close()
		return nil, false
	}
	w.conn = conn
	if len(w.queue) > 0 {
		w.drain()
	}
	return conn, true
}

// end closes the flow. Anybody may call it, also again.
func (w *flow) end() {
	w.f.flows.remove(w.key, w)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.cancel()
	if w.conn != nil {
		w.conn.Close()
	}
	for _, pkt := range w.queue {
		pkt.DecRef()
	}
	w.queue, w.octets = nil, 0
}

// complain tells the client what the host's socket said, and whether the flow can go on.
//
// RFC 1122 §4.1.3.3: UDP passes ICMP errors on.
func (w *flow) complain(err error) bool {
	why := portUnreachable
	if !errors.Is(err, syscall.ECONNREFUSED) {
		var ok bool
		if why, ok = unreachableBy(err); !ok {
			return false
		}
	}
	w.f.udp.failed.Add(1)
	w.f.reject(w.key.client.Addr(), w.key.dest.Addr(), why, w.quote)
	return true
}

func (f *Forwarder) sweepFlows(now time.Duration) {
	for _, w := range f.flows.all(false) {
		limit := f.cfg.UDPIdle
		if w.key.dest.Port() == 53 {
			limit = f.cfg.DNSIdle
		}
		if now-w.lastUse() > limit {
			f.udp.idle.Add(1)
			w.end()
		}
	}
}
