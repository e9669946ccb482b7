package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// loopbacks are allowed by their full names, since what is outside in these tests is on this host.
var loopbacks = prefixes("127.0.0.1/32", "::1/128")

// world is what is outside: addresses that look public, each a socket on a loopback address.
type world struct {
	mu    sync.Mutex
	hosts map[string]string // network and address to address
	dials []string
}

func newWorld() *world { return &world{hosts: map[string]string{}} }

func (w *world) put(network, public string, at net.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[network+" "+public] = at.String()
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	at, ok := w.hosts[network[:3]+" "+address]
	w.dials = append(w.dials, network+" "+address)
	w.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
	}
	return new(net.Dialer).DialContext(ctx, network, at)
}

func (w *world) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dials)
}

// serve has a TCP server at a public address until the test ends.
func (w *world) serve(t testing.TB, public string, handle func(*net.TCPConn)) {
	t.Helper()
	l := listenOutside(t, public)
	w.put("tcp", public, l.Addr())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func loopbackFor(public string) string {
	if netip.MustParseAddrPort(public).Addr().Is4() {
		return "127.0.0.1:0"
	}
	return "[::1]:0"
}

func listenOutside(t testing.TB, public string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", loopbackFor(public))
	if err != nil {
		t.Skipf("no loopback: %v", err)
	}
	return l
}

// forwarding is a client, and a gateway that forwards; without a word about it, no echo and
// no address of this host, but the loopback addresses.
func forwarding(t testing.TB, cfg ForwardConfig, carry func(fromClient bool, packet []byte) bool) (*Stack, *Forwarder) {
	t.Helper()
	client, server := host(t, Options{}, clientAddrs), gateway(t, cfg)
	var wg sync.WaitGroup
	wg.Go(func() { pump(t, client, server, carry, true) })
	wg.Go(func() { pump(t, server, client, carry, false) })
	t.Cleanup(func() {
		client.Close()
		server.Close()
		wg.Wait()
	})
	return client, server.forwarder
}

func gateway(t testing.TB, cfg ForwardConfig) *Stack {
	t.Helper()
	if cfg.Interfaces == nil {
		cfg.Interfaces = func() ([]netip.Prefix, error) { return nil, nil }
	}
	if cfg.Destinations.Allow == nil {
		cfg.Destinations.Allow = loopbacks
	}
	if cfg.ListenEcho == nil {
		cfg.ListenEcho = func(string) (net.PacketConn, error) { return nil, syscall.EACCES }
	}
	s, _, err := NewForwarding(1400, Options{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, a := range serverAddrs {
		if err := s.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// until waits for something that must come to be.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// watch keeps what packets of some kind said.
type watch struct {
	mu   sync.Mutex
	seen []string
}

func (w *watch) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
}

func (w *watch) count(s string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.seen {
		if e == s {
			n++
		}
	}
	return n
}

// carry is for pair: it looks at what goes to the client.
func (w *watch) carry(fromClient bool, b []byte) bool {
	if t, ok := transportOf(b); ok && !fromClient {
		switch t.protocol {
		case header.TCPProtocolNumber:
			switch header.TCP(t.payload).Flags() & (header.TCPFlagSyn | header.TCPFlagRst) {
			case header.TCPFlagSyn:
				w.add("syn")
			case header.TCPFlagRst:
				w.add("reset")
			}
		case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
			w.add("icmp " + strconv.Itoa(int(t.payload[0])) + "/" + strconv.Itoa(int(t.payload[1])))
		}
	}
	return true
}

var publicHosts = []string{"8.8.4.4:80", "[2606:4700::80]:80"}

// What either side sends comes to the other, and the end of it too, whoever ends first.
func TestForwardStream(t *testing.T) {
	const size = 4 << 20
	up, down := random(1, size), random(2, size)
	for _, public := range publicHosts {
		for _, first := range []string{"client", "server", "both"} {
			t.Run(public+" "+first, func(t *testing.T) {
				w := newWorld()
				got := make(chan []byte, 1)
				w.serve(t, public, func(c *net.TCPConn) {
					if first == "client" {
						b, _ := io.ReadAll(c)
						got <- b
						c.Write(down)
						return
					}
					var wg sync.WaitGroup
					if first == "both" {
						wg.Go(func() { b, _ := io.ReadAll(c); got <- b })
					}
					c.Write(down)
					c.CloseWrite()
					wg.Wait()
					if first == "server" {
						b, _ := io.ReadAll(c)
						got <- b
					}
				})
				client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
				c := dial(t, client, "tcp", public)
				send := func() {
					if _, err := c.Write(up); err != nil {
						t.Error(err)
					}
					c.(interface{ CloseWrite() error }).CloseWrite()
				}
				var wg sync.WaitGroup
				if first != "server" {
					wg.Go(send)
				}
				b, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(b, down) {
					t.Errorf("the client got %d octets, %v", len(b), err)
				}
				if first == "server" {
					send()
				}
				wg.Wait()
				if b := <-got; !bytes.Equal(b, up) {
					t.Errorf("the server got %d octets", len(b))
				}
				c.Close()
				until(t, "all is closed", func() bool { return f.Status().TCP.Open == 0 })
				if s := f.Status().TCP; s.Opened != 1 || s.FromClients != size || s.ToClients != size || s.Failed+s.Refused+s.Full+s.Idle != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func newRandom(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func random(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = io.ReadFull(newRandom(seed), b)
	return b
}

// The client's connection is not there before the one outside is.
func TestForwardFailures(t *testing.T) {
	for _, public := range publicHosts {
		v4 := netip.MustParseAddrPort(public).Addr().Is4()
		for name, test := range map[string]struct {
			err          error
			icmp4, icmp6 string
		}{
			"refused":     {syscall.ECONNREFUSED, "", ""},
			"no network":  {syscall.ENETUNREACH, "icmp 3/0", "icmp 1/0"},
			"no host":     {syscall.EHOSTUNREACH, "icmp 3/1", "icmp 1/3"},
			"no answer":   {syscall.ETIMEDOUT, "icmp 3/1", "icmp 1/3"},
			"too slow":    {context.DeadlineExceeded, "icmp 3/1", "icmp 1/3"},
			"forbidden":   {syscall.EPERM, "icmp 3/13", "icmp 1/1"},
			"of no kind":  {io.ErrUnexpectedEOF, "", ""},
			"no more fds": {syscall.EMFILE, "", ""},
		} {
			t.Run(public+" "+name, func(t *testing.T) {
				var w, warnings watch
				client, f := forwarding(t, ForwardConfig{Warn: warnings.add, Dial: func(context.Context, string, string) (net.Conn, error) {
					if w.count("syn") > 0 {
						t.Error("the client has a connection already")
					}
					return nil, &net.OpError{Op: "dial", Err: test.err}
				}}, w.carry)
				_, err := client.DialContext(t.Context(), "tcp", public)
				if err == nil {
					t.Fatal("connected")
				}
				until(t, "a reset", func() bool { return w.count("reset") > 0 })
				want := test.icmp6
				if v4 {
					want = test.icmp4
				}
				if want == "" && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("got %v", err)
				}
				if want != "" && w.count(want) != 1 {
					t.Errorf("got %q, want %s", w.seen, want)
				}
				if s := f.Status().TCP; w.count("syn") > 0 || s.Failed != 1 || s.Opened != 0 {
					t.Errorf("%q, %+v", w.seen, s)
				}
				until(t, "nothing is open", func() bool { s := f.Status().TCP; return s.Open == 0 && s.Waiting == 0 })
				if n := len(warnings.seen); n > 1 || (n == 1) != (test.err == syscall.EMFILE) {
					t.Errorf("warned %q", warnings.seen)
				}
			})
		}
	}
}

// A reset of either side is one for the other.
func TestForwardReset(t *testing.T) {
	for _, public := range publicHosts {
		t.Run(public, func(t *testing.T) {
			w := newWorld()
			ends := make(chan error)
			w.serve(t, public, func(c *net.TCPConn) {
				b := make([]byte, 1)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Error(err)
				}
				if b[0] == 'r' {
					c.SetLinger(0)
					return
				}
				c.Write(make([]byte, 100))
				_, err := io.ReadAll(c)
				ends <- err
			})
			client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
			c := dial(t, client, "tcp", public)
			c.Write([]byte("r"))
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client sees %v", err)
			}
			c = dial(t, client, "tcp", public)
			c.Write([]byte("w"))
			io.ReadFull(c, make([]byte, 1))
			c.Close() // with unread octets: a reset
			if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server sees %v", err)
			}
			until(t, "all is closed", func() bool { s := f.Status().TCP; return s.Open == 0 && s.Waiting == 0 })
		})
	}
}

// Many at once, of which each gets its own.
func TestForwardDownloads(t *testing.T) {
	const number, size = 200, 256 << 10
	w := newWorld()
	for _, public := range publicHosts {
		w.serve(t, public, func(c *net.TCPConn) {
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err == nil {
				io.Copy(c, io.LimitReader(newRandom(b[0]), size))
			}
		})
	}
	client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
	var wg sync.WaitGroup
	for i := range number {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			c, err := client.DialContext(ctx, "tcp", publicHosts[i%2])
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.Write([]byte{byte(i)})
			if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, random(byte(i), size)) {
				t.Errorf("download %d: %d octets, %v", i, len(b), err)
			}
		})
	}
	wg.Wait()
	if s := f.Status().TCP; s.Opened != number || s.ToClients != number*size {
		t.Errorf("%+v", s)
	}
}

// What the stack itself listens to is not forwarded, and what is mapped goes elsewhere.
func TestForwardMap(t *testing.T) {
	outside := newWorld()
	outside.serve(t, "1.1.1.1:53", func(c *net.TCPConn) { io.WriteString(c, "resolver") })
	resolver := netip.MustParseAddrPort(outside.hosts["tcp 1.1.1.1:53"])
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(resolver))
	if err != nil {
		t.Skip(err)
	}
	defer packets.Close()
	client, f := forwarding(t, ForwardConfig{
		Destinations: Destinations{Allow: prefixes("192.0.2.0/24")}, // not the loopback
		Map: map[netip.AddrPort]netip.AddrPort{
			netip.MustParseAddrPort("10.9.0.1:53"):   resolver,
			netip.MustParseAddrPort("[fd00:9::1]:5"): resolver,
		},
	}, nil)
	at := listen(t, f.host, "10.9.0.1:80", func(c net.Conn) { io.WriteString(c, "own") })
	for to, want := range map[string]string{at.String(): "own", "10.9.0.1:53": "resolver", "[fd00:9::1]:5": "resolver"} {
		if b, err := io.ReadAll(dial(t, client, "tcp", to)); string(b) != want || err != nil {
			t.Errorf("%s: %q, %v", to, b, err)
		}
	}
	c := dial(t, client, "udp", "10.9.0.1:53")
	c.Write([]byte("?"))
	b := make([]byte, 9)
	n, from, err := packets.ReadFromUDPAddrPort(b)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	packets.WriteToUDPAddrPort([]byte("!"), from)
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(b); n != 1 || b[0] != '!' || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, err := client.DialContext(t.Context(), "tcp", "10.9.0.1:54"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port of the stack: %v", err)
	}
	if s := f.Status(); s.Refused[Own] != 1 || len(s.Refused) != 1 || s.TCP.Opened != 2 || s.UDP.Opened != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := client.Ping(t.Context(), serverAddrs[0]); err != nil {
		t.Errorf("the stack itself: %v", err)
	}
	for _, bad := range []string{"10.0.0.1:0", "0.0.0.0:53", "224.0.0.1:5"} {
		if _, _, err := NewForwarding(1400, Options{}, ForwardConfig{Map: map[netip.AddrPort]netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53"): netip.MustParseAddrPort(bad)}}); err == nil {
			t.Errorf("mapped to %s", bad)
		}
	}
}

// What was dialled is not where it ended: the address that answers counts.
func TestForwardJudgesTwice(t *testing.T) {
	w := newWorld()
	w.serve(t, "8.8.4.4:80", func(c *net.TCPConn) {
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("got %q", b)
		}
	})
	for allow, want := range map[string]Reason{"127.0.0.0/8": Own, "192.0.2.0/24": Loopback} {
		client, f := forwarding(t, ForwardConfig{Dial: w.dial, Destinations: Destinations{Allow: prefixes(allow)}}, nil)
		w.mu.Lock()
		w.hosts["udp 8.8.4.4:53"] = w.hosts["tcp 8.8.4.4:80"]
		w.mu.Unlock()
		if _, err := client.DialContext(t.Context(), "tcp", "8.8.4.4:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		c := dial(t, client, "udp", "8.8.4.4:53")
		c.Write([]byte("?"))
		until(t, "both are refused", func() bool { return f.Status().Refused[want] == 2 })
		until(t, "nothing is open", func() bool { s := f.Status(); return s.UDP.Open == 0 && s.TCP.Waiting == 0 })
	}
}

// An address that goes to another client takes nothing with it.
func TestForwardDrop(t *testing.T) {
	w := newWorld()
	ended := make(chan struct{}, 2)
	for _, public := range publicHosts {
		w.serve(t, public, func(c *net.TCPConn) { io.Copy(c, c); ended <- struct{}{} })
	}
	w.put("udp", "8.8.4.4:9", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
	client, f := forwarding(t, ForwardConfig{Dial: w.dial, Destinations: Destinations{Allow: loopbacks}}, nil)
	c4, c6 := dial(t, client, "tcp", publicHosts[0]), dial(t, client, "tcp", publicHosts[1])
	dial(t, client, "udp", "8.8.4.4:9").Write([]byte("x"))
	until(t, "all is open", func() bool { s := f.Status(); return s.TCP.Open == 2 && s.UDP.Open == 1 })
	f.Drop(clientAddrs[0])
	if _, err := c4.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	<-ended
	until(t, "nothing of IPv4 is open", func() bool { s := f.Status(); return s.TCP.Open == 1 && s.UDP.Open == 0 })
	if _, err := c6.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c6, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// SetDestinations counts for what comes after it.
func TestForwardSetDestinations(t *testing.T) {
	w := newWorld()
	w.serve(t, publicHosts[0], func(c *net.TCPConn) { io.Copy(c, c) })
	var fail bool
	client, f := forwarding(t, ForwardConfig{Dial: w.dial, Interfaces: func() ([]netip.Prefix, error) {
		if fail {
			return nil, syscall.EIO
		}
		return prefixes("8.8.4.4/32"), nil
	}}, nil)
	try := func(want error) {
		t.Helper()
		c, err := client.DialContext(t.Context(), "tcp", publicHosts[0])
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if err == nil {
			c.Close()
		}
	}
	try(syscall.ECONNREFUSED)
	if err := f.SetDestinations(Destinations{Allow: append(prefixes("8.8.4.4/32"), loopbacks...)}); err != nil {
		t.Fatal(err)
	}
	try(nil)
	f.refresh()
	try(nil)
	fail = true
	f.refresh()
	try(nil)
	if err := f.SetDestinations(Destinations{}); err == nil {
		t.Error("no addresses of the host, and no error")
	}
}

// The more connections there are, the less each may buffer, and together no more than
// about what they may.
func TestForwardShare(t *testing.T) {
	for _, c := range []ForwardConfig{{}, {Memory: 64 << 20, MaxTCP: 512}, {Memory: 4 << 30, MaxTCP: 20000}} {
		f := &Forwarder{cfg: c.withDefaults()}
		sum := 0
		for n := range f.cfg.MaxTCP {
			size := f.share(n + 1)
			if n > 0 && size > f.share(n) || size < 32<<10 {
				t.Fatalf("%d octets with %d connections", size, n+1)
			}
			sum += 2 * min(size, 8<<20)
		}
		if sum > f.cfg.Memory*5/4 {
			t.Errorf("%d octets of %d", sum, f.cfg.Memory)
		}
	}
	client, f := forwarding(t, ForwardConfig{Memory: 1 << 20, Dial: func() func(context.Context, string, string) (net.Conn, error) {
		w := newWorld()
		w.serve(t, publicHosts[0], func(c *net.TCPConn) { io.Copy(c, c) })
		return w.dial
	}()}, nil)
	c := dial(t, client, "tcp", publicHosts[0])
	until(t, "it is open", func() bool { return f.Status().TCP.Open == 1 })
	options := f.sessions.all(false)[0].endpoint.SocketOptions()
	if send, receive := options.GetSendBufferSize(), options.GetReceiveBufferSize(); send != 64<<10 || receive != 64<<10 || !options.GetKeepAlive() {
		t.Errorf("buffers of %d and %d octets", send, receive)
	}
	sent := random(9, 1<<20)
	go func() {
		c.Write(sent)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if b, err := io.ReadAll(c); !bytes.Equal(b, sent) || err != nil {
		t.Errorf("%d octets, %v", len(b), err)
	}
}
