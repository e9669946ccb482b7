package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"

	"martlet/crypto/suite"
	"martlet/tun/proxy"
)

// Complete checks a Config that was built by hand and fills in what Load would: names,
// defaults of fields that are zero, parsed identities, proposals, selectors and
// pools, and certificates and keys from the files that it names. What is there already
// stays. Calling it again, or on what Load returned, changes nothing. The error is Errors.
func (c *Config) Complete() error {
	f := &faults{origin: c.origin}
	c.complete(f, time.Now())
	return f.err()
}

// complete is Complete after the faults that were found while reading.
func (c *Config) complete(f *faults, now time.Time) {
	f.node(&c.Node)
	f.pools(c)
	f.radius(c)
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		path, conn := join("connection", name), c.Connections[name]
		if conn == nil {
			f.add(path, "the connection is nil", "")
			continue
		}
		conn.Name = name
		f.name(path, name)
		f.connection(c, conn, path, now)
	}
	f.users(c)
	f.inside(c)
	f.killSwitch(c)
	f.conflicts(c)
	if len(c.Connections) == 0 && len(f.errs) == 0 {
		f.warn("connection", "there is no connection, so there is nothing to do")
	}
	sort.SliceStable(f.warnings, func(i, j int) bool {
		a, b := f.warnings[i], f.warnings[j]
		return cmp.Or(f.origin.compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) < 0
	})
	c.Warnings = f.warnings
}

func (f *faults) node(n *Node) {
	fillZero(reflect.ValueOf(n).Elem())
	f.inRanges(reflect.ValueOf(n).Elem(), "node")
	goos := runtime.GOOS
	if n.Mode == ModeUserspace {
		goos = "" // there is no device, and the file may be of another system
	}
	if hint := deviceFault(goos, n.Device); hint != "" {
		f.add("node.device", fmt.Sprintf("%q is no name for a device", n.Device), hint)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, n.LogLevel) && !f.has("node.log_level") {
		f.add("node.log_level", fmt.Sprintf("unknown level %q", n.LogLevel), "debug, info, warn or error")
	}
	if n.Profile != "" && n.Profile != ProfileSmall && !f.has("node.profile") {
		f.add("node.profile", fmt.Sprintf("unknown profile %q", n.Profile), `"small", or leave the key out`)
	}
	if !slices.Contains([]string{"", ModeTUN, ModeUserspace, ModeAuto}, n.Mode) && !f.has("node.mode") {
		f.add("node.mode", fmt.Sprintf("unknown mode %q", n.Mode), `"tun", "userspace" or "auto"`)
	}
	if n.Monitor != "" && !f.has("node.monitor") {
		f.listenAddress("node.monitor", n.Monitor, proxy.Exposure{Open: true})
	}
	for i, host := range n.RevocationHosts {
		_, err := netip.ParseAddr(host)
		if err != nil && !isHostName(strings.TrimPrefix(host, "*.")) && !f.has(index("node.revocation_hosts", i)) {
			f.add(index("node.revocation_hosts", i), fmt.Sprintf("%q is no host", host), `a name, an address, or "*." and a name, without http:// and port`)
		}
	}
	f.distinct("node.listen", len(n.Listen), func(i int) any { return n.Listen[i] })
	if n.IKEPort == n.NATPort && n.NATPort != 0 {
		f.add("node.ike_port", fmt.Sprintf("is %d, as nat_port", n.IKEPort), "ESP in UDP needs a port of its own; ike_port = 0 opens none")
	}
	for key, path := range map[string]*string{"control": &n.Control, "state": &n.State, "key_log": &n.KeyLog} {
		if *path != "" {
			*path = f.absolute(join("node", key), *path)
		}
	}
	// struct sockaddr_un has 108 octets, 104 on BSD, with a NUL.
	if len(n.Control) > 103 {
		f.add("node.control", fmt.Sprintf("the path has %d octets, a socket's may have 103", len(n.Control)), "choose a shorter one")
	}
	if n.KeyLog != "" {
		f.warn("node.key_log", "whoever reads this folder reads the traffic; remove the key when the search is over")
	}
}

