package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a server over connections in memory inside a bubble.
func bubble(t *testing.T, s *Server, n *inside, run func(t *testing.T, l *listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.Options.Network, s.Counters = n, new(Counters)
		l := newListener()
		start(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
		run(t, l)
	})
}

// greeting without a password, and its answer.
var (
	hello   = []byte{5, 1, methodNone}
	welcome = []byte{5, methodNone}
)

func TestRFC1928Connect(t *testing.T) {
	n := newInside()
	bubble(t, &Server{}, n, func(t *testing.T, l *listener) {
		far, near := newDuplex()
		n.dials = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		c := l.connect()
		exchangeBytes(t, c, hello, welcome)
		exchangeBytes(t, c, request(commandConnect, to("server.test:80")), socksReply(replySucceeded, netip.AddrPort{}))
		go c.Write([]byte("to the server"))
		exchangeBytes(t, far, nil, []byte("to the server"))
		// Each half ends by itself.
		c.CloseWrite()
		ended(t, far)
		go far.Write([]byte("to the client"))
		exchangeBytes(t, c, nil, []byte("to the client"))
		far.CloseWrite()
		ended(t, c)
		if got := n.requests(); !slices.Equal(got, []string{"tcp server.test:80"}) {
			t.Errorf("asked for %q", got)
		}
	})
}

func TestRFC1928Section3Negotiation(t *testing.T) {
	users := []User{{"alice", "secret"}, {"bob", "other"}}
	for _, c := range []struct {
		name  string
		users []User
		talk  []string // of the client and the server, by turns
		kind  Failure
	}{
		{"no password wanted", nil, []string{"\x05\x02\x00\x02", "\x05\x00"}, -1},
		{"none that is known", nil, []string{"\x05\x02\x01\x03", "\x05\xff"}, Denied},
		{"no method at all", nil, []string{"\x05\x00", "\x05\xff"}, Denied},
		{"password wanted, none offered", users, []string{"\x05\x01\x00", "\x05\xff"}, Denied},
		{"right password", users, []string{"\x05\x02\x00\x02", "\x05\x02", "\x01\x03bob\x05other", "\x01\x00"}, -1},
		{"wrong password", users, []string{"\x05\x01\x02", "\x05\x02", "\x01\x03bob\x06secret", "\x01\x01"}, Denied},
		{"wrong name", users, []string{"\x05\x01\x02", "\x05\x02", "\x01\x03eve\x06secret", "\x01\x01"}, Denied},
		{"empty password", users, []string{"\x05\x01\x02", "\x05\x02", "\x01\x03bob\x00", "\x01\x01"}, Denied},
		{"nobody may", []User{}, []string{"\x05\x01\x02", "\x05\x02", "\x01\x00\x00", "\x01\x01"}, Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{Users: c.users}
			bubble(t, s, newInside(), func(t *testing.T, l *listener) {
				conn := l.connect()
				for i := 0; i < len(c.talk); i += 2 {
					exchangeBytes(t, conn, []byte(c.talk[i]), []byte(c.talk[i+1]))
				}
				if c.kind >= 0 {
					ended(t, conn)
					synctest.Wait()
					if n := s.Counters.Snapshot().Failures[c.kind]; n != 1 {
						t.Errorf("%d failures of kind %v", n, c.kind)
					}
				}
				conn.Close()
			})
		})
	}
}

