package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// server is a resolver in memory: it gets each query and sends what answer returns. Answers of
// different servers and networks can be told apart by the function.
type server func(query []byte, send func([]byte))

// resolvers makes n's DialContext connect to servers.
func resolvers(n *inside, servers map[string]server) {
	n.dials = func(ctx context.Context, network, address string) (net.Conn, error) {
		s := servers[network+" "+address]
		if s == nil {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		near, far := newDuplex()
		go func() {
			defer far.Close()
			for {
				var q []byte
				var err error
				if network == "tcp" {
					q, err = readFrame(far)
				} else {
					q = make([]byte, longestDatagram)
					var n int
					n, err = far.Read(q)
					q = q[:n]
				}
				if err != nil {
					return
				}
				s(q, func(b []byte) {
					if network == "tcp" {
						writeFrame(far, b)
					} else {
						far.Write(b)
					}
				})
			}
		}()
		return near, nil
	}
}

// relayed runs a relay in a bubble, with sockets in memory.
func relayed(t *testing.T, d *DNS, run func(t *testing.T, udp *packets, tcp *listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d.Counters = new(Counters)
		udp, tcp := newPackets(), newListener()
		start(t, func(ctx context.Context) error { return d.Serve(ctx, udp, tcp) })
		run(t, udp, tcp)
	})
}

var client = net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:4444"))

// exchangeDNS asks over UDP.
func exchangeDNS(t *testing.T, udp *packets, q []byte) dnsmessage.Message {
	t.Helper()
	udp.in <- packet{string(q), client}
	got := <-udp.out
	var m dnsmessage.Message
	if err := m.Unpack([]byte(got.b)); err != nil || got.addr.String() != client.String() {
		t.Fatalf("%x to %v: %v", got.b, got.addr, err)
	}
	if m.ID != binary.BigEndian.Uint16(q) || !m.Response {
		t.Fatalf("no answer: %+v", m.Header)
	}
	return m
}

func TestDNSRelay(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.53:0")}
	raw := question(t, 7, "web.test.", 1232)
	var ids []uint16
	both := func(q []byte, send func([]byte)) {
		ids = append(ids, binary.BigEndian.Uint16(q))
		if !bytes.Equal(q[2:], raw[2:]) {
			t.Errorf("the server sees %x, not %x", q, raw)
		}
		send(response(t, q, dnsmessage.RCodeSuccess, 2))
	}
	resolvers(n, map[string]server{"udp 10.9.0.53:53": both, "tcp 10.9.0.53:53": both})
	d := &DNS{Options: Options{Network: n}}
	relayed(t, d, func(t *testing.T, udp *packets, tcp *listener) {
		for range 4 {
			if m := exchangeDNS(t, udp, raw); len(m.Answers) != 2 || m.RCode != 0 || len(m.Additionals) != 1 {
				t.Errorf("%+v", m)
			}
		}
		c := tcp.connect()
		for range 4 {
			if err := writeFrame(c, raw); err != nil {
				t.Fatal(err)
			}
			b, err := readFrame(c)
			if err != nil || binary.BigEndian.Uint16(b) != 7 {
				t.Fatalf("%x, %v", b, err)
			}
		}
		c.Close()
		slices.Sort(ids)
		if len(slices.Compact(ids)) < 6 || len(n.requests()) != 8 {
			t.Errorf("IDs %v, asked %q", ids, n.requests())
		}
		if got := d.Counters.Snapshot().Queries; got != 8 {
			t.Errorf("%d queries", got)
		}
	})
}

// TestRFC5452Section9Hostile: what is not the answer is passed over, and the answer counts.
func TestRFC5452Section9Hostile(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.53:53")}
	resolvers(n, map[string]server{"udp 10.9.0.53:53": func(q []byte, send func([]byte)) {
		wrong := bytes.Clone(q)
		wrong[1]++
		send(response(t, wrong, dnsmessage.RCodeSuccess, 3))
		send(response(t, question(t, binary.BigEndian.Uint16(q), "evil.test.", 0), dnsmessage.RCodeSuccess, 3))
		send(q)
		send(q[:5])
		send([]byte("\xff"))
		send(response(t, q, dnsmessage.RCodeSuccess, 1))
	}})
	relayed(t, &DNS{Options: Options{Network: n}}, func(t *testing.T, udp *packets, _ *listener) {
		if m := exchangeDNS(t, udp, question(t, 7, "web.test.", 0)); len(m.Answers) != 1 {
			t.Errorf("%+v", m)
		}
	})
}

