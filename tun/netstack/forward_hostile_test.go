package netstack

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"martlet/tun"
)

func segment(from, to netip.AddrPort, flags header.TCPFlags) []byte {
	tcp := make(header.TCP, 20)
	tcp.Encode(&header.TCPFields{SrcPort: from.Port(), DstPort: to.Port(), SeqNum: 1000, AckNum: 1, DataOffset: 20, Flags: flags, WindowSize: 60000})
	return packetOf(from.Addr(), to.Addr(), 6, tcp)
}

func datagramOf(from, to netip.AddrPort, payload []byte) []byte {
	udp := append(make([]byte, 8), payload...)
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	return packetOf(from.Addr(), to.Addr(), 17, udp)
}

// discard reads what leaves a stack until it is closed; without a function for it.
func discard(t testing.TB, s *Stack, see func([]byte)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		frames := make([]tun.Frame, batch)
		for {
			n, err := s.Read(frames)
			if err != nil {
				return
			}
			for _, f := range frames[:n] {
				if see != nil {
					see(f.Pieces[0])
				}
			}
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
}

// Each refused range by packets of each kind: resets, ICMP errors or nothing, and no dial.
func TestForwardRefuses(t *testing.T) {
	cfg, _ := echoing()
	cfg.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
		t.Errorf("dialled %s %s", network, address)
		return nil, syscall.EACCES
	}
	cfg.ListenEcho = func(network string) (net.PacketConn, error) {
		t.Errorf("opened %s", network)
		return nil, syscall.EACCES
	}
	pool := netip.MustParsePrefix("10.9.0.0/24")
	cfg.Destinations = Destinations{Allow: prefixes("192.0.2.99/32"), Pools: []netip.Prefix{pool, netip.MustParsePrefix("fd00:9::/64")}}
	own := netip.MustParsePrefix("93.184.215.14/24")
	cfg.Interfaces = func() ([]netip.Prefix, error) { return []netip.Prefix{own}, nil }
	table := append([]struct {
		addrs string
		why   Reason
	}{
		{"10.9.0.77", Pool}, {"fd00:9::77", Pool}, {"93.184.215.14", Own}, {"93.184.215.255", Broadcast},
	}, refusedAlways...)
	for _, test := range table {
		to := netip.MustParseAddr(test.addrs).WithZone("")
		s := gateway(t, cfg)
		from := clientAddrs[0]
		if to.Is6() {
			from = clientAddrs[1]
		}
		// gVisor itself drops some of what cannot be, in silence.
		dropped := test.why.silent() || to.IsLoopback() || to.Is4In6()
		want := test.why
		if to.Is4In6() {
			want = Reserved
		}
		src := netip.AddrPortFrom(from, 5000)
		before := answers(t, s)
		if len(before) > 0 {
			t.Errorf("%s: %q before anything", to, before)
		}
		for i, packet := range [][]byte{
			segment(src, netip.AddrPortFrom(to, 80), header.TCPFlagSyn),
			datagramOf(src, netip.AddrPortFrom(to, 80), []byte("x")),
			echoOf(from, to, 1, 1, []byte("x")),
		} {
			enter(t, s, packet)
			got := answers(t, s)
			admin := "icmp 3/13"
			if to.Is6() {
				admin = "icmp 1/1"
			}
			expect := []string{"reset", admin, admin}[i]
			if dropped {
				expect = ""
			}
			if got != expect {
				t.Errorf("%s (%s), packet %d: got %q, want %q", to, test.why, i, got, expect)
			}
		}
		st := s.forwarder.Status()
		n := st.Refused[want]
		if n != 3 && !dropped || st.TCP.Refused+st.UDP.Refused+st.Echo.Refused != n || st.TCP.Opened+st.UDP.Opened+st.Echo.Opened != 0 {
			t.Errorf("%s (%s): %+v", to, want, st)
		}
		s.Close()
	}
}

// answers is what waits to be read from a stack, if it is one packet or none.
func answers(t testing.TB, s *Stack) string {
	t.Helper()
	frames := make([]tun.Frame, batch)
	n, err := s.TryRead(frames)
	if err != nil || n > 1 {
		t.Fatal(n, err)
	}
	if n == 0 {
		return ""
	}
	var w watch
	w.carry(false, frames[0].Pieces[0])
	if len(w.seen) != 1 {
		t.Errorf("what is %x?", frames[0].Pieces[0])
		return "?"
	}
	return w.seen[0]
}

