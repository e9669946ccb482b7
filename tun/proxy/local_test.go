package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func forward(t testing.TB, s string) Forward {
	t.Helper()
	f, err := ParseForward(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// target is a forward from some port to an address of the host.
func target(t testing.TB, network string, at net.Addr) Forward {
	return forward(t, network+":9:"+at.String())
}

func TestLocalTCP(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 7, echo(t))
	c := new(Counters)
	f := &Local{Options{Network: n, Counters: c}, forward(t, "9:echo.test:7")}
	l := loopback(t)
	stop := start(t, func(ctx context.Context) error { return f.Serve(ctx, l) })
	for range 3 {
		conn := dialTCP(t, l.Addr())
		io.WriteString(conn, "hello")
		conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got := n.requests(); len(got) != 3 || got[0] != "tcp echo.test:7" {
		t.Errorf("asked for %q", got)
	}
	stop()
	if s := c.Snapshot(); s.Accepted != 3 || s.Open != 0 || s.Sent != 15 || s.Received != 15 {
		t.Errorf("counted %+v", s)
	}
}

// wantReset connects and wants a reset, which may come as early as that.
func wantReset(t testing.TB, at net.Addr) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.String())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
}

// TestLocalRefused: who connects to a forward that leads nowhere is reset.
func TestLocalRefused(t *testing.T) {
	c := new(Counters)
	f := &Local{Options{Network: newInside(), Counters: c}, forward(t, "9:none.test:7")}
	l := loopback(t)
	start(t, func(ctx context.Context) error { return f.Serve(ctx, l) })
	wantReset(t, l.Addr())
	if s := c.Snapshot(); s.Failures[NoHost] != 1 {
		t.Errorf("counted %+v", s)
	}
}

// ask sends a datagram and wants another one.
func ask(t testing.TB, c net.Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, longestDatagram)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(b)
	if err != nil || string(b[:n]) != want {
		t.Errorf("%.50q, %v; want %.50q", b[:n], err, want)
	}
}

func dialUDP(t testing.TB, at net.Addr) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLocalUDP(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 7, echoPacket(t))
	c := new(Counters)
	f := &Local{Options{Network: n, Counters: c}, forward(t, "udp:9:echo.test:7")}
	at := loopbackPacket(t)
	stop := start(t, func(ctx context.Context) error { return f.ServePacket(ctx, at) })
	a, b := dialUDP(t, at.LocalAddr()), dialUDP(t, at.LocalAddr())
	for i := range 3 {
		ask(t, a, fmt.Sprint("a", i), fmt.Sprint("a", i))
		ask(t, b, fmt.Sprint("b", i), fmt.Sprint("b", i))
	}
	if got := n.requests(); len(got) != 2 || got[0] != "udp echo.test:7" {
		t.Errorf("asked for %q", got)
	}
	// Longer than usual: one is lost on the way in, and one on the way back.
	long := strings.Repeat("x", 60_000)
	io.WriteString(a, long)
	io.WriteString(a, long)
	ask(t, a, long, long)
	stop()
	if s := c.Snapshot(); s.Accepted != 2 || s.Open != 0 || s.DatagramsSent != 8 || s.DatagramsReceived != 7 || s.DatagramsDropped != 2 {
		t.Errorf("counted %+v", s)
	}
}

// TestLocalUDPWaits: what comes before the tunnel is there is kept, but not without bound.
func TestLocalUDPWaits(t *testing.T) {
	n := newInside()
	server := echoPacket(t)
	up := make(chan struct{})
	n.dials = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-up
		return (&net.Dialer{}).DialContext(ctx, "udp", server.String())
	}
	c := new(Counters)
	f := &Local{Options{Network: n, Counters: c}, forward(t, "udp:9:echo.test:7")}
	at := loopbackPacket(t)
	start(t, func(ctx context.Context) error { return f.ServePacket(ctx, at) })
	a := dialUDP(t, at.LocalAddr())
	for i := range waiting + 3 {
		fmt.Fprint(a, "early", i)
	}
	for c.Snapshot().DatagramsDropped < 3 {
		runtime.Gosched()
	}
	close(up)
	b := make([]byte, 100)
	for i := range waiting {
		n, err := a.Read(b)
		if want := fmt.Sprint("early", i); err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v; want %q", b[:n], err, want)
		}
	}
}

// packets is a UDP socket in memory, for bubbles.
type packets struct {
	in   chan packet
	out  chan packet
	once *atomic.Bool
	done chan struct{}
}

type packet struct {
	b    string
	addr net.Addr
}

func newPackets() *packets {
	return &packets{make(chan packet), make(chan packet, 100), new(atomic.Bool), make(chan struct{})}
}

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case in := <-p.in:
		return copy(b, in.b), in.addr, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	p.out <- packet{string(b), to}
	return len(b), nil
}

func (p *packets) Close() error {
	if !p.once.Swap(true) {
		close(p.done)
	}
	return nil
}

func (p *packets) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (p *packets) SetDeadline(time.Time) error      { return nil }
func (p *packets) SetReadDeadline(time.Time) error  { return nil }
func (p *packets) SetWriteDeadline(time.Time) error { return nil }