// TestDNSSource: only the server's address may answer. Sockets are connected for that.
func TestDNSSource(t *testing.T) {
	resolver, stranger := loopbackPacket(t), loopbackPacket(t)
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.53:53")}
	n.put("ns.test", "10.9.0.53", 53, resolver.LocalAddr())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		b := make([]byte, 1000)
		for {
			n, from, err := resolver.ReadFrom(b)
			if err != nil {
				return
			}
			stranger.WriteTo(response(t, b[:n], dnsmessage.RCodeSuccess, 2), from)
			resolver.WriteTo(response(t, b[:n], dnsmessage.RCodeSuccess, 1), from)
		}
	})
	t.Cleanup(tasks.Wait)
	t.Cleanup(func() { resolver.Close() })
	d := &DNS{Options: Options{Network: n}}
	at := loopbackPacket(t)
	start(t, func(ctx context.Context) error { return d.Serve(ctx, at, nil) })
	c := dialUDP(t, at.LocalAddr())
	c.Write(question(t, 7, "web.test.", 0))
	b := make([]byte, 1000)
	got, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(b[:got]); err != nil || len(m.Answers) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestDNSServersInTurn(t *testing.T) {
	n := newInside()
	for _, s := range []string{"10.9.0.1:53", "10.9.0.2:53", "10.9.0.3:53", "10.9.0.4:53"} {
		n.servers = append(n.servers, netip.MustParseAddrPort(s))
	}
	var healthy atomic.Bool
	healthy.Store(true)
	resolvers(n, map[string]server{
		// The first refuses to connect.
		"udp 10.9.0.2:53": func([]byte, func([]byte)) {}, // silent
		"udp 10.9.0.3:53": func(q []byte, send func([]byte)) { send(response(t, q, dnsmessage.RCodeServerFailure, 0)) },
		"udp 10.9.0.4:53": func(q []byte, send func([]byte)) {
			if healthy.Load() {
				send(response(t, q, dnsmessage.RCodeNameError, 0))
			} else {
				send(response(t, q, dnsmessage.RCodeRefused, 0))
			}
		},
	})
	relayed(t, &DNS{Options: Options{Network: n}}, func(t *testing.T, udp *packets, _ *listener) {
		for i, want := range []time.Duration{patienceUDP, 0} { // the second query begins with who answered
			began := time.Now()
			if m := exchangeDNS(t, udp, question(t, 7, "none.test.", 0)); m.RCode != dnsmessage.RCodeNameError {
				t.Errorf("%+v", m.Header)
			}
			if d := time.Since(began); d != want {
				t.Errorf("query %d took %v, want %v", i, d, want)
			}
		}
		healthy.Store(false)
		if m := exchangeDNS(t, udp, question(t, 7, "none.test.", 0)); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("all fail: %+v", m.Header)
		}
	})
}

