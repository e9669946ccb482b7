package profile

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/suite"
)

// vpn carries one VPN payload over.
func (a *apple) vpn(p *bag) {
	name := p.text("UserDefinedName")
	if name == "" {
		name = p.text("PayloadDisplayName")
	}
	if kind := p.text("VPNType"); kind != "IKEv2" {
		a.note(p.place, "%s is left out: it is of type %s, and Martlet speaks IKEv2", quoted(name), quoted(kind))
		return
	}
	ike := p.bag("IKEv2")
	c := a.connection(name)
	c.Remote = a.hosts(ike.at("RemoteAddress"), ike.text("RemoteAddress"))
	if len(c.Remote) == 0 {
		a.note(ike.place, "%s is left out: it has no RemoteAddress", quoted(name))
		return
	}
	c.Request = []string{"ipv4", "ipv6"}
	c.Local.ID = a.literal(ike.at("LocalIdentifier"), ike.text("LocalIdentifier"))
	c.Peer.ID = a.literal(ike.at("RemoteIdentifier"), ike.text("RemoteIdentifier"))
	if cn := ike.text("ServerCertificateCommonName"); cn != "" && cn != ike.text("RemoteIdentifier") {
		a.note(ike.at("ServerCertificateCommonName"), "not carried over: the gateway's certificate must have the name of RemoteIdentifier")
	}
	a.auth(c, ike)
	a.suites(c, ike)
	a.times(c, ike)
	a.onDemand(c, ike)
	if ppk := ike.octets("PPK"); len(ppk) > 0 {
		c.PPKs = map[string]*config.PPK{ike.text("PPKIdentifier"): {Secret: a.secret("ppk.txt", ppk)}}
		c.PPKRequired = ike.flag("PPKMandatory", true)
	}
	c.NoMOBIKE = ike.flag("DisableMOBIKE", false)
	c.IgnoreRedirects = ike.flag("DisableRedirect", false)
	if mtu := ike.number("MTU", 0); mtu != 0 {
		a.note(ike.at("MTU"), "not carried over: Martlet computes it; to have this one, set mtu = %d in [node]", mtu)
	}
	if ike.flag("IncludeAllNetworks", false) {
		a.note(ike.at("IncludeAllNetworks"), "not carried over, since it is about the host and not the connection: set kill_switch = true in [node]")
	}
	if ike.flag("UseConfigurationAttributeInternalIPSubnet", false) {
		a.note(ike.at("UseConfigurationAttributeInternalIPSubnet"), "not carried over: routes follow the traffic selectors that the gateway agrees to")
	}
	ike.skip("NATKeepAliveOffloadEnable", "TLSMinimumVersion", "TLSMaximumVersion", "OnDemandUserOverrideDisabled", "PPKIdentifier", "PPKMandatory")
	local := "not carried over: what goes past the tunnel is what its traffic selectors leave out; routes = [...] in the connection has less"
	ike.without(a.draft, map[string]string{
		"ExcludeLocalNetworks": local, "ExcludeCellularServices": local, "ExcludeAPNs": local, "ExcludeDeviceCommunication": local, "EnforceRoutes": local,
		"DisconnectOnIdle": "not carried over: a connection stays open when it is idle", "DisconnectOnIdleTimer": "not carried over: a connection stays open when it is idle",
		"EnableFallback": "not carried over: there is no second network interface to fall back to",
	})
	ike.rest(a.draft)
	if dns := p.bag("DNS"); len(dns.all) > 0 {
		a.note(dns.place, "not carried over: the gateway tells the resolvers; to have names asked there, set tunnel_servers = [%s] and tunnel = [%s] in [dns]",
			shown(strings.Join(dns.texts("ServerAddresses"), ", ")), shown(strings.Join(dns.texts("SupplementalMatchDomains"), ", ")))
	}
	p.skip("PayloadDisplayName", "PayloadDescription", "PayloadIdentifier", "PayloadUUID", "PayloadType", "PayloadVersion", "PayloadOrganization", "VPNType", "UserDefinedName",
		// The schema has it for other types of VPN only, and every template copies it.
		"IPv4")
	p.without(a.draft, map[string]string{
		"Proxies":      "not carried over: programs ask the system for a proxy",
		"VPNSubType":   "not carried over: the connection is Martlet's own",
		"VendorConfig": "not carried over: it is for another program",
	})
	p.rest(a.draft)
	a.keep(c)
}

