package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// session is one TCP connection of a client. Its goroutine connects outside, then completes
// the client's handshake, then relays; the client never sees a connection that the
// destination did not take.
type session struct {
	f      *Forwarder
	id     stack.TransportEndpointID
	client netip.AddrPort
	dest   netip.AddrPort
	target netip.AddrPort
	quote  []byte // of the SYN

	ctx    context.Context // ends with it
	cancel context.CancelFunc
	queue  waiter.Queue // of the endpoint
	used   atomic.Int64 // since the start of the Forwarder
	halves atomic.Int32 // directions that have ended

	mu       sync.Mutex
	aborted  bool
	shaking  time.Duration // since when the client's handshake is waited for; 0: it is not
	outside  net.Conn
	endpoint tcpip.Endpoint
}

func (c *session) lastUse() time.Duration { return time.Duration(c.used.Load()) }
func (c *session) owner() netip.Addr      { return c.client.Addr() }
func (c *session) touch()                 { c.used.Store(int64(c.f.now())) }

// takeSegment gets the segments that belong to no connection, inside Stack.Write. What is
// not taken is reset.
func (f *Forwarder) takeSegment(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	// RFC 9293 §3.10.7.1: without a connection all but a SYN is reset.
	if flags := header.TCP(pkt.TransportHeader().Slice()).Flags(); flags&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return false
	}
	dest := netip.AddrPortFrom(addressOf(id.LocalAddress), id.LocalPort)
	target, why := f.target(dest)
	if why != Allowed {
		return f.refuse(&f.tcp, why)
	}
	c := &session{
		f: f, id: id, dest: dest, target: target, quote: quote(pkt),
		client: netip.AddrPortFrom(addressOf(id.RemoteAddress), id.RemotePort),
	}
	c.touch()
	if !f.answers(c.client.Addr()) {
		return true
	}
	// Where there is no room for one more handshake the client asks again; in a flood it is one of
	// many.
	if did := f.pending.admit(id, c); did != admitted {
		if did == full {
			f.tcp.full.Add(1)
		}
		return true
	}
	c.ctx, c.cancel = context.WithCancel(f.ctx)
	if did := f.sessions.admit(id, c); did != admitted {
		c.forgetPending()
		if did == full {
			f.tcp.full.Add(1)
		}
		return did != full
	}
	if !f.incoming.HandlePacket(id, pkt) { // goes on in serve
		c.leave()
		f.wg.Done()
		return false
	}
	return true
}

func (c *session) forgetPending() {
	c.f.pending.remove(c.id, c)
	if c.cancel != nil {
		c.cancel()
	}
}

// leave takes the session off all books.
func (c *session) leave() {
	c.forgetPending()
	c.f.sessions.remove(c.id, c)
	c.f.leaving.remove(c, c)
}

// serve is the life of a session, on a goroutine that gVisor starts.
func (f *Forwarder) serve(request *tcp.ForwarderRequest) {
	c, ok := f.sessions.get(request.ID())
	if !ok { // cannot be: takeSegment put it there, and it leaves below
		request.Complete(true)
		return
	}
	defer f.wg.Done()
	defer c.leave()
	if !c.open(request) {
		return
	}
	f.pending.remove(c.id, c)
	f.tcp.opened.Add(1)
	c.relay()
	c.linger()
	c.close()
}

// open connects both sides.
func (c *session) open(request *tcp.ForwarderRequest) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.f.cfg.DialTimeout)
	conn, why, err := c.f.dial(ctx, "tcp", c.dest, c.target)
	cancel()
	if err != nil {
		c.failed(why, err)
		request.Complete(true)
		return false
	}
	if !c.hold(conn) {
		request.Complete(true)
		return false
	}
	ep, terr := request.CreateEndpoint(&c.queue) // waits for the client
	request.Complete(false)
	if terr != nil {
		c.f.tcp.failed.Add(1)
		c.abort()
		return false
	}
	return c.attach(ep)
}

