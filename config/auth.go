package config

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
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

// auth checks both sides' proofs, of both rounds, and loads what they need.
func (f *faults) auth(all *Config, c *Connection, path, dir string, now time.Time) {
	local, peer := join(path, "local"), join(path, "peer")
	f.secrets(c, path)
	f.side(c, &c.Local, local, false, dir, now)
	f.side(c, &c.Peer, peer, true, dir, now)
	f.eap(all, c, &c.Local, &c.Peer, local, peer, dir, now)

	local2, peer2 := join(path, "local2"), join(path, "peer2")
	for _, second := range []struct {
		auth *Auth
		path string
		peer bool
	}{{&c.Local2, local2, false}, {&c.Peer2, peer2, true}} {
		if !second.auth.IsSet() {
			continue
		}
		f.side(c, second.auth, second.path, second.peer, dir, now)
		if key := join(second.path, "secret"); second.auth.Auth == authPSK && len(second.auth.Secret.Value) == 0 && !f.has(key) {
			f.add(key, "is missing", `secret = "file:psk.txt"; see "openssl rand -base64 32"`)
		}
	}
	f.eap(all, c, &c.Local2, &c.Peer2, local2, peer2, dir, now)
}

// side checks one side's proof of one round.
func (f *faults) side(c *Connection, a *Auth, path string, peer bool, dir string, now time.Time) {
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
		f.peerCert(c, a, path, dir, now)
	case a.Auth == authCert:
		f.localCert(a, path, dir, now)
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

// localCert loads our certificates with their keys.
func (f *faults) localCert(a *Auth, path, dir string, now time.Time) {
	certKey, keyKey := join(path, "cert"), join(path, "key")
	if len(a.Credentials) == 0 {
		if len(a.Cert) == 0 && !f.has(certKey) {
			f.add(certKey, "is missing", `cert = ["cert.pem"]`)
		}
		files := f.ownFiles(a, certKey, dir)
		if len(a.Key) == 0 && len(files.keys) == 0 && !f.has(keyKey) && !f.has(certKey) {
			f.add(keyKey, "is missing", `key = ["key.pem"]`)
		}
		files.keys = append(files.keys, f.keys(a, keyKey, dir)...)
		if f.has(certKey) || f.has(keyKey) {
			return
		}
		f.pair(a, files, certKey, keyKey)
	}
	if f.has(certKey) || f.has(keyKey) {
		return
	}
	for i, cred := range a.Credentials {
		if cred == nil || cred.Key == nil {
			f.add(certKey, fmt.Sprintf("credential %d lacks its key", i), "")
			return
		}
		if cred.Cert == nil {
			continue
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

// ownKey is a private key and the place where it stands.
type ownKey struct {
	crypto.Signer
	at string
}

// ownFiles is what the files of our certificates hold.
type ownFiles struct {
	certs  []loaded
	public []publicKey
	keys   []ownKey // of PKCS#12
}

type publicKey struct {
	crypto.PublicKey
	file int
}

// ownFiles reads the files of our certificates, which may be PKCS#12 or bare keys.
func (f *faults) ownFiles(a *Auth, path, dir string) (all ownFiles) {
	for i, name := range a.Cert {
		at := index(path, i)
		if f.has(at) {
			continue
		}
		data, err := readFile(strings.TrimPrefix(name, "file:"), dir)
		switch {
		case err != nil:
			f.fault(at, err)
		case pki.IsPKCS12(data):
			// A key is in it: nobody else may read it.
			if _, err := readSecretFile(strings.TrimPrefix(name, "file:"), dir); err != nil {
				f.fault(at, err)
				continue
			}
			key, certs, err := pki.ParsePKCS12(data, string(a.KeyPassword.Value))
			if err != nil {
				f.keyFault(at, err)
				continue
			}
			all.keys = append(all.keys, ownKey{key, at})
			for _, c := range certs {
				all.certs = append(all.certs, loaded{c, i})
			}
		case pki.HasPublicKey(data):
			key, err := pki.ParsePublicKey(data)
			if err != nil {
				f.fault(at, err)
				continue
			}
			all.public = append(all.public, publicKey{key, i})
		default:
			all.certs = append(all.certs, f.parseCertificates(data, path, i)...)
		}
	}
	return all
}

// keyFault notes a key that cannot be read.
func (f *faults) keyFault(path string, err error) {
	if errors.Is(err, pki.ErrPassword) || errors.Is(err, pki.ErrEncryptedKey) {
		f.add(path, strings.TrimPrefix(err.Error(), "pki: "), `key_password = "file:key.pass"`)
		return
	}
	f.fault(path, err)
}

// pair puts keys and certificates together.
func (f *faults) pair(a *Auth, files ownFiles, certKey, keyKey string) {
	var creds []*pki.Credential
	paired := map[int]bool{}
	all := make([]*x509.Certificate, len(files.certs))
	var chain []*x509.Certificate
	for i, c := range files.certs {
		if all[i] = c.Certificate; c.IsCA {
			chain = append(chain, c.Certificate)
		}
	}
	bare := slices.Clone(files.public)
	for _, key := range files.keys {
		if i := slices.IndexFunc(bare, func(p publicKey) bool { return pki.SameKey(key.Public(), p.PublicKey) }); i >= 0 {
			bare = slices.Delete(bare, i, i+1)
			creds = append(creds, &pki.Credential{Key: key.Signer})
			continue
		}
		leaf := slices.IndexFunc(all, func(c *x509.Certificate) bool { return pki.SameKey(key.Public(), c.PublicKey) })
		switch {
		case leaf < 0 && len(all) == 0:
			f.add(key.at, "is not the key of the public key in cert", "openssl pkey -in KEY -pubout makes the right one")
			continue
		case leaf < 0:
			_, err := pki.NewCredential(all, key.Signer)
			f.fault(key.at, err)
			continue
		case paired[leaf]:
			f.add(key.at, "is the key of the same certificate as an earlier one", "remove it")
			continue
		}
		paired[leaf] = true
		cred, err := pki.NewCredential(append([]*x509.Certificate{all[leaf]}, issuers(all[leaf], chain)...), key.Signer)
		if err != nil {
			f.fault(key.at, err)
			continue
		}
		creds = append(creds, cred)
	}
	if f.has(keyKey) || f.has(certKey) {
		return
	}
	for i, c := range files.certs {
		if !c.IsCA && !paired[i] {
			f.add(index(certKey, c.file), fmt.Sprintf("there is no key for the certificate %q", c.Subject), "each certificate that is not a CA's needs its key")
		}
	}
	for _, p := range bare {
		f.add(index(certKey, p.file), "there is no private key for the public key", "each public key of ours needs its private one")
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
func (f *faults) peerCert(c *Connection, a *Auth, path, dir string, now time.Time) {
	caKey, certKey, idKey := join(path, "ca"), join(path, "cert"), join(path, "id")
	if len(a.Verifier.Roots) == 0 && len(a.Verifier.Keys) == 0 && !a.Verifier.SystemRoots {
		f.trust(a, path, dir)
	}
	f.revocation(a, path, dir)
	if f.has(caKey) || f.has(certKey) {
		return
	}
	only := len(a.Cert) > 0 && len(a.Verifier.Roots) > 0
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
	case len(a.Verifier.Keys) > 0:
		// Nobody else has the key, whatever he calls himself.
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
		if f.bareKeys(a, certKey, dir) {
			return
		}
		certs := f.certificates(a.Cert, certKey, dir)
		leaves := slices.DeleteFunc(slices.Clone(certs), func(c loaded) bool { return c.IsCA && len(certs) > 1 })
		if len(leaves) > 1 {
			f.add(certKey, fmt.Sprintf("has %d certificates, the peer has one", len(leaves)), "make a connection for each peer, or name the CA")
		}
		if len(leaves) == 1 {
			a.Verifier.Roots = []*x509.Certificate{leaves[0].Certificate}
		}
	default:
		f.authorities(&a.Verifier, a.CA, caKey, dir)
	}
}

// authorities loads the CAs of a list, or makes v trust the system's.
func (f *faults) authorities(v *pki.Verifier, list []string, key, dir string) {
	if slices.Contains(list, system) {
		if len(list) > 1 {
			f.add(key, `"system" must stand alone`, "remove it, or the files")
		}
		v.SystemRoots = true
		return
	}
	for _, c := range f.certificates(list, key, dir) {
		if !c.IsCA {
			f.add(index(key, c.file), fmt.Sprintf("%q is not the certificate of a CA", c.Subject), "is it the peer's own? Then it belongs in cert")
			continue
		}
		v.Roots = append(v.Roots, c.Certificate)
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
		all = append(all, f.parseCertificates(data, path, i)...)
	}
	return all
}

func (f *faults) parseCertificates(data []byte, path string, file int) []loaded {
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		f.fault(index(path, file), err)
	}
	all := make([]loaded, len(certs))
	for i, c := range certs {
		all[i] = loaded{c, file}
	}
	return all
}

// bareKeys loads the public keys of a peer, if the first file is one.
func (f *faults) bareKeys(a *Auth, path, dir string) bool {
	for i, name := range a.Cert {
		data, err := readFile(strings.TrimPrefix(name, "file:"), dir)
		if err != nil || i == 0 && !pki.HasPublicKey(data) {
			return false
		}
		key, err := pki.ParsePublicKey(data)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		a.Verifier.Keys = append(a.Verifier.Keys, key)
	}
	return true
}

// revocation checks what is asked about the peer's certificates.
func (f *faults) revocation(a *Auth, path, dir string) {
	key, crl := join(path, "revocation"), join(path, "crl")
	switch a.Revocation {
	case "":
		a.Policy = pki.RevocationOff
		if len(a.CRL) > 0 {
			a.Policy = pki.RevocationRelaxed
		}
	case pki.RevocationOff.String():
		a.Policy = pki.RevocationOff
		f.misplaced(path, "crl", a.CRL, `revocation = "off" does not look at it`)
	case pki.RevocationRelaxed.String():
		a.Policy = pki.RevocationRelaxed
	case pki.RevocationStrict.String():
		a.Policy = pki.RevocationStrict
	default:
		if !f.has(key) {
			f.add(key, fmt.Sprintf("unknown policy %q", a.Revocation), `"off", "relaxed" or "strict"`)
		}
	}
	if a.Policy != pki.RevocationOff && len(a.Verifier.Keys) > 0 && !f.has(key) {
		f.add(key, "has no meaning for bare keys", "nobody can revoke them; remove the peer's key from cert instead")
	}
	for i, name := range a.CRL {
		if f.has(index(crl, i)) {
			continue
		}
		// The path is used later, too.
		a.CRL[i] = resolve(strings.TrimPrefix(name, "file:"), dir)
		if _, err := ReadCRLs(a.CRL[i]); err != nil {
			f.fault(index(crl, i), err)
		}
	}
}

func (f *faults) keys(a *Auth, path, dir string) []ownKey {
	var all []ownKey
	for i, name := range a.Key {
		if f.has(index(path, i)) {
			continue
		}
		data, err := readSecretFile(strings.TrimPrefix(name, "file:"), dir)
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		key, err := pki.ParsePrivateKey(data, a.KeyPassword.Value)
		if err != nil {
			f.keyFault(index(path, i), err)
			continue
		}
		all = append(all, ownKey{key, index(path, i)})
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
