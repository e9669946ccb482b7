package martlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DialContext connects to "host:port" through the tunnel: "tcp" or "udp", with 4 or 6 behind it
// if need be. Names are resolved by Resolver. While a connection is being brought up, or up
// again, it waits until ctx is done; if nobody brings one up (see Connect), and for an address to
// which no tunnel leads, it fails at once (syscall.ENETDOWN, syscall.ENETUNREACH). Errors are
// those of package net. In a Node with Host set, the tunnel's routes are the host's, so that
// this is net.Dialer's. With an Enclave or a Device, whose packets this process has no part in, and
// before Start, it fails with an *Error: nothing is dialled outside of the tunnel.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch {
	case n.host != nil:
		return (&net.Dialer{}).DialContext(ctx, network, address)
	case n.stack == nil:
		return nil, n.elsewhere()
	}
	fail := func(err error) (net.Conn, error) {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return nil, op
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	hostname, service, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return fail(err)
	}
	addr, err := netip.ParseAddr(hostname)
	if err != nil {
		addrs, err := n.lookup(ctx, "ip"+network[min(3, len(network)):], hostname)
		if err != nil {
			return fail(err)
		}
		return n.dialFirst(ctx, network, addrs, uint16(port))
	}
	if err := n.ready(ctx, addr.Unmap()); err != nil {
		return fail(err)
	}
	return n.stack.DialContext(ctx, network, netip.AddrPortFrom(addr, uint16(port)).String())
}

// headStart is what an address of a host has before the next is tried beside it (RFC 8305 §8).
const headStart = 250 * time.Millisecond

// dialFirst connects to that address of a host which answers first. Those to which no tunnel
// leads are passed over, unless that is all of them.
func (n *Node) dialFirst(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	reachable := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !n.ways.lead(a.Unmap()) })
	if len(reachable) == 0 {
		reachable = addrs[:1]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(reachable))
	try := func(a netip.Addr) {
		conn, err := n.DialContext(ctx, network, netip.AddrPortFrom(a.Unmap(), port).String())
		results <- result{conn, err}
	}
	var first error
	running := 0
	for next := 0; next < len(reachable) || running > 0; {
		var later <-chan time.Time
		if next < len(reachable) {
			if running == 0 {
				go try(reachable[next])
				next, running = next+1, running+1
				continue
			}
			later = time.After(headStart)
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				go func() { // who comes second is not wanted any more
					for range running {
						if r := <-results; r.conn != nil {
							r.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			first = cmp.Or(first, r.err)
		case <-later:
			go try(reachable[next])
			next, running = next+1, running+1
		}
	}
	return nil, first
}

// Listen accepts TCP connections that come through the tunnel: network is "tcp", "tcp4" or "tcp6",
// address a literal address and a number of a port, of which 0 takes a free one. Without a
// host all inner addresses are meant, those that come later too, so that one can listen before
// there is a tunnel. Addresses of connections are of type *net.TCPAddr. In a Node with Host set this
// is net.Listen; where DialContext fails with an *Error this does too.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	switch {
	case n.host != nil:
		return net.Listen(network, address)
	case n.stack == nil:
		return nil, n.elsewhere()
	}
	at, err := inner("tcp", network, address)
	if err != nil {
		return nil, err
	}
	return n.stack.ListenTCP(at)
}

// ListenPacket takes and sends UDP datagrams inside the tunnel, by the rules of Listen: network is
// "udp", "udp4" or "udp6", and addresses are of type *net.UDPAddr.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	switch {
	case n.host != nil:
		return net.ListenPacket(network, address)
	case n.stack == nil:
		return nil, n.elsewhere()
	}
	at, err := inner("udp", network, address)
	if err != nil {
		return nil, err
	}
	return n.stack.ListenPacket(at)
}

