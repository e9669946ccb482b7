package config

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"martlet/crypto/pki"
)

const (
	authPSK  = "psk"
	authCert = "cert"
	// system stands among the CAs for the system's store.
	system = "system"
)

// auth checks both sides' proofs, of both rounds, and loads what they need.
func (f *faults) auth(all *Config, c *Connection, path string, now time.Time) {
	local, peer := join(path, "local"), join(path, "peer")
	f.secrets(c, path)
	f.side(c, &c.Local, local, false, now)
	f.side(c, &c.Peer, peer, true, now)
	f.eap(all, c, &c.Local, &c.Peer, local, peer, now)

	local2, peer2 := join(path, "local2"), join(path, "peer2")
	for _, second := range []struct {
		auth *Auth
		path string
		peer bool
	}{{&c.Local2, local2, false}, {&c.Peer2, peer2, true}} {
		if !second.auth.IsSet() {
			continue
		}
		f.side(c, second.auth, second.path, second.peer, now)
		if key := join(second.path, "secret"); second.auth.Auth == authPSK && len(second.auth.Secret.Value) == 0 && !f.has(key) {
			f.add(key, "is missing", `secret = "file:psk.txt"; see "openssl rand -base64 32"`)
		}
	}
	f.eap(all, c, &c.Local2, &c.Peer2, local2, peer2, now)
}

// side checks one side's proof of one round.
func (f *faults) side(c *Connection, a *Auth, path string, peer bool, now time.Time) {
	f.method(*a, path, peer)
	if peer {
		f.misplaced(path, "key", a.Key, "the peer keeps its key to itself; ours belongs in "+sideOf(path, "local"))
		if key := join(path, "key_password"); len(a.KeyPassword.Value) > 0 && !f.has(key) {
			f.add(key, "has no meaning here", "the peer keeps its key to itself; ours belongs in "+sideOf(path, "local"))
		}
	} else {
		f.misplaced(path, "ca", a.CA, "it tells whom to trust, so it belongs in "+sideOf(path, "peer"))
		f.noRevocation(a, path, "it is about the peer's certificates, so it belongs in "+sideOf(path, "peer"))
	}
	if a.Auth == authPSK {
		f.misplaced(path, "cert", a.Cert, `a certificate needs auth = "cert"`)
		f.misplaced(path, "key", a.Key, `a private key needs auth = "cert"`)
		f.misplaced(path, "ca", a.CA, `a CA needs auth = "cert"`)
		f.noRevocation(a, path, `a revocation list needs auth = "cert"`)
	}
	f.identity(a, path)
	switch {
	case a.Auth == authCert && peer:
		f.peerCert(c, a, path, now)
	case a.Auth == authCert:
		f.localCert(a, path, now)
	}
	if id := a.Identity; !peer && strings.HasPrefix(id.Data, "*") && (id.Type == pki.IDFQDN || id.Type == pki.IDRFC822Addr) {
		f.add(join(path, "id"), "is a pattern, but we are somebody", "patterns are for the peer")
	}
}

// sideOf is the table of the given side in the same connection.
func sideOf(path, side string) string { return path[:strings.LastIndexByte(path, '.')+1] + side }

func (f *faults) method(a Auth, path string, peer bool) {
	key := join(path, "auth")
	switch {
	case a.Auth == authPSK, a.Auth == authCert, isEAPWord(a.Auth, peer), f.has(key):
	case a.Auth == "":
		f.add(key, "is missing", `auth = "psk", auth = "cert" or auth = "eap"`)
	default:
		hint := `"psk", "cert", "eap" or one of its methods such as "eap-mschapv2"`
		switch a.Auth {
		case "pubkey", "rsasig", "rsa", "ecdsa", "eddsa":
			hint = `it is called "cert" here`
		case "secret":
			hint = `it is called "psk" here`
		case eapRADIUS, "radius":
			hint = `for peers it is "eap-radius"; we log in by "eap" or one of its methods`
		}
		f.add(key, fmt.Sprintf("unknown method %q", a.Auth), hint)
	}
}

// misplaced notes a key that says nothing where it stands.
func (f *faults) misplaced(path, key string, list []string, hint string) {
	if len(list) > 0 && !f.has(join(path, key)) {
		f.add(join(path, key), "has no meaning here", hint)
	}
}

// secrets brings the pre-shared key to the sides that use it.
func (f *faults) secrets(c *Connection, path string) {
	local, peer := join(join(path, "local"), "secret"), join(join(path, "peer"), "secret")
	if f.has(local) || f.has(peer) {
		return
	}
	// With EAP the local secret is a password, and passwords of peers are elsewhere.
	key, at, secret, other := local, local, c.Local.Secret, c.Peer.Secret
	switch {
	case c.Local.usesEAP() && c.Peer.usesEAP():
		return
	case c.Local.usesEAP():
		key, at, secret = peer, peer, other
	case c.Peer.usesEAP():
		other = Secret{}
	case len(secret.Value) == 0:
		key, secret = peer, other
	}
	usesPSK := c.Local.Auth == authPSK || c.Peer.Auth == authPSK
	switch {
	case len(secret.Value) == 0 && usesPSK:
		f.add(at, "is missing", `secret = "file:psk.txt"; see "openssl rand -base64 32"`)
	case len(secret.Value) > 0 && !usesPSK:
		f.add(key, "has no meaning here", `a secret needs auth = "psk"`)
	case len(other.Value) > 0 && !bytes.Equal(secret.Value, other.Value):
		f.add(peer, "differs from the local one", "IKEv2 has one pre-shared key for both sides: leave this one out")
	case usesPSK:
		if why := weakPSK(secret.Value); why != "" {
			f.warn(key, why)
		}
	}
	if c.Local.Auth == authPSK {
		c.Local.Secret = secret
	}
	if c.Peer.Auth == authPSK {
		c.Peer.Secret = secret
	}
}

func (f *faults) identity(a *Auth, path string) {
	key := join(path, "id")
	if a.ID == "" || f.has(key) {
		return
	}
	id, err := pki.ParseIdentity(a.ID)
	if err != nil {
		f.fault(key, err)
		return
	}
	if id.IsZero() {
		f.add(key, fmt.Sprintf("%q stands for anybody", a.ID), "leave id out instead")
	}
	a.Identity = id
}
