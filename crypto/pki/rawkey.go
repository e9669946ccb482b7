package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

const (
	pemPublicKey    = "PUBLIC KEY"
	pemRSAPublicKey = "RSA PUBLIC KEY"
)

// ParsePublicKey reads the one public key of a PEM file, in which other blocks are
// skipped, or of DER: a SubjectPublicKeyInfo, or PKCS#1. Keys that are too weak for a
// signature are refused.
func ParsePublicKey(b []byte) (crypto.PublicKey, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("pki: public key: %d octets; at most %d are read", len(b), maxFile)
	}
	if !bytes.Contains(b, []byte(pemBegin)) {
		return parsePublicDER(b)
	}
	var key crypto.PublicKey
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != pemPublicKey && block.Type != pemRSAPublicKey {
			continue
		}
		if key != nil {
			return nil, errors.New("pki: public key: there are several; leave the right one only")
		}
		var err error
		if key, err = parsePublicDER(block.Bytes); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, errors.New("pki: public key: there is none; make it from the private one: openssl pkey -in KEY -pubout")
	}
	return key, nil
}

// HasPublicKey tells whether a file holds a bare public key in PEM.
func HasPublicKey(b []byte) bool {
	return bytes.Contains(b, []byte(pemBegin+pemPublicKey+"-")) || bytes.Contains(b, []byte(pemBegin+pemRSAPublicKey+"-"))
}

func parsePublicDER(der []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		rsaKey, pkcs1 := x509.ParsePKCS1PublicKey(der)
		if pkcs1 != nil {
			return nil, fmt.Errorf("pki: public key: %w", err)
		}
		key = rsaKey
	}
	if why := weakKey(key, true); why != "" {
		return nil, fmt.Errorf("pki: public key: %s", why)
	}
	return key, nil
}

// EncodePublicKey writes a public key as the SubjectPublicKeyInfo that a raw public key in
// a CERT payload is (RFC 7670 §3).
func EncodePublicKey(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("pki: public key of type %T cannot be written", pub)
	}
	return der, nil
}

// Public is the public key of the credential, whether it has a certificate or not.
func (c *Credential) Public() crypto.PublicKey {
	switch {
	case c.Cert != nil:
		return c.Cert.PublicKey
	case c.Key != nil:
		return c.Key.Public()
	}
	return nil
}

// CheckKey tells whether a bare public key is one of those that are trusted. The error
// is a *CertError.
func (v Verifier) CheckKey(pub crypto.PublicKey) error {
	if why := weakKey(pub, v.AllowWeakRSA); why != "" {
		return &CertError{
			Code: CodeWeakKey, What: "the public key is refused", Why: why,
			Hint: "take a key of RSA 3072, ECDSA P-256 or Ed25519",
		}
	}
	if !slices.ContainsFunc(v.Keys, func(k crypto.PublicKey) bool { return SameKey(k, pub) }) {
		return &CertError{
			Code: CodeUnknownAuthority, What: "the public key is not trusted",
			Why:  fmt.Sprintf("it is none of the %d that are configured", len(v.Keys)),
			Hint: "compare it with the file of the peer's public key",
		}
	}
	return nil
}

// EncodePublicKeyFile writes a public key in PEM.
func EncodePublicKeyFile(pub crypto.PublicKey) ([]byte, error) {
	der, err := EncodePublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: der}), nil
}
