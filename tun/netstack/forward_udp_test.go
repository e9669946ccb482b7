package netstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// answer has a UDP server at a public address until the test ends; it sends back what comes.
func (w *world) answer(t testing.TB, public string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", loopbackFor(public))
	if err != nil {
		t.Skipf("no loopback: %v", err)
	}
	w.put("udp", public, c.LocalAddr())
	conn := c.(*net.UDPConn)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(b[:n], from)
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return conn
}

// ask sends a datagram and wants it back.
func ask(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, 65536)
	n, err := c.Read(got)
	if err != nil || !bytes.Equal(got[:n], b) {
		t.Fatalf("%d octets: got %d, %v", len(b), n, err)
	}
}

var publicServers = []string{"8.8.4.4:443", "[2606:4700::80]:443"}

func TestForwardDatagrams(t *testing.T) {
	w := newWorld()
	for _, public := range publicServers {
		w.answer(t, public)
	}
	client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
	octets := uint64(0)
	for _, public := range publicServers {
		c := dial(t, client, "udp", public)
		for _, size := range []int{1, 0, 7, 1300, 1473, 9000, 60000} { // the last ones in fragments
			ask(t, c, random(byte(size), size))
			octets += uint64(size)
		}
	}
	if s := f.Status().UDP; s.Opened != 2 || s.Open != 2 || s.FromClients != octets || s.ToClients != octets || w.dialled() != 2 {
		t.Errorf("%+v, %d dials", s, w.dialled())
	}
}

// Whoever else sends to the socket of a flow is not heard.
func TestForwardOnlyFromDestination(t *testing.T) {
	w := newWorld()
	server := w.answer(t, "8.8.4.4:443")
	var outside net.Addr
	client, _ := forwarding(t, ForwardConfig{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := w.dial(ctx, network, address)
		if err == nil {
			outside = c.LocalAddr()
		}
		return c, err
	}}, nil)
	c := dial(t, client, "udp", "8.8.4.4:443")
	ask(t, c, []byte("hello"))
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.WriteTo([]byte("bogus"), outside); err != nil {
		t.Fatal(err)
	}
	if _, err := server.WriteTo([]byte("after"), outside); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(b); string(b[:n]) != "after" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

