package martlet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// DialContext connects to an address through the tunnel: "tcp" or "udp", with 4 or 6 behind it
// if need be. Names are resolved by the resolvers that the gateway gave. In a Node with
// Host set, the tunnel's routes are the host's, so that this is net.Dialer's.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if n.stack == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	hostname, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if _, err := netip.ParseAddr(hostname); err == nil {
		return n.stack.DialContext(ctx, network, address)
	}
	addrs, err := n.Resolver().LookupNetIP(ctx, "ip"+network[min(3, len(network)):], hostname)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var errs []error
	for _, addr := range addrs {
		conn, err := n.stack.DialContext(ctx, network, net.JoinHostPort(addr.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Listen accepts TCP connections that come through the tunnel; address is as for
// net.Listen, and an empty host means all inner addresses.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	if n.stack == nil {
		return net.Listen(network, address)
	}
	at, err := inner(network, address)
	if err != nil {
		return nil, err
	}
	return n.stack.ListenTCP(at)
}

// ListenPacket takes UDP datagrams that come through the tunnel.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	if n.stack == nil {
		return net.ListenPacket(network, address)
	}
	at, err := inner(network, address)
	if err != nil {
		return nil, err
	}
	return n.stack.ListenPacket(at)
}

// inner parses an address to listen on. Without a host it is the unspecified IPv4
// address, or that of IPv6 for "tcp6" and "udp6".
func inner(network, address string) (netip.AddrPort, error) {
	hostname, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if hostname == "" {
		hostname = "0.0.0.0"
		if network[len(network)-1] == '6' {
			hostname = "::"
		}
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(hostname, port))
	if err != nil {
		return at, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return at, nil
}

// Resolver resolves names by the resolvers that the gateways gave, inside the tunnel;
// where none gave any it fails, rather than ask outside. In a Node with Host set it is
// the host's.
func (n *Node) Resolver() *net.Resolver {
	if n.stack == nil {
		return net.DefaultResolver
	}
	var servers []netip.Addr
	for _, st := range n.engines.statuses() {
		if st.Initiator {
			servers = append(servers, st.Lease.DNS...)
		}
	}
	if len(servers) == 0 {
		return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("martlet: no gateway gave a resolver, and names are not resolved outside the tunnel; dial an address")
		}}
	}
	return n.stack.Resolver(servers)
}

// HTTPClient is a client whose connections go through the tunnel.
func (n *Node) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         n.DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
	}}
}

// Ping sends an ICMP echo request through the tunnel and returns the round-trip time. It
// works only where packets end in this process.
func (n *Node) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	if n.stack == nil {
		return 0, fmt.Errorf("martlet: ping: %w: the host has a ping of its own", errors.ErrUnsupported)
	}
	return n.stack.Ping(ctx, addr)
}
