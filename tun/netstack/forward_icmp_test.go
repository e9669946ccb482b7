package netstack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"martlet/tun"
)

// far is a socket for ICMP echo whose requests a test answers by hand.
type far struct {
	net.PacketConn
	requests chan packetTo
	replies  chan packetTo
	once     sync.Once
	closed   chan struct{}
}

type packetTo struct {
	octets []byte
	addr   netip.Addr
}

func newFar() *far {
	return &far{requests: make(chan packetTo, 1000), replies: make(chan packetTo, 1000), closed: make(chan struct{})}
}

func (f *far) WriteTo(b []byte, to net.Addr) (int, error) {
	f.requests <- packetTo{bytes.Clone(b), to.(*net.UDPAddr).AddrPort().Addr().Unmap()}
	return len(b), nil
}

func (f *far) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case r := <-f.replies:
		if r.octets == nil {
			return 0, nil, syscall.EHOSTUNREACH
		}
		return copy(b, r.octets), &net.UDPAddr{IP: r.addr.AsSlice()}, nil
	case <-f.closed:
		return 0, nil, net.ErrClosed
	}
}

func (f *far) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// reply is the reply to a request.
func (p packetTo) reply() packetTo {
	b := bytes.Clone(p.octets)
	b[0] = replyType(p.addr)
	return packetTo{b, p.addr}
}

// echoing are two such sockets, behind a configuration.
func echoing() (ForwardConfig, map[string]*far) {
	sockets := map[string]*far{"udp4": newFar(), "udp6": newFar()}
	return ForwardConfig{ListenEcho: func(network string) (net.PacketConn, error) { return sockets[network], nil }}, sockets
}

var publicPings = map[string]netip.Addr{"udp4": netip.MustParseAddr("8.8.4.4"), "udp6": netip.MustParseAddr("2606:4700::80")}

// echoOf is a packet with an echo request.
func echoOf(from, to netip.Addr, id, sequence uint16, payload []byte) []byte {
	m := append(make([]byte, 8), payload...)
	m[0] = requestType(to)
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], sequence)
	if to.Is4() {
		binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, 0))
	}
	return packetOf(from, to, requestProtocol(to), m)
}

func requestProtocol(a netip.Addr) byte {
	if a.Is4() {
		return byte(header.ICMPv4ProtocolNumber)
	}
	return byte(header.ICMPv6ProtocolNumber)
}

// packetOf is a packet of any protocol; what has a pseudo header in its checksum gets that
// made, at its place.
func packetOf(from, to netip.Addr, protocol byte, payload []byte) []byte {
	var b []byte
	if to.Is4() {
		b = make([]byte, 20, 20+len(payload))
		b[0], b[8], b[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
		copy(b[12:], from.AsSlice())
		copy(b[16:], to.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b, 0))
	} else {
		b = make([]byte, 40, 40+len(payload))
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
		copy(b[8:], from.AsSlice())
		copy(b[24:], to.AsSlice())
	}
	at, ok := map[byte]int{6: 16, 17: 6, 58: 2}[protocol]
	if ok && len(payload) >= at+2 {
		addresses := b[12:20]
		if to.Is6() {
			addresses = b[8:40]
		}
		payload = bytes.Clone(payload)
		binary.BigEndian.PutUint16(payload[at:], 0)
		sum := checksum.Combine(checksum.Checksum(addresses, uint16(protocol)), uint16(len(payload)))
		binary.BigEndian.PutUint16(payload[at:], ^checksum.Checksum(payload, sum))
	}
	return append(b, payload...)
}

// enter writes packets to a stack; all of them must be good ones.
func enter(t testing.TB, s *Stack, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		if n, err := s.Write([]tun.Frame{{Pieces: [][]byte{p}}}); n != 1 || err != nil {
			t.Fatalf("%x: took %d, %v", p, n, err)
		}
	}
}

// next is the payload of the next packet that leaves a stack.
func next(t testing.TB, s *Stack) (netip.Addr, netip.Addr, []byte) {
	t.Helper()
	frames := make([]tun.Frame, 1)
	if n, err := s.Read(frames); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	tr, ok := transportOf(frames[0].Pieces[0])
	if !ok || !intact(frames[0].Pieces[0], frames[0].Offload) {
		t.Fatalf("not intact: %x", frames[0].Pieces[0])
	}
	return addressOf(tr.src), addressOf(tr.dst), bytes.Clone(tr.payload)
}