// A flood of SYNs, from clients that never go on, is bounded for each and in total; those
// who wait for their destination and those whose client is silent alike.
func TestForwardFlood(t *testing.T) {
	const total, each = 30, 8
	w := newWorld()
	w.serve(t, publicHosts[0], func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	for _, answering := range []bool{false, true} {
		var dials, now, most atomic.Int64
		s := gateway(t, ForwardConfig{MaxHandshakes: total, MaxHandshakesEach: each, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			if answering {
				return w.dial(ctx, network, address)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		discard(t, s, nil)
		f := s.forwarder
		to := netip.MustParseAddrPort(publicHosts[0])
		for c := range 10 {
			from := netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + c)})
			for port := range 200 {
				enter(t, s, segment(netip.AddrPortFrom(from, uint16(1000+port)), to, header.TCPFlagSyn))
				if n := len(f.pending.of(from)); n > each || f.pending.len() > total {
					t.Fatalf("%d of one client, %d in all", n, f.pending.len())
				}
			}
		}
		if st := f.Status().TCP; st.Waiting != total || st.Open != 0 || st.Full != 10*200-total || most.Load() > total {
			t.Errorf("%+v, %d at once", st, most.Load())
		}
		until(t, "all are dialled", func() bool { return dials.Load() == total })
		if answering {
			until(t, "all wait for their clients", func() bool {
				shaking := 0
				for _, c := range f.pending.all(false) {
					c.mu.Lock()
					if c.shaking > 0 {
						shaking++
					}
					c.mu.Unlock()
				}
				return shaking == total
			})
			f.sweep(f.now() + f.cfg.handshake/2)
			if st := f.Status().TCP; st.Waiting != total {
				t.Errorf("%+v", st)
			}
			until(t, "none waits", func() bool {
				f.sweep(f.now() + 2*f.cfg.handshake)
				return f.Status().TCP.Waiting == 0
			})
		}
		s.Close() // ends those that wait for a destination
	}
}

// A scan of all ports keeps nothing, and learns only what it may.
func TestForwardScan(t *testing.T) {
	w := newWorld()
	s := gateway(t, ForwardConfig{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "8.8.4.4:80" {
			return w.dial(ctx, network, address)
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}})
	var resets atomic.Int64
	discard(t, s, func(b []byte) {
		var seen watch
		if seen.carry(false, b); seen.count("reset") == 1 {
			resets.Add(1)
		}
	})
	const ports = 2000
	for port := range ports {
		enter(t, s, segment(netip.AddrPortFrom(clientAddrs[0], 5000), netip.AddrPortFrom(publicPings["udp4"], uint16(1000+port)), header.TCPFlagSyn))
	}
	until(t, "nothing waits", func() bool { return s.forwarder.Status().TCP.Waiting == 0 })
	st := s.forwarder.Status().TCP
	if st.Failed+st.Full != ports || st.Failed == 0 || st.Opened != 0 {
		t.Errorf("%+v", st)
	}
	until(t, "each that was dialled is reset", func() bool { return resets.Load() == int64(st.Failed) })
	// What is no SYN, nor of a connection, is reset without more.
	for _, flags := range []header.TCPFlags{header.TCPFlagAck, header.TCPFlagFin, header.TCPFlagSyn | header.TCPFlagAck, 0, header.TCPFlagRst, header.TCPFlagSyn | header.TCPFlagRst} {
		enter(t, s, segment(netip.AddrPortFrom(clientAddrs[0], 5000), netip.AddrPortFrom(publicPings["udp4"], 80), flags))
	}
	until(t, "four resets", func() bool { return resets.Load() == int64(st.Failed)+4 })
	if w.dialled() != 0 {
		t.Error("dialled without a SYN")
	}
}

// A spray of datagrams to everywhere is bounded.
func TestForwardSpray(t *testing.T) {
	const total, each = 50, 20
	var open, most atomic.Int64
	s := gateway(t, ForwardConfig{MaxUDP: total, MaxUDPEach: each, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		near, far := net.Pipe()
		open.Add(1)
		return &counted{slow: &slow{near, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)), nil}, far: far, open: &open}, nil
	}})
	discard(t, s, nil)
	for i := range 3000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i%5)}), 4000)
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}), 123)
		enter(t, s, datagramOf(from, to, []byte("x")))
		if n := s.forwarder.flows.len(); n > total {
			t.Fatalf("%d flows", n)
		}
		most.Store(max(most.Load(), open.Load()))
	}
	st := s.forwarder.Status().UDP
	if st.Opened != 3000 || st.Full != 3000-total || st.Open != total {
		t.Errorf("%+v", st)
	}
	s.Close()
	if open.Load() != 0 {
		t.Errorf("%d sockets are left", open.Load())
	}
}

