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

// localCert loads our certificates with their keys.
func (f *faults) localCert(a *Auth, path string, now time.Time) {
	certKey, keyKey := join(path, "cert"), join(path, "key")
	if len(a.Credentials) == 0 {
		if len(a.Cert) == 0 && !f.has(certKey) {
			f.add(certKey, "is missing", `cert = ["cert.pem"]`)
		}
		files := f.ownFiles(a, certKey)
		if len(a.Key) == 0 && len(files.keys) == 0 && !f.has(keyKey) && !f.has(certKey) {
			f.add(keyKey, "is missing", `key = ["key.pem"]`)
		}
		files.keys = append(files.keys, f.keys(a, keyKey)...)
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
func (f *faults) ownFiles(a *Auth, path string) (all ownFiles) {
	for i, name := range a.Cert {
		at := index(path, i)
		if f.has(at) {
			continue
		}
		name, dir := strings.TrimPrefix(name, "file:"), f.origin.folder(at)
		data, err := f.origin.reader().named(name, dir)
		switch {
		case err != nil:
			f.fault(at, err)
		case pki.IsPKCS12(data):
			// A key is in it: nobody else may read it.
			if _, err := f.origin.reader().secret(name, dir); err != nil {
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

func (f *faults) keys(a *Auth, path string) []ownKey {
	var all []ownKey
	for i, name := range a.Key {
		if f.has(index(path, i)) {
			continue
		}
		data, err := f.origin.reader().secret(strings.TrimPrefix(name, "file:"), f.origin.folder(index(path, i)))
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
