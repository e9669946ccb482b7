package netstack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoKey is a request on its way outside. All requests of a family share one socket, whose identifier
// the host chooses; the sequence number tells them apart.
type echoKey struct {
	v6       bool
	sequence uint16
}

// request is an ICMP echo request of a client.
//
// RFC 5508 §3.1 REQ-1 wants identifiers mapped; with the sequence numbers mapped too, one
// socket is enough for all.
type request struct {
	f                    *Forwarder
	key                  echoKey
	client, dest         netip.Addr
	identifier, sequence uint16
	sent                 time.Duration
}

func (r *request) lastUse() time.Duration { return r.sent }
func (r *request) owner() netip.Addr      { return r.client }

// takeEcho gets what ICMP brings, inside Stack.Write. Echo requests that it does not take
// are for the stack, which answers them.
func (f *Forwarder) takeEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	client, dest := addressOf(id.RemoteAddress), addressOf(id.LocalAddress)
	h := pkt.TransportHeader().Slice()
	// RFC 792 and RFC 4443 §4.1: type, code, checksum, identifier, sequence number.
	if len(h) < header.ICMPv4MinimumSize || h[0] != requestType(dest) || f.isHost(dest) {
		return false
	}
	if !f.answers(client) {
		return true
	}
	why := Reserved
	if !dest.Is4In6() {
		why = f.judge(dest)
	}
	if why != Allowed {
		if !f.refuse(&f.echo, why) {
			f.reject(client, dest, prohibited, quote(pkt))
		}
		return true
	}
	payload, ok := pkt.Data().PullUp(pkt.Data().Size())
	if !ok && pkt.Data().Size() > 0 {
		return true
	}
	socket := f.echo4
	if dest.Is6() {
		socket = f.echo6
	}
	socket.request(&request{
		f: f, client: client, dest: dest,
		identifier: binary.BigEndian.Uint16(h[4:]), sequence: binary.BigEndian.Uint16(h[6:]),
	}, payload)
	return true
}

func requestType(a netip.Addr) byte {
	if a.Is4() {
		return byte(header.ICMPv4Echo)
	}
	return byte(header.ICMPv6EchoRequest)
}

func replyType(a netip.Addr) byte {
	if a.Is4() {
		return byte(header.ICMPv4EchoReply)
	}
	return byte(header.ICMPv6EchoReply)
}

// echoSocket is the socket of the host for the echoes of one family, opened with the first.
type echoSocket struct {
	f  *Forwarder
	v6 bool

	mu     sync.Mutex
	closed bool
	conn   net.PacketConn
	out    chan message
	next   uint16
	failed string        // why there is none
	warn   string        // to be told
	again  time.Duration // when it is tried again
}

type message struct {
	octets []byte
	to     netip.Addr
}

const (
	echoQueue = 64               // requests that the socket has not taken
	echoRetry = 10 * time.Second // after the host has refused the socket: whoever allows it does not wait long
	echoFails = 100              // errors in a row, after which the socket is given up
)

func newEchoSocket(f *Forwarder, v6 bool) *echoSocket { return &echoSocket{f: f, v6: v6} }

func (s *echoSocket) failure() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// request sends one on, under a sequence number of its own.
func (s *echoSocket) request(r *request, payload []byte) {
	if warn := s.try(r, payload); warn != "" {
		s.f.cfg.Warn(warn)
	}
}

func (s *echoSocket) try(r *request, payload []byte) (warn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { warn, s.warn = s.warn, "" }()
	if !s.open() || len(s.out) == cap(s.out) {
		s.f.echo.dropped.Add(1)
		return warn
	}
	r.sent = s.f.now()
	for { // there are more numbers than requests
		s.next++
		r.key = echoKey{s.v6, s.next}
		evicted, did := s.f.echoes.insert(r.key, r)
		if evicted != nil {
			s.f.echo.full.Add(1)
		}
		if did == shut {
			return warn
		}
		if did == admitted {
			break
		}
	}
	m := make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(payload))
	m[0] = requestType(r.dest)
	binary.BigEndian.PutUint16(m[6:], r.key.sequence)
	m = append(m, payload...)
	if !s.v6 { // Linux makes this one itself; others do not
		header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
	}
	s.f.echo.opened.Add(1)
	s.f.echo.fromClients.Add(uint64(len(payload)))
	s.out <- message{m, r.dest} // there is room, and nobody else fills it
	return warn
}

// open makes sure that there is a socket, if the host allows it. The caller has the lock.
func (s *echoSocket) open() bool {
	if s.conn != nil || s.closed {
		return !s.closed
	}
	if s.failed != "" && s.f.now() < s.again {
		return false
	}
	network := "udp4"
	if s.v6 {
		network = "udp6"
	}
	conn, err := s.f.cfg.ListenEcho(network)
	if err != nil {
		first := s.failed == ""
		s.failed, s.again = err.Error(), s.f.now()+echoRetry
		if first {
			s.warn = fmt.Sprintf("netstack: this host gives no %s socket for ICMP echo (%v), so that clients cannot ping what is behind it; on Linux the sysctl net.ipv4.ping_group_range allows it", network, err)
		}
		return false
	}
	s.conn, s.failed = conn, ""
	s.out = make(chan message, echoQueue)
	out := s.out
	s.f.wg.Go(func() {
		for m := range out {
			_, _ = conn.WriteTo(m.octets, &net.UDPAddr{IP: m.to.AsSlice()})
		}
	})
	s.f.wg.Go(func() { s.receive(conn) })
	return true
}

func (s *echoSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.drop()
}

// drop closes the socket. The caller has the lock.
func (s *echoSocket) drop() {
	if s.conn != nil {
		s.conn.Close()
		close(s.out)
		s.conn = nil
	}
}

// receive takes replies until the socket is closed.
func (s *echoSocket) receive(conn net.PacketConn) {
	b := s.f.blocks.take()
	defer s.f.blocks.give(b)
	for fails := 0; fails < echoFails; {
		n, from, err := conn.ReadFrom(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			fails++
			continue
		}
		fails = 0
		s.reply(b[:n], addrPortOf(from).Addr())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == conn {
		s.drop()
	}
}

// reply hands one to the client that asked, with its own numbers; only from where that
// asked, and only once.
func (s *echoSocket) reply(m []byte, from netip.Addr) {
	if len(m) < header.ICMPv4MinimumSize || from.Is6() != s.v6 || m[0] != replyType(from) {
		return
	}
	key := echoKey{s.v6, binary.BigEndian.Uint16(m[6:])}
	r, ok := s.f.echoes.get(key)
	if !ok || r.dest != from || !s.f.echoes.remove(key, r) {
		return
	}
	s.f.echo.toClients.Add(uint64(len(m) - header.ICMPv4MinimumSize))
	binary.BigEndian.PutUint16(m[4:], r.identifier)
	binary.BigEndian.PutUint16(m[6:], r.sequence)
	s.f.icmp(r.client, r.dest, m)
}

func (f *Forwarder) sweepEchoes(now time.Duration) {
	for _, r := range f.echoes.all(false) {
		if now-r.sent > f.cfg.EchoIdle && f.echoes.remove(r.key, r) {
			f.echo.failed.Add(1)
		}
	}
}
