package profile

import (
	"strings"

	"martlet/config"
)

const (
	ipsecCerts = "ipsec.d/certs"
	ipsecCAs   = "ipsec.d/cacerts"
)

// auth carries over how the two sides prove who they are; false if the conn is left out.
func (p *ipsec) auth(e *ends, c *config.Connection) bool {
	for _, a := range []struct {
		*config.Auth
		side, round string
		peer        bool
	}{{&c.Local, e.local, "", false}, {&c.Peer, e.remote, "", true}, {&c.Local2, e.local, "2", false}, {&c.Peer2, e.remote, "2", true}} {
		at := e.at(a.side + "auth" + a.round)
		method := e.get(a.side + "auth" + a.round)
		if method == "" && a.round == "2" {
			continue
		}
		a.Auth.ID = p.side(e.at(a.side+"id"+a.round), e.get(a.side+"id"+a.round))
		if a.Auth.Auth = p.method(e, method); a.Auth.Auth == "" {
			p.note(at, "left out: %s is not of IKEv2, or Martlet has no such method", quoted(method))
			return false
		}
		names := list(e.get(a.side + "cert" + a.round))
		switch {
		case a.peer:
			p.peer(e, c, a.Auth, a.side, names)
		case a.Auth.Auth == "cert":
			p.own(e, a.Auth, a.side, names)
		case strings.HasPrefix(a.Auth.Auth, "eap"):
			p.login(e, a.Auth, a.side, names)
		}
	}
	if c.Local.Auth == "psk" || c.Peer.Auth == "psk" {
		p.psk(e.place, c, p.secrets.psk, append(list(e.v["left"]), list(e.v["right"])...)...)
	}
	return true
}

// side carries over an identity. What stands for the certificate's own name, or for the address,
// is the default here.
func (p *ipsec) side(place, text string) string {
	switch {
	case text == "%fromcert", text == "%cert", text == "%none", text == "%any":
		return ""
	case strings.HasPrefix(text, "%"):
		p.note(place, "changed: the name is told to the gateway, which the percent sign forbids")
		text = text[1:]
	}
	return p.identity(place, text)
}

// method is Martlet's word for how a side proves who it is.
func (p *ipsec) method(e *ends, word string) string {
	if word == "" {
		word, _, _ = strings.Cut(e.get("authby"), "|")
		word, _, _ = strings.Cut(word, ",")
	}
	base, _, _ := strings.Cut(word, "-")
	switch base {
	case "", "pubkey", "rsasig", "rsa", "ecdsa", "ecdsasig", "ed25519":
		return "cert"
	case "psk", "secret":
		return "psk"
	case "eap", "eaponly":
		if word == "eap-dynamic" || base == "eaponly" {
			return "eap"
		}
		return word
	}
	return ""
}

// own carries over our certificate.
func (p *ipsec) own(e *ends, a *config.Auth, side string, names []string) {
	at := e.at(side + "cert")
	if p.libreswan && len(names) > 0 {
		p.missingCredential(at, a, "Libreswan keeps "+quoted(names[0])+" in a database; pk12util -d sql:/var/lib/ipsec/nss -n NAME -o FILE takes it out")
		return
	}
	if key := e.get(side + "rsasigkey"); p.libreswan && len(names) == 0 && key != "" && key != "%cert" {
		p.missingCredential(e.at(side+"rsasigkey"), a, "Libreswan keeps the key in a database and has no certificate for it")
		return
	}
	p.ours(at, a, &p.secrets.keys, ipsecCerts, names)
}

// login carries over how we log in by EAP.
func (p *ipsec) login(e *ends, a *config.Auth, side string, names []string) {
	user := e.get("eap_identity")
	if user == "" || isAny(user) || user == "%identity" {
		user = a.ID
	}
	if aaa := e.get("aaa_identity"); aaa != "" {
		a.EAPServer = p.identity(e.at("aaa_identity"), aaa)
	}
	if a.Auth == "eap-tls" || len(names) > 0 {
		p.own(e, a, side, names)
	}
	if a.Auth == "eap-tls" {
		return
	}
	a.User = user
	if secret := find(p.secrets.eap, user); secret != nil {
		a.Secret = p.secret("password.txt", secret.value)
		if user == "" && len(secret.ids) > 0 {
			a.User = secret.ids[0]
		}
	}
	if a.Secret.Source == "" {
		p.note(e.at("eap_identity"), "the password is not in the profile: Martlet asks for it, or set secret = \"file:PATH\" in the local table")
	}
}

// peer carries over what the peer must prove.
func (p *ipsec) peer(e *ends, c *config.Connection, a *config.Auth, side string, names []string) {
	if ca := e.get(side + "ca"); ca != "" && ca != "%same" {
		p.note(e.at(side+"ca"), "changed: all CAs of the folder are trusted; name that of %s alone in ca", quoted(ca))
	}
	if groups := list(e.get(side + "groups")); len(groups) > 0 {
		c.Groups = groups
	}
	switch {
	case a.Auth == "cert" && len(names) > 0 && !p.libreswan:
		p.pinned(e.at(side+"cert"), a, ipsecCerts, names)
	case a.Auth == "cert", a.Auth == "eap-tls":
		if key := e.get(side + "rsasigkey"); p.libreswan && key != "" && key != "%cert" {
			a.Cert = []string{fileName(c.Name, "peer.pub", 1)}
			p.need(e.at(side+"rsasigkey"), "not carried over: it is in a format of its own; put the peer's public key in PEM at %s", a.Cert[0])
			return
		}
		p.theirs(e.at(side+"ca"), a, ipsecCAs, nil)
	}
	if !strings.HasPrefix(a.Auth, "eap") {
		return
	}
	if strings.HasPrefix(c.Local.Auth, "eap") {
		a.Auth, c.Local.EAPCA, a.CA, c.EAPOnly = "eap", a.CA, nil, true
		return
	}
	if id := e.get("eap_identity"); id != "" && !isAny(id) && id != "%identity" && len(c.Remote) == 0 {
		p.note(e.at("eap_identity"), "not carried over: whoever is a user may come in; groups tell them apart")
	}
	switch a.Auth {
	case "eap-tls":
	case "eap-radius":
		p.need(e.at(side+"auth"), "the RADIUS servers stand in strongswan.conf: add [radius.server.NAME] with address and secret")
	default:
		p.accounts(e.place, p.secrets.eap)
	}
}
