package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// duplex is one end of a connection in memory that can be closed by halves, for bubbles.
type duplex struct{ in, out net.Conn }

// newDuplex makes both ends. A write waits for its reader, as with net.Pipe.
func newDuplex() (a, b *duplex) {
	ar, bw := net.Pipe()
	br, aw := net.Pipe()
	return &duplex{ar, aw}, &duplex{br, bw}
}

func (d *duplex) Read(b []byte) (int, error)  { return d.in.Read(b) }
func (d *duplex) Write(b []byte) (int, error) { return d.out.Write(b) }
func (d *duplex) CloseWrite() error           { return d.out.Close() }
func (d *duplex) LocalAddr() net.Addr         { return d.in.LocalAddr() }
func (d *duplex) RemoteAddr() net.Addr        { return d.in.RemoteAddr() }

func (d *duplex) Close() error {
	d.in.Close()
	return d.out.Close()
}

func (d *duplex) SetDeadline(t time.Time) error {
	d.in.SetReadDeadline(t)
	return d.out.SetWriteDeadline(t)
}
func (d *duplex) SetReadDeadline(t time.Time) error  { return d.in.SetReadDeadline(t) }
func (d *duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }

// listener hands out what is put into it.
type listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// connect is a new client.
func (l *listener) connect() *duplex {
	client, server := newDuplex()
	l.conns <- server
	return client
}

// inside is a network in which names and addresses stand for sockets of the loopback, or for
// functions. It records what was asked of it, and has nothing but what a test put in.
type inside struct {
	mu      sync.Mutex
	names   map[string][]netip.Addr
	routes  map[netip.AddrPort]netip.AddrPort // inside to loopback
	dials   func(ctx context.Context, network, address string) (net.Conn, error)
	servers []netip.AddrPort
	asked   []string // of DialContext and LookupNetIP
	listens map[string]netip.AddrPort
	listen  func() error // what Listen and ListenPacket say first
}

func newInside() *inside {
	return &inside{
		names: map[string][]netip.Addr{}, routes: map[netip.AddrPort]netip.AddrPort{}, listens: map[string]netip.AddrPort{},
	}
}

// put makes what listens at a reachable by name and by the address, which it returns with the
// port: 80 of 10.9.0.1 for instance.
func (n *inside) put(name, addr string, port uint16, at net.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ip := netip.MustParseAddr(addr)
	if !slices.Contains(n.names[name], ip) {
		n.names[name] = append(n.names[name], ip)
	}
	real := addrPort(at)
	if real.Addr().IsUnspecified() {
		real = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), real.Port())
	}
	n.routes[netip.AddrPortFrom(ip, port)] = real
	return net.JoinHostPort(addr, strconv.Itoa(int(port)))
}

// listening waits until an address is listened on, and tells where that is on the loopback.
func (n *inside) listening(address string) netip.AddrPort {
	for {
		n.mu.Lock()
		at, ok := n.listens[address]
		n.mu.Unlock()
		if ok {
			return at
		}
		runtime.Gosched()
	}
}

func (n *inside) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func (n *inside) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.asked = append(n.asked, network+" "+address)
	dials := n.dials
	n.mu.Unlock()
	if dials != nil {
		return dials(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = n.lookup(host); err != nil {
		return nil, err
	}
	p, _ := strconv.ParseUint(port, 10, 16)
	n.mu.Lock()
	to, ok := n.routes[netip.AddrPortFrom(addrs[0], uint16(p))]
	n.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
	}
	return (&net.Dialer{}).DialContext(ctx, network, to.String())
}

func (n *inside) lookup(host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.names[host]; len(a) > 0 {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *inside) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked = append(n.asked, "lookup "+host)
	n.mu.Unlock()
	return n.lookup(host)
}

func (n *inside) Resolvers(context.Context) ([]netip.AddrPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.servers), nil
}

func (n *inside) Listen(_, address string) (net.Listener, error) {
	if n.listen != nil {
		if err := n.listen(); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		n.mu.Lock()
		n.listens[address] = addrPort(l.Addr())
		n.mu.Unlock()
	}
	return l, err
}

func (n *inside) ListenPacket(_, address string) (net.PacketConn, error) {
	if n.listen != nil {
		if err := n.listen(); err != nil {
			return nil, err
		}
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.listens[address] = addrPort(c.LocalAddr())
	n.mu.Unlock()
	return &insidePacket{c, n}, nil
}

// insidePacket translates addresses both ways.
type insidePacket struct {
	net.PacketConn
	n *inside
}

func (c *insidePacket) WriteTo(b []byte, to net.Addr) (int, error) {
	c.n.mu.Lock()
	real, ok := c.n.routes[addrPort(to)]
	c.n.mu.Unlock()
	if !ok {
		real = addrPort(to) // who came to a listener
	}
	return c.PacketConn.WriteTo(b, net.UDPAddrFromAddrPort(real))
}

func (c *insidePacket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if err != nil {
		return n, from, err
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for in, real := range c.n.routes {
		if real == addrPort(from) {
			return n, net.UDPAddrFromAddrPort(in), nil
		}
	}
	return n, from, nil
}

// start runs a Serve until the test ends, and fails it if that does not end then.
func start(t testing.TB, serve func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Serve ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// loopback is a listener of the host.
func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), "localhost:0", Exposure{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func loopbackPacket(t testing.TB) net.PacketConn {
	t.Helper()
	c, err := ListenPacket(t.Context(), "127.0.0.1:0", Exposure{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo is a TCP server that sends back what comes, and ends when the client does.
func echo(t testing.TB) net.Addr {
	l := loopback(t)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tasks.Wait()
	})
	return l.Addr()
}

// echoPacket is a UDP server that does so.
func echoPacket(t testing.TB) net.Addr {
	c := loopbackPacket(t)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		b := make([]byte, longestDatagram)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	})
	t.Cleanup(func() {
		c.Close()
		tasks.Wait()
	})
	return c.LocalAddr()
}

func dialTCP(t testing.TB, at net.Addr) *net.TCPConn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// exchangeBytes writes b, if anything, and wants an answer of as many octets as want.
func exchangeBytes(t testing.TB, c io.ReadWriter, b []byte, want []byte) {
	t.Helper()
	if len(b) > 0 {
		if _, err := c.Write(b); err != nil {
			t.Fatalf("write %x: %v", b, err)
		}
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		t.Fatalf("sent %x, got %x (%v), want %x", b, got[:n], err, want)
	}
}

// ended wants the end of what comes.
func ended(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("something came in place of the end")
	}
}