// auth carries over how the two sides prove who they are.
func (a *apple) auth(c *config.Connection, ike *bag) {
	method, eap, certificate := ike.text("AuthenticationMethod"), ike.flag("ExtendedAuthEnabled", false), strings.ToUpper(ike.text("PayloadCertificateUUID"))
	ike.skip("AuthName", "AuthPassword", "SharedSecret", "CertificateType")
	if method == "SharedSecret" || method == "None" && !eap {
		c.Local.Auth, c.Peer.Auth = "psk", "psk"
		if c.Local.Secret = a.secret("psk.txt", ike.octets("SharedSecret")); c.Local.Secret.Source == "" {
			c.Local.Secret = a.missingSecret(ike.at("SharedSecret"), "psk.txt", "the pre-shared key")
		}
		if eap {
			a.note(ike.at("ExtendedAuthEnabled"), "not carried over: with a pre-shared key there is no EAP here")
		}
		return
	}
	c.Peer.Auth = "cert"
	c.Peer.CA = a.trusted(ike)
	if ike.flag("EnableCertificateRevocationCheck", false) {
		c.Peer.Revocation = "relaxed"
	}
	switch {
	case eap && certificate == "":
		c.Local.Auth = "eap-mschapv2"
		c.Local.User = ike.text("AuthName")
		c.Local.Secret = a.secret("password.txt", ike.octets("AuthPassword"))
		if c.Local.Secret.Source == "" {
			a.note(ike.at("AuthPassword"), "is not in the profile: Martlet asks for it, or set secret = \"file:PATH\" in the local table")
		}
		if method == "None" {
			a.note(ike.at("AuthenticationMethod"), "None lets the gateway prove itself by EAP alone, which MSCHAPv2 does badly: here it must have a certificate")
		}
	case eap:
		c.Local.Auth = "eap-tls"
		a.certificate(c, ike, certificate)
		if method == "None" {
			c.EAPOnly = true
			c.Local.EAPCA = c.Peer.CA
			c.Peer.Auth, c.Peer.CA = "eap", nil
		}
	default:
		c.Local.Auth = "cert"
		a.certificate(c, ike, certificate)
	}
	if v := ike.text("TLSMinimumVersion"); v == "1.0" || v == "1.1" {
		a.note(ike.at("TLSMinimumVersion"), "not carried over: TLS inside EAP is 1.2 at least")
	}
	if v := ike.text("TLSMaximumVersion"); v == "1.2" {
		if c.Local.Auth == "eap-tls" {
			c.Local.TLS = "1.2"
		}
	} else if v != "" && v != "1.3" {
		a.note(ike.at("TLSMaximumVersion"), "not carried over: TLS inside EAP is 1.2 at least")
	}
}

// certificate carries the certificate with the UUID over as ours.
func (a *apple) certificate(c *config.Connection, ike *bag, uuid string) {
	at := ike.at("PayloadCertificateUUID")
	p := a.p12s[uuid]
	switch {
	case uuid == "":
		a.missingCredential(at, &c.Local, "the profile names none")
	case p == nil:
		a.missingCredential(at, &c.Local, "the payload that is named is not in the profile")
	case p.text("PayloadType") != applePKCS12:
		a.missingCredential(at, &c.Local, "an Apple device gets it from a server by itself ("+shown(p.text("PayloadType"))+")")
	default:
		a.container(p.at("PayloadContent"), &c.Local, p.octets("PayloadContent"), p.text("Password"), p.has("Password"))
	}
	if ike.text("CertificateType") == "RSA-PSS" {
		a.note(ike.at("CertificateType"), "not carried over: RSA keys sign as the gateway says that it can verify")
	}
}

// trusted returns the CAs below which the gateway's certificate must be.
func (a *apple) trusted(ike *bag) []string {
	cas := a.cas
	at := ike.at("ServerCertificateIssuerCommonName")
	if cn := ike.text("ServerCertificateIssuerCommonName"); cn != "" {
		named := slices.DeleteFunc(slices.Clone(cas), func(ca *x509.Certificate) bool { return ca.Subject.CommonName != cn })
		switch {
		case len(named) > 0:
			cas = named
		case len(cas) > 0:
			a.note(at, "no certificate of the profile is that of %s: the gateway's may be below any CA of the profile", quoted(cn))
		default:
			a.note(at, "not carried over: %s is not in the profile, so the gateway's certificate may be below any CA that the system trusts", quoted(cn))
		}
	}
	if len(cas) > 0 {
		a.note(ike.at("RemoteIdentifier"), "the gateway's certificate must be below a CA of the profile; an Apple device would take those that it trusts itself, too")
	}
	return a.authorities(ike.place, cas)
}

// suites carries the two sets of algorithms over. A profile offers exactly one, and what it does
// not say is AES-256, SHA2-256 and group 14.
func (a *apple) suites(c *config.Connection, ike *bag) {
	const ikeKey, childKey = "IKESecurityAssociationParameters", "ChildSecurityAssociationParameters"
	lifetime := func(b *bag) (rekey, life config.Duration) {
		minutes := min(max(b.number("LifeTimeInMinutes", 1440), 10), 1440)
		// Apple's replace an SA when four fifths of its life are over.
		return config.Duration(minutes) * config.Duration(time.Minute) * 4 / 5, config.Duration(minutes) * config.Duration(time.Minute)
	}
	first := ike.bag(ikeKey)
	c.Proposals = a.proposals(first.place, suite.ProtocolIKE, a.words(first, true, true, ike.flag("AllowPostQuantumKeyExchangeFallback", false)))
	c.Rekey, c.Lifetime = lifetime(first)
	first.rest(a.draft)

	second := ike.bag(childKey)
	child := &config.Child{}
	child.Proposals = a.proposals(second.place, suite.ProtocolESP, a.words(second, false, ike.flag("EnablePFS", false), true))
	child.Rekey, child.Lifetime = lifetime(second)
	second.rest(a.draft)
	c.Children["net"] = child
}

