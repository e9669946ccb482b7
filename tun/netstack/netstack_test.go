package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"martlet/tun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second // before a test gives up on what must come

var (
	clientAddrs = []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00:9::2")}
	serverAddrs = []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00:9::1")}
)

// pair is two stacks of MTU 1400 joined back to back. carry, if not nil, sees each packet
// and says whether it goes on.
func pair(t testing.TB, carry func(fromClient bool, packet []byte) bool) (client, server *Stack) {
	t.Helper()
	return joined(t,
		func(from, to *Stack) { pump(t, from, to, carry, true) },
		func(from, to *Stack) { pump(t, from, to, carry, false) })
}

// joined is two stacks of MTU 1400; out carries from client to server, and back the
// other way, each until from is closed.
func joined(t testing.TB, out, back func(from, to *Stack)) (client, server *Stack) {
	t.Helper()
	return joinedWith(t, Options{}, out, back)
}

func joinedWith(t testing.TB, o Options, out, back func(from, to *Stack)) (client, server *Stack) {
	t.Helper()
	var wg sync.WaitGroup
	client, server = host(t, o, clientAddrs), host(t, o, serverAddrs)
	wg.Go(func() { out(client, server) })
	wg.Go(func() { back(server, client) })
	t.Cleanup(func() {
		client.Close()
		server.Close()
		wg.Wait()
	})
	return client, server
}

// host is one stack of MTU 1400.
func host(t testing.TB, o Options, addrs []netip.Addr) *Stack {
	t.Helper()
	s, err := New(1400, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, a := range addrs {
		if err := s.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// pump stops when from is closed. Without carry super-packets go over whole.
func pump(t testing.TB, from, to *Stack, carry func(bool, []byte) bool, fromClient bool) {
	frames := make([]tun.Frame, from.Batch())
	var single []tun.Frame
	for {
		n, err := from.Read(frames)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("read: %v", err)
			}
			return
		}
		batch := frames[:n]
		single = single[:0]
		for _, f := range batch {
			wellFormed(t, f, from.MTU())
			if carry == nil {
				continue
			}
			for _, packet := range cut(nil, f) {
				if carry(fromClient, packet) {
					single = append(single, tun.Frame{Pieces: [][]byte{packet}})
				}
			}
		}
		if carry != nil {
			batch = single
		}
		if _, err := to.Write(batch); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	}
}

// wellFormed checks a frame that was read by what package tun promises.
func wellFormed(t testing.TB, f tun.Frame, mtu int) {
	t.Helper()
	if len(f.Pieces) != 1 {
		t.Errorf("a frame of %d pieces", len(f.Pieces))
		return
	}
	b, o := f.Pieces[0], f.Offload
	if cap(b)-len(b) < 64 {
		t.Errorf("%d octets of capacity behind a frame", cap(b)-len(b))
	}
	longest := len(b)
	if o.GSO != tun.GSONone {
		longest = o.Header + o.Segment
		if !o.Partial || len(b) <= longest || len(b) > 65535 {
			t.Errorf("super-packet of %d octets: %+v", len(b), o)
		}
	}
	if longest > mtu {
		t.Errorf("packet of %d octets, mtu %d", longest, mtu)
	}
}

// listen accepts one connection after the other for serve, until the test ends.
func listen(t testing.TB, s *Stack, local string, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := s.ListenTCP(netip.MustParseAddrPort(local))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func dial(t testing.TB, s *Stack, network, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := s.DialContext(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(c net.Conn) { io.Copy(c, c) }

func TestStreamEcho(t *testing.T) {
	for host, size := range map[string]int64{"10.9.0.1": 64 << 20, "fd00:9::1": 16 << 20} {
		t.Run(host, func(t *testing.T) {
			client, server := pair(t, nil)
			at := listen(t, server, net.JoinHostPort(host, "0"), echo)
			c := dial(t, client, "tcp", at.String())
			sent, got := sha256.New(), sha256.New()
			var wg sync.WaitGroup
			wg.Go(func() {
				r := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
				if n, err := io.Copy(io.MultiWriter(c, sent), r); n != size || err != nil {
					t.Errorf("sent %d: %v", n, err)
				}
				c.(interface{ CloseWrite() error }).CloseWrite()
			})
			if n, err := io.Copy(got, c); n != size || err != nil {
				t.Errorf("got %d octets of %d: %v", n, size, err)
			}
			wg.Wait()
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Error("what came back is not what was sent")
			}
		})
	}
}

// Packets lost on the way are sent again.
func TestStreamWithLoss(t *testing.T) {
	const size = 1 << 20
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	client, server := pair(t, func(bool, []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(100) >= 1
	})
	at := listen(t, server, "10.9.0.1:0", func(c net.Conn) {
		io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{2}), size))
	})
	got, err := io.ReadAll(dial(t, client, "tcp", at.String()))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(io.LimitReader(rand.NewChaCha8([32]byte{2}), size))
	if !bytes.Equal(got, want) {
		t.Errorf("got %d octets, other than the %d sent", len(got), len(want))
	}
}

