package config

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
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

// auth checks both sides' proofs and loads what they need.
func (f *faults) auth(c *Connection, path, dir string, now time.Time) {
	local, peer := join(path, "local"), join(path, "peer")
	f.method(c.Local, local)
	f.method(c.Peer, peer)
	f.secrets(c, path)

	f.misplaced(local, "ca", c.Local.CA, "it tells whom to trust, so it belongs in "+join(path, "peer"))
	f.misplaced(peer, "key", c.Peer.Key, "the peer keeps its key to itself; ours belongs in "+join(path, "local"))
	for _, side := range []struct {
		auth *Auth
		path string
	}{{&c.Local, local}, {&c.Peer, peer}} {
		if side.auth.Auth == authPSK {
			f.misplaced(side.path, "cert", side.auth.Cert, `a certificate needs auth = "cert"`)
			f.misplaced(side.path, "key", side.auth.Key, `a private key needs auth = "cert"`)
			f.misplaced(side.path, "ca", side.auth.CA, `a CA needs auth = "cert"`)
		}
		f.identity(side.auth, side.path)
	}
	if c.Local.Auth == authCert {
		f.localCert(&c.Local, local, dir, now)
	}
	if c.Peer.Auth == authCert {
		f.peerCert(c, peer, dir, now)
	}
	if id := c.Local.Identity; strings.HasPrefix(id.Data, "*") && (id.Type == pki.IDFQDN || id.Type == pki.IDRFC822Addr) {
		f.add(join(local, "id"), "is a pattern, but we are somebody", "patterns are for the peer")
	}
}

