package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// ErrPassword is wrapped by the errors for a file that the given password does not open.
var ErrPassword = errors.New("the password is wrong")

// maxPKCS12 is the largest PKCS#12 file that is read, in octets.
const maxPKCS12 = 256 << 10

// IsPKCS12 tells whether a file looks like PKCS#12 (RFC 7292 §4): version 3 at the start of
// DER.
func IsPKCS12(b []byte) bool {
	in := cryptobyte.String(b)
	var pfx cryptobyte.String
	var version int
	return in.ReadASN1(&pfx, asn1.SEQUENCE) && pfx.ReadASN1Integer(&version) && version == 3 && pfx.PeekASN1Tag(asn1.SEQUENCE)
}

// ParsePKCS12 reads the key, its certificate and those of CAs from a PKCS#12 file. Errors
// hold nothing of the key or the password.
func ParsePKCS12(b []byte, password string) (key crypto.Signer, certs []*x509.Certificate, err error) {
	if len(b) > maxPKCS12 {
		return nil, nil, fmt.Errorf("pki: PKCS#12: %d octets; at most %d are read", len(b), maxPKCS12)
	}
	private, leaf, cas, err := pkcs12.DecodeChain(b, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, fmt.Errorf("pki: PKCS#12: %w", ErrPassword)
	case errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, errors.New("pki: PKCS#12: the file is damaged")
	case err != nil:
		return nil, nil, fmt.Errorf("pki: PKCS#12: cannot be read: %w", err)
	}
	key, ok := private.(crypto.Signer)
	if !ok || weakKey(key.Public(), true) != "" {
		return nil, nil, errUnsupportedKey()
	}
	return key, append([]*x509.Certificate{leaf}, cas...), nil
}

// EncodePKCS12 writes a credential whose key is held in memory, with its chain and the given
// CAs, as the key stores of operating systems read it. Legacy is for Windows before 10, macOS
// and iOS before 15 and Android before 13, which know only 3DES and SHA-1: whoever gets
// such a file can try passwords fast.
func EncodePKCS12(c *Credential, cas []*x509.Certificate, password string, legacy bool) ([]byte, error) {
	encoder := pkcs12.Modern2023
	if legacy {
		encoder = pkcs12.LegacyDES
	}
	if c.Cert == nil || c.Key == nil {
		return nil, errors.New("pki: PKCS#12: it needs a certificate and its private key")
	}
	b, err := encoder.Encode(c.Key, c.Cert, append(append([]*x509.Certificate(nil), c.Chain...), cas...), password)
	if err != nil {
		return nil, fmt.Errorf("pki: PKCS#12: a key of type %T cannot be written", c.Key)
	}
	return b, nil
}