// TestFlows: a flow ends when it was idle, and when it was idle longest and there are too many.
func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInside()
		var open, opened atomic.Int32
		n.dials = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			open.Add(1)
			opened.Add(1)
			go func() {
				b := make([]byte, 100)
				for {
					n, err := far.Read(b)
					if err != nil {
						open.Add(-1)
						return
					}
					far.Write(b[:n])
				}
			}()
			return near, nil
		}
		c := new(Counters)
		f := &Local{Options{Network: n, Counters: c, Limits: Limits{Flows: 3, UDPIdle: time.Minute}}, forward(t, "udp:9:echo.test:7")}
		p := newPackets()
		start(t, func(ctx context.Context) error { return f.ServePacket(ctx, p) })
		say := func(port uint16) {
			t.Helper()
			from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port))
			p.in <- packet{"hello", from}
			if got := <-p.out; got.b != "hello" || got.addr.String() != from.String() {
				t.Errorf("got %+v, want it from %v", got, from)
			}
		}
		expect := func(wantOpen, wantOpened int) {
			t.Helper()
			synctest.Wait()
			if a, b := int(open.Load()), int(opened.Load()); a != wantOpen || b != wantOpened || c.Snapshot().Open != uint64(wantOpen) {
				t.Errorf("%d open of %d, want %d of %d", a, b, wantOpen, wantOpened)
			}
		}
		say(1)
		time.Sleep(time.Second)
		say(2)
		time.Sleep(time.Second)
		say(3)
		expect(3, 3)
		time.Sleep(time.Second)
		say(1) // now 2 was idle longest
		say(4)
		expect(3, 4)
		say(1)
		expect(3, 4)
		time.Sleep(50 * time.Second)
		say(1)
		time.Sleep(20 * time.Second)
		expect(1, 4)
		time.Sleep(40 * time.Second)
		expect(0, 4)
		say(1)
		expect(1, 5)
	})
}

func TestRemoteTCP(t *testing.T) {
	n := newInside()
	c := new(Counters)
	var failing atomic.Int32
	failing.Store(2)
	n.listen = func() error {
		if failing.Add(-1) >= 0 {
			return syscall.EADDRNOTAVAIL // no tunnel yet
		}
		return nil
	}
	f := &Remote{Options: Options{Network: n, Counters: c}, Forward: target(t, "tcp", echo(t))}
	stop := start(t, f.Serve)
	conn := dialTCP(t, net.TCPAddrFromAddrPort(n.listening("[::]:9")))
	io.WriteString(conn, "hello")
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if len(n.requests()) > 0 {
		t.Errorf("asked for %q inside", n.requests())
	}
	stop()
	if s := c.Snapshot(); s.Sent != 5 || s.Received != 5 || s.Open != 0 {
		t.Errorf("counted %+v", s)
	}
}

func TestRemoteUDP(t *testing.T) {
	n := newInside()
	c := new(Counters)
	f := &Remote{Options: Options{Network: n, Counters: c}, Forward: target(t, "udp", echoPacket(t))}
	stop := start(t, f.Serve)
	a := dialUDP(t, net.UDPAddrFromAddrPort(n.listening("[::]:9")))
	ask(t, a, "hello", "hello")
	stop()
	if s := c.Snapshot(); s.DatagramsSent != 1 || s.DatagramsReceived != 1 || s.Open != 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestRemoteHostRefuses: who comes through the tunnel is reset when nobody is at home.
func TestRemoteHostRefuses(t *testing.T) {
	n := newInside()
	c := new(Counters)
	f := &Remote{Options: Options{Network: n, Counters: c}, Forward: forward(t, "9:home.test:80")}
	f.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" || address != "home.test:80" {
			t.Errorf("%s %s", network, address)
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	start(t, f.Serve)
	wantReset(t, net.TCPAddrFromAddrPort(n.listening("[::]:9")))
	if s := c.Snapshot(); s.Failures[Refused] != 1 {
		t.Errorf("counted %+v", s)
	}
}

// TestRemoteListensAgain: a listener that the tunnel took with it is opened anew.
func TestRemoteListensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &taken{inside: newInside(), opened: make(chan *listener)}
		f := &Remote{Options: Options{Network: n}, Forward: forward(t, "9:home.test:80")}
		f.Dial = func(context.Context, string, string) (net.Conn, error) {
			far, near := newDuplex()
			go io.Copy(far, far)
			return near, nil
		}
		start(t, f.Serve)
		var before *duplex
		for range 3 {
			l := <-n.opened
			c := l.connect()
			exchangeBytes(t, c, []byte("hello"), []byte("hello"))
			l.Close()
			if before != nil {
				before.Close()
			}
			// What was connected before stays.
			exchangeBytes(t, c, []byte("again"), []byte("again"))
			before = c
		}
		before.Close()
		<-n.opened
	})
}

// taken is a network whose listeners come and go.
type taken struct {
	*inside
	opened chan *listener
}

func (n *taken) Listen(string, string) (net.Listener, error) {
	l := newListener()
	go func() { n.opened <- l }()
	return l, nil
}