// The host's socket is told that nobody listens, and so is the client.
func TestForwardPortUnreachable(t *testing.T) {
	for _, public := range publicServers {
		t.Run(public, func(t *testing.T) {
			w := newWorld()
			gone, err := net.ListenPacket("udp", loopbackFor(public))
			if err != nil {
				t.Skip(err)
			}
			w.put("udp", public, gone.LocalAddr())
			gone.Close()
			var seen watch
			client, f := forwarding(t, ForwardConfig{Dial: w.dial}, seen.carry)
			c := dial(t, client, "udp", public)
			c.Write([]byte("anybody?"))
			until(t, "the client knows", func() bool {
				_, err := c.Write([]byte("anybody?"))
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			if n := seen.count("icmp 3/3") + seen.count("icmp 1/4"); n < 1 || f.Status().UDP.Failed < 1 {
				t.Errorf("%q, %+v", seen.seen, f.Status().UDP)
			}
		})
	}
}

// Where the host has no way, the flow ends and the client knows.
func TestForwardNoWay(t *testing.T) {
	var seen watch
	client, f := forwarding(t, ForwardConfig{Dial: newWorld().dial}, seen.carry)
	for _, public := range publicServers {
		dial(t, client, "udp", public).Write([]byte("x"))
	}
	until(t, "both are told", func() bool { return seen.count("icmp 3/0") == 1 && seen.count("icmp 1/0") == 1 })
	until(t, "no flow is left", func() bool { return f.Status().UDP.Open == 0 })
}

// The flow that was not used for longest makes room.
func TestForwardEviction(t *testing.T) {
	const each, total = 8, 12
	w := newWorld()
	for port := range 40 {
		w.answer(t, fmt.Sprintf("8.8.4.4:%d", 1000+port))
		w.answer(t, fmt.Sprintf("[2606:4700::80]:%d", 1000+port))
	}
	client, f := forwarding(t, ForwardConfig{Dial: w.dial, MaxUDP: total, MaxUDPEach: each}, nil)
	keep := dial(t, client, "udp", "8.8.4.4:1000")
	for port := range 40 {
		ask(t, keep, []byte("still there"))
		ask(t, dial(t, client, "udp", fmt.Sprintf("8.8.4.4:%d", 1000+port)), []byte("x"))
		if n := f.flows.len(); n > each {
			t.Fatalf("%d flows of one client", n)
		}
	}
	if s := f.Status().UDP; s.Opened != 41 || s.Full != 41-each {
		t.Errorf("%+v", s)
	}
	for port := range 40 {
		ask(t, dial(t, client, "udp", fmt.Sprintf("[2606:4700::80]:%d", 1000+port)), []byte("x"))
	}
	if s := f.Status().UDP; s.Open != total || len(f.flows.of(clientAddrs[1])) != each {
		t.Errorf("%+v", s)
	}
}

// Flows end when nothing came for long, those of DNS sooner.
func TestForwardIdleFlows(t *testing.T) {
	w := newWorld()
	w.answer(t, "8.8.4.4:53")
	w.answer(t, "8.8.4.4:443")
	client, f := forwarding(t, ForwardConfig{Dial: w.dial}, nil)
	dns, other := dial(t, client, "udp", "8.8.4.4:53"), dial(t, client, "udp", "8.8.4.4:443")
	ask(t, dns, []byte("x"))
	ask(t, other, []byte("x"))
	for _, test := range []struct {
		after time.Duration
		open  int
	}{{20 * time.Second, 2}, {2 * time.Minute, 1}, {6 * time.Minute, 0}} {
		f.sweep(f.now() + test.after)
		if s := f.Status().UDP; s.Open != test.open || s.Idle != uint64(2-test.open) {
			t.Errorf("after %s: %+v", test.after, s)
		}
	}
	ask(t, dns, []byte("again"))
	if w.dialled() != 3 {
		t.Errorf("%d dials", w.dialled())
	}
}

// slow is a connection whose Write waits, and which has no file descriptor.
type slow struct {
	net.Conn
	local, remote net.Addr
	written       chan []byte
}

func (s *slow) Write(b []byte) (int, error) { s.written <- bytes.Clone(b); return len(b), nil }
func (s *slow) LocalAddr() net.Addr         { return s.local }
func (s *slow) RemoteAddr() net.Addr        { return s.remote }

// What comes faster than it can go on is dropped, and what comes before the socket is there
// waits.
func TestForwardSlow(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	conn := &slow{near, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("8.8.4.4:443")), make(chan []byte)}
	connected := make(chan struct{})
	client, f := forwarding(t, ForwardConfig{Dial: func(context.Context, string, string) (net.Conn, error) {
		<-connected
		return conn, nil
	}}, nil)
	c := dial(t, client, "udp", "8.8.4.4:443")
	const sent = 3 * flowPackets
	for i := range sent {
		c.Write([]byte{byte(i)})
	}
	until(t, "the rest is dropped", func() bool { return f.Status().UDP.Dropped == sent-flowPackets })
	close(connected)
	for i := range flowPackets {
		if b := <-conn.written; b[0] != byte(i) {
			t.Errorf("datagram %d is %d", i, b[0])
		}
	}
	// Octets are bounded too.
	until(t, "the queue is empty", func() bool {
		w, _ := f.flows.get(f.flows.all(false)[0].key)
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.draining
	})
	for range 8 {
		c.Write(make([]byte, 50000))
	}
	until(t, "no more than two wait and two are being written", func() bool { return f.Status().UDP.Dropped >= sent-flowPackets+4 })
	far.Write([]byte("back"))
	b := make([]byte, 9)
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(b); string(b[:n]) != "back" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	go func() {
		for range conn.written {
		}
	}()
	f.host.Close()
	close(conn.written)
	if _, err := near.Read(b); !errors.Is(err, os.ErrClosed) && err == nil {
		t.Error("the outside connection is open")
	}
}