func TestDatagrams(t *testing.T) {
	client, server := pair(t, nil)
	// One socket for both families.
	conn, err := server.ListenPacket(netip.MustParseAddrPort("[::]:53"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("server: %v", err)
				}
				return
			}
			if _, err := conn.WriteTo(buf[:n], from); err != nil {
				t.Errorf("answer %s: %v", from, err)
			}
		}
	})
	defer wg.Wait()
	defer conn.Close()

	for _, to := range []string{"10.9.0.1:53", "[fd00:9::1]:53"} {
		c := dial(t, client, "udp", to)
		for _, size := range []int{0, 1, 1300, 9000} { // the last in fragments
			want := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(patience))
			buf := make([]byte, 65536)
			n, err := c.Read(buf)
			if err != nil || !bytes.Equal(buf[:n], want) {
				t.Errorf("%s, %d octets: got %d, %v", to, size, n, err)
			}
		}
		c.SetReadDeadline(time.Now())
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: got %v", err)
		}
	}

	// An unconnected socket that answers from 16-octet forms of IPv4 addresses.
	p, err := client.ListenPacket(netip.MustParseAddrPort("10.9.0.2:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("10.9.0.1"), Port: 53}); err != nil {
		t.Error(err)
	}
	p.SetReadDeadline(time.Now().Add(patience))
	if _, from, err := p.ReadFrom(make([]byte, 9)); err != nil || from.String() != "10.9.0.1:53" {
		t.Errorf("got %v, %v", from, err)
	}
	if _, err := p.WriteTo([]byte("x"), &net.IPAddr{}); err == nil {
		t.Error("wrote to an address that is not of UDP")
	}
}

