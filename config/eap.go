package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"martlet/crypto/pki"
)

const (
	authEAP   = "eap"
	eapPrefix = "eap-"
	eapRADIUS = "eap-radius"
)

// eapMethods are the methods that may be named behind "eap-", and innerMethods those
// inside TTLS and PEAP.
var (
	eapMethods   = []string{"mschapv2", "tls", "ttls", "peap", "gtc", "md5"}
	innerMethods = []string{"mschapv2", "gtc", "md5", "pap", "plain-mschapv2"}
)

// usesEAP tells whether the table says EAP, in any form.
func (a *Auth) usesEAP() bool { return a.Auth == authEAP || strings.HasPrefix(a.Auth, eapPrefix) }

// IsSet tells whether a table of a second round is there.
func (a *Auth) IsSet() bool { return !reflect.ValueOf(*a).IsZero() }

// onTLS tells whether a method runs TLS, for which a server needs a certificate.
func onTLS(method string) bool { return method == "tls" || method == "ttls" || method == "peap" }

// isEAPWord tells whether auth may have this value; peer: in the table of a peer.
func isEAPWord(word string, peer bool) bool {
	if word == authEAP || peer && word == eapRADIUS {
		return true
	}
	method, ok := strings.CutPrefix(word, eapPrefix)
	return ok && slices.Contains(eapMethods, method)
}

// eap checks what EAP needs on both sides of one round, and fills in the methods.
func (f *faults) eap(all *Config, c *Connection, local, peer *Auth, localPath, peerPath string, now time.Time) {
	f.eapKeys(local, localPath, false)
	f.eapKeys(peer, peerPath, true)
	if local.usesEAP() && !f.has(join(localPath, "auth")) {
		f.eapLocal(c, local, localPath, now)
	}
	if peer.usesEAP() && !f.has(join(peerPath, "auth")) {
		f.eapPeer(all, c, peer, peerPath)
	}
}

// eapKeys notes keys of EAP that say nothing where they stand.
func (f *faults) eapKeys(a *Auth, path string, peer bool) {
	if f.has(join(path, "auth")) {
		return
	}
	with := a.usesEAP()
	for _, k := range []struct {
		key   string
		set   bool
		where bool // whether it may stand in this table
	}{
		{"user", a.User != "", !peer},
		{"eap_id", a.EAPID != "", !peer},
		{"eap_server", a.EAPServer != "", !peer},
		{"eap_ca", len(a.EAPCA) > 0, !peer},
		{"inner", len(a.Inner) > 0, true},
		{"tls", a.TLS != "", true},
		{"strip_domain", a.StripDomain, peer},
	} {
		switch {
		case !k.set || f.has(join(path, k.key)):
		case !with:
			f.add(join(path, k.key), "has no meaning here", `it needs auth = "eap" or one of its methods`)
		case !k.where && peer:
			f.add(join(path, k.key), "has no meaning here", "it is about how we log in, so it belongs in the local table")
		case !k.where:
			f.add(join(path, k.key), "has no meaning here", "it is about how peers log in, so it belongs in the peer table")
		}
	}
	for i, word := range a.Inner {
		if at := index(join(path, "inner"), i); !slices.Contains(innerMethods, word) && !f.has(at) {
			f.add(at, fmt.Sprintf("unknown method %q", word), strings.Join(innerMethods, ", "))
		}
	}
	if a.TLS != "" && a.TLS != "1.2" && a.TLS != "1.3" && !f.has(join(path, "tls")) {
		f.add(join(path, "tls"), fmt.Sprintf("unknown version %q", a.TLS), `"1.2" or "1.3"; leave it out for both`)
	}
}

