package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"martlet/tun/proxy"
)

// The words of Node.Mode.
const (
	ModeTUN       = "tun"
	ModeUserspace = "userspace"
	ModeAuto      = "auto"
)

// The words of Proxy.Protocol.
const (
	ProtocolSOCKS5 = "socks5"
	ProtocolHTTP   = "http"
	ProtocolBoth   = "both"
)

// Doors tells whether something of the file needs packets to end in this process, and names its table.
func (c *Config) Doors() (table string, any bool) {
	for _, name := range slices.Sorted(maps.Keys(c.Proxies)) {
		return join("proxy", name), true
	}
	for _, name := range slices.Sorted(maps.Keys(c.Forwards)) {
		return join("forward", name), true
	}
	return "dns", c.DNS.Listen != ""
}

// inside checks the ways into the tunnel without a device.
func (f *faults) inside(c *Config) {
	taken := map[string]string{} // the key that has an address
	for _, name := range slices.Sorted(maps.Keys(c.Proxies)) {
		path := join("proxy", name)
		if p := c.Proxies[name]; p != nil {
			p.Name = name
			f.name(path, name)
			f.proxy(p, path)
			f.once(taken, "tcp", p.Listen, join(path, "listen"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Forwards)) {
		path := join("forward", name)
		if w := c.Forwards[name]; w != nil {
			w.Name = name
			f.name(path, name)
			f.forward(w, path)
			if w.Local != "" {
				f.once(taken, w.Parsed.Network, w.Parsed.ListenAddress(), join(path, "local"))
			}
		}
	}
	f.dns(&c.DNS, c.Node.Mode)
	f.once(taken, "tcp", c.DNS.Listen, "dns.listen")
	f.once(taken, "udp", c.DNS.Listen, "dns.listen")
	f.once(taken, "tcp", c.Node.Monitor, "node.monitor")
	f.userspace(&c.Userspace)
	if table, any := c.Doors(); any && c.Node.Mode == ModeTUN {
		f.add(table, "needs packets to end in this process, and node.mode is \"tun\"", "with a device every program reaches the tunnel by itself; else set mode = \"userspace\"")
	}
}

// once notes an address that two keys want to listen on; port 0 is any.
func (f *faults) once(taken map[string]string, network, address, path string) {
	if address == "" || strings.HasSuffix(address, ":0") || f.has(path) {
		return
	}
	at := network + " " + address
	if before, ok := taken[at]; ok {
		f.add(path, fmt.Sprintf("%s listens on %s already", before, address), "choose another port")
		return
	}
	taken[at] = path
}

func (f *faults) proxy(p *Proxy, path string) {
	fillZero(reflect.ValueOf(p).Elem())
	password := len(p.Password.Value) > 0
	if key := join(path, "listen"); !f.has(key) {
		if p.Listen == "" {
			f.add(path, "listen is missing", `listen = "127.0.0.1:1080" for example`)
		} else {
			f.listenAddress(key, p.Listen, proxy.Exposure{Password: password, Open: p.Open})
		}
	}
	if key := join(path, "protocol"); !slices.Contains([]string{ProtocolSOCKS5, ProtocolHTTP, ProtocolBoth}, p.Protocol) && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown protocol %q", p.Protocol), `"socks5", "http" or "both"`)
	}
	switch {
	case f.has(join(path, "password")) || f.has(join(path, "user")):
	case password && p.User == "":
		f.add(path, "has a password and no user", "set user to a name of your choice")
	case !password && p.User != "":
		f.add(path, "has a user and no password", `password = "file:PATH" or "env:NAME"`)
	case len(p.User) > 255 || len(p.Password.Value) > 255:
		f.add(path, "user or password is longer than 255 octets", "SOCKS5 has no room for it (RFC 1929)")
	}
}

// listenAddress checks an address of this host to listen on.
func (f *faults) listenAddress(key, address string, why proxy.Exposure) {
	if err := proxy.Check(address, why); err != nil {
		f.add(key, strings.TrimPrefix(err.Error(), "proxy: "), "")
	}
}

func (f *faults) forward(w *Forward, path string) {
	key, text := join(path, "local"), w.Local
	if w.Remote != "" {
		key, text = join(path, "remote"), w.Remote
	}
	switch {
	case f.has(key):
		return
	case (w.Local == "") == (w.Remote == ""):
		f.add(path, "one of local and remote must be set", `local = "5432:db.corp.example:5432" for example`)
		return
	}
	parsed, err := proxy.ParseForward(text)
	if err != nil {
		f.add(key, strings.TrimPrefix(err.Error(), "proxy: "), "")
		return
	}
	w.Parsed = parsed
	if w.Local != "" {
		if a, err := netip.ParseAddr(parsed.Target); err == nil && (a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast()) {
			f.add(key, parsed.Target+" is no address inside the tunnel", "name the host by an address that the tunnel leads to")
		}
		f.listenAddress(key, parsed.ListenAddress(), proxy.Exposure{Open: w.Open})
	}
}

func (f *faults) dns(d *DNS, mode string) {
	if d.Listen != "" && !f.has("dns.listen") {
		f.listenAddress("dns.listen", d.Listen, proxy.Exposure{Open: d.Open})
	}
	tunnel := len(d.Tunnel) > 0 && mode == ModeUserspace
	if d.Listen == "" && (tunnel || d.Open || len(d.Host)+len(d.Refuse)+len(d.HostServers) > 0) && !f.has("dns.listen") {
		f.add("dns", "listen is missing", `listen = "127.0.0.1:53" for example`)
	}
	if relays := d.Listen != "" || mode == ModeUserspace; relays && (d.Keep || len(d.Search) > 0) {
		f.add("dns", "keep and search are about the resolvers of this host, which nobody sets without a device", `take them away, or set node.mode = "tun"`)
	}
	for i, name := range d.Search {
		if !isHostName(name) && !f.has(index("dns.search", i)) {
			f.add(index("dns.search", i), fmt.Sprintf("%q is no domain", name), "")
		}
	}
	d.Inside = f.servers(d.TunnelServers, "dns.tunnel_servers")
	d.Outside = f.servers(d.HostServers, "dns.host_servers")
	d.Rules = nil
	of := map[string]string{}
	for _, list := range []struct {
		key      string
		suffixes []string
		to       proxy.Upstream
	}{{"dns.tunnel", d.Tunnel, proxy.Tunnel}, {"dns.host", d.Host, proxy.Host}, {"dns.refuse", d.Refuse, proxy.Refusal}} {
		for i, suffix := range list.suffixes {
			rule, key := proxy.Rule{Suffix: suffix, To: list.to}, index(list.key, i)
			if err := rule.Check(); err != nil {
				f.add(key, strings.TrimPrefix(err.Error(), "proxy: dns: "), "")
				continue
			}
			name := strings.ToLower(strings.Trim(suffix, "."))
			if before, ok := of[name]; ok {
				f.add(key, fmt.Sprintf("%q stands in %s already", suffix, before), "")
				continue
			}
			of[name] = list.key
			d.Rules = append(d.Rules, rule)
		}
	}
}

// servers parses addresses whose port may be left out, which is then 0.
func (f *faults) servers(list []string, path string) []netip.AddrPort {
	var out []netip.AddrPort
	for i, text := range list {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			var addr netip.Addr
			addr, err = netip.ParseAddr(text)
			at = netip.AddrPortFrom(addr, 0)
		}
		if err != nil && !f.has(index(path, i)) {
			f.add(index(path, i), fmt.Sprintf("expected an IP address, got %q", text), "a port stands behind it as in 10.0.0.1:5353")
			continue
		}
		out = append(out, at)
	}
	return out
}

func (f *faults) userspace(u *Userspace) {
	u.Mapped = map[netip.AddrPort]netip.AddrPort{}
	for i, text := range u.Map {
		key := index("userspace.map", i)
		from, to, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddrPort(strings.TrimSpace(from))
		b, err2 := netip.ParseAddrPort(strings.TrimSpace(to))
		switch {
		case f.has(key):
		case err != nil || err2 != nil || a.Port() == 0 || b.Port() == 0 || b.Addr().IsUnspecified() || b.Addr().IsMulticast():
			f.add(key, fmt.Sprintf("expected ADDRESS:PORT=ADDRESS:PORT, got %q", text), `"10.77.0.1:53=127.0.0.53:53" for example`)
		case u.Mapped[a].IsValid():
			f.add(key, fmt.Sprintf("%v is mapped already", a), "")
		default:
			u.Mapped[a] = b
		}
	}
}
