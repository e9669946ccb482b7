package profile

import (
	"encoding/base64"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

func sswanFormat() format {
	return format{"strongSwan profile for Android (.sswan)", func(data []byte) bool {
		return isObject(data, "uuid", "remote", "type")
	}, readSswan}
}

// readSswan carries over the one connection of a profile.
func readSswan(d *draft, data []byte) error {
	root, err := readJSON(data)
	if err != nil {
		return err
	}
	top := newBag("", root)
	c := d.connection(top.text("name"))
	remote, local := top.bag("remote"), top.bag("local")
	c.Remote = d.hosts(remote.at("addr"), remote.text("addr"))
	if len(c.Remote) == 0 {
		return &Error{"the profile has no gateway", "remote.addr is missing, or is no name", "write the name or the address of the gateway there, or ask whoever made it"}
	}
	c.Keep = config.KeepManual // the app's connections are opened by hand
	c.Request = []string{"ipv4", "ipv6"}
	if port := remote.number("port", 500); port > 0 && port < 1<<16 && port != 500 {
		c.Port = uint16(port)
	}
	c.Local.ID = d.identity(local.at("id"), local.text("id"))
	c.Peer.ID = d.identity(remote.at("id"), remote.text("id"))
	d.sswanPeer(c, remote)
	if !d.sswanLocal(c, top, local) {
		return &Error{"the profile has a type that is not known", quoted(top.text("type")), "ikev2-eap, ikev2-cert, ikev2-cert-eap, ikev2-eap-tls and ikev2-byod-eap are"}
	}
	child := &config.Child{}
	if text := top.text("ike-proposal"); text != "" {
		c.Proposals = d.proposals("ike-proposal", suite.ProtocolIKE, []string{text})
	}
	if text := top.text("esp-proposal"); text != "" {
		child.Proposals = d.proposals("esp-proposal", suite.ProtocolESP, []string{text})
	}
	if len(child.Proposals) > 0 {
		c.Children["net"] = child
	}
	d.sswanSplit(c, top.bag("split-tunneling"))
	if seconds := top.number("nat-keepalive", 0); seconds > 0 && seconds <= 3600 {
		c.Keepalive = config.Duration(seconds) * config.Duration(time.Second)
	}
	if mtu := top.number("mtu", 0); mtu > 0 {
		d.note("mtu", "not carried over: Martlet computes it; to have this one, set mtu = %d in [node]", mtu)
	}
	if list := top.texts("dns-servers"); len(list) > 0 {
		d.note("dns-servers", "not carried over: the gateway tells the resolvers; to ask these, set tunnel_servers = [%s] in [dns]", shown(strings.Join(list, ", ")))
	}
	top.skip("uuid", "name", "type", "ipv6-transport")
	top.without(d, map[string]string{
		"apps":          "not carried over: on a host all programs use the tunnel; martlet exec runs one alone in it",
		"excluded-apps": "not carried over: on a host all programs use the tunnel",
		"proxy":         "not carried over: programs ask the system for a proxy",
	})
	top.rest(d)
	remote.rest(d)
	local.rest(d)
	d.keep(c)
	return nil
}

// sswanPeer carries over how the gateway must prove who it is.
func (d *draft) sswanPeer(c *config.Connection, remote *bag) {
	c.Peer.Auth = "cert"
	c.Peer.CA = []string{system}
	if text := remote.text("cert"); text != "" {
		data, err := decode64(text)
		if err == nil {
			certs, bad := pki.ParseCertificates(data)
			switch err = bad; {
			case err == nil && !certs[0].IsCA:
				c.Peer.CA, c.Peer.Cert = nil, []string{d.file("gateway.pem", pki.EncodeCertificate(certs[0]))}
			case err == nil:
				c.Peer.CA = d.authorities(remote.at("cert"), certs)
			}
		}
		if err != nil {
			// To trust the system's CAs instead would be to trust more than the profile does.
			c.Peer.CA = []string{fileName(c.Name, "ca.pem", 1)}
			d.need(remote.at("cert"), "the certificate of the CA is not carried over: %s; put it at %s", bare(err), c.Peer.CA[0])
		}
	}
	revocation := remote.bag("revocation")
	switch crl, ocsp := revocation.flag("crl", true), revocation.flag("ocsp", true); {
	case revocation.flag("strict", false):
		c.Peer.Revocation = "strict"
	case !crl && !ocsp:
		c.Peer.Revocation = "off"
	default:
		c.Peer.Revocation = "relaxed"
		if !crl || !ocsp {
			d.note(revocation.place, "changed: revocation lists and OCSP responders are both asked, or neither")
		}
	}
	revocation.rest(d)
	if !remote.flag("certreq", true) {
		d.note(remote.at("certreq"), "not carried over: the gateway is always told which CAs are trusted")
	}
}

// sswanLocal carries over how we prove who we are; false if the type is not known.
func (d *draft) sswanLocal(c *config.Connection, top, local *bag) bool {
	eap := func(a *config.Auth) {
		a.Auth = "eap"
		a.User = local.text("eap_id")
		a.Secret = d.secret("password.txt", local.octets("shared_secret"))
		if a.Secret.Source == "" {
			d.note("local", "the password is not in the profile: Martlet asks for it, or set secret = \"file:PATH\"")
		}
	}
	certificate := func() {
		text := local.text("p12")
		data, err := decode64(text)
		if text == "" || err != nil {
			d.missingCredential(local.at("p12"), &c.Local, "the app takes them from the device's own store")
			return
		}
		d.container(local.at("p12"), &c.Local, data, "", false)
	}
	switch kind := top.text("type"); kind {
	case "ikev2-eap", "ikev2-byod-eap":
		eap(&c.Local)
		if _, err := pki.ParseIdentity(c.Local.User); err == nil && c.Local.ID == "" {
			c.Local.ID = c.Local.User // as the app does
		}
		if kind == "ikev2-byod-eap" {
			d.note("type", "not carried over: EAP-TNC, by which the device would tell its state")
		}
	case "ikev2-cert":
		c.Local.Auth = "cert"
		certificate()
	case "ikev2-cert-eap":
		c.Local.Auth = "cert"
		certificate()
		eap(&c.Local2)
	case "ikev2-eap-tls":
		c.Local.Auth = "eap-tls"
		c.Local.User = local.text("eap_id")
		certificate()
	default:
		return false
	}
	local.skip("p12", "eap_id", "shared_secret", "rsa-pss")
	return true
}

// sswanSplit carries over what goes into the tunnel: the app asks for everything and routes less.
func (d *draft) sswanSplit(c *config.Connection, split *bag) {
	subnets, excluded := split.texts("subnets"), split.texts("excluded")
	if len(subnets)+len(excluded) > 0 {
		list, err := without(subnets, excluded)
		if err != nil {
			d.note(split.place, "not carried over: %s; set routes = [...] in the connection", shown(err.Error()))
		} else if len(list) == 0 {
			c.Routes = config.Routes{None: true}
		} else {
			c.Routes = config.Routes{List: list}
		}
	}
	for _, key := range []string{"block-ipv4", "block-ipv6"} {
		if split.flag(key, false) {
			d.note(split.at(key), "not carried over, since it is about the host: kill_switch = true in [node] blocks both families past the tunnel")
		}
	}
	split.rest(d)
}

// decode64 reads base64 of either alphabet, with or without line ends and padding.
func decode64(text string) ([]byte, error) {
	text = strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	return base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(text))
}
