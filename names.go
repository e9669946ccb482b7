package martlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/dns"
)

// resolve finds the addresses of a connection's remotes, in their order.
func (n *Node) resolve(ctx context.Context, conn *config.Connection) ([]netip.Addr, error) {
	var out []netip.Addr
	var failed []string
	for _, name := range conn.Remote {
		addrs, err := n.lookupOutside(ctx, name)
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", name, err))
		}
		out = append(out, addrs...)
	}
	if len(out) == 0 {
		e := &Error{
			Code: ike.CodeResolve,
			What: "the gateway's name has no address: " + strings.Join(conn.Remote, ", "),
			Why:  strings.Join(failed, "; "),
			Hint: "check the name and that this host's DNS works, or write an address into remote",
		}
		if n.conf().Node.KillSwitch {
			e.Hint = "check the name, or write an address into remote; a relay for names on this host cannot ask through the kill switch, only martlet can, so that /etc/resolv.conf must name other resolvers"
		}
		return nil, e
	}
	return n.reachable(ctx, out), nil
}

// lookupOutside finds the addresses of a host outside the tunnel; name may be one itself.
func (n *Node) lookupOutside(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr}, nil
	}
	found, err := cmp.Or(n.outside, net.DefaultResolver).LookupNetIP(ctx, "ip", name)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return n.remembered.recall(name, found, err)
}

// remembered are the addresses that names of gateways had when they were last found.
type remembered struct {
	mu sync.Mutex
	of map[string][]netip.Addr
}

// recall takes what was found for a name, or gives what was found before: a network whose resolver
// fails may let the gateway be reached. That a name is no more is an answer.
func (r *remembered) recall(name string, found []netip.Addr, err error) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if r.of == nil {
			r.of = map[string][]netip.Addr{}
		}
		r.of[name] = slices.Clone(found)
		return found, nil
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound || len(r.of[name]) == 0 {
		return nil, err
	}
	return slices.Clone(r.of[name]), nil
}

// relayed are files with the resolvers that this host asks by itself or by a relay: those of
// systemd-resolved, NetworkManager, the two of resolvconf, and what we ourselves keep of the file that
// ours took the place of. They have the form of resolv.conf(5).
var relayed = []string{
	"/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf",
	"/run/resolvconf/interface/*", "/run/resolvconf/interfaces/*", "/etc/resolv.conf",
}

// outsideNames asks for names past the tunnel, by sockets of ours. What a relay on this host asks
// comes from others, and would go into the tunnel or meet the kill switch; and the tunnel's own resolvers,
// which this host asks while it stands, are not outside. The host's other resolvers are asked in
// the place of both, where they are known.
type outsideNames struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	inside *resolvers    // of the tunnel
	files  []string      // patterns
	turn   atomic.Uint32 // which of the host's resolvers is asked, until it fails
}

func outsideResolver(control func(network, address string, c syscall.RawConn) error, inside *resolvers) *net.Resolver {
	o := &outsideNames{dial: (&net.Dialer{Control: control}).DialContext, inside: inside, files: relayed}
	return &net.Resolver{PreferGo: true, Dial: o.dialResolver}
}

func (o *outsideNames) dialResolver(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() && !o.inside.gave(at.Addr()) {
		return o.dial(ctx, network, address)
	}
	servers := o.servers()
	switch {
	case len(servers) > 0:
	case at.Addr().IsLoopback():
		return o.dial(ctx, network, address)
	default:
		return nil, fmt.Errorf("this host's only resolver, %v, is inside the tunnel", at.Addr())
	}
	turn := o.turn.Load()
	another := func() { o.turn.CompareAndSwap(turn, turn+1) }
	to := netip.AddrPortFrom(servers[turn%uint32(len(servers))], at.Port())
	conn, err := o.dial(ctx, network, to.String())
	if err != nil {
		another()
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		return &question{udp, another}, nil
	}
	return conn, nil
}

// servers are the resolvers of this host that are neither on it nor inside the tunnel.
func (o *outsideNames) servers() []netip.Addr {
	var out []netip.Addr
	for _, pattern := range o.files {
		files, _ := filepath.Glob(pattern) // the patterns are ours
		for _, file := range files {
			found, _ := dns.Before(file) // it may be gone again
			for _, a := range found {
				if !a.IsLoopback() && !o.inside.include(a) && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

// question is a socket to a resolver. Where no answer comes, unanswered is called.
type question struct {
	*net.UDPConn
	unanswered func()
}

func (q *question) Read(b []byte) (int, error) {
	n, err := q.UDPConn.Read(b)
	if err != nil {
		q.unanswered()
	}
	return n, err
}