// counted is a socket that takes and gives nothing.
type counted struct {
	*slow
	far  net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Write(b []byte) (int, error) { return len(b), nil }

func (c *counted) Close() error {
	c.once.Do(func() {
		c.far.Close()
		c.open.Add(-1)
	})
	return c.slow.Close()
}

// The bounds of connections are for each client and in total; what is over is reset, and
// what ends makes room.
func TestForwardTooMany(t *testing.T) {
	w := newWorld()
	for _, public := range publicHosts {
		w.serve(t, public, func(c *net.TCPConn) { io.Copy(c, c) })
	}
	client, f := forwarding(t, ForwardConfig{Dial: w.dial, MaxTCP: 5, MaxTCPEach: 3}, nil)
	var conns []net.Conn
	for i, want := range []int{0, 0, 0, -1, 1, 1, -1} {
		public := publicHosts[max(want, 0)]
		if i == 6 {
			public = publicHosts[1]
		}
		c, err := client.DialContext(t.Context(), "tcp", public)
		if want < 0 {
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connection %d: %v", i, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("connection %d: %v; %+v", i, err, f.Status())
		}
		conns = append(conns, c)
	}
	until(t, "all are open", func() bool { return f.Status().TCP.Open == 5 })
	if st := f.Status().TCP; st.Full != 2 {
		t.Errorf("%+v", st)
	}
	conns[0].Close()
	until(t, "one has gone", func() bool { return f.Status().TCP.Open == 4 })
	dial(t, client, "tcp", publicHosts[0])
	for _, c := range conns[1:] {
		c.Close()
	}
}

// A connection that nobody uses ends; sooner if one side has closed, or if the client does
// not acknowledge the end.
func TestForwardIdleConnections(t *testing.T) {
	w := newWorld()
	w.serve(t, publicHosts[0], func(c *net.TCPConn) {
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if b[0] == 'c' {
				c.CloseWrite()
			}
		}
	})
	client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
	idle, half := dial(t, client, "tcp", publicHosts[0]), dial(t, client, "tcp", publicHosts[0])
	until(t, "both are open", func() bool { return f.Status().TCP.Open == 2 })
	half.Write([]byte("c"))
	if _, err := half.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	until(t, "one half is closed", func() bool {
		for _, c := range f.sessions.all(false) {
			if c.halves.Load() == 1 {
				return true
			}
		}
		return false
	})
	f.sweep(f.now() + time.Minute)
	if st := f.Status().TCP; st.Open != 2 || st.Idle != 0 {
		t.Errorf("%+v", st)
	}
	f.sweep(f.now() + time.Hour)
	if _, err := half.Write([]byte("x")); err == nil {
		until(t, "the half closed one is reset", func() bool { _, err := half.Write([]byte("x")); return err != nil })
	}
	until(t, "one is left", func() bool { st := f.Status().TCP; return st.Open == 1 && st.Idle == 1 })
	f.sweep(f.now() + 3*time.Hour)
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	if st := f.Status().TCP; st.Idle != 2 {
		t.Errorf("%+v", st)
	}
}

// What lingers after the end is bounded too: a client that has closed, and then does not
// acknowledge what it was still sent.
func TestForwardLingering(t *testing.T) {
	const most = 4
	w := newWorld()
	w.serve(t, publicHosts[0], func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	var silent atomic.Bool
	client, f := forwarding(t, ForwardConfig{Dial: w.dial, MaxTCP: most}, func(fromClient bool, b []byte) bool {
		tr, ok := transportOf(b)
		fin := ok && tr.protocol == header.TCPProtocolNumber && header.TCP(tr.payload).Flags()&header.TCPFlagFin != 0
		return fromClient || !fin || !silent.Load() // the gateway's FIN is lost
	})
	silent.Store(true)
	for i := range 3 * most {
		c := dial(t, client, "tcp", publicHosts[0])
		c.(interface{ CloseWrite() error }).CloseWrite()
		until(t, "it lingers", func() bool { st := f.Status().TCP; return st.Opened == uint64(i+1) && st.Open == 0 })
		if n := f.leaving.len(); n > most {
			t.Fatalf("%d linger", n)
		}
	}
	if st := f.Status().TCP; st.Waiting == 0 {
		t.Errorf("%+v", st)
	}
	until(t, "none lingers", func() bool {
		f.sweep(f.now() + 2*f.cfg.lingering)
		return f.Status().TCP.Waiting == 0
	})
}

// Whatever packets come, nothing panics, and nothing outlives the stack.
func FuzzForward(f *testing.F) {
	to := netip.MustParseAddrPort(publicHosts[0])
	from := netip.AddrPortFrom(clientAddrs[0], 5)
	to6 := netip.MustParseAddrPort(publicHosts[1])
	from6 := netip.AddrPortFrom(clientAddrs[1], 5)
	for _, packet := range [][]byte{
		segment(from, to, header.TCPFlagSyn), segment(from6, to6, header.TCPFlagSyn), segment(from, to, header.TCPFlagAck),
		datagramOf(from, to, []byte("x")), datagramOf(from6, to6, nil), datagramOf(from, netip.MustParseAddrPort("10.0.0.1:5"), nil),
		echoOf(from.Addr(), to.Addr(), 1, 2, []byte("x")), echoOf(from6.Addr(), to6.Addr(), 1, 2, nil),
		packetOf(from.Addr(), to.Addr(), 17, []byte{0, 1, 0, 2, 0, 3, 0, 0}), packetOf(from.Addr(), to.Addr(), 1, []byte{8, 0}),
	} {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		s := gateway(t, ForwardConfig{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			a, err := netip.ParseAddrPort(address)
			if err != nil || (network == "tcp4" || network == "udp4") != a.Addr().Is4() {
				t.Errorf("dialled %s %s", network, address)
			}
			if why := newPolicy(Destinations{Allow: loopbacks}, nil).judge(a.Addr()); why != Allowed {
				t.Errorf("dialled %s, which is %s", a, why)
			}
			return nil, syscall.ECONNREFUSED
		}})
		s.Write([]tun.Frame{{Pieces: [][]byte{packet}}})
		s.TryRead(make([]tun.Frame, batch))
		s.Close()
	})
}
