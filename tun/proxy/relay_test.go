package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pairTCP is a TCP connection over the loopback.
func pairTCP(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l := loopback(t)
	a = dialTCP(t, l.Addr())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return a, c.(*net.TCPConn)
}

// selfWriting is a connection like one of a stack in this process.
type selfWriting struct {
	net.Conn
	wrote, read bool
}

func (c *selfWriting) WriteTo(w io.Writer) (int64, error) {
	c.wrote = true
	return io.Copy(w, struct{ io.Reader }{c.Conn})
}

type selfReading struct{ selfWriting }

func (c *selfReading) ReadFrom(r io.Reader) (int64, error) {
	c.read = true
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

func (c *selfWriting) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// TestRelayEqual: what goes in comes out, both ways at the same time, whatever the pieces.
func TestRelayEqual(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"plain":   func(c net.Conn) net.Conn { return c },
		"writeTo": func(c net.Conn) net.Conn { return &selfWriting{Conn: c} },
		"both":    func(c net.Conn) net.Conn { return &selfReading{selfWriting{Conn: c}} },
	} {
		t.Run(name, func(t *testing.T) {
			client, host := pairTCP(t)
			tunnel, server := pairTCP(t)
			var counters Counters
			wrapped := wrap(tunnel)
			var tasks sync.WaitGroup
			tasks.Go(func() { relay(t.Context(), host, wrapped, forever, &counters) })
			const size = 3_000_001
			for i, c := range []*net.TCPConn{client, server} {
				source := rand.NewChaCha8([32]byte{byte(i)})
				sent := make([]byte, size)
				source.Read(sent)
				other := server
				if i == 1 {
					other = client
				}
				tasks.Go(func() {
					for rest := sent; len(rest) > 0; {
						n := min(len(rest), 1+int(source.Uint64()%100_000))
						if n%3 == 0 {
							n = min(n, smallBuffer)
						}
						c.Write(rest[:n])
						rest = rest[n:]
					}
					c.CloseWrite()
				})
				tasks.Go(func() {
					got, err := io.ReadAll(other)
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("direction %d: %d octets, %v", i, len(got), err)
					}
				})
			}
			tasks.Wait()
			if s := counters.Snapshot(); s.Sent != size || s.Received != size {
				t.Errorf("counted %+v", s)
			}
			if w, ok := wrapped.(*selfReading); ok && (!w.wrote || !w.read) {
				t.Error("the connection's own ways were not used")
			}
		})
	}
}

// TestRelayReset: a failure on one side is one on the other, and no end of what was sent.
func TestRelayReset(t *testing.T) {
	client, host := pairTCP(t)
	tunnel, server := pairTCP(t)
	var tasks sync.WaitGroup
	tasks.Go(func() { relay(t.Context(), host, tunnel, forever, new(Counters)) })
	go server.Write([]byte("a part"))
	exchangeBytes(t, client, nil, []byte("a part"))
	abort(server)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	tasks.Wait()
}

func TestRelayEndsWithContext(t *testing.T) {
	client, host := pairTCP(t)
	tunnel, server := pairTCP(t)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { relay(ctx, host, tunnel, forever, new(Counters)) })
	cancel()
	tasks.Wait()
	ended(t, client)
	ended(t, server)
}

// TestRelayWithoutHalves: where one side cannot end by halves it is closed when the other
// side ends.
func TestRelayWithoutHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, host := newDuplex()
		tunnel, server := net.Pipe()
		var tasks sync.WaitGroup
		tasks.Go(func() { relay(t.Context(), host, tunnel, forever, new(Counters)) })
		client.CloseWrite()
		ended(t, server)
		ended(t, client)
		tasks.Wait()
	})
}

func TestRelayIdle(t *testing.T) {
	t.Run("no limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, host := newDuplex()
			tunnel, server := newDuplex()
			go relay(t.Context(), host, tunnel, forever, new(Counters))
			time.Sleep(1000 * time.Hour)
			go client.Write([]byte("x"))
			exchangeBytes(t, server, nil, []byte("x"))
			client.Close()
			server.Close()
		})
	})
	t.Run("limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, host := newDuplex()
			tunnel, server := newDuplex()
			done := make(chan struct{})
			go func() {
				defer close(done)
				relay(t.Context(), host, tunnel, time.Minute, new(Counters))
			}()
			for range 10 {
				time.Sleep(50 * time.Second)
				go client.Write([]byte("x"))
				exchangeBytes(t, server, nil, []byte("x"))
			}
			began := time.Now()
			<-done
			if d := time.Since(began); d < time.Minute || d > 2*time.Minute {
				t.Errorf("ended after %v", d)
			}
			ended(t, client)
		})
	})
	t.Run("half closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, host := newDuplex()
			tunnel, server := newDuplex()
			done := make(chan struct{})
			go func() {
				defer close(done)
				relay(t.Context(), host, tunnel, forever, new(Counters))
			}()
			client.CloseWrite()
			ended(t, server)
			began := time.Now()
			<-done // the server is gone and never says so
			if d := time.Since(began); d != halfClosed {
				t.Errorf("ended after %v", d)
			}
		})
	})
}

// watched tells how large the buffers are that it is read with.
type watched struct {
	*duplex
	sizes chan int
}

func (w *watched) Read(b []byte) (int, error) {
	w.sizes <- len(b)
	return w.duplex.Read(b)
}

// TestIdleHoldsLittle: a direction in which nothing moves waits with a small buffer, and
// one that moves has a large one.
func TestIdleHoldsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, host := newDuplex()
		tunnel, server := newDuplex()
		w := &watched{host, make(chan int, 1000)}
		go copyLean(tunnel, w, func(int) {})
		go io.Copy(io.Discard, server)
		last := func() (size int) {
			synctest.Wait()
			for len(w.sizes) > 0 {
				size = <-w.sizes
			}
			return size
		}
		for round := range 3 {
			if got := last(); round == 0 && got != smallBuffer {
				t.Errorf("waits with %d", got)
			}
			client.Write(make([]byte, 10*largeBuffer))
			if got := last(); got != largeBuffer {
				t.Errorf("moves with %d", got)
			}
			time.Sleep(quiet)
			if got := last(); got != smallBuffer {
				t.Errorf("waits with %d after it moved", got)
			}
		}
		client.Close()
		server.Close()
	})
}

// BenchmarkRelay moves octets through two TCP connections of the loopback.
func BenchmarkRelay(b *testing.B) {
	client, host := pairTCP(b)
	tunnel, server := pairTCP(b)
	var tasks sync.WaitGroup
	tasks.Go(func() { relay(b.Context(), host, tunnel, forever, new(Counters)) })
	tasks.Go(func() { io.Copy(struct{ io.Writer }{io.Discard}, server) })
	piece := make([]byte, 1<<20)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		client.Write(piece)
	}
	client.Close()
	server.Close()
	tasks.Wait()
}
