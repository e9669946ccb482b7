package profile

import (
	"sort"
	"strconv"
	"strings"

	"martlet/config"
)

// keyFolders are those of swanctl with private keys.
var keyFolders = []string{"private", "rsa", "ecdsa", "pkcs8", "pkcs12"}

// readSecrets reads the section of secrets, and the private keys in the folders.
func (s *swanctl) readSecrets(in *settings) {
	var passwords [][]byte
	for _, name := range in.order {
		secret := in.section(name)
		kind := strings.TrimRight(name, "0123456789")
		for _, known := range []string{"eap", "xauth", "ntlm", "ike", "ppk", "private", "rsa", "ecdsa", "pkcs8", "pkcs12", "token"} {
			if strings.HasPrefix(name, known) && (len(name) == len(known) || !isLetter(name[len(known)])) {
				kind = known
			}
		}
		one := known{place: secret.place, value: decodeSecret(secret.values["secret"])}
		for _, k := range sortedKeys(secret.values) {
			if strings.HasPrefix(k, "id") {
				one.ids = append(one.ids, secret.values[k])
			}
		}
		switch kind {
		case "eap", "ike", "ppk":
			s.secrets[kind] = append(s.secrets[kind], one)
		case "private", "rsa", "ecdsa", "pkcs8", "pkcs12":
			passwords = append(passwords, one.value)
		case "xauth":
			s.note(secret.place, "not carried over: XAuth is of IKEv1")
		case "ntlm":
			s.note(secret.place, "not carried over: Martlet has passwords, and no hashes of them")
		case "token":
			s.note(secret.place, "not carried over: keys in tokens are not used")
		default:
			s.note(secret.place, "not carried over: Martlet has no such secret")
		}
	}
	if len(passwords) > 8 {
		passwords = passwords[:8]
	}
	for _, folder := range keyFolders {
		for _, name := range s.list(folder) {
			if err := s.loadKey(&s.keys, name, passwords); err != nil {
				s.note(name, "the key is not carried over: %s", bare(err))
			}
		}
	}
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// round is a section local or remote, of the first or the second proof.
type round struct {
	*settings
	order int
}

// auths carries over how the two sides prove who they are; false if the connection is left out.
func (s *swanctl) auths(in *settings, c *config.Connection) bool {
	var local, remote []round
	for i, name := range in.order {
		r := round{in.section(name), i}
		if n, err := strconv.Atoi(r.values["round"]); err == nil {
			r.order = n
		}
		switch {
		case strings.HasPrefix(name, "local"):
			local = append(local, r)
		case strings.HasPrefix(name, "remote"):
			remote = append(remote, r)
		}
	}
	for _, side := range [][]round{local, remote} {
		sort.SliceStable(side, func(i, j int) bool { return side[i].order < side[j].order })
	}
	if len(local) > 2 || len(remote) > 2 {
		s.note(in.place, "left out: each side has two proofs at most")
		return false
	}
	for i, r := range append(local, make([]round, max(1-len(local), 0))...) {
		if !s.local([]*config.Auth{&c.Local, &c.Local2}[i], orEmpty(r, in.at("local"))) {
			return false
		}
	}
	for i, r := range append(remote, make([]round, max(1-len(remote), 0))...) {
		if !s.remote(c, []*config.Auth{&c.Peer, &c.Peer2}[i], orEmpty(r, in.at("remote"))) {
			return false
		}
	}
	if c.Local.Auth == "psk" || c.Peer.Auth == "psk" {
		hosts := append(list(in.values["remote_addrs"]), list(in.values["local_addrs"])...)
		s.psk(in.place, c, s.secrets["ike"], hosts...)
	}
	return true
}

func orEmpty(r round, place string) *settings {
	if r.settings == nil {
		return newSettings(place)
	}
	return r.settings
}

// method is the word of Martlet for one of strongSwan's.
func (s *swanctl) method(in *settings) string {
	words := strings.Split(in.values["auth"], "-")
	for _, w := range words[1:] {
		if strings.HasPrefix(w, "sha") || strings.HasPrefix(w, "ike:") || w == "pss" {
			s.note(in.at("auth"), "changed: %s; which hashes and keys are good enough Martlet knows by itself", quoted(in.values["auth"]))
			break
		}
	}
	switch words[0] {
	case "", "pubkey", "rsa", "ecdsa", "ed25519", "ed448", "bliss", "ike:rsa", "ike:ecdsa", "ike:pubkey":
		return "cert"
	case "psk":
		return "psk"
	case "eap":
		return in.values["auth"]
	}
	return ""
}

// local carries over one of our proofs.
func (s *swanctl) local(a *config.Auth, in *settings) bool {
	a.ID = s.identity(in.at("id"), in.values["id"])
	names := list(in.values["certs"])
	for _, name := range in.order {
		if strings.HasPrefix(name, "cert") {
			sub := in.section(name)
			if sub.values["file"] != "" {
				names = append(names, sub.values["file"])
			} else {
				s.note(sub.place, "not carried over: certificates in tokens are not used")
			}
		}
	}
	switch a.Auth = s.method(in); {
	case a.Auth == "":
		s.note(in.at("auth"), "left out: %s is not of IKEv2, or Martlet has no such method", quoted(in.values["auth"]))
		return false
	case a.Auth == "cert":
		s.ours(in.at("certs"), a, &s.keys, "x509", names)
	case strings.HasPrefix(a.Auth, "eap"):
		if a.Auth == "eap-dynamic" || a.Auth == "eap-identity" {
			a.Auth = "eap"
		}
		s.login(a, in, names)
	}
	s.rest(in, map[string]string{
		"ca_id": "not carried over: it chooses among certificates, and here one is named", "pubkeys": "not carried over: name the public key in cert, and the private one in key",
		"xauth_id": "not carried over: XAuth is of IKEv1",
	}, "auth", "id", "certs", "round", "eap_id", "aaa_id")
	return true
}

// login carries over how we log in by EAP.
func (s *swanctl) login(a *config.Auth, in *settings, names []string) {
	user := in.values["eap_id"]
	if user == "" || isAny(user) {
		user = in.values["id"]
	}
	if aaa := in.values["aaa_id"]; aaa != "" {
		a.EAPServer = s.identity(in.at("aaa_id"), aaa)
	}
	if a.Auth == "eap-tls" || len(names) > 0 {
		s.ours(in.at("certs"), a, &s.keys, "x509", names)
	}
	if a.Auth == "eap-tls" {
		return
	}
	a.User = user
	if secret := find(s.secrets["eap"], user); secret != nil {
		a.Secret = s.secret("password.txt", secret.value)
		if user == "" && len(secret.ids) > 0 {
			a.User = secret.ids[0]
		}
	}
	if a.Secret.Source == "" {
		s.note(in.place, "the password is not in the profile: Martlet asks for it, or set secret = \"file:PATH\" in the local table")
	}
}

// remote carries over one proof of the peer.
func (s *swanctl) remote(c *config.Connection, a *config.Auth, in *settings) bool {
	v := in.values
	a.ID = s.identity(in.at("id"), v["id"])
	cas, certs := list(v["cacerts"]), list(v["certs"])
	for _, name := range in.order {
		if file := in.section(name).values["file"]; strings.HasPrefix(name, "cacert") && file != "" {
			cas = append(cas, file)
		} else if strings.HasPrefix(name, "cert") && file != "" {
			certs = append(certs, file)
		}
	}
	switch a.Auth = s.method(in); {
	case v["auth"] == "any":
		a.Auth = "cert"
		s.note(in.at("auth"), "changed: the peer must have a certificate")
	case a.Auth == "":
		s.note(in.at("auth"), "left out: %s is not of IKEv2, or Martlet has no such method", quoted(v["auth"]))
		return false
	}
	switch {
	case a.Auth == "cert" && v["pubkeys"] != "":
		s.pinnedKey(in.at("pubkeys"), a, list(v["pubkeys"])[0])
	case a.Auth == "cert" && len(certs) > 0:
		s.pinned(in.at("certs"), a, "x509", certs)
	case a.Auth == "cert":
		s.theirs(in.at("cacerts"), a, "x509ca", cas)
	case a.Auth == "eap-tls", len(cas) > 0 && strings.HasPrefix(a.Auth, "eap"):
		s.theirs(in.at("cacerts"), a, "x509ca", cas)
	}
	switch {
	case strings.HasPrefix(a.Auth, "eap") && strings.HasPrefix(c.Local.Auth, "eap"):
		a.Auth, c.Local.EAPCA, a.CA, c.EAPOnly = "eap", a.CA, nil, true
	case strings.HasPrefix(a.Auth, "eap"):
		s.gateway(a, in)
	}
	switch v["revocation"] {
	case "":
	case "strict", "ifuri":
		a.Revocation = "strict"
		if v["revocation"] == "ifuri" {
			s.note(in.at("revocation"), "changed to strict: ifuri has no counterpart; \"relaxed\" lets in whose revocation nobody can tell")
		}
	case "relaxed":
		a.Revocation = "relaxed"
	default:
		s.note(in.at("revocation"), "%s is not known", quoted(v["revocation"]))
	}
	if groups := list(v["groups"]); len(groups) > 0 {
		c.Groups = groups
	}
	s.rest(in, map[string]string{
		"cert_policy": "not carried over: policies of certificates are not looked at", "xauth_id": "not carried over: XAuth is of IKEv1",
		"ca_id": "not carried over: name the CA itself in ca",
	}, "auth", "id", "certs", "cacerts", "round", "eap_id", "revocation", "groups", "pubkeys")
	return true
}

// gateway carries over how peers log in.
func (s *swanctl) gateway(a *config.Auth, in *settings) {
	if a.Auth == "eap-dynamic" || a.Auth == "eap-identity" {
		a.Auth = "eap"
	}
	if id := in.values["eap_id"]; id != "" && !isAny(id) {
		s.note(in.at("eap_id"), "not carried over: whoever is a user may come in; groups tell them apart")
	}
	switch a.Auth {
	case "eap-tls":
	case "eap-radius":
		s.need(in.at("auth"), "the RADIUS servers stand in strongswan.conf: add [radius.server.NAME] with address and secret")
	default:
		s.accounts(in.place, s.secrets["eap"])
	}
}
