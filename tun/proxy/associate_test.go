package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// associated is a client of UDP ASSOCIATE.
type associated struct {
	control *net.TCPConn
	udp     *net.UDPConn
	relay   netip.AddrPort
}

func associate(t testing.TB, proxy net.Addr, announce bool) *associated {
	t.Helper()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	a := &associated{control: dialTCP(t, proxy), udp: udp}
	from := netip.MustParseAddrPort("0.0.0.0:0")
	if announce {
		from = addrPort(udp.LocalAddr())
	}
	exchangeBytes(t, a.control, hello, welcome)
	a.control.Write(request(commandAssociate, destination{addr: from.Addr(), port: from.Port()}))
	var reply [10]byte
	if _, err := io.ReadFull(a.control, reply[:]); err != nil || reply[1] != replySucceeded {
		t.Fatalf("reply %x, %v", reply, err)
	}
	d, _, err := parseDestination(reply[3:])
	if err != nil || d.port == 0 {
		t.Fatalf("bound to %v, %v", d, err)
	}
	a.relay = netip.AddrPortFrom(d.addr, d.port)
	return a
}

// send sends a payload to a destination through the relay.
func (a *associated) send(t testing.TB, from *net.UDPConn, fragment byte, d string, payload string) {
	t.Helper()
	b := request(fragment, to(d)) // the same but for the first three octets
	b[0], b[1], b[2] = 0, 0, fragment
	if _, err := from.WriteToUDPAddrPort(append(b, payload...), a.relay); err != nil {
		t.Fatal(err)
	}
}

// want wants a payload from an address inside.
func (a *associated) want(t testing.TB, from, payload string) {
	t.Helper()
	buf := make([]byte, longestDatagram)
	a.udp.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := a.udp.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fragment, d, got, err := parseDatagram(buf[:n])
	if err != nil || fragment != 0 || d.String() != from || string(got) != payload {
		t.Errorf("got %.50q (%d) from %v, %v; want %.50q (%d) from %v", got, len(got), d, err, payload, len(payload), from)
	}
}

func TestRFC1928Section7Associate(t *testing.T) {
	for name, announce := range map[string]bool{"announced": true, "first used": false} {
		t.Run(name, func(t *testing.T) {
			n := newInside()
			four := n.put("echo.test", "10.9.0.1", 7, echoPacket(t))
			six := n.put("six.test", "fd00::1", 7, echoPacket(t))
			n.put("trap.test", "127.0.0.1", 7, echoPacket(t))
			s := &Server{Options: Options{Network: n, Counters: new(Counters)}}
			l := loopback(t)
			stop := start(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
			a := associate(t, l.Addr(), announce)
			strangers := []*net.UDPConn{loopbackPacket(t).(*net.UDPConn)}
			if c, err := net.ListenPacket("udp", "127.0.0.2:0"); err == nil { // not every system has that address
				defer c.Close()
				strangers = append(strangers, c.(*net.UDPConn))
				// Whoever comes first has to come from the client's address.
				a.send(t, strangers[1], 0, four, "first, of a stranger")
			}

			a.send(t, a.udp, 0, four, "literal")
			a.want(t, four, "literal")
			a.send(t, a.udp, 0, six, "six")
			a.want(t, six, "six")
			for range 3 {
				a.send(t, a.udp, 0, "echo.test:7", "by name")
				a.want(t, four, "by name")
			}
			if got := n.requests(); !slices.Equal(got, []string{"lookup echo.test"}) {
				t.Errorf("asked for %q", got)
			}

			// A stranger, fragments, what is no datagram, no port, unknown names, this host: nothing
			// of it arrives, and what comes after it does.
			for _, stranger := range strangers {
				a.send(t, stranger, 0, four, "of a stranger")
			}
			a.send(t, a.udp, 1, four, "fragment")
			a.send(t, a.udp, 0x80, four, "last fragment")
			a.udp.WriteToUDPAddrPort([]byte{0, 0, 0, 9, 1, 2, 3}, a.relay)
			a.udp.WriteToUDPAddrPort(nil, a.relay)
			a.udp.WriteToUDPAddrPort([]byte("\x00\x00\x00\x01\x0a\x09\x00\x01\x00\x00no port"), a.relay)
			a.send(t, a.udp, 0, "none.test:7", "nowhere")
			a.send(t, a.udp, 0, "127.0.0.1:7", "this host")
			a.send(t, a.udp, 0, "trap.test:7", "this host, by a name")
			a.send(t, a.udp, 0, "localhost:7", "this host, by its name")
			a.send(t, a.udp, 0, four, "after")
			a.want(t, four, "after")
			stop()
			if got := s.Counters.Snapshot(); got.DatagramsSent != 6 || got.DatagramsReceived != 6 || got.DatagramsDropped < 8 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// TestAssociateLong: the first datagram that is longer than usual is lost, the next is not.
func TestAssociateLong(t *testing.T) {
	n := newInside()
	four := n.put("echo.test", "10.9.0.1", 7, echoPacket(t))
	l := loopback(t)
	start(t, func(ctx context.Context) error { return (&Server{Options: Options{Network: n}}).Serve(ctx, l) })
	a := associate(t, l.Addr(), false)
	long := strings.Repeat("x", 60_000)
	a.send(t, a.udp, 0, four, "usual")
	a.want(t, four, "usual")
	a.send(t, a.udp, 0, four, long) // is cut on the way in
	a.send(t, a.udp, 0, four, long) // is cut on the way back
	a.send(t, a.udp, 0, four, long)
	a.want(t, four, long)
}

func TestAssociationEnds(t *testing.T) {
	setUp := func(t *testing.T, limits Limits) (s *Server, l net.Listener, stop func()) {
		n := newInside()
		n.put("echo.test", "10.9.0.1", 7, echoPacket(t))
		s = &Server{Options: Options{Network: n, Limits: limits, Counters: new(Counters)}}
		l = loopback(t)
		return s, l, start(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	}
	t.Run("with its connection", func(t *testing.T) {
		_, l, _ := setUp(t, Limits{Associations: 1})
		a := associate(t, l.Addr(), true)
		a.control.Close()
		// There is room for another when the first has gone, and not before.
		for {
			c := dialTCP(t, l.Addr())
			exchangeBytes(t, c, hello, welcome)
			c.Write(request(commandAssociate, to("0.0.0.0:9")))
			var reply [10]byte
			if _, err := io.ReadFull(c, reply[:]); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if reply[1] == replySucceeded {
				break
			}
		}
	})
	t.Run("bounded", func(t *testing.T) {
		s, l, _ := setUp(t, Limits{Associations: 1})
		associate(t, l.Addr(), true)
		c := dialTCP(t, l.Addr())
		exchangeBytes(t, c, hello, welcome)
		exchangeBytes(t, c, request(commandAssociate, to("0.0.0.0:9")), socksReply(replyFailure, netip.AddrPort{}))
		if got := s.Counters.Snapshot().Failures[Crowded]; got != 1 {
			t.Errorf("%d crowded", got)
		}
	})
	t.Run("idle", func(t *testing.T) {
		_, l, _ := setUp(t, Limits{UDPIdle: 50 * time.Millisecond})
		a := associate(t, l.Addr(), true)
		ended(t, a.control)
	})
	t.Run("with Serve", func(t *testing.T) {
		_, l, stop := setUp(t, Limits{UDPIdle: -1})
		a := associate(t, l.Addr(), true)
		stop()
		ended(t, a.control)
	})
}
