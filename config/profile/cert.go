package profile

import (
	"crypto"
	"crypto/x509"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"martlet/config"
	"martlet/crypto/pki"
)

const (
	// maxRounds bounds how often the passwords of one PKCS#12 file are hashed, all together.
	// OpenSSL does it 2048 times, Windows 2000, and the strongest in use a million.
	maxRounds = 5_000_000
	// maxNesting bounds how deep ASN.1 may be nested; a signed profile or a PKCS#12 file needs
	// half as much.
	maxNesting = 40
	// system is config's word for the system's store of CAs.
	system = "system"
)

// authorities makes a file of the certificates of CAs and names it for ca. Where there are none
// it is the system's store.
func (d *draft) authorities(place string, certs []*x509.Certificate) []string {
	var cas []*x509.Certificate
	for _, c := range certs {
		switch {
		case !c.IsCA:
			d.note(place, "the certificate of %s is not carried over: it is not that of a CA", quoted(c.Subject.String()))
		case !slices.ContainsFunc(cas, c.Equal):
			cas = append(cas, c)
		}
	}
	if len(cas) == 0 {
		return []string{system}
	}
	return []string{d.file("ca.pem", pki.EncodeCertificate(cas...))}
}

// container puts what a PKCS#12 file holds into files in PEM, and names them in a. Its key is
// then no longer encrypted: the password would stand beside it. Where nobody knows the password
// the file stays what it is.
func (d *draft) container(place string, a *config.Auth, data []byte, password string, known bool) {
	cas, err := d.open(place, a, data, password, known)
	switch {
	case err == nil:
		if len(cas) > 0 {
			d.note(place, "the certificates of CAs in the PKCS#12 file go to the gateway with ours, and are not trusted for that")
		}
	case errors.Is(err, pki.ErrPassword):
		name := d.file("cert.p12", data)
		a.Cert = []string{name}
		a.KeyPassword = d.missingSecret(place, "cert.pass", "the password of the PKCS#12 file "+name)
	default:
		name := fileName(d.now, "cert.p12", 1)
		a.Cert = []string{name}
		d.need(place, "the certificate is not carried over: %s; put the right PKCS#12 file at %s", bare(err), name)
	}
}

// open reads a PKCS#12 file into files for a, and returns the certificates of CAs in it.
func (d *draft) open(place string, a *config.Auth, data []byte, password string, known bool) ([]*x509.Certificate, error) {
	if err := checkRounds(data); err != nil {
		return nil, err
	}
	key, certs, err := pki.ParsePKCS12(data, password)
	if errors.Is(err, pki.ErrPassword) && !known && d.o.Password != nil {
		if password, known = d.o.Password("the certificate in " + place); known {
			key, certs, err = pki.ParsePKCS12(data, password)
		}
	}
	if err != nil {
		return nil, err
	}
	return certs[1:], d.credential(a, key, certs)
}

// credential puts a key and its certificates into files for a.
func (d *draft) credential(a *config.Auth, key crypto.Signer, certs []*x509.Certificate) error {
	if _, err := pki.NewCredential(certs, key); err != nil {
		return err
	}
	text, err := pki.EncodePrivateKey(key)
	if err != nil {
		return err
	}
	leaf := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return pki.SameKey(key.Public(), c.PublicKey) })
	chain := []*x509.Certificate{certs[leaf]}
	for i, c := range certs {
		// Others than CAs would need keys of their own.
		if i != leaf && c.IsCA {
			chain = append(chain, c)
		}
	}
	a.Cert = append(a.Cert, d.file("cert.pem", pki.EncodeCertificate(chain...)))
	a.Key = append(a.Key, d.file("key.pem", text))
	return nil
}

// missingCredential names the files that somebody has to put there.
func (d *draft) missingCredential(place string, a *config.Auth, why string) {
	cert, key := fileName(d.now, "cert.pem", 1), fileName(d.now, "key.pem", 1)
	a.Cert, a.Key = []string{cert}, []string{key}
	d.need(place, "our certificate and its key are missing, since %s: put them at %s and %s", why, cert, key)
}

// checkRounds walks a PKCS#12 file and counts the rounds that hashing its passwords would take:
// a salt and a number behind it (RFC 7292 §4, appendix C; RFC 8018 §A). What is itself encrypted
// is not seen.
func checkRounds(data []byte) error {
	total := int64(0)
	var walk func(in cryptobyte.String, depth int) error
	walk = func(in cryptobyte.String, depth int) error {
		if depth > maxNesting {
			return errors.New("the PKCS#12 file is nested too deep")
		}
		salted := false
		for !in.Empty() {
			var element cryptobyte.String
			var tag asn1.Tag
			if !in.ReadAnyASN1(&element, &tag) {
				return nil // not ASN.1, but octets: pki says what is wrong with a file
			}
			if tag == asn1.INTEGER && salted {
				n := int64(0)
				if len(element) > 5 {
					total = maxRounds + 1
				}
				for _, octet := range element[:min(len(element), 5)] {
					n = n<<8 | int64(octet)
				}
				total = min(total+n, maxRounds+1)
			}
			salted = tag == asn1.OCTET_STRING || tag == asn1.SEQUENCE && salted
			if tag&0x20 != 0 || tag == asn1.OCTET_STRING {
				if err := walk(element, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(cryptobyte.String(data), 0); err != nil {
		return err
	}
	if total > maxRounds {
		return errors.New("opening the PKCS#12 file would take too long: it asks for too many rounds of its password's hash")
	}
	return nil
}
