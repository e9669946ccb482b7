package profile

import (
	"bytes"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

const nmService = "org.freedesktop.NetworkManager.strongswan"

var nmSection = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\[vpn\][ \t\r]*$`) })

func nmFormat() format {
	return format{"NetworkManager keyfile (.nmconnection)", func(data []byte) bool {
		return nmSection().Match(data) && bytes.Contains(data, []byte("service-type="))
	}, readNM}
}

// readNM carries over the one connection of a keyfile.
func readNM(d *draft, data []byte) error {
	all, err := readINI(data)
	if err != nil {
		return err
	}
	vpn, about := named(all, "vpn"), named(all, "connection")
	if service := vpn.get("service-type"); service != nmService {
		return &Error{"the connection is of another kind", "its service is " + quoted(service) + ", and IKEv2 is " + quoted(nmService), "only connections of strongSwan's plug-in can be imported"}
	}
	c := d.connection(unescape(about.get("id")))
	c.Remote = d.hosts(vpn.at("address"), vpn.get("address"))
	if len(c.Remote) == 0 {
		return &Error{"the connection has no gateway", "address in [vpn] is missing, or is no name", "write the name or the address of the gateway there"}
	}
	c.Keep = config.KeepManual
	if about.get("autoconnect") == "true" {
		c.Keep = config.KeepUp
	}
	if port := d.port(vpn.at("server-port"), vpn.get("server-port")); port != 500 {
		c.Port = port
	}
	if isYes(vpn.get("virtual"), false) {
		c.Request = []string{"ipv4", "ipv6"}
	}
	c.Peer.ID = d.identity(vpn.at("remote-identity"), unescape(vpn.get("remote-identity")))
	d.nmAuth(c, vpn, named(all, "vpn-secrets"))
	child := &config.Child{Remote: []string{"0.0.0.0/0", "::/0"}}
	if text := vpn.get("local-ts"); text != "" {
		child.Local = d.selectors(vpn.at("local-ts"), strings.ReplaceAll(text, ";", ","))
	}
	if text := vpn.get("remote-ts"); text != "" {
		child.Remote = d.selectors(vpn.at("remote-ts"), strings.ReplaceAll(text, ";", ","))
	}
	if ike, esp := vpn.get("ike"), vpn.get("esp"); isYes(vpn.get("proposal"), false) {
		c.Proposals = d.proposals(vpn.at("ike"), suite.ProtocolIKE, list(strings.ReplaceAll(ike, ";", ",")))
		child.Proposals = d.proposals(vpn.at("esp"), suite.ProtocolESP, list(strings.ReplaceAll(esp, ";", ",")))
	} else if ike+esp != "" {
		d.note(vpn.at("proposal"), "the proposals are switched off in the profile, so they are not carried over")
	}
	c.Children["net"] = child
	d.nmAddresses(c, all)
	if isYes(vpn.get("ipcomp"), false) {
		d.note(vpn.at("ipcomp"), "not carried over: nothing is compressed")
	}
	d.route(vpn.at("remote-ts"), c)
	// ESP is always in UDP, and the flags are the desktop's.
	vpn.asked["encap"], vpn.asked["password-flags"] = true, true
	for _, k := range vpn.keys {
		if !vpn.asked[k] {
			d.note(vpn.at(k), "not carried over: Martlet has no such thing")
		}
	}
	d.keep(c)
	return nil
}

// nmAuth carries over how the two sides prove who they are.
func (d *draft) nmAuth(c *config.Connection, vpn, secrets *iniSection) {
	user, password := unescape(vpn.get("user")), []byte(unescape(secrets.get("password")))
	own := unescape(vpn.get("local-identity"))
	method := vpn.get("method")
	if own == "" && (method == "psk" || method == "eap") {
		own = user
	}
	c.Local.ID = d.identity(vpn.at("local-identity"), own)
	if method == "psk" {
		c.Local.Auth, c.Peer.Auth = "psk", "psk"
		if c.Local.Secret = d.secret("psk.txt", password); c.Local.Secret.Source == "" {
			c.Local.Secret = d.missingSecret("[vpn-secrets] password", "psk.txt", "the pre-shared key")
		}
		return
	}
	c.Peer.Auth = "cert"
	c.Peer.CA = []string{system}
	if name := unescape(vpn.get("certificate")); name != "" {
		c.Peer.CA = nil
		certs, err := d.certificates(".", name)
		switch {
		case err == nil && certs[0].IsCA:
			c.Peer.CA = d.authorities(vpn.at("certificate"), certs)
		case err == nil:
			c.Peer.Cert = []string{d.file("gateway.pem", pki.EncodeCertificate(certs[0]))}
		default:
			c.Peer.CA = []string{fileName(c.Name, "ca.pem", 1)}
			d.need(vpn.at("certificate"), "%s is not carried over: %s; put the certificate of the CA at %s", quoted(name), bare(err), c.Peer.CA[0])
		}
	}
	switch source := vpn.get("cert-source"); {
	case method == "eap":
		c.Local.Auth = "eap"
		c.Local.User = user
		if c.Local.Secret = d.secret("password.txt", password); c.Local.Secret.Source == "" {
			d.note("[vpn-secrets] password", "is not in the profile: Martlet asks for it, or set secret = \"file:PATH\" in the local table")
		}
	case method == "agent", method == "smartcard", source == "agent", source == "smartcard":
		c.Local.Auth = map[bool]string{true: "eap-tls", false: "cert"}[method == "eap-tls"]
		d.missingCredential(vpn.at("cert-source"), &c.Local, "they are in an agent or on a smart card")
	case method == "cert", method == "key", method == "eap-tls":
		c.Local.Auth = map[bool]string{true: "eap-tls", false: "cert"}[method == "eap-tls"]
		d.nmCertificate(c, vpn, password)
	default:
		c.Local.Auth = "eap"
		d.need(vpn.at("method"), "the method %s is not known, so it is \"eap\" here: set auth right in the local table", quoted(method))
	}
}

// nmCertificate carries over our certificate and its key.
func (d *draft) nmCertificate(c *config.Connection, vpn *iniSection, password []byte) {
	name, keyName := unescape(vpn.get("usercert")), unescape(vpn.get("userkey"))
	certs, err := d.certificates(".", name)
	if err != nil {
		d.missingCredential(vpn.at("usercert"), &c.Local, quoted(name)+" cannot be read: "+bare(err))
		return
	}
	var k keys
	err = d.loadKey(&k, keyName, [][]byte{password})
	if err == nil {
		err = errors.New("it is not the key of the certificate")
		for _, cert := range certs {
			if key := k.of(cert); key != nil {
				err = d.credential(&c.Local, key, certs)
				break
			}
		}
	}
	if err != nil {
		d.missingCredential(vpn.at("userkey"), &c.Local, quoted(keyName)+" cannot be read: "+bare(err))
	}
}

// nmAddresses carries over what the sections ipv4 and ipv6 say about routes and names.
func (d *draft) nmAddresses(c *config.Connection, all []*iniSection) {
	var routes []netip.Prefix
	never := false
	for _, family := range []string{"ipv4", "ipv6"} {
		s := named(all, family)
		if s == nil {
			continue
		}
		never = never || s.get("never-default") == "true"
		for _, k := range s.keys {
			value := s.get(k)
			switch {
			case value == "" || k == "method" || k == "never-default" || k == "addr-gen-mode" || k == "ip6-privacy":
			case strings.HasPrefix(k, "route") && !strings.Contains(k, "-"):
				text, _, _ := strings.Cut(value, ",")
				if p, err := prefixes(text); err == nil && len(p) == 1 {
					routes = append(routes, p...)
				} else {
					d.note(s.at(k), "%s is no subnet", quoted(text))
				}
			case k == "dns" || k == "dns-search":
				d.note(s.at(k), "not carried over: the gateway tells the resolvers; to change that, set tunnel_servers and tunnel in [dns]")
			default:
				d.note(s.at(k), "not carried over: Martlet has no such thing")
			}
		}
	}
	switch {
	case never && len(routes) > 0:
		c.Routes = config.Routes{List: routes}
	case never:
		d.note("[ipv4] never-default", "not carried over: the routes are what the gateway agrees to; routes = [...] in the connection has less")
	case len(routes) > 0:
		d.note("[ipv4] route1", "not carried over: the tunnel takes everything that the gateway agrees to anyway")
	}
	for _, s := range all {
		switch s.name {
		case "vpn", "connection", "vpn-secrets", "ipv4", "ipv6":
		default:
			if len(s.keys) > 0 {
				d.note("["+s.name+"]", "not carried over: Martlet has no such thing")
			}
		}
	}
	if c := named(all, "connection"); c != nil && c.get("permissions") != "" {
		d.note(c.at("permissions"), "not carried over: the connection is the host's")
	}
}

// unescape takes the escapes of a keyfile off a value.
func unescape(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\s`, " ", `\n`, "\n", `\t`, "\t", `\r`, "\r", `\;`, ";").Replace(text)
}
