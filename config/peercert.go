package config

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"martlet/crypto/pki"
)

// peerCert loads what the peer's certificate is measured by.
func (f *faults) peerCert(c *Connection, a *Auth, path string, now time.Time) {
	caKey, certKey, idKey := join(path, "ca"), join(path, "cert"), join(path, "id")
	if len(a.Verifier.Roots) == 0 && len(a.Verifier.Keys) == 0 && !a.Verifier.SystemRoots {
		f.trust(a, path)
	}
	f.revocation(a, path)
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
func (f *faults) trust(a *Auth, path string) {
	caKey, certKey := join(path, "ca"), join(path, "cert")
	switch {
	case f.has(caKey), f.has(certKey):
	case len(a.CA) == 0 && len(a.Cert) == 0:
		f.add(caKey, "is missing", `ca = ["ca.pem"], or ca = ["system"], or the peer's cert`)
	case len(a.CA) > 0 && len(a.Cert) > 0:
		f.add(certKey, "excludes ca: it is the only certificate that the peer may have", "remove one of them")
	case len(a.Cert) > 0:
		if f.bareKeys(a, certKey) {
			return
		}
		certs := f.certificates(a.Cert, certKey)
		leaves := slices.DeleteFunc(slices.Clone(certs), func(c loaded) bool { return c.IsCA && len(certs) > 1 })
		if len(leaves) > 1 {
			f.add(certKey, fmt.Sprintf("has %d certificates, the peer has one", len(leaves)), "make a connection for each peer, or name the CA")
		}
		if len(leaves) == 1 {
			a.Verifier.Roots = []*x509.Certificate{leaves[0].Certificate}
		}
	default:
		f.authorities(&a.Verifier, a.CA, caKey)
	}
}

// authorities loads the CAs of a list, or makes v trust the system's.
func (f *faults) authorities(v *pki.Verifier, list []string, key string) {
	if slices.Contains(list, system) {
		if len(list) > 1 {
			f.add(key, `"system" must stand alone`, "remove it, or the files")
		}
		v.SystemRoots = true
		return
	}
	for _, c := range f.certificates(list, key) {
		if !c.IsCA {
			f.add(index(key, c.file), fmt.Sprintf("%q is not the certificate of a CA", c.Subject), "is it the peer's own? Then it belongs in cert")
			continue
		}
		v.Roots = append(v.Roots, c.Certificate)
	}
}

// bareKeys loads the public keys of a peer, if the first file is one.
func (f *faults) bareKeys(a *Auth, path string) bool {
	for i, name := range a.Cert {
		data, err := f.origin.reader().named(strings.TrimPrefix(name, "file:"), f.origin.folder(index(path, i)))
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
func (f *faults) revocation(a *Auth, path string) {
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
		a.CRL[i] = f.absolute(index(crl, i), strings.TrimPrefix(name, "file:"))
		lists, err := ReadCRLs(f.origin.reader(), a.CRL[i])
		if err != nil {
			f.fault(index(crl, i), err)
		}
		for _, list := range lists {
			if why := list.Unusable(); why != "" {
				f.warn(index(crl, i), fmt.Sprintf("the revocation list of %q is of no use: %s", list.Issuer(), why))
			}
		}
	}
}