func TestRFC1928Section6Codes(t *testing.T) {
	dialing := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		name    string
		command byte
		to      string
		err     error // of the network
		code    byte
		kind    Failure
	}{
		{"refused", commandConnect, "a.test:80", dialing(syscall.ECONNREFUSED), replyRefused, Refused},
		{"refused under Windows", commandConnect, "a.test:80", dialing(wsaRefused), replyRefused, Refused},
		{"host unreachable", commandConnect, "a.test:80", dialing(syscall.EHOSTUNREACH), replyNoHost, NoHost},
		{"no such name", commandConnect, "a.test:80", dialing(&net.DNSError{IsNotFound: true}), replyNoHost, NoHost},
		{"resolver silent", commandConnect, "a.test:80", dialing(&net.DNSError{IsTimeout: true}), replyExpired, TimedOut},
		{"network unreachable", commandConnect, "a.test:80", dialing(syscall.ENETUNREACH), replyNoNetwork, NoNetwork},
		{"no address of the family", commandConnect, "[fd00::1]:80", dialing(syscall.EADDRNOTAVAIL), replyNoNetwork, NoNetwork},
		{"no answer", commandConnect, "a.test:80", dialing(os.ErrDeadlineExceeded), replyExpired, TimedOut},
		{"ETIMEDOUT", commandConnect, "a.test:80", dialing(syscall.ETIMEDOUT), replyExpired, TimedOut},
		{"several addresses", commandConnect, "a.test:80", errors.Join(dialing(syscall.ECONNREFUSED), io.EOF), replyRefused, Refused},
		{"something else", commandConnect, "a.test:80", io.ErrClosedPipe, replyFailure, Other},
		{"this host", commandConnect, "127.0.0.1:80", nil, replyNotAllowed, Forbidden},
		{"BIND", commandBind, "a.test:80", nil, replyNoCommand, Unsupported},
		{"command 9", 9, "a.test:80", nil, replyNoCommand, Unsupported},
		{"UDP without an address of the client", commandAssociate, "10.0.0.1:80", nil, replyFailure, Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, s := newInside(), &Server{}
			n.dials = func(context.Context, string, string) (net.Conn, error) { return nil, c.err }
			n.listen = func() error { return io.ErrClosedPipe }
			bubble(t, s, n, func(t *testing.T, l *listener) {
				conn := l.connect()
				exchangeBytes(t, conn, hello, welcome)
				exchangeBytes(t, conn, request(c.command, to(c.to)), socksReply(c.code, netip.AddrPort{}))
				ended(t, conn)
				synctest.Wait()
				if got := s.Counters.Snapshot().Failures; got[c.kind] != 1 {
					t.Errorf("failures: %v, want one %v", got, c.kind)
				}
				if len(n.requests()) > 0 != (c.err != nil) {
					t.Errorf("asked for %q", n.requests())
				}
			})
		})
	}
	t.Run("kind of address", func(t *testing.T) {
		bubble(t, &Server{}, newInside(), func(t *testing.T, l *listener) {
			conn := l.connect()
			exchangeBytes(t, conn, hello, welcome)
			exchangeBytes(t, conn, []byte{5, 1, 0, 2, 0}, socksReply(replyNoAddrType, netip.AddrPort{}))
			ended(t, conn)
		})
	})
}

// TestTunnelAway: a client waits for the tunnel, and gets in when it comes, or an answer.
func TestTunnelAway(t *testing.T) {
	n := newInside()
	bubble(t, &Server{Options: Options{Limits: Limits{Dial: 30 * time.Second}}}, n, func(t *testing.T, l *listener) {
		up := make(chan struct{})
		n.dials = func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case <-up:
				far, near := newDuplex()
				far.Close()
				return near, nil
			case <-ctx.Done():
				return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
			}
		}
		began := time.Now()
		for _, code := range []byte{replyExpired, replySucceeded} {
			c := l.connect()
			exchangeBytes(t, c, hello, welcome)
			if code == replySucceeded {
				time.AfterFunc(20*time.Second, func() { close(up) })
			}
			exchangeBytes(t, c, request(commandConnect, to("a.test:80")), socksReply(code, netip.AddrPort{}))
			c.Close()
		}
		if d := time.Since(began); d != 50*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestSlowloris: whoever says too little, too slowly, is sent away when the time is over.
func TestSlowloris(t *testing.T) {
	for name, said := range map[string]string{
		"nothing": "", "a version": "\x05", "half a greeting": "\x05\x05\x00", "half a request": "\x05\x01\x00\x05\x01",
		"half a header": "GET http://a.test/ HTTP/1.1\r\nHost: a.t",
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{}
			bubble(t, s, newInside(), func(t *testing.T, l *listener) {
				c := l.connect()
				var tasks sync.WaitGroup
				tasks.Go(func() { io.Copy(io.Discard, c) })
				began := time.Now()
				for i := range len(said) {
					c.Write([]byte{said[i]})
				}
				tasks.Wait()
				if d := time.Since(began); d < 9*time.Second || d > 21*time.Second {
					t.Errorf("sent away after %v", d)
				}
				c.Close()
			})
		})
	}
}