// failed counts, and says what is wrong before the reset does.
func (c *session) failed(why Reason, err error) {
	if why != Allowed {
		c.f.refuse(&c.f.tcp, why)
		return
	}
	c.f.tcp.failed.Add(1)
	if c.ctx.Err() != nil {
		return
	}
	// RFC 5461 §4.1: hosts differ in whether such an error ends an attempt; the reset that
	// follows does.
	if icmp, ok := unreachableBy(err); ok {
		c.f.reject(c.client.Addr(), c.dest.Addr(), icmp, c.quote)
	}
}

// unreachableBy finds the ICMP error that says what the host's socket says.
func unreachableBy(err error) (unreachable, bool) {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ENETUNREACH):
		return networkUnreachable, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return hostUnreachable, true
	case errors.Is(err, os.ErrPermission): // EACCES, EPERM: the host's packet filter
		return prohibited, true
	}
	return 0, false
}

// hold keeps the outside connection, unless the session was aborted meanwhile.
func (c *session) hold(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		conn.Close()
		return false
	}
	c.outside, c.shaking = conn, max(c.f.now(), 1)
	return true
}

// attach keeps the client's connection, likewise.
func (c *session) attach(ep tcpip.Endpoint) bool {
	idle, interval := tcpip.KeepaliveIdleOption(c.f.cfg.KeepAlive), tcpip.KeepaliveIntervalOption(probeInterval)
	ep.SocketOptions().SetKeepAlive(true)
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, probes)
	if size := c.f.share(c.f.sessions.len()); size < defaultSendBuffer {
		ep.SocketOptions().SetSendBufferSize(int64(size), true)
		ep.SocketOptions().SetReceiveBufferSize(int64(size), true)
	}
	c.touch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shaking = 0
	c.endpoint = ep
	if c.aborted {
		ep.Abort()
		ep.Close()
		return false
	}
	return true
}

// share is the size of either buffer of a connection when there are n. If it were not for the
// smallest, the sum over all that can be open, each of whatever size it got, would be about
// Memory: sum of 1/n is 8 for 2048.
func (f *Forwarder) share(n int) int {
	return max(f.cfg.Memory/(16*max(n, 1)), leastBuffer)
}

// abort ends it at once, with resets for both sides. Anybody may call it, also again.
func (c *session) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted && c.endpoint != nil {
		return
	}
	c.aborted = true
	c.cancel()
	if c.outside != nil {
		if conn, ok := c.outside.(interface{ SetLinger(seconds int) error }); ok {
			_ = conn.SetLinger(0)
		}
		c.outside.Close()
	}
	if c.endpoint != nil {
		c.endpoint.Abort()
		return
	}
	// Who waits for the handshake finds that there is none.
	c.queue.Notify(waiter.WritableEvents)
}

// close ends what has come to its end on both sides, or was aborted.
func (c *session) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	c.outside.Close()
	c.endpoint.Close()
}

// linger waits until the client has acknowledged all, so that what the stack still keeps
// for it counts; its time and its number are bounded.
func (c *session) linger() {
	if c.ctx.Err() != nil {
		return
	}
	entry, ended := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	c.touch()
	// First in one, then out of the other: Drop and stop find it.
	oldest, did := c.f.leaving.insert(c, c)
	if did == shut {
		c.abort()
		return
	}
	if oldest != nil {
		oldest.abort()
	}
	c.f.sessions.remove(c.id, c)
	for {
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateClose, tcp.StateError:
			return
		}
		select {
		case <-ended:
		case <-c.ctx.Done():
			return
		}
	}
}

func (f *Forwarder) sweepSessions(now time.Duration) {
	for _, c := range f.pending.all(false) {
		c.mu.Lock()
		late := c.shaking > 0 && now-c.shaking > f.cfg.handshake
		c.mu.Unlock()
		if late {
			c.abort()
		}
	}
	for _, c := range f.sessions.all(false) {
		limit := f.cfg.TCPIdle
		if c.halves.Load() > 0 {
			limit = f.cfg.TCPHalfClosed
		}
		if now-c.lastUse() > limit {
			f.tcp.idle.Add(1)
			c.abort()
		}
	}
	for _, c := range f.leaving.all(false) {
		if now-c.lastUse() > f.cfg.lingering {
			c.abort()
		}
	}
}
