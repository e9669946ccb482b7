package profile

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"martlet/config"
	"martlet/crypto/suite"
)

var pbkLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^VpnStrategy=\d+[ \t\r]*$`) })

func pbkFormat() format {
	return format{"Windows phone book (.pbk)", func(data []byte) bool { return pbkLine().Match(data) }, readPBK}
}

// readPBK carries over the IKEv2 entries of a phone book.
func readPBK(d *draft, data []byte) error {
	all, err := readINI(data)
	if err != nil {
		return err
	}
	for _, s := range all {
		d.pbkEntry(s)
	}
	return nil
}

// pbkEntry carries over one entry. What Windows has no key for it does as follows: certificates
// are checked against the machine's store, and passwords are not in the file.
func (d *draft) pbkEntry(s *iniSection) {
	switch strategy := s.get("VpnStrategy"); strategy {
	case "7", "14": // IKEv2 only, and IKEv2 first
		if strategy == "14" {
			d.note(s.at("VpnStrategy"), "changed: IKEv2 is not the first of several, but the only one")
		}
	default:
		d.note("["+s.name+"]", "left out: its VpnStrategy is %s, which is not IKEv2", quoted(strategy))
		return
	}
	c := d.connection(s.name)
	if c.Remote = d.hosts(s.at("PhoneNumber"), s.get("PhoneNumber")); len(c.Remote) == 0 {
		d.note(s.at("PhoneNumber"), "left out: the entry has no gateway")
		return
	}
	c.Request = []string{"ipv4", "ipv6"}
	c.Keep = config.KeepManual
	if s.get("AlwaysOnVpn") == "1" || s.get("AutoTiggerCapable") == "1" && s.get("AlwaysOn") == "1" {
		c.Keep = config.KeepUp
	}
	c.Peer.Auth, c.Peer.CA = "cert", []string{system}
	d.note("["+s.name+"]", "the gateway's certificate must be below a CA that this system trusts: if it is a CA of your own, put its certificate in a file and name that in ca")
	if s.get("DisableIKENameEkuCheck") == "1" {
		d.note(s.at("DisableIKENameEkuCheck"), "not carried over: the gateway must have the name that is called")
	}
	d.pbkAuth(c, s)
	child := &config.Child{}
	c.Proposals, child.Proposals = d.pbkSuites(s)
	c.Children["net"] = child
	c.NoMOBIKE = s.get("DisableMobility") == "1"
	if s.get("Disable_IKEv2_Fragmentation") == "1" {
		c.FragmentSize = -1
	}
	d.pbkRoutes(c, s)
	if suffix := s.get("IpDnsSuffix"); suffix != "" {
		d.note(s.at("IpDnsSuffix"), "not carried over: the gateway tells the resolvers; set tunnel = [%s] in [dns] to have such names asked there", quoted(suffix))
	}
	if n := s.get("NumNrptRules"); n != "" && n != "0" {
		d.note(s.at("NumNrptRules"), "not carried over: set tunnel = [...] and tunnel_servers = [...] in [dns] for names that are asked inside the tunnel")
	}
	if n := len(s.keys) - len(s.asked); n > 0 {
		d.note("["+s.name+"]", "%d other keys are about Windows itself, as modems, dialogs and scripts, and are not carried over", n)
	}
	d.keep(c)
}

// pbkAuth carries over how we log in.
func (d *draft) pbkAuth(c *config.Connection, s *iniSection) {
	kind := s.get("CustomAuthKey")
	switch kind {
	case "26":
		c.Local.Auth = "eap-mschapv2"
	case "25":
		c.Local.Auth = "eap-peap"
	case "21":
		c.Local.Auth = "eap-ttls"
	case "13":
		c.Local.Auth = "eap-tls"
		d.missingCredential(s.at("CustomAuthKey"), &c.Local, "Windows keeps them in its store")
	default:
		c.Local.Auth = "cert"
		d.missingCredential(s.at("CustomAuthKey"), &c.Local, "Windows keeps them in the machine's store")
	}
	if kind == "26" || kind == "25" || kind == "21" {
		d.note(s.at("CustomAuthKey"), "name and password are not in a phone book: Martlet asks for them, or set user and secret in the local table")
	}
	if s.get("CustomAuthData") != "" && kind != "26" {
		d.note(s.at("CustomAuthData"), "not carried over: what it says about the EAP server's certificate; set eap_server in the local table")
	}
	if s.get("PreSharedKey") != "" {
		d.note(s.at("PreSharedKey"), "not carried over: it is of L2TP")
	}
}

// pbkSuites carries over the one set of algorithms that Windows was set to.
func (d *draft) pbkSuites(s *iniSection) (ike, esp []string) {
	at := s.at("CustomIPSecPolicies")
	raw, err := hex.DecodeString(s.get("CustomIPSecPolicies"))
	if s.get("NumCustomPolicy") != "1" || err != nil || len(raw) != 24 {
		d.note(at, "Windows offers modp1024 alone here, which is weak; Martlet offers its own proposals. For a gateway that takes nothing else, set legacy = \"windows-default\"")
		return nil, nil
	}
	word := func(i int, codes map[uint32]string) string { return codes[binary.LittleEndian.Uint32(raw[4*i:])] }
	// The codes that are known for sure.
	integrity := word(0, map[uint32]string{0: "md5", 1: "sha1", 2: "sha256", 3: "sha384"})
	encryption := word(1, map[uint32]string{0: "des", 1: "3des", 2: "aes128", 3: "aes192", 4: "aes256"})
	group := word(2, map[uint32]string{3: "modp2048"})
	cipher := word(3, map[uint32]string{3: "aes128", 5: "aes256"})
	auth := word(4, map[uint32]string{2: "sha256"})
	pfs := word(5, map[uint32]string{0: "modpnone", 3: "modp2048"})
	if integrity == "" || encryption == "" || group == "" {
		d.note(at, "the algorithms of IKE are not carried over, since not all of their codes are known: Martlet offers its own; set proposals in the connection")
	} else {
		ike = d.proposals(at, suite.ProtocolIKE, []string{encryption + "-" + integrity + "-" + group})
	}
	if cipher == "" || auth == "" || pfs == "" {
		d.note(at, "the algorithms of ESP are not carried over, since not all of their codes are known: Martlet offers its own; set proposals in the child")
	} else {
		esp = d.proposals(at, suite.ProtocolESP, []string{cipher + "-" + auth + "-" + pfs})
	}
	return ike, esp
}

// pbkRoutes carries over what goes into the tunnel.
func (d *draft) pbkRoutes(c *config.Connection, s *iniSection) {
	const digits = 72 // of one route
	full := s.get("IpPrioritizeRemote") != "0" || s.get("Ipv6PrioritizeRemote") == "1"
	s.asked["Routes"], s.asked["NumRoutes"] = true, true
	text := strings.Join(strings.Fields(strings.Join(s.all["Routes"], "")), "")
	raw, err := hex.DecodeString(text)
	if err != nil || len(text)%digits != 0 || len(text) > digits*maxRoutes {
		d.note(s.at("Routes"), "not carried over: it is not understood; set routes = [...] in the connection")
		return
	}
	var routes []netip.Prefix
	for ; len(raw) > 0; raw = raw[digits/2:] {
		family, bits := binary.LittleEndian.Uint32(raw[4:]), binary.LittleEndian.Uint32(raw[8:])
		var addr netip.Addr
		switch family {
		case 2: // AF_INET
			addr, _ = netip.AddrFromSlice(raw[12:16])
		case 23: // AF_INET6 of Windows
			addr, _ = netip.AddrFromSlice(raw[12:28])
		}
		p, err := addr.Prefix(int(min(bits, 200)))
		if err != nil || !addr.IsValid() || addr.Is4In6() {
			d.note(s.at("Routes"), "a route is not carried over: it is not understood")
			continue
		}
		routes = append(routes, p)
	}
	switch {
	case !full && len(routes) > 0:
		if s.get("DisableClassBasedDefaultRoute") != "1" {
			d.note(s.at("DisableClassBasedDefaultRoute"), "not carried over: no route is made for the network class of the virtual address")
		}
		c.Routes = config.Routes{List: distinctPrefixes(routes)}
	case !full:
		d.note(s.at("IpPrioritizeRemote"), "changed: Windows sends what is in the network class of the virtual address into the tunnel, and here it is what the gateway agrees to; routes = [...] has less")
	case len(routes) > 0:
		d.note(s.at("NumRoutes"), "%s not carried over: the tunnel takes everything anyway", plural(len(routes), "route is", "routes are"))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func distinctPrefixes(all []netip.Prefix) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for _, p := range all {
		if !seen[p] {
			out = append(out, p)
		}
		seen[p] = true
	}
	return out
}