func TestCrowd(t *testing.T) {
	s := &Server{Options: Options{Limits: Limits{Clients: 2}}}
	bubble(t, s, newInside(), func(t *testing.T, l *listener) {
		a, b, c := l.connect(), l.connect(), l.connect()
		ended(t, c)
		exchangeBytes(t, a, hello, welcome)
		a.Close()
		synctest.Wait()
		d := l.connect()
		exchangeBytes(t, d, hello, welcome)
		exchangeBytes(t, b, hello, welcome)
		if got := s.Counters.Snapshot(); got.Failures[Crowded] != 1 || got.Accepted != 3 || got.Open != 2 {
			t.Errorf("counted %+v", got)
		}
		b.Close()
		d.Close()
	})
}

func TestOtherProtocols(t *testing.T) {
	for name, c := range map[string]struct {
		protocol Protocol
		say      string
	}{
		"SOCKS4": {Both, "\x04\x01"}, "TLS": {Both, "\x16\x03\x01"},
		"HTTP at a SOCKS port": {SOCKS, "G"}, "SOCKS at an HTTP port": {HTTP, "\x05"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Protocol: c.protocol}
			bubble(t, s, newInside(), func(t *testing.T, l *listener) {
				conn := l.connect()
				conn.Write([]byte(c.say[:1]))
				ended(t, conn)
				synctest.Wait()
				if got := s.Counters.Snapshot().Failures[Malformed]; got != 1 {
					t.Errorf("%d malformed", got)
				}
			})
		})
	}
}

// TestDrain: what runs when Serve is to end may go on for a while, and nothing new begins.
func TestDrain(t *testing.T) {
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := newInside()
			far, near := newDuplex()
			n.dials = func(context.Context, string, string) (net.Conn, error) { return near, nil }
			s := &Server{Options: Options{Network: n, Limits: Limits{Drain: time.Minute}}}
			l := newListener()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, l) }()
			c := l.connect()
			exchangeBytes(t, c, hello, welcome)
			exchangeBytes(t, c, request(commandConnect, to("a.test:80")), socksReply(replySucceeded, netip.AddrPort{}))
			cancel()
			<-l.done
			began := time.Now()
			time.Sleep(10 * time.Second)
			go c.Write([]byte("still here"))
			exchangeBytes(t, far, nil, []byte("still here"))
			want := time.Minute
			if ends {
				c.Close()
				far.Close()
				want = 10 * time.Second
			}
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if d := time.Since(began); d < want || d > want+time.Second { // package http looks now and then
				t.Errorf("it took %v, want %v", d, want)
			}
			ended(t, c)
			ended(t, far)
		})
	}
}

// TestSOCKSParallel: 200 clients at the same time get what they sent, over real sockets.
func TestSOCKSParallel(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 7, echo(t))
	s := &Server{Options: Options{Network: n, Counters: new(Counters)}}
	l := loopback(t)
	stop := start(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	const clients, size = 200, 300_000
	var tasks sync.WaitGroup
	for i := range clients {
		c := dialTCP(t, l.Addr())
		tasks.Go(func() {
			if err := echoThrough(c, "echo.test:7", size, uint64(i)); err != nil {
				t.Error(err)
			}
		})
	}
	tasks.Wait()
	stop()
	got := s.Counters.Snapshot()
	if got.Accepted != clients || got.Open != 0 || got.Sent != clients*size || got.Received != clients*size {
		t.Errorf("counted %+v", got)
	}
	for _, asked := range n.requests() {
		if asked != "tcp echo.test:7" {
			t.Errorf("asked for %q", asked)
		}
	}
}

// echoThrough sends octets made of a seed through a SOCKS5 proxy and compares what comes back.
func echoThrough(c *net.TCPConn, address string, size int, seed uint64) error {
	defer c.Close()
	c.Write(append(slices.Clone(hello), request(commandConnect, to(address))...))
	var answer [2 + 10]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil || answer[3] != replySucceeded {
		return fmt.Errorf("answer %x, %w", answer, err)
	}
	sent := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	source.Read(sent)
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+int(source.Uint64()%50_000))
			c.Write(rest[:n])
			rest = rest[n:]
		}
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		return fmt.Errorf("%d octets came back, %w", len(got), err)
	}
	return nil
}