// inner parses an address to listen on. Without a host it is the unspecified address of IPv6, which
// stands for both families, or that of IPv4 if the network is of that.
func inner(transport, network, address string) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	family, ok := strings.CutPrefix(network, transport)
	if !ok || family != "" && family != "4" && family != "6" {
		return fail(net.UnknownNetworkError(network))
	}
	hostname, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	if hostname == "" {
		hostname = "::"
		if family == "4" {
			hostname = "0.0.0.0"
		}
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(hostname, port))
	if err != nil {
		return fail(&net.AddrError{Err: "not a literal address and the number of a port", Addr: address})
	}
	if family != "" && at.Addr().Unmap().Is4() != (family == "4") {
		return fail(&net.AddrError{Err: "no address of that family", Addr: address})
	}
	return at, nil
}

// InnerAddresses are those that this end has inside the tunnel, where it ends in this process: that
// gateways gave, or a gateway's own.
func (n *Node) InnerAddresses() []netip.Addr {
	if n.stack == nil {
		return nil
	}
	return n.stack.Addresses()
}

// Resolver resolves names inside the tunnel, by the resolvers that the gateways gave when it is
// asked, or those of Config.DNS.TunnelServers; where there are none it fails, rather than ask
// outside. In a Node with Host set it is the host's; where DialContext fails with an *Error it asks
// nobody.
func (n *Node) Resolver() *net.Resolver {
	if n.host != nil {
		return net.DefaultResolver
	}
	var turn atomic.Uint32 // the next server, after one that gave no answer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if n.stack == nil {
			return nil, n.elsewhere()
		}
		servers, err := n.resolvers(ctx)
		if err != nil {
			return nil, err
		}
		server := servers[int(turn.Add(1)-1)%len(servers)]
		return n.DialContext(ctx, network, server.String())
	}}
}

var errNoResolver = errors.New("martlet: no gateway gave a resolver, and names are not resolved outside the tunnel; dial an address, or set dns.tunnel_servers")

// resolvers are those inside the tunnel; there is one at least. It waits for a tunnel.
func (n *Node) resolvers(ctx context.Context) ([]netip.AddrPort, error) {
	if err := n.ready(ctx, netip.Addr{}); err != nil {
		return nil, err
	}
	var servers []netip.AddrPort
	for _, at := range n.conf().DNS.Inside {
		servers = append(servers, netip.AddrPortFrom(at.Addr().Unmap(), cmp.Or(at.Port(), 53)))
	}
	if len(servers) > 0 {
		return servers, nil
	}
	for _, st := range n.engines.statuses() {
		if st.Initiator {
			for _, a := range st.Lease.DNS {
				servers = append(servers, netip.AddrPortFrom(a.Unmap(), 53))
			}
		}
	}
	if len(servers) == 0 {
		return nil, errNoResolver
	}
	return servers, nil
}

// lookup resolves a name by Resolver. It waits for the tunnel first, since the resolver's own
// patience is short.
func (n *Node) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	servers, err := n.resolvers(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.ready(ctx, servers[0].Addr()); err != nil {
		return nil, err
	}
	return n.Resolver().LookupNetIP(ctx, network, host)
}

// HTTPClient makes a client whose connections go through the tunnel, past the proxies that the
// environment names. It keeps connections for later requests, so that a program makes one and keeps
// it; CloseIdleConnections lets go of them. It speaks HTTP/2 where the server does, and HTTP/1.1 alone in
// a program that is built with the tag nethttpomithttp2, as `martlet` is.
func (n *Node) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         n.DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
	}}
}

// Ping sends an ICMP echo request through the tunnel and returns the round-trip time. It
// works only where packets end in this process. PingHost takes names too.
func (n *Node) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	switch {
	case n.host != nil:
		return 0, fmt.Errorf("martlet: ping: %w: the host has a ping of its own", errors.ErrUnsupported)
	case n.stack == nil:
		return 0, n.elsewhere()
	}
	if err := n.ready(ctx, addr.Unmap()); err != nil {
		return 0, fmt.Errorf("martlet: ping %v: %w", addr, err)
	}
	return n.stack.Ping(ctx, addr)
}