// Two clients use the same numbers, and each gets the reply to its own, with these numbers.
func TestForwardEcho(t *testing.T) {
	for network, to := range publicPings {
		t.Run(network, func(t *testing.T) {
			cfg, sockets := echoing()
			s := gateway(t, cfg)
			clients := []netip.Addr{clientAddrs[0], netip.MustParseAddr("10.9.0.77")}
			if to.Is6() {
				clients = []netip.Addr{clientAddrs[1], netip.MustParseAddr("fd00:9::77")}
			}
			sizes := []int{0, 1, 56, 1300}
			for i, from := range clients {
				for j, size := range sizes {
					enter(t, s, echoOf(from, to, 7, uint16(j), random(byte(10*i+j), size)))
				}
			}
			var asked []packetTo
			for range len(clients) * len(sizes) {
				asked = append(asked, <-sockets[network].requests)
			}
			// The other way round, among what is no reply.
			for i := len(asked) - 1; i >= 0; i-- {
				p := asked[i]
				if p.addr != to {
					t.Errorf("went to %s", p.addr)
				}
				elsewhere, unknown, error, short := p.reply(), p.reply(), p.reply(), p.reply()
				elsewhere.addr = to.Next()
				unknown.octets[6] ^= 0x80
				error.octets[0] = 3
				short.octets = short.octets[:7]
				for _, r := range []packetTo{elsewhere, unknown, error, short, {}, p.reply(), p.reply()} {
					sockets[network].replies <- r
				}
				from, client, b := next(t, s)
				want := echoOf(client, to, 7, uint16(i%len(sizes)), random(byte(10*(i/len(sizes))+i%len(sizes)), sizes[i%len(sizes)]))
				want = want[len(want)-len(b):]
				if from != to || client != clients[i/len(sizes)] || b[0] != replyType(to) || !bytes.Equal(b[4:], want[4:]) {
					t.Errorf("reply %d: %s to %s: %x, want %x", i, from, client, b, want)
				}
			}
			if st := s.forwarder.Status().Echo; st.Open != 0 || st.Opened != 8 || st.FromClients != 2714 || st.ToClients != st.FromClients || st.Dropped != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Requests without a reply are so many and no more, and end.
func TestForwardEchoBounds(t *testing.T) {
	const total, each = 40, 10
	cfg, sockets := echoing()
	cfg.MaxEchoes, cfg.MaxEchoesEach = total, each
	s := gateway(t, cfg)
	f := s.forwarder
	sent := 0
	for i := range 10 {
		from := netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i)})
		for j := range 30 {
			enter(t, s, echoOf(from, publicPings["udp4"], 1, uint16(j), nil))
			sent++
			if n := len(f.echoes.of(from)); n > each || f.echoes.len() > total {
				t.Fatalf("%d of one client, %d in all", n, f.echoes.len())
			}
			<-sockets["udp4"].requests
		}
	}
	if st := f.Status().Echo; st.Open != total || st.Opened != uint64(sent) || st.Full != uint64(sent-total) {
		t.Errorf("%+v", st)
	}
	// The last of the last client is remembered, its first is not.
	last := f.echoes.of(netip.AddrFrom4([4]byte{10, 9, 0, 19}))
	for _, r := range last {
		if r.sequence < 20 {
			t.Errorf("remembers %d", r.sequence)
		}
	}
	f.Drop(netip.AddrFrom4([4]byte{10, 9, 0, 19}))
	if n := f.echoes.len(); n != total-each {
		t.Errorf("%d open", n)
	}
	f.sweep(f.now() + f.cfg.EchoIdle/2)
	if n := f.echoes.len(); n != total-each {
		t.Errorf("%d open", n)
	}
	f.sweep(f.now() + 2*f.cfg.EchoIdle)
	if st := f.Status().Echo; st.Open != 0 || st.Failed != total-each {
		t.Errorf("%+v", st)
	}
}

// A socket that only fails is given up, and the next request opens another.
func TestForwardEchoSocketFails(t *testing.T) {
	opened := make(chan *far, 10)
	s := gateway(t, ForwardConfig{ListenEcho: func(string) (net.PacketConn, error) {
		socket := newFar()
		opened <- socket
		return socket, nil
	}})
	request := echoOf(clientAddrs[0], publicPings["udp4"], 1, 1, nil)
	enter(t, s, request)
	first := <-opened
	for range echoFails {
		first.replies <- packetTo{}
	}
	<-first.closed
	until(t, "it is given up", func() bool {
		s.forwarder.echo4.mu.Lock()
		defer s.forwarder.echo4.mu.Unlock()
		return s.forwarder.echo4.conn == nil
	})
	enter(t, s, request)
	second := <-opened
	second.replies <- (<-second.requests).reply()
	if _, client, b := next(t, s); client != clientAddrs[0] || b[0] != replyType(client) {
		t.Errorf("%s: %x", client, b)
	}
}

// Where the host allows none, that is said once, counted, and tried again later.
func TestForwardNoEcho(t *testing.T) {
	var warnings watch
	tries := 0
	var s *Stack
	s = gateway(t, ForwardConfig{
		ListenEcho: func(network string) (net.PacketConn, error) {
			tries++
			return nil, fmt.Errorf("%s: %w", network, syscall.EACCES)
		},
		Warn: func(text string) {
			_ = s.forwarder.Status() // may be asked here
			warnings.add(text)
		},
	})
	for i := range 3 {
		for j, to := range []netip.Addr{publicPings["udp4"], publicPings["udp6"]} {
			enter(t, s, echoOf(clientAddrs[j], to, 1, uint16(i), nil))
		}
	}
	st := s.forwarder.Status()
	if st.Echo.Dropped != 6 || st.Echo.Open != 0 || !strings.Contains(st.NoEcho4, "udp4") || !strings.Contains(st.NoEcho6, "udp6") {
		t.Errorf("%+v", st)
	}
	if len(warnings.seen) != 2 || !strings.Contains(warnings.seen[0], "ping_group_range") || tries != 2 {
		t.Errorf("%q, %d tries", warnings.seen, tries)
	}
	s.forwarder.echo4.again = 0
	enter(t, s, echoOf(clientAddrs[0], publicPings["udp4"], 1, 9, nil))
	if len(warnings.seen) != 2 || tries != 3 {
		t.Errorf("%q, %d tries", warnings.seen, tries)
	}
	// The stack itself answers without any socket.
	for j, to := range serverAddrs {
		enter(t, s, echoOf(clientAddrs[j], to, 3, 4, []byte("own")))
		if from, _, b := next(t, s); from != to || b[0] != replyType(to) || string(b[8:]) != "own" {
			t.Errorf("%s: %x", from, b)
		}
	}
}
