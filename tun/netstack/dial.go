package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// DialContext connects from inside the stack. The network is tcp, tcp4, tcp6,
// udp, udp4 or udp6; address is "host:port". A host that is a name is looked up
// with the resolver of SetResolver, never with that of the operating system.
// Errors are *net.OpError around those that package net would return
// (syscall.ECONNREFUSED, os.ErrDeadlineExceeded, net.ErrClosed).
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return nil, op
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return conn, nil
}

func (s *Stack) dial(ctx context.Context, network, address string) (net.Conn, error) {
	transport, family, err := splitNetwork(network)
	if err != nil {
		return nil, err
	}
	candidates, err := s.resolve(ctx, transport, family, address)
	if err != nil {
		return nil, err
	}
	var first error
	for _, remote := range candidates {
		conn, err := s.dialOne(ctx, transport, network, remote)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (s *Stack) dialOne(ctx context.Context, transport, network string, remote netip.AddrPort) (net.Conn, error) {
	fail := func(err error) error {
		if s.closed.Load() {
			err = net.ErrClosed
		}
		return &net.OpError{Op: "dial", Net: network, Addr: addrOf(transport, remote), Err: plain(err)}
	}
	if s.closed.Load() {
		return nil, fail(net.ErrClosed)
	}
	full := fullAddress(remote)
	if transport == "udp" {
		c, err := gonet.DialUDP(s.stack, nil, &full, networkOf(remote.Addr()))
		if err != nil {
			return nil, fail(err)
		}
		return &packetConn{UDPConn: c}, nil
	}
	c, err := gonet.DialContextTCP(ctx, s.stack, full, networkOf(remote.Addr()))
	if err != nil {
		return nil, fail(err)
	}
	return &streamConn{TCPConn: c}, nil
}

// resolve gives the addresses to try, those of a family that the stack has an
// address of first.
func (s *Stack) resolve(ctx context.Context, transport string, family int, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, transport, service)
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{a}
	} else {
		s.mu.Lock()
		resolver := s.resolver
		s.mu.Unlock()
		if resolver == nil {
			return nil, &net.DNSError{Err: "no name server inside the tunnel; give a literal address", Name: host}
		}
		if found, err = resolver.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err
		}
	}
	var out, later []netip.AddrPort
	own := s.Addresses()
	for _, a := range found {
		a = a.Unmap().WithZone("")
		if family == 4 && !a.Is4() || family == 6 && a.Is4() {
			continue
		}
		if slices.ContainsFunc(own, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			out = append(out, netip.AddrPortFrom(a, uint16(port)))
		} else {
			later = append(later, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	out = append(out, later...)
	if len(out) == 0 {
		return nil, &net.AddrError{Err: fmt.Sprintf("no address of family IPv%d", family), Addr: host}
	}
	return out, nil
}

// SetResolver sets what DialContext looks names up with; nil, as at the start,
// refuses names.
func (s *Stack) SetResolver(r *net.Resolver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolver = r
}

// Resolver makes a resolver that asks servers, on port 53, through the stack; one
// after the other when they do not answer. Go's resolver looks into the host's
// hosts file first and appends the host's search domains to short names.
func (s *Stack) Resolver(servers []netip.Addr) *net.Resolver {
	servers = slices.Clone(servers)
	var turn atomic.Uint32
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			if len(servers) == 0 {
				return nil, errors.New("netstack: the tunnel has no name server")
			}
			transport, _, err := splitNetwork(network)
			if err != nil {
				return nil, err
			}
			server := servers[int(turn.Add(1)-1)%len(servers)].Unmap()
			return s.dialOne(ctx, transport, network, netip.AddrPortFrom(server, 53))
		},
	}
}

// ListenTCP listens on an address of the stack; an unspecified one means all, and
// :: both families. Port 0 takes a free one.
func (s *Stack) ListenTCP(local netip.AddrPort) (net.Listener, error) {
	if err := s.bindable(local.Addr()); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(local), Err: err}
	}
	l, err := gonet.ListenTCP(s.stack, fullAddress(local), networkOf(local.Addr().Unmap()))
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(local), Err: plain(err)}
	}
	return &listener{TCPListener: l}, nil
}

// ListenPacket opens a UDP socket on an address of the stack, by the rules of
// ListenTCP.
func (s *Stack) ListenPacket(local netip.AddrPort) (net.PacketConn, error) {
	if err := s.bindable(local.Addr()); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(local), Err: err}
	}
	full := fullAddress(local)
	c, err := gonet.DialUDP(s.stack, &full, nil, networkOf(local.Addr().Unmap()))
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(local), Err: plain(err)}
	}
	return &packetConn{UDPConn: c}, nil
}

// bindable refuses the addresses of others, which gVisor would listen on.
func (s *Stack) bindable(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	switch {
	case s.closed.Load():
		return net.ErrClosed
	case !a.IsValid() || a.IsUnspecified() || slices.Contains(s.Addresses(), a):
		return nil
	}
	return syscall.EADDRNOTAVAIL
}

func splitNetwork(network string) (transport string, family int, err error) {
	transport = strings.TrimRight(network, "46")
	if transport != "tcp" && transport != "udp" || len(network)-len(transport) > 1 {
		return "", 0, net.UnknownNetworkError(network)
	}
	switch network[len(transport):] {
	case "4":
		family = 4
	case "6":
		family = 6
	}
	return transport, family, nil
}

func addrOf(transport string, a netip.AddrPort) net.Addr {
	if transport == "udp" {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

// fullAddress leaves an unspecified address empty, which is "any" to gVisor.
func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	full := tcpip.FullAddress{NIC: nic, Port: a.Port()}
	if addr := a.Addr().Unmap().WithZone(""); addr.IsValid() && !addr.IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(addr.AsSlice())
	}
	return full
}
