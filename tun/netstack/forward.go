package netstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Forwarder gives those whose packets are written to a Stack the network that this process
// itself can reach: their TCP connections, UDP flows and ICMP echoes end in the stack and
// go on as ordinary sockets of the host. It ends with its Stack.
//
// Nothing here trusts a client: whatever one of them opens is bounded for it and in
// total, and what goes to a client is only what came from where it asked for.
type Forwarder struct {
	host     *Stack
	cfg      ForwardConfig
	mapped   map[netip.AddrPort]netip.AddrPort
	policy   atomic.Pointer[policy]
	start    time.Time
	blocks   pool
	incoming *tcp.Forwarder

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// A TCP connection is in sessions until both sides have closed; until it is established in pending
	// too, and then in leaving.
	sessions *ledger[stack.TransportEndpointID, *session]
	pending  *ledger[stack.TransportEndpointID, *session]
	leaving  *ledger[*session, *session]
	flows    *ledger[flowKey, *flow]
	echoes   *ledger[echoKey, *request]

	echo4, echo6 *echoSocket

	tcp, udp, echo counters
	refused        [reasons]atomic.Uint64
	dests          sync.Mutex // orders changes of policy
	descriptors    sync.Once  // their lack is told once
}

// NewForwarding makes a stack that forwards, as New makes one that does not. It takes every packet
// for itself, whatever its destination, and answers in the name of that; where it has a
// listener or a socket of its own, these come first. It cannot connect to itself.
func NewForwarding(mtu int, o Options, cfg ForwardConfig) (*Stack, *Forwarder, error) {
	// Not local: gVisor would take the sources of all packets for its own too.
	s, err := newStack(mtu, o, false)
	if err != nil {
		return nil, nil, err
	}
	cfg.Memory = cmp.Or(cfg.Memory, o.Memory)
	f, err := s.forward(cfg)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, f, nil
}

// forward begins to forward; nothing has come to the stack yet.
func (s *Stack) forward(cfg ForwardConfig) (*Forwarder, error) {
	f := &Forwarder{host: s, cfg: cfg.withDefaults(), mapped: map[netip.AddrPort]netip.AddrPort{}, start: time.Now()}
	for from, to := range cfg.Map {
		if !from.IsValid() || !to.IsValid() || from.Port() == 0 || to.Port() == 0 || to.Addr().IsUnspecified() || to.Addr().IsMulticast() {
			return nil, fmt.Errorf("netstack: map %s to %s: want an address and a port each", from, to)
		}
		f.mapped[plainPort(from)] = plainPort(to)
	}
	if err := f.SetDestinations(cfg.Destinations); err != nil {
		return nil, err
	}
	f.sessions = newLedger[stack.TransportEndpointID, *session](f.cfg.MaxTCP, f.cfg.MaxTCPEach)
	f.pending = newLedger[stack.TransportEndpointID, *session](f.cfg.MaxHandshakes, f.cfg.MaxHandshakesEach)
	f.leaving = newLedger[*session, *session](f.cfg.MaxTCP, f.cfg.MaxTCPEach)
	f.flows = newLedger[flowKey, *flow](f.cfg.MaxUDP, f.cfg.MaxUDPEach)
	f.echoes = newLedger[echoKey, *request](f.cfg.MaxEchoes, f.cfg.MaxEchoesEach)
	f.sessions.wg, f.flows.wg = &f.wg, &f.wg
	f.echo4, f.echo6 = newEchoSocket(f, false), newEchoSocket(f, true)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	// More than there may be handshakes: pending is what bounds them.
	f.incoming = tcp.NewForwarder(s.stack, 0, f.cfg.MaxHandshakes+1, f.serve)

	// Between ends with a tunnel between them nothing wanders about for four minutes, and a client
	// may want the port again.
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait); err != nil {
		return nil, fmt.Errorf("netstack: set %T: %s", wait, err)
	}
	if err := s.stack.SetSpoofing(nic, true); err != nil {
		return nil, fmt.Errorf("netstack: forward: %s", err)
	}
	if err := s.stack.SetPromiscuousMode(nic, true); err != nil {
		return nil, fmt.Errorf("netstack: forward: %s", err)
	}
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.takeSegment)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, f.takeDatagram)
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, f.takeEcho)
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, f.takeEcho)
	s.forwarder = f
	f.wg.Go(f.sweeper)
	return f, nil
}

const (
	timeWait = 5 * time.Second
	sweeping = 2 * time.Second
)

// SetDestinations changes where clients may go; connections that are open stay.
func (f *Forwarder) SetDestinations(d Destinations) error {
	f.dests.Lock()
	defer f.dests.Unlock()
	interfaces, err := f.cfg.Interfaces()
	if err != nil {
		return fmt.Errorf("netstack: forward: addresses of this host: %w", err)
	}
	f.policy.Store(newPolicy(d, interfaces))
	return nil
}