func (f *faults) connection(all *Config, c *Connection, path string, now time.Time) {
	fillZero(reflect.ValueOf(c).Elem())
	f.inRanges(reflect.ValueOf(c).Elem(), path)
	f.remotes(c, path)
	f.auth(all, c, path, now)
	f.addresses(all, c, path)
	f.redirect(c, path)
	if key := join(path, "exclude"); (len(c.Exclude) > 0 || c.AllowLAN) && all.Node.Mode == ModeUserspace {
		f.add(key, "node.mode is \"userspace\", in which nothing goes past the tunnel by itself", "what does not use the proxies and forwards is outside; take exclude and allow_lan away")
	}
	if key := join(path, "tickets"); c.Tickets > maxTickets && !f.has(key) {
		f.add(key, fmt.Sprintf("%v is too long", time.Duration(c.Tickets)), "24h at most")
	}
	f.lifetimes(c.Rekey, c.Lifetime, path)
	if key := join(path, "tcp"); !slices.Contains([]string{TCPAuto, TCPAlways, TCPNever}, c.TCP) && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown word %q", c.TCP), `"auto", "always" or "never"`)
	}
	if key := join(path, "childless"); !slices.Contains([]string{"allow", "prefer", "force", "never"}, c.Childless) && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown word %q", c.Childless), `"allow", "prefer", "force" or "never"`)
	}
	f.keep(c.Keep, join(path, "keep"))
	if c.Keep == "" && len(c.Remote) > 0 {
		c.Keep = KeepUp
	}

	role := suite.RolePeer
	if len(c.Pool) > 0 && len(c.Remote) == 0 {
		role = suite.RoleDeviceGateway
	}
	f.ppks(c, path)
	pq := f.postQuantum(c.PostQuantum, join(path, "post_quantum"))
	c.IKE = f.proposals(suite.ProtocolIKE, c.Proposals, suite.DefaultIKE(role, pq), join(path, "proposals"))
	legacy := f.legacy(c.Legacy, pq, join(path, "legacy"))
	for _, p := range c.IKE {
		if pq == suite.PostQuantumRequire && !p.PostQuantum() {
			f.add(join(path, "proposals"), fmt.Sprintf("%q can do without ML-KEM, and post_quantum is \"require\"", p), "append -ke1_mlkem768 to it")
		}
	}
	c.IKE = union(c.IKE, legacy.IKE())
	if len(c.Children) == 0 && !f.has(join(path, "child")) {
		c.Children = map[string]*Child{"net": {}}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Children)) {
		p, child := join(join(path, "child"), name), c.Children[name]
		if child == nil {
			f.add(p, "the child is nil", "")
			continue
		}
		child.Name = name
		f.name(p, name)
		f.child(all, c, child, p, role, pq)
		child.ESP = union(child.ESP, legacy.ESP())
	}
	f.routes(c, path)
	f.policy(all, c, path)
}

// remotes checks what tells where the peer is.
func (f *faults) remotes(c *Connection, path string) {
	key := join(path, "remote")
	for i, host := range c.Remote {
		if reason, hint := checkHost(host); reason != "" && !f.has(index(key, i)) {
			f.add(index(key, i), reason, hint)
		}
	}
	f.distinct(key, len(c.Remote), func(i int) any { return strings.ToLower(c.Remote[i]) })
	f.distinct(join(path, "from"), len(c.From), func(i int) any { return c.From[i] })
	if len(c.Remote) > 0 || f.has(key) {
		return
	}
	for _, needs := range []struct {
		key string
		set bool
	}{
		{"port", c.Port != 0},
		{"local_port", c.LocalPort != 0},
		{"request", len(c.Request) > 0},
		{"keep", c.Keep != ""},
	} {
		if needs.set {
			f.add(join(path, needs.key), "says something only where we begin, but the connection has no remote", `remote = ["vpn.example.com"]`)
		}
	}
}

// maxTickets is how long a ticket may be good: its key is kept for two days.
const maxTickets = Duration(24 * time.Hour)