// TestDNSNobodyAnswers: the client gets SERVFAIL when the time is over, and at once where
// nobody is there to be asked.
func TestDNSNobodyAnswers(t *testing.T) {
	n := newInside()
	resolvers(n, map[string]server{"udp 10.9.0.1:53": func([]byte, func([]byte)) {}})
	d := &DNS{Options: Options{Network: n, Limits: Limits{Query: 3 * time.Second}}}
	relayed(t, d, func(t *testing.T, udp *packets, _ *listener) {
		for _, c := range []struct {
			servers []netip.AddrPort
			want    time.Duration
			kind    Failure
		}{
			{nil, 0, NoHost},
			{[]netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53")}, 3 * time.Second, TimedOut},
			{[]netip.AddrPort{netip.MustParseAddrPort("10.9.0.9:53")}, 0, Refused},
		} {
			n.mu.Lock()
			n.servers = c.servers
			n.mu.Unlock()
			began := time.Now()
			if m := exchangeDNS(t, udp, question(t, 7, "web.test.", 0)); m.RCode != dnsmessage.RCodeServerFailure || len(m.Questions) != 1 {
				t.Errorf("%+v", m)
			}
			if took := time.Since(began); took != c.want || d.Counters.Snapshot().Failures[c.kind] != 1 {
				t.Errorf("%v after %v: %v", c, took, d.Counters.Snapshot().Failures)
			}
		}
	})
}

func TestDNSSplit(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53")}
	host := newInside()
	answering := func(records int) server {
		return func(q []byte, send func([]byte)) { send(response(t, q, dnsmessage.RCodeSuccess, records)) }
	}
	resolvers(n, map[string]server{"udp 10.9.0.1:53": answering(1), "udp 10.9.0.2:5353": answering(2)})
	resolvers(host, map[string]server{"udp 192.0.2.1:53": answering(3)})
	d := &DNS{
		Options: Options{Network: n},
		Rules: []Rule{
			{Suffix: "lab.corp.test", Servers: []netip.AddrPort{netip.MustParseAddrPort("10.9.0.2:5353")}},
			{Suffix: "home.test", To: Host},
			{Suffix: "ads.test", To: Refusal},
		},
		HostServers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")},
		DialHost:    host.DialContext,
	}
	relayed(t, d, func(t *testing.T, udp *packets, _ *listener) {
		for name, want := range map[string]int{"web.test.": 1, "a.corp.test.": 1, "a.lab.corp.test.": 2, "A.Home.Test.": 3} {
			if m := exchangeDNS(t, udp, question(t, 7, name, 0)); len(m.Answers) != want {
				t.Errorf("%s: %d answers, want %d", name, len(m.Answers), want)
			}
		}
		if m := exchangeDNS(t, udp, question(t, 7, "x.ads.test.", 0)); m.RCode != dnsmessage.RCodeRefused {
			t.Errorf("%+v", m.Header)
		}
		if len(n.requests()) != 3 || len(host.requests()) != 1 {
			t.Errorf("inside %q, host %q", n.requests(), host.requests())
		}
	})
}

// TestRFC2181Section9Truncation: what does not fit in the client's datagram is asked for by TCP.
func TestRFC2181Section9Truncation(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53")}
	many := func(q []byte, send func([]byte)) { send(response(t, q, dnsmessage.RCodeSuccess, 100)) }
	resolvers(n, map[string]server{
		"tcp 10.9.0.1:53": many,
		"udp 10.9.0.1:53": func(q []byte, send func([]byte)) {
			switch name := string(q[dnsHeader+1 : dnsHeader+4]); name {
			case "cut": // by the server
				r := response(t, q, dnsmessage.RCodeSuccess, 0)
				r[2] |= 2
				send(r)
			case "few":
				send(response(t, q, dnsmessage.RCodeSuccess, 8)) // about 900 octets
			default: // more than was asked for
				many(q, send)
			}
		},
	})
	relayed(t, &DNS{Options: Options{Network: n}}, func(t *testing.T, udp *packets, tcp *listener) {
		for _, c := range []struct {
			name      string
			size      int
			truncated bool
		}{
			{"few.test.", 0, true},
			{"few.test.", 700, true},
			{"few.test.", 1232, false},
			{"cut.test.", 1232, true},
			{"big.test.", 1232, true},
			{"big.test.", 65535, true},
		} {
			m := exchangeDNS(t, udp, question(t, 7, c.name, c.size))
			if m.Truncated != c.truncated || m.RCode != 0 || c.truncated && len(m.Answers) > 0 {
				t.Errorf("%s by %d octets: %+v, %d answers", c.name, c.size, m.Header, len(m.Answers))
			}
		}
		c := tcp.connect()
		writeFrame(c, question(t, 7, "big.test.", 0))
		b, err := readFrame(c)
		var m dnsmessage.Message
		if err != nil || m.Unpack(b) != nil || len(m.Answers) != 100 {
			t.Errorf("by TCP: %d answers, %v", len(m.Answers), err)
		}
		c.Close()
	})
}

// TestRFC7766Section6Pipelining: a slow answer does not hold up others of the same connection.
func TestRFC7766Section6Pipelining(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53")}
	resolvers(n, map[string]server{"tcp 10.9.0.1:53": func(q []byte, send func([]byte)) {
		if bytes.Contains(q, []byte("slow")) {
			<-time.After(time.Second)
		}
		send(response(t, q, dnsmessage.RCodeSuccess, 1))
	}})
	relayed(t, &DNS{Options: Options{Network: n}}, func(t *testing.T, _ *packets, tcp *listener) {
		c := tcp.connect()
		writeFrame(c, question(t, 1, "slow.test.", 0))
		writeFrame(c, question(t, 2, "fast.test.", 0))
		for _, want := range []uint16{2, 1} {
			b, err := readFrame(c)
			if err != nil || binary.BigEndian.Uint16(b) != want {
				t.Errorf("%.2x, %v; want %d", b, err, want)
			}
		}
		// And whoever asks nothing more is sent away.
		began := time.Now()
		ended(t, c)
		if d := time.Since(began); d > idleStream {
			t.Errorf("after %v", d)
		}
	})
}

func TestDNSBounded(t *testing.T) {
	n := newInside()
	n.servers = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:53")}
	resolvers(n, map[string]server{"udp 10.9.0.1:53": func([]byte, func([]byte)) {}})
	d := &DNS{Options: Options{Network: n, Limits: Limits{Queries: 3}}}
	relayed(t, d, func(t *testing.T, udp *packets, _ *listener) {
		for i := range 5 {
			udp.in <- packet{string(question(t, uint16(i), "web.test.", 0)), client}
		}
		synctest.Wait()
		if len(udp.out) != 2 || len(n.requests()) != 3 || d.Counters.Snapshot().Failures[Crowded] != 2 {
			t.Errorf("%d answers, asked %q", len(udp.out), n.requests())
		}
		udp.in <- packet{"\x00\x01\x00", client} // nobody to answer
		udp.in <- packet{string(response(t, question(t, 1, "a.", 0), 0, 0)), client}
		synctest.Wait()
		if got := d.Counters.Snapshot().Failures[Malformed]; len(udp.out) != 2 || got != 2 {
			t.Errorf("%d answers, %d malformed", len(udp.out), got)
		}
	})
}

func TestDNSStreamEnds(t *testing.T) {
	relayed(t, &DNS{Options: Options{Network: newInside()}}, func(t *testing.T, _ *packets, tcp *listener) {
		for name, said := range map[string]string{"half a length": "\x00", "half a message": "\x00\x20abc", "no message": "\x00\x00", "no query": "\x00\x03abc"} {
			c := tcp.connect()
			io.Copy(c, strings.NewReader(said))
			began := time.Now()
			ended(t, c)
			if d := time.Since(began); d > idleStream {
				t.Errorf("%s: after %v", name, d)
			}
			c.Close()
		}
	})
}