// words writes algorithms in strongSwan's keywords; with a post-quantum key exchange the same
// without it follows where that may be left out.
func (a *apple) words(b *bag, isIKE, ke, fallback bool) []string {
	encryption, integrity, group := b.text("EncryptionAlgorithm"), b.text("IntegrityAlgorithm"), b.number("DiffieHellmanGroup", 14)
	if encryption == "" {
		encryption = "AES-256"
	}
	if integrity == "" {
		integrity = "SHA2-256"
	}
	word := func(key, value string, known map[string]string) string {
		if known[value] == "" {
			a.note(b.at(key), "%s is not known", quoted(value))
		}
		return known[value]
	}
	words := []string{word("EncryptionAlgorithm", encryption, map[string]string{
		"DES": "des", "3DES": "3des", "AES-128": "aes128", "AES-256": "aes256", "AES-128-GCM": "aes128gcm16", "AES-256-GCM": "aes256gcm16", "ChaCha20Poly1305": "chacha20poly1305",
	})}
	hash := word("IntegrityAlgorithm", integrity, map[string]string{
		"SHA1-96": "sha1", "SHA1-160": "sha1", "SHA2-256": "sha256", "SHA2-384": "sha384", "SHA2-512": "sha512",
	})
	switch aead := strings.Contains(encryption, "GCM") || strings.Contains(encryption, "Poly"); {
	case aead && isIKE:
		words = append(words, "prf"+hash)
	case !aead:
		words = append(words, hash)
	}
	pq, _ := b.get("PostQuantumKeyExchangeMethods").([]any)
	if !ke {
		return []string{strings.Join(words, "-")}
	}
	words = append(words, word("DiffieHellmanGroup", fmt.Sprint(group), byText(groupWords())))
	without := strings.Join(words, "-")
	for i, element := range pq[:min(len(pq), 7)] {
		method := newBag(b.place, map[string]any{"PostQuantumKeyExchangeMethods": element}).number("PostQuantumKeyExchangeMethods", 0)
		if method == 0 {
			continue
		}
		words = append(words, fmt.Sprintf("ke%d_%s", i+1, word("PostQuantumKeyExchangeMethods", fmt.Sprint(method), map[string]string{"35": "mlkem512", "36": "mlkem768", "37": "mlkem1024"})))
	}
	with := strings.Join(words, "-")
	if with != without && fallback {
		return []string{with, without}
	}
	return []string{with}
}

func byText(m map[int]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[fmt.Sprint(k)] = v
	}
	return out
}

// times carries over when the peer is checked and a NAT kept open.
func (a *apple) times(c *config.Connection, ike *bag) {
	switch rate := ike.text("DeadPeerDetectionRate"); rate {
	case "None":
		c.Liveness = config.Never
	case "Low":
		c.Liveness = config.Duration(30 * time.Minute)
	case "", "Medium":
		c.Liveness = config.Duration(10 * time.Minute)
	case "High":
		c.Liveness = config.Duration(time.Minute)
	default:
		a.note(ike.at("DeadPeerDetectionRate"), "%s is not known", quoted(rate))
	}
	if seconds := ike.number("NATKeepAliveInterval", 0); seconds > 0 && seconds <= 3600 {
		c.Keepalive = config.Duration(seconds) * config.Duration(time.Second)
	}
}

// onDemand carries over when the connection opens by itself.
func (a *apple) onDemand(c *config.Connection, ike *bag) {
	rules := ike.bags("OnDemandRules")
	c.Keep = config.KeepManual
	if !ike.flag("OnDemandEnabled", false) {
		return
	}
	for _, r := range rules {
		action, ssids := r.text("Action"), r.texts("SSIDMatch")
		if action == "Connect" || action == "EvaluateConnection" {
			c.Keep = config.KeepUp
		}
		var when []string
		for _, match := range []struct{ key, say string }{
			{"InterfaceTypeMatch", "on %s"},
			{"SSIDMatch", "in the wireless network %s"},
			{"DNSDomainMatch", "where the domain is %s"},
			{"DNSServerAddressMatch", "where the resolver is %s"},
			{"URLStringProbe", "where %s answers"},
		} {
			if all := r.texts(match.key); len(all) > 0 {
				when = append(when, fmt.Sprintf(match.say, shown(strings.Join(all, " or "))))
			}
		}
		if len(when) == 0 {
			when = []string{"everywhere"}
		}
		where := strings.Join(when, " and ")
		switch {
		case action == "Disconnect" && len(ssids) > 0:
			a.note(r.place, "not carried over: %s is a trusted network, where the connection is closed: martlet down %s there", where, c.Name)
		default:
			a.note(r.place, "not carried over: %s %s; here the connection follows keep = %s wherever the host is", quoted(action), where, quoted(string(c.Keep)))
		}
	}
	if len(rules) == 0 {
		c.Keep = config.KeepUp
	}
}