// redirect checks where peers are sent.
func (f *faults) redirect(c *Connection, path string) {
	key := join(path, "redirect")
	if c.Redirect != "" && !f.has(key) {
		if reason, hint := checkHost(c.Redirect); reason != "" {
			f.add(key, reason, hint)
		}
	}
	if key = join(path, "redirect_in"); c.RedirectIn != "init" && c.RedirectIn != "auth" && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown word %q", c.RedirectIn), `"init" or "auth"`)
	}
}

// lifetimes checks that an SA can be replaced before it ends.
func (f *faults) lifetimes(rekey, lifetime Duration, path string) {
	if key := join(path, "lifetime"); rekey > 0 && lifetime > 0 && lifetime < rekey+rekey/20 && !f.has(key) {
		f.add(key, fmt.Sprintf("%v is over before the rekey after %v can be done", lifetime, rekey), fmt.Sprintf("leave it out for %v, or make rekey shorter", rekey+rekey/10))
	}
}

func (f *faults) keep(k Keep, key string) {
	if k != "" && k != KeepUp && k != KeepOnDemand && k != KeepManual && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown word %q", k), `"up", "on-demand" or "manual"`)
	}
}

// checkHost says why text is neither an address nor a host name.
func checkHost(text string) (reason, hint string) {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.IsUnspecified() {
			return fmt.Sprintf("%q is no peer", text), "leave remote out to wait for peers from anywhere"
		}
		return "", ""
	}
	if _, err := netip.ParseAddrPort(text); err == nil {
		return fmt.Sprintf("%q has a port", text), "write the port as port = …"
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return fmt.Sprintf("%q is a prefix", text), "write it as from = […], and leave remote out"
	}
	if text == "%any" {
		return `"%any" is no peer`, "leave remote out to wait for peers from anywhere"
	}
	if host, port, ok := strings.Cut(text, ":"); ok && isHostName(host) && !strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' }) {
		return fmt.Sprintf("%q has a port", text), "write the port as port = …"
	}
	if !isHostName(text) {
		return fmt.Sprintf("%q is neither an address nor a host name", text), ""
	}
	return "", ""
}

// isHostName follows RFC 1123 §2.1, with the underscore that people use. A name whose
// last label is a number would be an address (and a wrong one).
func isHostName(text string) bool {
	text = strings.TrimSuffix(text, ".")
	if text == "" || len(text) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return r != '-' && !isBare(string(r)) }) {
			return false
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}

// addresses checks what concerns virtual addresses.
func (f *faults) addresses(all *Config, c *Connection, path string) {
	request := join(path, "request")
	for i, family := range c.Request {
		if family != "ipv4" && family != "ipv6" && !f.has(index(request, i)) {
			f.add(index(request, i), fmt.Sprintf("unknown family %q", family), `"ipv4" or "ipv6"`)
		}
	}
	f.distinct(request, len(c.Request), func(i int) any { return c.Request[i] })
	pool := join(path, "pool")
	for i, name := range c.Pool {
		if all.Pools[name] != nil || f.has(index(pool, i)) {
			continue
		}
		hint := "add [" + join("pool", name) + "]"
		if best, least := nearest(name, slices.Sorted(maps.Keys(all.Pools))); least <= 1+len(name)/4 {
			hint = fmt.Sprintf("did you mean %q?", best)
		}
		f.add(index(pool, i), fmt.Sprintf("there is no pool %q", name), hint)
	}
	f.distinct(pool, len(c.Pool), func(i int) any { return c.Pool[i] })
	if len(c.Request) > 0 && len(c.Pool) > 0 {
		f.add(pool, "a connection that requests addresses cannot hand out addresses", "remove request or pool")
	}
	if len(c.DNS) > 0 && len(c.Pool) == 0 && !f.has(pool) {
		f.add(join(path, "dns"), "is told only to peers that get an address, but the connection has no pool", "pool = […]")
	}
	domains := join(path, "domains")
	if len(c.Domains) > 0 && len(c.DNS) == 0 && !f.has(join(path, "dns")) {
		f.add(domains, "says something only about the resolvers of dns, and there are none", "dns = […]")
	}
	for i, name := range c.Domains {
		if !isHostName(name) && !f.has(index(domains, i)) {
			f.add(index(domains, i), fmt.Sprintf("%q is no domain", name), "")
		}
	}
	f.distinct(domains, len(c.Domains), func(i int) any { return strings.ToLower(c.Domains[i]) })
	f.trustAnchors(c, path)
	f.distinct(join(path, "dns"), len(c.DNS), func(i int) any { return c.DNS[i] })
}