func TestPing(t *testing.T) {
	client, _ := pair(t, nil)
	for _, a := range serverAddrs {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if rtt, err := client.Ping(ctx, a); err != nil || rtt <= 0 {
			t.Errorf("%s: %v, %v", a, rtt, err)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.9.0.77")); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	client, server := pair(t, func(_ bool, p []byte) bool { return !silent(p) })
	at := listen(t, server, "10.9.0.1:80", echo)
	if at.Port() != 80 {
		t.Errorf("listens on %s", at)
	}
	for _, test := range []struct {
		network, address string
		want             error
	}{
		{"tcp", "10.9.0.1:81", syscall.ECONNREFUSED},
		{"tcp6", "[fd00:9::1]:81", syscall.ECONNREFUSED},
		{"tcp", "10.9.0.99:80", os.ErrDeadlineExceeded},
		{"tcp6", "10.9.0.1:80", new(net.AddrError)},
		{"tcp", "server.example:80", new(net.AddrError)},
		{"tcp", "10.9.0.1", new(net.AddrError)},
		{"ip", "10.9.0.1:80", net.UnknownNetworkError("ip")},
		{"tcp46", "10.9.0.1:80", net.UnknownNetworkError("tcp46")},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := client.DialContext(ctx, test.network, test.address)
		cancel()
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Errorf("%s %s: got %T %v, want a *net.OpError", test.network, test.address, err, err)
		}
		switch want := test.want.(type) {
		case *net.AddrError:
			if !errors.As(err, &want) {
				t.Errorf("%s %s: got %v", test.network, test.address, err)
			}
		default:
			if !errors.Is(err, want) {
				t.Errorf("%s %s: got %v, want %v", test.network, test.address, err, want)
			}
		}
	}
	if _, err := server.ListenTCP(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: got %v", err)
	}
	if _, err := server.ListenTCP(netip.MustParseAddrPort("192.0.2.1:80")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listener on the address of another: got %v", err)
	}
}

// silent tells whether a packet is for 10.9.0.99, where nobody is.
func silent(p []byte) bool { return p[0]>>4 == 4 && bytes.Equal(p[16:20], []byte{10, 9, 0, 99}) }

func TestReset(t *testing.T) {
	client, server := pair(t, nil)
	at := listen(t, server, "10.9.0.1:0", func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1)) // leaves the rest unread, so that Close resets
	})
	c := dial(t, client, "tcp", at.String())
	c.SetDeadline(time.Now().Add(patience))
	c.Write(make([]byte, 100_000))
	var err error
	for err == nil {
		_, err = c.Read(make([]byte, 10))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestClose(t *testing.T) {
	carry := func(_ bool, p []byte) bool { return !silent(p) }
	ended := make(chan struct{}) // the client is read to its end
	client, server := joined(t,
		func(from, to *Stack) {
			defer close(ended)
			pump(t, from, to, carry, true)
		},
		func(from, to *Stack) { pump(t, from, to, carry, false) })
	at := listen(t, server, "10.9.0.1:0", echo)
	c := dial(t, client, "tcp", at.String())

	blocked := map[string]func() error{
		"dial":   func() error { _, err := client.DialContext(t.Context(), "tcp", "10.9.0.99:80"); return err },
		"ping":   func() error { _, err := client.Ping(t.Context(), netip.MustParseAddr("10.9.0.99")); return err },
		"read":   func() error { _, err := c.Read(make([]byte, 1)); return err },
		"accept": nil,
	}
	l, err := client.ListenTCP(netip.MustParseAddrPort("10.9.0.2:0"))
	if err != nil {
		t.Fatal(err)
	}
	blocked["accept"] = func() error { _, err := l.Accept(); return err }
	results := make(chan error)
	for name, f := range blocked {
		go func() {
			err := f()
			if err == nil {
				results <- fmt.Errorf("%s succeeded", name)
				return
			}
			results <- nil
		}()
	}
	client.Close()
	client.Close()
	for range blocked {
		select {
		case err := <-results:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("somebody is still blocked")
		}
	}
	if _, err := client.DialContext(t.Context(), "tcp", "10.9.0.1:80"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after Close: got %v", err)
	}
	if _, err := client.ListenTCP(netip.AddrPort{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after Close: got %v", err)
	}
	<-ended
	if _, err := client.Read(make([]tun.Frame, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after Close: got %v", err)
	}
	if _, err := client.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: got %v", err)
	}
	l.Close()
	c.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a closed connection: got %v", err)
	}
}

// A full queue must not keep Close, nor a Write by the goroutine that reads.
func TestFullQueue(t *testing.T) {
	s, err := New(1400, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddAddress(clientAddrs[0]); err != nil {
		t.Fatal(err)
	}
	peer, err := New(1400, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := peer.AddAddress(serverAddrs[0]); err != nil {
		t.Fatal(err)
	}
	c, err := s.DialContext(t.Context(), "udp", "10.9.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	for range queueLength {
		if _, err := c.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Write(make([]byte, 100)) // waits for room, or for the end
	}()
	// An echo request wants an answer that finds no room.
	go peer.Ping(t.Context(), clientAddrs[0])
	frames := make([]tun.Frame, 1)
	n, err := peer.Read(frames)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(frames[:n]); err != nil {
		t.Errorf("write: %v", err)
	}
	s.Close()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the sender is still blocked")
	}
}

func TestWriteRubbish(t *testing.T) {
	s, err := New(1400, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var frames []tun.Frame
	random := rand.NewChaCha8([32]byte{3})
	for size := range 100 {
		for _, first := range []byte{0x45, 0x4f, 0x60, 0x00, 0xff} {
			p := make([]byte, size)
			random.Read(p)
			if size > 0 {
				p[0] = first
			}
			frames = append(frames, tun.Frame{Pieces: [][]byte{p[:size/2], p[size/2:]}})
		}
	}
	frames = append(frames, tun.Frame{Pieces: [][]byte{make([]byte, 65536)}}, tun.Frame{})
	if n, err := s.Write(frames); n != 0 || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
}

func TestAddresses(t *testing.T) {
	client, server := pair(t, nil)
	if err := client.SetAddresses([]netip.Prefix{netip.MustParsePrefix("10.9.0.7/24"), netip.MustParsePrefix("fd00:9::2/128")}); err != nil {
		t.Fatal(err)
	}
	at := listen(t, server, "[::]:0", func(c net.Conn) { io.WriteString(c, c.RemoteAddr().String()) })
	c := dial(t, client, "tcp4", fmt.Sprintf("10.9.0.1:%d", at.Port()))
	got, err := io.ReadAll(c)
	if host, _, _ := net.SplitHostPort(string(got)); host != "10.9.0.7" || err != nil {
		t.Errorf("the server sees %q, %v", got, err)
	}
	if err := client.RemoveAddress(netip.MustParseAddr("10.9.0.7")); err != nil {
		t.Fatal(err)
	}
	if err := client.RemoveAddress(netip.MustParseAddr("10.9.0.7")); err != nil {
		t.Errorf("again: %v", err)
	}
	if got := client.Addresses(); len(got) != 1 || got[0].String() != "fd00:9::2" {
		t.Errorf("addresses %v", got)
	}
	if _, err := client.DialContext(t.Context(), "tcp", "10.9.0.1:80"); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial without an address of the family: got %v", err)
	}
	for _, bad := range []string{"0.0.0.0", "224.0.0.1"} {
		if err := client.AddAddress(netip.MustParseAddr(bad)); err == nil {
			t.Errorf("took %s as its address", bad)
		}
	}
}

func TestMTU(t *testing.T) {
	client, server := pair(t, nil) // pump checks the lengths
	if err := client.SetMTU(1280); err != nil {
		t.Fatal(err)
	}
	if client.MTU() != 1280 {
		t.Errorf("mtu %d", client.MTU())
	}
	at := listen(t, server, "10.9.0.1:0", echo)
	c := dial(t, client, "tcp", at.String())
	c.Write(make([]byte, 100_000))
	if _, err := io.ReadFull(c, make([]byte, 100_000)); err != nil {
		t.Error(err)
	}
	for _, bad := range []int{0, 575, 65536} {
		if err := client.SetMTU(bad); err == nil {
			t.Errorf("took mtu %d", bad)
		}
		if _, err := New(bad, Options{}); err == nil {
			t.Errorf("made a stack of mtu %d", bad)
		}
	}
}
