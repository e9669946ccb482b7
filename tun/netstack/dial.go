package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// DialContext connects from inside the stack. The network is tcp, tcp4, tcp6,
// udp, udp4 or udp6; address is a literal address and a port. Errors are *net.OpError around those that package net would return
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
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, &net.AddrError{Err: "not a literal address and a port", Addr: address}
	}
	remote = netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port())
	if family == 4 && !remote.Addr().Is4() || family == 6 && remote.Addr().Is4() {
		return nil, &net.AddrError{Err: fmt.Sprintf("no address of family IPv%d", family), Addr: address}
	}
	return s.dialOne(ctx, transport, network, remote)
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
	_ = s.divide() // what went well once cannot fail
	return &streamConn{TCPConn: c}, nil
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
	return &listener{TCPListener: l, stack: s}, nil
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