// refresh asks for the addresses of the host again. Where that fails the old ones stay.
func (f *Forwarder) refresh() {
	f.dests.Lock()
	defer f.dests.Unlock()
	if interfaces, err := f.cfg.Interfaces(); err == nil {
		f.policy.Store(newPolicy(f.policy.Load().Destinations, interfaces))
	}
}

// target is where a packet to dest goes.
func (f *Forwarder) target(dest netip.AddrPort) (netip.AddrPort, Reason) {
	if to, ok := f.mapped[dest]; ok {
		return to, Allowed
	}
	if dest.Addr().Is4In6() {
		return dest, Reserved // RFC 4291 §2.5.5.2 means it for programs, not for packets
	}
	if dest.Port() == 0 {
		return dest, Reserved
	}
	return dest, f.judge(dest.Addr())
}

// judge also knows the addresses of the stack itself.
func (f *Forwarder) judge(a netip.Addr) Reason {
	if f.isHost(a) {
		return Own
	}
	return f.policy.Load().judge(a)
}

func (f *Forwarder) isHost(a netip.Addr) bool {
	return slices.Contains(f.host.Addresses(), a.Unmap().WithZone(""))
}

// refuse counts what was turned away, and says whether nobody is to be told.
func (f *Forwarder) refuse(c *counters, why Reason) (silent bool) {
	c.refused.Add(1)
	f.refused[why].Add(1)
	return why.silent()
}

// dial connects to the target of dest, and judges what it really connected to.
func (f *Forwarder) dial(ctx context.Context, network string, dest, target netip.AddrPort) (net.Conn, Reason, error) {
	network += "6"
	if target.Addr().Is4() {
		network = network[:3] + "4"
	}
	conn, err := f.cfg.Dial(ctx, network, target.String())
	if err != nil {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			f.descriptors.Do(func() {
				f.cfg.Warn("netstack: this process has no more file descriptors for the connections of clients; raise its limit (ulimit -n), or lower how many may be open")
			})
		}
		return nil, Allowed, err
	}
	remote, local := addrPortOf(conn.RemoteAddr()), addrPortOf(conn.LocalAddr())
	if _, mapped := f.mapped[dest]; mapped && remote == target {
		return conn, Allowed, nil
	}
	why := f.judge(remote.Addr())
	// Who talks to himself has the same address at both ends, though no interface may list it.
	if why == Allowed && remote.Addr() == local.Addr() && !f.policy.Load().allows(remote.Addr(), remote.Addr().BitLen()) {
		why = Own
	}
	if why != Allowed {
		conn.Close()
		return nil, why, fmt.Errorf("netstack: %s is %s", remote, why)
	}
	return conn, Allowed, nil
}

// addrPortOf is invalid for what is not of TCP or UDP.
func addrPortOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return plainPort(a.AddrPort())
	}
	return netip.AddrPort{}
}

func plainPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// now is the time since the start, for comparisons.
func (f *Forwarder) now() time.Duration { return time.Since(f.start) }

// sweeper ends what nobody uses any more.
func (f *Forwarder) sweeper() {
	tick := time.NewTicker(sweeping)
	defer tick.Stop()
	asked := time.Duration(0)
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-tick.C:
		}
		now := f.now()
		if now-asked >= f.cfg.hostsAddresses {
			f.refresh()
			asked = now
		}
		f.sweep(now)
	}
}

func (f *Forwarder) sweep(now time.Duration) {
	f.sweepSessions(now)
	f.sweepFlows(now)
	f.sweepEchoes(now)
}

// Drop ends all that a client has open, as its address goes to another.
func (f *Forwarder) Drop(client netip.Addr) {
	client = client.Unmap().WithZone("")
	for _, c := range slices.Concat(f.sessions.of(client), f.leaving.of(client)) {
		c.abort()
	}
	for _, w := range f.flows.of(client) {
		w.end()
	}
	for _, r := range f.echoes.of(client) {
		f.echoes.remove(r.key, r)
	}
}

// stop takes nothing more and lets go whoever waits; the stack must not be closed
// before, and wait be called after that.
func (f *Forwarder) stop() {
	f.cancel()
	for _, c := range slices.Concat(f.sessions.all(true), f.leaving.all(true)) {
		c.abort()
	}
	f.pending.all(true)
	for _, w := range f.flows.all(true) {
		w.end()
	}
	f.echoes.all(true)
	f.echo4.close()
	f.echo6.close()
}

func (f *Forwarder) wait() {
	done := make(chan struct{})
	go func() {
		f.wg.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-time.After(20 * time.Millisecond):
			// gVisor registers who waits for a handshake and then begins it; who was told to stop
			// in between did not hear it.
			for _, c := range f.sessions.all(true) {
				c.abort()
			}
		}
	}
}