// eapLocal is how we log in.
func (f *faults) eapLocal(c *Connection, a *Auth, path string, now time.Time) {
	if len(c.Remote) == 0 {
		f.eapGateway(c, a, path, now)
		return
	}
	method, exact := strings.CutPrefix(a.Auth, eapPrefix)
	switch {
	case exact:
		a.Methods = []string{method}
	case len(a.Cert) > 0 || len(a.Credentials) > 0:
		a.Methods = []string{"tls"}
		if a.User != "" || len(a.Secret.Value) > 0 {
			a.Methods = append(a.Methods, "mschapv2", "peap", "ttls")
		}
	default:
		a.Methods = []string{"mschapv2", "peap", "ttls"}
	}
	if slices.Contains(a.Methods, "tls") {
		f.localCert(a, path, now)
	} else {
		f.misplaced(path, "cert", a.Cert, `a certificate needs auth = "eap-tls", "eap" or "cert"`)
		f.misplaced(path, "key", a.Key, `a private key needs auth = "eap-tls", "eap" or "cert"`)
	}
	if key := join(path, "eap_server"); a.EAPServer != "" && !f.has(key) {
		id, err := pki.ParseIdentity(a.EAPServer)
		if err != nil {
			f.fault(key, err)
		}
		a.EAPServerName = id
	}
	if len(a.EAPCA) > 0 && len(a.EAPVerifier.Roots) == 0 && !a.EAPVerifier.SystemRoots {
		f.authorities(&a.EAPVerifier, a.EAPCA, join(path, "eap_ca"))
	}
	if len(a.EAPCA) == 0 {
		a.EAPVerifier = c.Peer.Verifier
	}
	if !slices.ContainsFunc(a.Methods, onTLS) || f.has(path) {
		return
	}
	if len(a.EAPVerifier.Roots) == 0 && !a.EAPVerifier.SystemRoots && !f.has(join(path, "eap_ca")) && strings.HasPrefix(a.Auth, eapPrefix) {
		f.add(join(path, "eap_ca"), "is missing", `the TLS certificate of the EAP server must be below a CA: eap_ca = ["ca.pem"]`)
	}
}

// eapGateway is a gateway that proves itself by EAP alone.
func (f *faults) eapGateway(c *Connection, a *Auth, path string, now time.Time) {
	if !c.EAPOnly || a.Auth != authEAP {
		f.add(join(path, "auth"), "EAP is for who begins, but the connection has no remote", `a gateway proves itself with auth = "cert", or with auth = "eap" and eap_only = true`)
		return
	}
	f.localCert(a, path, now)
	if !slices.ContainsFunc([]string{authEAP, "eap-tls", "eap-ttls", "eap-peap", eapRADIUS}, func(w string) bool { return w == c.Peer.Auth }) {
		f.add(join(path, "auth"), fmt.Sprintf("nothing proves this gateway: the peer's method is %q", c.Peer.Auth), `a method on TLS, "eap-tls" say, proves it; else set auth = "cert" here`)
	}
}

// eapPeer is how peers log in at us, or how the gateway proves itself by EAP alone.
func (f *faults) eapPeer(all *Config, c *Connection, a *Auth, path string) {
	if len(c.Remote) > 0 && c.Local.usesEAP() {
		f.eapOnly(c, a, path)
		f.revocation(a, path)
		return
	}
	f.misplaced(path, "cert", a.Cert, "a peer's only certificate cannot be named with EAP; ca can")
	if len(a.Secret.Value) > 0 && !f.has(join(path, "secret")) {
		f.add(join(path, "secret"), "has no meaning here", "passwords of users stand in [user.NAME]")
	}
	if len(a.CA) > 0 && len(a.Verifier.Roots) == 0 && !a.Verifier.SystemRoots {
		f.authorities(&a.Verifier, a.CA, join(path, "ca"))
	}
	method, exact := strings.CutPrefix(a.Auth, eapPrefix)
	server := len(c.Local.Cert) > 0 || len(c.Local.Credentials) > 0
	switch {
	case a.Auth == eapRADIUS:
		a.Methods = nil
		f.noRevocation(a, path, "the RADIUS server looks at the peers' certificates")
		if key := join(path, "auth"); len(all.RADIUS.Servers) == 0 && !f.has("radius") && !f.has(key) {
			f.add(key, "leaves logins to RADIUS, but there is no server", "[radius.server.NAME]")
		}
		return
	case exact:
		a.Methods = []string{method}
	default:
		a.Methods = nil
		if c.Local.Auth != authEAP {
			a.Methods = []string{"mschapv2"}
		}
		if server {
			a.Methods = append(a.Methods, "peap", "ttls")
		}
		if server && len(a.CA) > 0 {
			a.Methods = append(a.Methods, "tls")
		}
	}
	if exact && onTLS(method) && !server && !f.has(path) {
		f.add(join(path, "auth"), fmt.Sprintf("%q needs a certificate of ours for TLS", a.Auth), "set cert and key in the local table")
	}
	if slices.Contains(a.Methods, "tls") {
		f.revocation(a, path)
	} else {
		f.noRevocation(a, path, `certificates of peers need auth = "eap-tls", or "eap" with a ca`)
	}
	if slices.Contains(a.Methods, "tls") && a.Verifier.SystemRoots && a.ID == "" && !f.has(join(path, "id")) && !f.has(join(path, "ca")) {
		f.add(join(path, "id"), "is missing: everybody can get a certificate of a public CA", `id = "*@example.com", or a CA of your own`)
	}
	if slices.Equal(a.Methods, []string{"tls"}) && len(a.CA) == 0 && len(a.Verifier.Roots) == 0 && !f.has(join(path, "ca")) {
		f.add(join(path, "ca"), "is missing", `whose certificates may log in? ca = ["ca.pem"]`)
	}
}

