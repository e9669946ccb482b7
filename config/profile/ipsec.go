package profile

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"martlet/config"
	"martlet/crypto/suite"
)

var (
	ipsecSectionLine = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(conn[ \t]+\S+|config[ \t]+setup)[ \t\r]*(#.*)?$`)
	})
	// libreswanOnly are keys that strongSwan does not have.
	libreswanOnly = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^\s+(ikev2|phase2alg|phase2|(left|right)(rsasigkey|ckaid|addresspool|modecfgclient|modecfgserver|subnets|xauthserver|xauthclient|cat)|modecfg(dns|domains|pull)|narrowing|encapsulation|salifetime|ms-dh-downgrade|ipsec-interface|virtual-private|virtual_private|protostack|plutodebug|logfile|dumpdir|intermediate)\s*=`)
	})
)

func ipsecFormats() []format {
	return []format{
		{"Libreswan ipsec.conf", func(data []byte) bool { return ipsecSectionLine().Match(data) && libreswanOnly().Match(data) }, func(d *draft, data []byte) error { return readIPsec(d, data, true) }},
		{"strongSwan ipsec.conf", func(data []byte) bool { return ipsecSectionLine().Match(data) && !libreswanOnly().Match(data) }, func(d *draft, data []byte) error { return readIPsec(d, data, false) }},
	}
}

// ipsec is an ipsec.conf of either program, with its secrets and folders.
type ipsec struct {
	*draft
	file      *ipsecFile
	secrets   *ipsecSecrets
	libreswan bool
}

func readIPsec(d *draft, data []byte, libreswan bool) error {
	file, err := d.readIPsecFile(data)
	if err != nil {
		return err
	}
	secrets, err := d.readIPsecSecrets("ipsec.d/private")
	if err != nil {
		return err
	}
	p := &ipsec{d, file, secrets, libreswan}
	for _, name := range p.list("ipsec.d/private") {
		if slices.Contains(secrets.keys.locked, name) {
			continue
		}
		// strongSwan loads only those that ipsec.secrets names; this one may be there already.
		if err := p.loadKey(&secrets.keys, name, nil); err != nil {
			p.note(name, "the key is not carried over: %s", bare(err))
		}
	}
	for _, k := range sortedKeys(file.setup) {
		if k != "uniqueids" {
			p.note("config setup."+k, "not carried over: it is about the other program")
		}
	}
	for _, name := range file.cas {
		p.note("ca "+name, "not carried over: the CAs of a connection stand in its ca, and its revocation lists in crl")
	}
	file.markUsed()
	for _, name := range file.order {
		v := file.resolve(d, name)
		switch auto := v["auto"]; {
		case name == "%default":
		case auto != "" && auto != "ignore":
			p.conn(name, v)
		case !file.conns[name].used:
			p.note("conn "+name, "left out: auto is not set, or \"ignore\", so that it is not used")
		}
	}
	return nil
}

// ends are a conn with its sides told apart.
type ends struct {
	place         string
	v             map[string]string
	local, remote string // "left" and "right", or the other way round
	asked         map[string]bool
}

// get returns a key.
func (e *ends) get(key string) string {
	e.asked[key] = true
	return e.v[key]
}

func (e *ends) ours(key string) string   { return e.get(e.local + key) }
func (e *ends) theirs(key string) string { return e.get(e.remote + key) }
func (e *ends) at(key string) string     { return e.place + "." + key }

// conn carries over one conn.
func (p *ipsec) conn(name string, v map[string]string) {
	e := &ends{"conn " + name, v, "left", "right", map[string]bool{}}
	anywhere := func(host string) bool { return host == "" || strings.HasPrefix(host, "%any") }
	if v["right"] == "%defaultroute" {
		e.local, e.remote = "right", "left"
	}
	if why := p.unusable(e); why != "" {
		p.note(e.place, "left out: %s", why)
		return
	}
	if e.v[e.remote] == "" {
		// Both programs take that for any address, which nobody can call.
		if why := e.calls(); why != "" {
			p.note(e.at(e.remote), "left out: it names no peer, and %s says that it is to call one; add %s=HOST", quoted(why), e.remote)
			return
		}
		p.note(e.at(e.remote), "it names no peer, so that it waits for any; if it is to call one, add %s=HOST", e.remote)
	}
	c := p.connection(name)
	p.addresses(e.at(e.remote), c, list(e.theirs("")))
	if host := e.ours(""); !anywhere(host) && host != "%defaultroute" && len(c.Remote) > 0 {
		p.note(e.at(e.local), "%s is taken to be this host, and %s the peer: if it is the other way round, exchange the two in the profile", e.local, e.remote)
	}
	if port := p.port(e.at(e.remote+"ikeport"), e.theirs("ikeport")); port != 500 && len(c.Remote) > 0 {
		c.Port = port
	}
	c.Proposals = p.suites(e.at("ike"), suite.ProtocolIKE, e.get("ike"), "")
	p.virtual(e, c)
	child := p.child(e)
	if child == nil {
		return
	}
	c.Children["net"] = child
	p.lifetimes(e, c, child)
	if !p.auth(e, c) {
		return
	}
	c.NoMOBIKE = !isYes(e.get("mobike"), !p.libreswan)
	if e.get("fragmentation") == "no" {
		c.FragmentSize = -1
	}
	if e.get("forceencaps") == "no" || e.get("encapsulation") == "no" {
		p.note(e.place, "not carried over: ESP is always in UDP")
	}
	c.Liveness = p.duration(e.at("dpddelay"), e.get("dpddelay"))
	switch ids := p.file.setup["uniqueids"]; {
	case len(c.Remote) > 0 || ids == "":
	case ids == "yes" || ids == "replace":
		c.Unique = "replace"
	case ids == "keep" || ids == "never":
		c.Unique = ids
	}
	p.auto(e, c)
	p.route(e.place, c)
	p.strict(e.at(e.remote+"id"), c)
	p.leftovers(e)
	p.keep(c)
}

// calls is the setting that only a conn which calls its peer has; empty if there is none.
func (e *ends) calls() string {
	switch auto := e.v["auto"]; auto {
	case "start", "up", "keep", "route", "ondemand":
		return "auto=" + auto
	}
	key := ""
	switch {
	case strings.HasPrefix(e.v[e.local+"sourceip"], "%config"):
		key = e.local + "sourceip"
	case isYes(e.v[e.local+"modecfgclient"], false):
		key = e.local + "modecfgclient"
	case strings.HasPrefix(e.v[e.local+"auth"], "eap"):
		key = e.local + "auth"
	default:
		return ""
	}
	return key + "=" + e.v[key]
}

// unusable says why a conn cannot work here at all.
func (p *ipsec) unusable(e *ends) string {
	switch kind := e.get("type"); kind {
	case "", "tunnel":
	default:
		return "its type is " + quoted(kind) + ", and Martlet has tunnels only"
	}
	exchange, ikev2, authby := e.get("keyexchange"), e.get("ikev2"), e.get("authby")
	switch {
	case exchange == "ikev1", ikev2 == "no", ikev2 == "never":
		return "it is IKEv1, and Martlet speaks IKEv2"
	case strings.HasPrefix(authby, "xauth"), strings.HasPrefix(e.v["leftauth"], "xauth"), strings.HasPrefix(e.v["rightauth"], "xauth"):
		return "XAuth is of IKEv1"
	case authby == "never", authby == "null", e.v["leftauth"] == "never", e.v["leftauth"] == "null":
		return "nobody would prove who he is"
	case e.get("ah") != "", e.get("phase2") == "ah":
		return "it is AH, and Martlet has ESP"
	}
	return ""
}

// suites carries proposals over. strongSwan offers its defaults, too, unless the list ends with an
// exclamation mark.
func (p *ipsec) suites(place string, protocol suite.Protocol, text, groups string) []string {
	if text == "" {
		return nil
	}
	if p.libreswan {
		return p.proposals(place, protocol, libreswanSuites(protocol, text, groups))
	}
	rest, strict := strings.CutSuffix(strings.TrimSpace(text), "!")
	all := list(rest)
	if !strict && !slices.Contains(all, "default") {
		all = append(all, "default")
	}
	return p.proposals(place, protocol, all)
}

// virtual carries over the virtual addresses that are requested or handed out.
func (p *ipsec) virtual(e *ends, c *config.Connection) {
	request := list(e.ours("sourceip"))
	if isYes(e.ours("modecfgclient"), false) {
		request = append(request, "%config4")
	}
	for _, text := range request {
		family := "ipv4"
		switch {
		case text == "%config6" || strings.Contains(text, ":"):
			family = "ipv6"
		case !strings.HasPrefix(text, "%"):
			p.note(e.at(e.local+"sourceip"), "%s is not carried over: the gateway chooses the address", quoted(text))
		}
		if len(c.Remote) > 0 && !slices.Contains(c.Request, family) {
			c.Request = append(c.Request, family)
		}
	}
	at := e.at(e.remote + "sourceip")
	pools := list(e.theirs("sourceip"))
	if text := e.theirs("addresspool"); text != "" {
		pools = append(pools, strings.ReplaceAll(text, " ", ""))
	}
	for _, text := range pools {
		if strings.HasPrefix(text, "%") || len(c.Request) > 0 {
			p.note(at, "%s is not carried over: only addresses that stand here can be handed out, by who requests none", quoted(text))
			continue
		}
		c.Pool = append(c.Pool, p.pool(at, text))
	}
	c.Pool = distinct(c.Pool)
	resolvers := append(list(e.theirs("dns")), list(e.get("modecfgdns"))...)
	for _, text := range resolvers {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.Zone() != "":
			p.note(e.at(e.remote+"dns"), "%s is no address", quoted(text))
		case len(c.Pool) == 0:
			p.note(e.at(e.remote+"dns"), "not carried over: nobody gets an address")
		case !slices.Contains(c.DNS, a.Unmap()):
			c.DNS = append(c.DNS, a.Unmap())
		}
	}
	if domains := list(e.get("modecfgdomains")); len(domains) > 0 && len(c.DNS) > 0 {
		c.Domains = distinct(domains)
	}
	if text := e.ours("dns"); text != "" {
		p.note(e.at(e.local+"dns"), "not carried over: the gateway tells the resolvers; set tunnel_servers in [dns] for others")
	}
}

// pool makes a pool of addresses, or finds the one that has them already.
func (p *ipsec) pool(place, text string) string {
	addresses := p.ranges([]string{text})
	for _, have := range p.Pools {
		if slices.Equal(have.Addresses, addresses) {
			return have.Name
		}
	}
	name := "pool"
	if n := len(p.Pools); n > 0 {
		name = "pool-" + strconv.Itoa(n+1)
	}
	if strings.Contains(text, "/") {
		p.note(place, "changed: the first address of a prefix is the gateway's own inside the tunnel")
	}
	p.Pools = append(p.Pools, &config.Pool{Name: name, Addresses: addresses})
	return name
}