// families returns the families of the virtual addresses that a connection requests.
func (c *Connection) families() (ipv4, ipv6 bool) {
	return slices.Contains(c.Request, "ipv4"), slices.Contains(c.Request, "ipv6")
}

func (f *faults) child(all *Config, c *Connection, child *Child, path string, role suite.Role, pq suite.PostQuantum) {
	fillZero(reflect.ValueOf(child).Elem())
	f.inRanges(reflect.ValueOf(child).Elem(), path)
	f.lifetimes(child.Rekey, child.Lifetime, path)
	f.keep(child.Keep, join(path, "keep"))
	child.ESP = f.proposals(suite.ProtocolESP, child.Proposals, suite.DefaultESP(role, pq), join(path, "proposals"))

	if len(child.Local) == 0 {
		var ipv4, ipv6 bool
		for _, name := range c.Pool {
			if p := all.Pools[name]; p != nil && len(p.Ranges) > 0 {
				is4 := p.Ranges[0].From.Is4()
				ipv4, ipv6 = ipv4 || is4, ipv6 || !is4
			}
		}
		if child.Local = everything(ipv4, ipv6); child.Local == nil {
			child.Local = []string{dynamic}
		}
	}
	if len(child.Remote) == 0 {
		if child.Remote = everything(c.families()); child.Remote == nil {
			child.Remote = []string{dynamic}
		}
	}
	child.LocalTS, child.LocalIsDyn = f.selectors(child.Local, join(path, "local"))
	child.RemoteTS, child.RemoteIsDyn = f.selectors(child.Remote, join(path, "remote"))
	if !child.LocalIsDyn && !child.RemoteIsDyn && !f.has(path) &&
		!slices.ContainsFunc(child.LocalTS, func(l Selector) bool {
			return slices.ContainsFunc(child.RemoteTS, func(r Selector) bool { return l.From.Is4() == r.From.Is4() })
		}) {
		f.add(path, "local and remote have no family in common", "a packet has two IPv4 or two IPv6 addresses")
	}
}

func (f *faults) selectors(list []string, path string) (all []Selector, isDynamic bool) {
	for i, text := range list {
		if f.has(index(path, i)) {
			continue
		}
		if text == dynamic {
			isDynamic = true
			continue
		}
		if strings.HasPrefix(text, dynamic) {
			f.add(index(path, i), fmt.Sprintf("%q: dynamic takes no protocol", text), `write "dynamic", or the addresses`)
			continue
		}
		s, err := parseSelector(text)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		all = append(all, s)
	}
	f.distinct(path, len(list), func(i int) any { return list[i] })
	return all, isDynamic
}

// routes checks that no tunnel takes the default route by surprise.
func (f *faults) routes(c *Connection, path string) {
	key := join(path, "routes")
	kinds := 0
	for _, set := range []bool{c.Routes.Selectors, c.Routes.None, len(c.Routes.List) > 0} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		f.add(key, `"selectors", "none" and a list exclude each other`, "")
	}
	f.distinct(key, len(c.Routes.List), func(i int) any { return c.Routes.List[i] })
	f.distinct(join(path, "exclude"), len(c.Exclude), func(i int) any { return c.Exclude[i] })
	if !c.Routes.Selectors || len(c.Request) > 0 || f.has(key) || f.has(join(path, "request")) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.Children)) {
		if child := c.Children[name]; child != nil && slices.ContainsFunc(child.RemoteTS, Selector.isEverything) {
			f.add(key, fmt.Sprintf("child %s has everything on its remote side, and no virtual address is requested: the default route would go into the tunnel", name),
				`say what shall: routes = ["10.2.0.0/16"], or "none"`)
			return
		}
	}
}

