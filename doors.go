package martlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/dns"
	"martlet/tun/proxy"
)

// doors are the ways into the tunnel for programs beside this process: proxies, forwards, and
// the relay for DNS. They are open from Start to Close, whatever becomes of the tunnel.
type doors struct {
	counters proxy.Counters
	ctx      context.Context // is done when nobody more is let in
	close    context.CancelFunc
	serving  sync.WaitGroup
	open     []DoorStatus
}

// DoorStatus is one of the ways into the tunnel that a Node keeps open.
type DoorStatus struct {
	Name    string `json:"name"`         // as the configuration calls it
	Kind    string `json:"kind"`         // "socks5", "http", "socks5+http", "local", "remote" or "dns"
	Network string `json:"network"`      // "tcp" or "udp"
	Listen  string `json:"listen"`       // on this host; of a remote forward, inside the tunnel
	To      string `json:"to,omitempty"` // of a forward
}

// inside is the tunnel as package proxy wants it. Who asks at a door waits, until his time is over,
// also while nobody is bringing a tunnel up: doors are open before the first Connect.
type inside struct{ *Node }

// DialContext connects inside the tunnel.
func (i inside) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = i.wait(ctx, func() error {
		conn, err = i.Node.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// LookupNetIP resolves inside the tunnel.
func (i inside) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	err = i.wait(ctx, func() error {
		addrs, err = i.lookup(ctx, network, host)
		return err
	})
	return addrs, err
}

// Resolvers are those inside the tunnel.
func (i inside) Resolvers(ctx context.Context) (servers []netip.AddrPort, err error) {
	err = i.wait(ctx, func() error {
		servers, err = i.resolvers(ctx)
		return err
	})
	return servers, err
}

// wait tries again as long as there is no tunnel and none is coming.
func (i inside) wait(ctx context.Context, try func() error) error {
	err := try()
	if !errors.Is(err, syscall.ENETDOWN) {
		return err
	}
	if late := i.attend(ctx, func() bool {
		err = try()
		return !errors.Is(err, syscall.ENETDOWN)
	}); late != nil {
		return late
	}
	return err
}

// openDoors opens what the configuration names.
func (n *Node) openDoors() error {
	c := n.conf()
	n.doors.ctx, n.doors.close = context.WithCancel(n.ctx)
	table, any := c.Doors()
	switch {
	case !any:
		return nil
	case n.host != nil:
		return &Error{
			Code: ike.CodeHost,
			What: fmt.Sprintf("[%s] is not for a tunnel that is this host's", table),
			Why:  "proxies, forwards and the relay for DNS lead to a tunnel that ends in this process; with a device every program reaches it by itself, and a proxy could dial outside of it",
			Hint: `set node.mode = "userspace", or add --userspace`,
		}
	case n.stack == nil:
		e := *n.elsewhere()
		e.What = fmt.Sprintf("[%s] is not for this Node: %s", table, e.What)
		return &e
	}
	for _, name := range slices.Sorted(maps.Keys(c.Proxies)) {
		if err := n.openProxy(c.Proxies[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Forwards)) {
		if err := n.openForward(c.Forwards[name]); err != nil {
			return err
		}
	}
	if c.DNS.Listen != "" {
		return n.openDNS(&c.DNS)
	}
	return nil
}

// closeDoors lets nobody more in, and returns when all have left, or node.drain is over.
func (n *Node) closeDoors() {
	if n.doors.close != nil {
		n.doors.close()
		n.doors.serving.Wait()
	}
}

func (n *Node) doorOptions() proxy.Options {
	limits := proxy.Limits{Drain: max(0, time.Duration(n.conf().Node.Drain))}
	if n.footprint.Small {
		limits.Clients, limits.Associations, limits.Flows, limits.Queries = 512, 32, 128, 128
	}
	return proxy.Options{Network: inside{n}, Limits: limits, Log: n.log, Counters: &n.doors.counters}
}

// serve runs a server of package proxy until the doors close.
func (n *Node) serve(d DoorStatus, run func(context.Context) error) {
	n.doors.open = append(n.doors.open, d)
	n.log.Info("open", zap.String("door", d.Name), zap.String("kind", d.Kind), zap.String("network", d.Network), zap.String("listen", d.Listen))
	n.doors.serving.Go(func() {
		if err := run(n.doors.ctx); n.doors.ctx.Err() == nil {
			n.log.Error("a way into the tunnel is closed", zap.String("door", d.Name), zap.Error(err))
		}
	})
}

func (n *Node) openProxy(p *config.Proxy) error {
	key := "proxy." + p.Name
	server := &proxy.Server{Options: n.doorOptions()}
	d := DoorStatus{Name: key, Kind: "socks5+http", Network: "tcp"}
	switch p.Protocol {
	case config.ProtocolSOCKS5:
		server.Protocol, d.Kind = proxy.SOCKS, "socks5"
	case config.ProtocolHTTP:
		server.Protocol, d.Kind = proxy.HTTP, "http"
	}
	if p.User != "" {
		server.Users = []proxy.User{{Name: p.User, Password: string(p.Password.Value)}}
	}
	l, err := proxy.Listen(n.ctx, p.Listen, proxy.Exposure{Password: p.User != "", Open: p.Open})
	if err != nil {
		return doorError(key, p.Listen, err)
	}
	d.Listen = l.Addr().String()
	n.serve(d, func(ctx context.Context) error { return server.Serve(ctx, l) })
	return nil
}

func (n *Node) openForward(w *config.Forward) error {
	key, f, o := "forward."+w.Name, w.Parsed, n.doorOptions()
	d := DoorStatus{Name: key, Kind: "local", Network: f.Network, To: f.To()}
	if w.Remote != "" {
		d.Kind, d.Listen = "remote", f.Inside()
		remote := &proxy.Remote{Options: o, Forward: f}
		n.serve(d, remote.Serve)
		return nil
	}
	local, at := &proxy.Local{Options: o, Forward: f}, f.ListenAddress()
	if f.Network == "udp" {
		c, err := proxy.ListenPacket(n.ctx, at, proxy.Exposure{Open: w.Open})
		if err != nil {
			return doorError(key, at, err)
		}
		d.Listen = c.LocalAddr().String()
		n.serve(d, func(ctx context.Context) error { return local.ServePacket(ctx, c) })
		return nil
	}
	l, err := proxy.Listen(n.ctx, at, proxy.Exposure{Open: w.Open})
	if err != nil {
		return doorError(key, at, err)
	}
	d.Listen = l.Addr().String()
	n.serve(d, func(ctx context.Context) error { return local.Serve(ctx, l) })
	return nil
}

func (n *Node) openDNS(c *config.DNS) error {
	relay := &proxy.DNS{Options: n.doorOptions(), HostServers: c.Outside}
	if len(c.Outside) == 0 {
		servers, err := hostResolvers(resolvConf, c.Listen)
		if err != nil && len(c.Host) > 0 {
			return &Error{
				Code: ike.CodeHost, What: "it is not known which resolvers this host has, and dns.host needs them",
				Why: err.Error(), Hint: `name them: host_servers = ["192.0.2.53"] in [dns]`,
			}
		}
		relay.HostServers = servers
	}
	relay.Rules = c.Rules
	if len(relay.HostServers) > 0 {
		relay.Rules = append(n.gatewayRules(), c.Rules...)
	}
	packets, streams, err := listenDNS(n.ctx, c.Listen, proxy.Exposure{Open: c.Open})
	if err != nil {
		return doorError("dns", c.Listen, err)
	}
	d := DoorStatus{Name: "dns", Kind: "dns", Network: "udp", Listen: packets.LocalAddr().String()}
	n.serve(d, func(ctx context.Context) error { return relay.Serve(ctx, packets, streams) })
	return nil
}

// listenDNS opens an address for UDP and TCP. Of port 0 both get what the system chooses for the
// first, if nobody has it for the second.
func listenDNS(ctx context.Context, address string, why proxy.Exposure) (packets net.PacketConn, streams net.Listener, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	tries := 1
	if port == "0" {
		tries = 10
	}
	for range tries {
		if packets, err = proxy.ListenPacket(ctx, address, why); err != nil {
			return nil, nil, err
		}
		chosen := packets.LocalAddr().(*net.UDPAddr).Port
		if streams, err = proxy.Listen(ctx, net.JoinHostPort(host, strconv.Itoa(chosen)), why); err == nil {
			return packets, streams, nil
		}
		err = errors.Join(err, packets.Close())
	}
	return nil, nil, err
}

func doorError(key, at string, err error) *Error {
	e := &Error{
		Code: ike.CodeHost,
		What: fmt.Sprintf("cannot listen on %s, for [%s]", at, key),
		Why:  strings.TrimPrefix(err.Error(), "proxy: "),
		Hint: "check the address: it must be one of this host",
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Hint = "another program has the port; stop it, or choose another one"
	case errors.Is(err, syscall.EACCES):
		e.Hint = "ports below 1024 need root, or CAP_NET_BIND_SERVICE; choose a higher one"
	case errors.Is(err, proxy.ErrExposed):
		e.Hint = "set a user and password, listen on 127.0.0.1, or set open = true"
	}
	return e
}

// gatewayRules have the names of gateways asked for outside the tunnel, which is down when
// they are needed. This host may have no other resolver than our relay.
func (n *Node) gatewayRules() []proxy.Rule {
	var out []proxy.Rule
	for _, name := range slices.Sorted(maps.Keys(n.conf().Connections)) {
		for _, remote := range n.conf().Connections[name].Remote {
			if _, err := netip.ParseAddr(remote); err != nil {
				out = append(out, proxy.Rule{Suffix: remote, To: proxy.Host})
			}
		}
	}
	return out
}

const resolvConf = "/etc/resolv.conf"

// hostResolvers are the name servers of this host but for the relay that listens on an address; it is
// an error if there is none.
func hostResolvers(file, relay string) ([]netip.AddrPort, error) {
	found, err := dns.Before(file)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range found {
		if at := netip.AddrPortFrom(a, 53); at.String() != relay {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no server but our relay", file)
	}
	return out, nil
}
