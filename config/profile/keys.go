package profile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"path"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

// keys are the private keys and containers that stand in the folders of a daemon.
type keys struct {
	signers []crypto.Signer
	// withCert are what PKCS#12 files hold: keys with their certificates.
	withCert [][]*x509.Certificate
	// locked are files that did not open.
	locked []string
}

// loadKey reads a private key, or a PKCS#12 file.
func (d *draft) loadKey(k *keys, name string, passwords [][]byte) error {
	data, err := d.read(name)
	if err != nil {
		return err
	}
	for _, password := range append([][]byte{nil}, passwords...) {
		var key crypto.Signer
		var certs []*x509.Certificate
		if pki.IsPKCS12(data) {
			if err = checkRounds(data); err != nil {
				break
			}
			key, certs, err = pki.ParsePKCS12(data, string(password))
		} else if err = checkRounds(der(data)); err == nil {
			key, err = pki.ParsePrivateKey(data, password)
		}
		if err == nil {
			k.signers = append(k.signers, key)
			if len(certs) > 0 {
				k.withCert = append(k.withCert, certs)
			}
			return nil
		}
		if !errors.Is(err, pki.ErrPassword) && !errors.Is(err, pki.ErrEncryptedKey) {
			break
		}
	}
	k.locked = append(k.locked, name)
	return err
}

// of returns the key of a certificate.
func (k *keys) of(cert *x509.Certificate) crypto.Signer {
	for _, key := range k.signers {
		if pki.SameKey(key.Public(), cert.PublicKey) {
			return key
		}
	}
	return nil
}

// certificates reads a file of certificates, which stands in folder unless its path is absolute.
func (d *draft) certificates(folder, name string) ([]*x509.Certificate, error) {
	if !path.IsAbs(name) {
		name = path.Join(folder, name)
	}
	data, err := d.read(name)
	if err != nil {
		return nil, err
	}
	return pki.ParseCertificates(data)
}

// ours carries our certificates over, with the keys that belong to them.
func (d *draft) ours(place string, a *config.Auth, k *keys, folder string, names []string) {
	if len(names) == 0 {
		d.oursByName(place, a, k, folder)
		return
	}
	for _, name := range names {
		certs, err := d.certificates(folder, name)
		if err != nil {
			d.missingCredential(place, a, quoted(name)+" cannot be read: "+bare(err))
			return
		}
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return k.of(c) != nil })
		if i < 0 {
			why := "there is no key for " + quoted(name)
			if len(k.locked) > 0 {
				why += ", or it is in one of those that did not open: " + shown(strings.Join(k.locked, ", "))
			}
			d.missingCredential(place, a, why)
			return
		}
		if err := d.credential(a, k.of(certs[i]), certs); err != nil {
			d.missingCredential(place, a, bare(err))
			return
		}
		if a.ID == "" {
			// These programs are called as their certificate's subject, and not as another name in it.
			a.ID = pki.DN(certs[i].RawSubject).String()
		}
	}
}

// oursByName carries over the certificate that has our identity, as strongSwan chooses it where
// none is named.
func (d *draft) oursByName(place string, a *config.Auth, k *keys, folder string) {
	all := slices.Clone(k.withCert)
	for _, name := range d.list(folder) {
		if certs, err := d.certificates(".", name); err == nil {
			all = append(all, certs)
		}
	}
	id, err := pki.ParseIdentity(a.ID)
	for _, certs := range all {
		key := k.of(certs[0])
		if key == nil || err != nil || !id.IsZero() && pki.MatchCert(id, certs[0]) != nil || id.IsZero() && len(all) > 1 {
			continue
		}
		if d.credential(a, key, certs) == nil {
			return
		}
	}
	d.missingCredential(place, a, "the profile names no certificate, and there is none in "+folder+" that has the identity and a key")
}

// theirs carries over below which CAs the peer's certificate must be: the named files, or else
// all in the folder.
func (d *draft) theirs(place string, a *config.Auth, folder string, names []string) {
	if len(names) == 0 {
		names = d.list(folder)
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], folder+"/")
		}
	}
	var cas []*x509.Certificate
	for _, name := range names {
		certs, err := d.certificates(folder, name)
		if err != nil {
			d.note(place, "the CA %s is not carried over: %s", quoted(name), bare(err))
			continue
		}
		cas = append(cas, certs...)
	}
	if cas = slices.DeleteFunc(cas, func(c *x509.Certificate) bool { return !c.IsCA }); len(cas) == 0 {
		a.CA = []string{fileName(d.now, "ca.pem", 1)}
		d.need(place, "there is no certificate of a CA in the profile's folders: put that of the peer's CA at %s", a.CA[0])
		return
	}
	a.CA = d.authorities(place, cas)
}

// pinned carries over the peer's only certificate.
func (d *draft) pinned(place string, a *config.Auth, folder string, names []string) {
	if len(names) > 1 {
		d.note(place, "of several certificates of the peer only %s is carried over", quoted(names[0]))
	}
	certs, err := d.certificates(folder, names[0])
	if err != nil {
		a.Cert = []string{fileName(d.now, "peer.pem", 1)}
		d.need(place, "%s is not carried over: %s; put the peer's certificate at %s", quoted(names[0]), bare(err), a.Cert[0])
		return
	}
	a.Cert = []string{d.file("peer.pem", pki.EncodeCertificate(certs[0]))}
}

// der is what the rounds of a password stand in: of PEM, the octets of its first block.
func der(data []byte) []byte {
	_, rest, ok := bytes.Cut(data, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----"))
	if !ok {
		return data
	}
	rest, _, _ = bytes.Cut(rest, []byte("-----END"))
	out, err := decode64(string(rest))
	if err != nil {
		return nil
	}
	return out
}

// pinnedKey carries over the peer's bare public key.
func (d *draft) pinnedKey(place string, a *config.Auth, name string) {
	if !path.IsAbs(name) {
		name = path.Join("pubkey", name)
	}
	data, err := d.read(name)
	if err == nil {
		_, err = pki.ParsePublicKey(data)
	}
	if err != nil {
		a.Cert = []string{fileName(d.now, "peer.pub", 1)}
		d.need(place, "%s is not carried over: %s; put the peer's public key in PEM at %s", quoted(name), bare(err), a.Cert[0])
		return
	}
	a.Cert = []string{d.file("peer.pub", data)}
}