// proposals parses a list of proposals and warns of what is weak in it.
func (f *faults) proposals(protocol suite.Protocol, list []string, defaults []suite.Proposal, path string) []suite.Proposal {
	good := true
	for i, text := range list {
		if f.has(index(path, i)) {
			good = false
			continue
		}
		parsed, err := suite.ParseProposals(protocol, []string{text}, nil)
		if err != nil {
			f.fault(index(path, i), err)
			good = false
		}
		for _, p := range parsed {
			for _, weak := range p.Weak() {
				f.warn(index(path, i), weak)
			}
		}
	}
	if !good {
		return nil
	}
	all, err := suite.ParseProposals(protocol, list, defaults)
	if err != nil {
		f.fault(path, err)
	}
	return all
}

// ppks checks the post-quantum pre-shared keys.
func (f *faults) ppks(c *Connection, path string) {
	for _, name := range slices.Sorted(maps.Keys(c.PPKs)) {
		key, p := join(join(path, "ppk"), name), c.PPKs[name]
		if p == nil {
			f.add(key, "the key is nil", "")
			continue
		}
		p.Name = name
		if name == "" || len(name) > 255 {
			f.add(key, "a name has 1 to 255 octets", "")
		}
		secret := join(key, "secret")
		switch {
		case f.has(secret):
		case len(p.Secret.Value) == 0:
			f.add(secret, "is missing", `secret = "file:ppk.txt"; see "openssl rand -base64 32"`)
		default:
			if why := weakPSK(p.Secret.Value); why != "" {
				f.warn(secret, why)
			}
		}
	}
	switch key := join(path, "ppk_required"); {
	case len(c.PPKs) > 1 && len(c.Remote) > 0:
		f.add(join(path, "ppk"), "there are several keys, and where we begin one is named", "leave one")
	case len(c.PPKs) == 0 && c.PPKRequired:
		f.add(key, "no key is configured", "["+join(join(path, "ppk"), "NAME")+"] with secret")
	}
}

// postQuantum is the word for package suite.
func (f *faults) postQuantum(p PostQuantum, key string) suite.PostQuantum {
	switch p {
	case PostQuantumPrefer, "":
		return suite.PostQuantumPrefer
	case PostQuantumRequire:
		return suite.PostQuantumRequire
	case PostQuantumOff:
		return suite.PostQuantumOff
	}
	if !f.has(key) {
		f.add(key, fmt.Sprintf("unknown word %q", p), `"prefer", "require" or "off"`)
	}
	return suite.PostQuantumPrefer
}

// conflicts finds connections that a peer which comes to us cannot tell apart: where
// from, to whom and as whom.
func (f *faults) conflicts(c *Config) {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		conn := c.Connections[name]
		if conn == nil || f.has(join("connection", name)) {
			continue
		}
		from := make([]string, 0, len(conn.From)+len(conn.Remote))
		for _, p := range conn.From {
			from = append(from, p.String())
		}
		for _, host := range conn.Remote {
			from = append(from, strings.ToLower(host))
		}
		slices.Sort(from)
		// Whether a peer begins with EAP shows in its first message, and so does whether
		// it goes on with a second proof.
		who := fmt.Sprint(from, conn.Local.Identity, conn.Peer.Identity, conn.Port, conn.Peer.usesEAP(), conn.Peer2.IsSet())
		if other, ok := first[who]; ok {
			f.add(join("connection", name), fmt.Sprintf("is for the same peers as connection %s", other), "give them different local.id, peer.id or from, or make one connection with two children")
			continue
		}
		first[who] = name
	}
}

// name checks a name, which people type and logs show.
func (f *faults) name(path, name string) {
	if name == "" || len(name) > 64 || name[0] == '-' ||
		strings.ContainsFunc(name, func(r rune) bool { return r != '.' && r != '@' && !isBare(string(r)) }) {
		f.add(path, fmt.Sprintf("%q is no name", name), "at most 64 letters, digits and any of - _ . @, not beginning with -")
	}
}

// distinct notes the elements of a list that stand there twice.
func (f *faults) distinct(path string, n int, at func(int) any) {
	seen := map[any]bool{}
	for i := range n {
		v := at(i)
		if seen[v] && !f.has(index(path, i)) {
			f.add(index(path, i), fmt.Sprintf("%v is listed twice", v), "remove one of them")
		}
		seen[v] = true
	}
}
