package profile

import (
	"crypto/x509"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

func oncFormat() format {
	return format{"ChromeOS network configuration (ONC)", func(data []byte) bool {
		return isObject(data, "NetworkConfigurations") || isObject(data, "Type") && strings.Contains(string(data), `"EncryptedConfiguration"`)
	}, readONC}
}

// onc is a configuration of ChromeOS: VPNs, and the certificates to which they refer.
type onc struct {
	*draft
	certs map[string]*bag // by GUID
}

func readONC(d *draft, data []byte) error {
	root, err := readJSON(data)
	if err != nil {
		return err
	}
	top := newBag("", root)
	if top.text("Type") == "EncryptedConfiguration" {
		return &Error{"the configuration is encrypted", "a passphrase opens it, in ChromeOS alone", "export it without encryption"}
	}
	o := &onc{d, map[string]*bag{}}
	for _, c := range top.bags("Certificates") {
		o.certs[c.text("GUID")] = c
	}
	for _, n := range top.bags("NetworkConfigurations") {
		o.network(n)
	}
	top.without(d, map[string]string{"GlobalNetworkConfiguration": "not carried over: it is about the device"})
	return nil
}

// network carries over one VPN.
func (o *onc) network(n *bag) {
	name, vpn := n.text("Name"), n.bag("VPN")
	ipsec := vpn.bag("IPsec")
	if kind := vpn.text("Type"); n.text("Type") != "VPN" || kind != "IPsec" || ipsec.number("IKEVersion", 1) != 2 {
		o.note(n.place, "%s is left out: it is not of IKEv2", quoted(name))
		return
	}
	c := o.connection(name)
	if c.Remote = o.hosts(vpn.at("Host"), vpn.text("Host")); len(c.Remote) == 0 {
		o.note(vpn.at("Host"), "%s is left out: it has no gateway", quoted(name))
		return
	}
	c.Request = []string{"ipv4", "ipv6"}
	c.Keep = config.KeepManual
	if vpn.flag("AutoConnect", false) {
		c.Keep = config.KeepUp
	}
	c.Local.ID = o.identity(ipsec.at("LocalIdentity"), o.variable(ipsec.at("LocalIdentity"), ipsec.text("LocalIdentity")))
	c.Peer.ID = o.identity(ipsec.at("RemoteIdentity"), ipsec.text("RemoteIdentity"))
	o.auth(c, ipsec)
	ipsec.skip("IKEVersion", "SaveCredentials", "XAUTH", "EAP", "PSK", "ServerCARef", "ServerCARefs", "ClientCertType", "ClientCertRef", "ClientCertPattern")
	vpn.skip("Type", "AutoConnect")
	n.skip("GUID", "Name", "Type", "VPN", "Priority", "Remove")
	for _, b := range []*bag{n, vpn, ipsec} {
		b.rest(o.draft)
	}
	o.keep(c)
}

// variable notes a placeholder that ChromeOS fills in.
func (o *onc) variable(place, text string) string {
	if strings.Contains(text, "${") {
		o.need(place, "%s is filled in by ChromeOS: write what it stands for", quoted(text))
		return ""
	}
	return text
}

// auth carries over how the two sides prove who they are.
func (o *onc) auth(c *config.Connection, ipsec *bag) {
	method := ipsec.text("AuthenticationType")
	if method == "PSK" {
		c.Local.Auth, c.Peer.Auth = "psk", "psk"
		if c.Local.Secret = o.secret("psk.txt", ipsec.octets("PSK")); c.Local.Secret.Source == "" {
			c.Local.Secret = o.missingSecret(ipsec.at("PSK"), "psk.txt", "the pre-shared key")
		}
		return
	}
	c.Peer.Auth = "cert"
	c.Peer.CA = o.trusted(c, ipsec)
	if method == "EAP" {
		eap := ipsec.bag("EAP")
		c.Local.Auth = "eap"
		switch outer := eap.text("Outer"); outer {
		case "", "MSCHAPv2", "Automatic":
		default:
			o.note(eap.at("Outer"), "%s is not carried over: Martlet takes what the gateway asks for among MSCHAPv2, PEAP and TTLS", quoted(outer))
		}
		c.Local.User = o.variable(eap.at("Identity"), eap.text("Identity"))
		c.Local.Secret = o.secret("password.txt", []byte(o.variable(eap.at("Password"), eap.text("Password"))))
		if c.Local.Secret.Source == "" {
			o.note(eap.at("Password"), "is not in the profile: Martlet asks for it, or set secret = \"file:PATH\" in the local table")
		}
		return
	}
	c.Local.Auth = "cert"
	ref := ipsec.text("ClientCertRef")
	cert := o.certs[ref]
	if cert == nil {
		o.missingCredential(ipsec.at("ClientCertType"), &c.Local, "ChromeOS chooses among those of the device")
		return
	}
	data, err := decode64(cert.text("PKCS12"))
	if err != nil || len(data) == 0 {
		o.missingCredential(cert.at("PKCS12"), &c.Local, "the certificate that is named is not in the profile")
		return
	}
	o.container(cert.at("PKCS12"), &c.Local, data, "", false)
}

// trusted returns the CAs below which the gateway's certificate must be.
func (o *onc) trusted(c *config.Connection, ipsec *bag) []string {
	refs := append(ipsec.texts("ServerCARefs"), ipsec.texts("ServerCARef")...)
	var cas []*x509.Certificate
	for _, ref := range refs {
		data := []byte{}
		if cert := o.certs[ref]; cert != nil {
			if data = []byte(cert.text("X509")); !strings.Contains(string(data), "-----BEGIN") {
				data, _ = decode64(string(data))
			}
		}
		certs, err := pki.ParseCertificates(data)
		if err != nil {
			o.note(ipsec.at("ServerCARefs"), "the CA %s is not carried over: %s", quoted(ref), bare(err))
			continue
		}
		cas = append(cas, certs...)
	}
	if len(refs) > 0 && len(cas) == 0 {
		// To trust the system's CAs instead would be to trust more than the profile does.
		name := fileName(c.Name, "ca.pem", 1)
		o.need(ipsec.at("ServerCARefs"), "put the certificate of the gateway's CA at %s", name)
		return []string{name}
	}
	return o.authorities(ipsec.place, cas)
}