// noRevocation notes what asks about certificates where there are none.
func (f *faults) noRevocation(a *Auth, path, hint string) {
	f.misplaced(path, "crl", a.CRL, hint)
	if key := join(path, "revocation"); a.Revocation != "" && !f.has(key) {
		f.add(key, "has no meaning here", hint)
	}
}

// eapOnly is a client whose gateway shall prove itself by EAP.
func (f *faults) eapOnly(c *Connection, a *Auth, path string) {
	if a.Auth != authEAP {
		f.add(join(path, "auth"), fmt.Sprintf("%q does not tell how the gateway proves itself", a.Auth), `"cert"; or "eap", with eap_only = true`)
		return
	}
	if !c.EAPOnly {
		f.add(join(path, "auth"), "lets the gateway prove itself by EAP alone", "set eap_only = true in the connection if that is meant")
	}
	if c.Local.EAPServer == "" && a.ID == "" && !f.has(path) {
		f.add(join(path, "id"), "is missing: nothing tells who the gateway has to be", `id = "vpn.example.com", or eap_server in the local table`)
	}
}

// users checks the local accounts.
func (f *faults) users(c *Config) {
	needed := ""
	for name, conn := range c.Connections {
		if conn == nil {
			continue
		}
		for _, a := range []*Auth{&conn.Peer, &conn.Peer2} {
			gateway := a.usesEAP() && !(len(conn.Remote) > 0 && conn.Local.usesEAP())
			if gateway && slices.ContainsFunc(a.Methods, func(m string) bool { return m != "tls" }) && (needed == "" || name < needed) {
				needed = name
			}
		}
	}
	if needed != "" && len(c.Users) == 0 {
		f.add(join("connection", needed), "takes user names and passwords, but there are no users", "add [user.NAME] with a password")
	}
	whose := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		path, u := join("user", name), c.Users[name]
		if u == nil {
			f.add(path, "the user is nil", "")
			continue
		}
		u.Name = name
		if domain, user, ok := strings.Cut(name, `\`); ok {
			f.name(path, domain)
			f.name(path, user)
		} else {
			f.name(path, name)
		}
		if key := join(path, "password"); len(u.Password.Value) == 0 && len(u.Groups) == 0 && len(u.Address) == 0 && !f.has(key) {
			f.add(key, "is missing", `password = "file:PATH"`)
		}
		f.distinct(join(path, "groups"), len(u.Groups), func(i int) any { return u.Groups[i] })
		for i, addr := range u.Address {
			at := index(join(path, "address"), i)
			other, taken := whose[addr]
			switch {
			case f.has(at):
			case taken:
				f.add(at, fmt.Sprintf("%v belongs to user %s", addr, other), "a packet to it can go to one peer only")
			case i > 1 || i == 1 && addr.Is4() == u.Address[0].Is4():
				f.add(at, "is a second one of its family", "a peer gets one IPv4 and one IPv6 address")
			case addr.IsUnspecified() || addr.IsMulticast():
				f.add(at, fmt.Sprintf("%v is no address of a host", addr), "")
			}
			whose[addr] = name
			for _, p := range c.Pools {
				if p != nil && p.Gateway == addr && !f.has(at) {
					f.add(at, fmt.Sprintf("%v is the gateway's own in pool %s", addr, p.Name), "choose another one")
				}
			}
		}
	}
}
