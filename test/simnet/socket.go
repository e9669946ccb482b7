package simnet

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"martlet/esp/udpencap"
)

const (
	socketQueue = 4096 // datagrams; more are dropped, as by a full socket buffer
	socketBatch = 64
	markerLen   = 4 // non-ESP marker (RFC 3948 §2.2)
)

var _ udpencap.Listener = (*Host)(nil)

// socket is a udpencap.Socket of a live network.
type socket struct {
	host   *Host
	local  netip.AddrPort
	encap  bool
	queue  chan Datagram
	closed chan struct{}
}

// Listen opens a socket on the host, as udpencap.Listener says. An unspecified
// address stands for all of that family.
func (h *Host) Listen(local netip.AddrPort, encap bool) (udpencap.Socket, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if local.Port() == 0 {
		for local.Port() == 0 || h.sockets[local] != nil {
			local = netip.AddrPortFrom(local.Addr(), uint16(49152+n.rng.IntN(16384)))
		}
	}
	if h.sockets[local] != nil {
		return nil, fmt.Errorf("simnet: listen on %v at %s: %w", local, h.Name, syscall.EADDRINUSE)
	}
	s := &socket{host: h, local: local, encap: encap, queue: make(chan Datagram, socketQueue), closed: make(chan struct{})}
	h.sockets[local] = s
	return s, nil
}

// socketFor finds the socket for a destination, the more specific first.
func (h *Host) socketFor(to netip.AddrPort) *socket {
	if s := h.sockets[to]; s != nil {
		return s
	}
	wild := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		wild = netip.IPv4Unspecified()
	}
	return h.sockets[netip.AddrPortFrom(wild, to.Port())]
}

// enqueue is called with the network's lock held.
func (s *socket) enqueue(d Datagram) bool {
	select {
	case s.queue <- d:
		return true
	default:
		return false
	}
}

// LocalAddr is the bound address.
func (s *socket) LocalAddr() netip.AddrPort { return s.local }

// Encap reports whether the socket marks IKE messages.
func (s *socket) Encap() bool { return s.encap }

// Stream is false.
func (s *socket) Stream() bool { return false }

// Readers is the socket itself.
func (s *socket) Readers() []udpencap.Reader { return []udpencap.Reader{s} }

// Batch is the number of packets worth passing to Read.
func (s *socket) Batch() int { return socketBatch }

// Read fills packets with what has arrived, and waits for the first.
func (s *socket) Read(packets []udpencap.Packet) (int, error) {
	if len(packets) == 0 {
		return 0, nil
	}
	n := 0
	for n == 0 {
		select {
		case d := <-s.queue:
			n = s.classify(d, packets, n)
		case <-s.closed:
			return 0, fmt.Errorf("simnet: read on %v: %w", s.local, net.ErrClosed)
		}
	}
	more, err := s.ReadMore(packets[n:])
	return n + more, err
}

// ReadMore fills packets with what has arrived. Each has memory of its own.
func (s *socket) ReadMore(packets []udpencap.Packet) (int, error) {
	n := 0
	for n < len(packets) {
		select {
		case d := <-s.queue:
			n = s.classify(d, packets, n)
		default:
			return n, nil
		}
	}
	return n, nil
}

// classify puts d at packets[n] if it is of any kind, and returns the new n
// (RFC 3948 §2, RFC 7296 §3.1).
func (s *socket) classify(d Datagram, packets []udpencap.Packet, n int) int {
	p := udpencap.Packet{Kind: udpencap.IKE, Local: d.To, Remote: d.From, ECN: d.ECN}
	p.Data = append([]byte(nil), d.Data...) // copies of a duplicate must not share memory
	switch {
	case len(p.Data) == 0:
		return n
	case !s.encap:
	case len(p.Data) == 1 && p.Data[0] == 0xff:
		p.Kind = udpencap.Keepalive
	case len(p.Data) < markerLen:
		return n
	case [markerLen]byte(p.Data) == [markerLen]byte{}:
		p.Data = p.Data[markerLen:]
	default:
		p.Kind = udpencap.ESP
	}
	packets[n] = p
	return n + 1
}

// Write sends each packet.
func (s *socket) Write(packets []udpencap.Packet) (int, error) {
	select {
	case <-s.closed:
		return 0, fmt.Errorf("simnet: write on %v: %w", s.local, net.ErrClosed)
	default:
	}
	for _, p := range packets {
		from := s.local
		if p.Local.Addr().IsValid() && !p.Local.Addr().IsUnspecified() {
			from = netip.AddrPortFrom(p.Local.Addr(), s.local.Port())
		}
		var data []byte
		if s.encap && p.Kind == udpencap.IKE {
			data = make([]byte, markerLen, markerLen+len(p.Data))
		}
		for datagram := range p.Datagrams() {
			s.host.Send(Datagram{From: from, To: p.Remote, Data: append(data, datagram...), ECN: p.ECN})
		}
	}
	return len(packets), nil
}

// Close closes the socket; a second time it does nothing.
func (s *socket) Close() error {
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.host.sockets[s.local] == s {
		delete(s.host.sockets, s.local)
		close(s.closed)
	}
	return nil
}