func (f *faults) method(a Auth, path string) {
	key := join(path, "auth")
	switch {
	case a.Auth == authPSK, a.Auth == authCert, f.has(key):
	case a.Auth == "":
		hint := `auth = "psk" or auth = "cert"`
		f.add(key, "is missing", hint)
	default:
		hint := `"psk" or "cert"`
		switch a.Auth {
		case "pubkey", "rsasig", "rsa", "ecdsa", "eddsa":
			hint = `it is called "cert" here`
		case "secret":
			hint = `it is called "psk" here`
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
	key, secret := local, c.Local.Secret
	if len(secret.Value) == 0 {
		key, secret = peer, c.Peer.Secret
	}
	usesPSK := c.Local.Auth == authPSK || c.Peer.Auth == authPSK
	switch {
	case len(secret.Value) == 0 && usesPSK:
		f.add(local, "is missing", `secret = "file:psk.txt"; see "openssl rand -base64 32"`)
	case len(secret.Value) > 0 && !usesPSK:
		f.add(key, "has no meaning here", `a secret needs auth = "psk"`)
	case len(c.Peer.Secret.Value) > 0 && !bytes.Equal(secret.Value, c.Peer.Secret.Value):
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

// localCert loads our certificates with their keys.
func (f *faults) localCert(a *Auth, path, dir string, now time.Time) {
	certKey, keyKey := join(path, "cert"), join(path, "key")
	if len(a.Credentials) == 0 {
		for _, needed := range []struct {
			key  string
			list []string
			hint string
		}{{certKey, a.Cert, `cert = ["cert.pem"]`}, {keyKey, a.Key, `key = ["key.pem"]`}} {
			if len(needed.list) == 0 && !f.has(needed.key) {
				f.add(needed.key, "is missing", needed.hint)
			}
		}
		certs := f.certificates(a.Cert, certKey, dir)
		keys := f.keys(a.Key, keyKey, dir)
		if f.has(certKey) || f.has(keyKey) {
			return
		}
		f.pair(a, certs, keys, certKey, keyKey)
	}
	if f.has(certKey) || f.has(keyKey) {
		return
	}
	for i, cred := range a.Credentials {
		if cred == nil || cred.Cert == nil || cred.Key == nil {
			f.add(certKey, fmt.Sprintf("credential %d lacks certificate or key", i), "")
			return
		}
		f.validity(cred.Cert, certKey, now, "peers will refuse it")
		if a.Identity.IsZero() {
			a.Identity = pki.IdentityOf(cred.Cert)
		} else if err := pki.MatchCert(a.Identity, cred.Cert); err != nil {
			reason, _ := split(err)
			f.warn(join(path, "id"), reason+"; most peers will refuse it")
		}
	}
	if a.Identity.IsZero() && !f.has(join(path, "id")) {
		f.add(join(path, "id"), "is missing, and the certificate has no name to take instead", `id = "vpn.example.com"`)
	}
}

// pair puts keys and certificates together.
func (f *faults) pair(a *Auth, certs []loaded, keys []crypto.Signer, certKey, keyKey string) {
	var creds []*pki.Credential
	paired := map[int]bool{}
	all := make([]*x509.Certificate, len(certs))
	var chain []*x509.Certificate
	for i, c := range certs {
		if all[i] = c.Certificate; c.IsCA {
			chain = append(chain, c.Certificate)
		}
	}
	for i, key := range keys {
		leaf := slices.IndexFunc(all, func(c *x509.Certificate) bool { return pki.SameKey(key.Public(), c.PublicKey) })
		if leaf < 0 {
			_, err := pki.NewCredential(all, key)
			f.fault(index(keyKey, i), err)
			continue
		}
		if paired[leaf] {
			f.add(index(keyKey, i), "is the key of the same certificate as an earlier one", "remove it")
			continue
		}
		paired[leaf] = true
		cred, err := pki.NewCredential(append([]*x509.Certificate{all[leaf]}, issuers(all[leaf], chain)...), key)
		if err != nil {
			f.fault(index(keyKey, i), err)
			continue
		}
		creds = append(creds, cred)
	}
	if f.has(keyKey) {
		return
	}
	for i, c := range certs {
		if !c.IsCA && !paired[i] {
			f.add(index(certKey, c.file), fmt.Sprintf("there is no key for the certificate %q", c.Subject), "each certificate that is not a CA's needs its key")
		}
	}
	a.Credentials = creds
}

// issuers returns the CAs above a certificate, the nearest first.
func issuers(cert *x509.Certificate, cas []*x509.Certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	for range cas {
		i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool {
			return ca != cert && bytes.Equal(ca.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(ca) == nil
		})
		if i < 0 || slices.Contains(chain, cas[i]) {
			break
		}
		cert = cas[i]
		chain = append(chain, cert)
	}
	return chain
}

// peerCert loads what the peer's certificate is measured by.
func (f *faults) peerCert(c *Connection, path, dir string, now time.Time) {
	a := &c.Peer
	caKey, certKey, idKey := join(path, "ca"), join(path, "cert"), join(path, "id")
	if len(a.Verifier.Roots) == 0 && !a.Verifier.SystemRoots {
		f.trust(a, path, dir)
	}
	if f.has(caKey) || f.has(certKey) {
		return
	}
	only := len(a.Cert) > 0
	for _, root := range a.Verifier.Roots {
		key := caKey
		if only {
			key = certKey
		}
		f.validity(root, key, now, "nothing below it will be trusted")
	}
	if !a.Identity.IsZero() || f.has(idKey) {
		return
	}
	switch {
	case only:
		a.Identity = pki.IdentityOf(a.Verifier.Roots[0])
	case len(c.Remote) == 1:
		// Whoever has any certificate of the CA must not pass for the gateway.
		if id, err := pki.ParseIdentity(c.Remote[0]); err == nil {
			a.Identity = id
		}
	case len(c.Remote) > 1:
		f.add(idKey, "is missing: it cannot be told from several remotes", `id = "vpn.example.com"`)
	case a.Verifier.SystemRoots:
		f.add(idKey, "is missing: everybody can get a certificate of a public CA", `id = "*@example.com", or a CA of your own`)
	}
}

// trust loads the CAs of the peer, or its only certificate.
func (f *faults) trust(a *Auth, path, dir string) {
	caKey, certKey := join(path, "ca"), join(path, "cert")
	switch {
	case f.has(caKey), f.has(certKey):
	case len(a.CA) == 0 && len(a.Cert) == 0:
		f.add(caKey, "is missing", `ca = ["ca.pem"], or ca = ["system"], or the peer's cert`)
	case len(a.CA) > 0 && len(a.Cert) > 0:
		f.add(certKey, "excludes ca: it is the only certificate that the peer may have", "remove one of them")
	case len(a.Cert) > 0:
		certs := f.certificates(a.Cert, certKey, dir)
		leaves := slices.DeleteFunc(slices.Clone(certs), func(c loaded) bool { return c.IsCA && len(certs) > 1 })
		if len(leaves) > 1 {
			f.add(certKey, fmt.Sprintf("has %d certificates, the peer has one", len(leaves)), "make a connection for each peer, or name the CA")
		}
		if len(leaves) == 1 {
			a.Verifier.Roots = []*x509.Certificate{leaves[0].Certificate}
		}
	case slices.Contains(a.CA, system):
		if len(a.CA) > 1 {
			f.add(caKey, `"system" must stand alone`, "remove it, or the files")
		}
		a.Verifier.SystemRoots = true
	default:
		for _, c := range f.certificates(a.CA, caKey, dir) {
			if !c.IsCA {
				f.add(index(caKey, c.file), fmt.Sprintf("%q is not the certificate of a CA", c.Subject), "is it the peer's own? Then it belongs in cert")
				continue
			}
			a.Verifier.Roots = append(a.Verifier.Roots, c.Certificate)
		}
	}
}

// loaded is a certificate and the place of its file in the list of the key.
type loaded struct {
	*x509.Certificate
	file int
}

func (f *faults) certificates(files []string, path, dir string) []loaded {
	var all []loaded
	for i, name := range files {
		if f.has(index(path, i)) {
			continue
		}
		data, err := readFile(strings.TrimPrefix(name, "file:"), dir)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		certs, err := pki.ParseCertificates(data)
		if err != nil {
			f.fault(index(path, i), err)
		}
		for _, c := range certs {
			all = append(all, loaded{c, i})
		}
	}
	return all
}

func (f *faults) keys(files []string, path, dir string) []crypto.Signer {
	var all []crypto.Signer
	for i, name := range files {
		if f.has(index(path, i)) {
			continue
		}
		data, err := readSecretFile(strings.TrimPrefix(name, "file:"), dir)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		key, err := pki.ParsePrivateKey(data)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		all = append(all, key)
	}
	return all
}

// validity warns of a certificate that is not valid now: the clock may be wrong, and one
// such must not keep all other connections down.
func (f *faults) validity(cert *x509.Certificate, path string, now time.Time, so string) {
	switch {
	case now.After(cert.NotAfter):
		f.warn(path, fmt.Sprintf("the certificate %q expired on %s; %s", cert.Subject, cert.NotAfter.Format(time.DateOnly), so))
	case now.Before(cert.NotBefore):
		f.warn(path, fmt.Sprintf("the certificate %q is valid from %s only; is the clock right?", cert.Subject, cert.NotBefore.Format(time.DateOnly)))
	}
}
