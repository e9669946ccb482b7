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

// maxFile is the largest file of certificates or keys that is read, in octets: the
// bundles of all public CAs have a quarter of a million.
const maxFile = 4 << 20

const (
	pemBegin       = "-----BEGIN "
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
)

// ParseCertificates reads the certificates of a PEM file, in which other blocks are
// skipped, or of DER, one after the other. There is at least one, or an error: a
// *CertError with CodeMalformed.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	malformed := func(why, hint string, err error) error {
		return &CertError{Code: CodeMalformed, What: "certificates cannot be read", Why: why, Hint: hint, Err: err}
	}
	if len(b) > maxFile {
		return nil, malformed(fmt.Sprintf("%d octets; at most %d are read", len(b), maxFile), "", nil)
	}
	if certs, err := x509.ParseCertificates(b); err == nil && len(certs) > 0 {
		return certs, nil
	} else if !bytes.Contains(b, []byte(pemBegin)) {
		return nil, malformed("neither PEM nor DER", "convert it: openssl x509 -in FILE -out cert.pem", err)
	}
	begun := bytes.Count(b, []byte(pemBegin))
	var certs []*x509.Certificate
	var others []string
	for n := 1; ; n++ {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		begun--
		if block.Type != pemCertificate && block.Type != "X509 CERTIFICATE" {
			others = append(others, printable(block.Type))
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, malformed(fmt.Sprintf("PEM block %d: %v", n, err), "", err)
		}
		certs = append(certs, cert)
	}
	// pem.Decode skips what it cannot read.
	if begun > 0 {
		return nil, malformed("a PEM block is broken", "its END line or its base64 is damaged; copy the file again", nil)
	}
	if len(certs) == 0 {
		return nil, malformed(fmt.Sprintf("there is none, but %q", others[:min(len(others), maxNames)]), "is it the file of the private key?", nil)
	}
	return certs, nil
}

// ErrEncryptedKey is wrapped by the error of ParsePrivateKey for a key whose password was
// not given.
var ErrEncryptedKey = errors.New("the private key is encrypted")

// ParsePrivateKey reads the one private key of a PEM file, in which other blocks are
// skipped, or of DER: PKCS#8, PKCS#1 or SEC 1. The password is for PKCS#8 that is
// encrypted; nil is none. Its errors hold nothing of the key.
func ParsePrivateKey(b, password []byte) (crypto.Signer, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("pki: private key: %d octets; at most %d are read", len(b), maxFile)
	}
	if !bytes.Contains(b, []byte(pemBegin)) {
		return parseKeyDER(b)
	}
	begun := bytes.Count(b, []byte(pemBegin))
	var key crypto.Signer
	var others []string
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		begun--
		switch block.Type {
		case pemPrivateKey, "RSA PRIVATE KEY", "EC PRIVATE KEY":
		case "ENCRYPTED PRIVATE KEY":
			if password == nil {
				return nil, encryptedKey()
			}
			var err error
			if block.Bytes, err = decryptPKCS8(block.Bytes, password); err != nil {
				return nil, err
			}
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New("pki: private key: in OpenSSH's format; convert it: ssh-keygen -p -N '' -m PKCS8 -f FILE")
		default:
			others = append(others, printable(block.Type))
			continue
		}
		// RFC 1421 headers, as older OpenSSL writes them.
		if block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("pki: private key: %w in the way of old OpenSSL; encrypt it anew: openssl pkcs8 -topk8 -in FILE -out key.pem", ErrEncryptedKey)
		}
		if key != nil {
			return nil, errors.New("pki: private key: there are several; leave the right one only")
		}
		var err error
		if key, err = parseKeyDER(block.Bytes); err != nil {
			return nil, err
		}
	}
	if begun > 0 {
		return nil, errors.New("pki: private key: a PEM block is broken; its END line or its base64 is damaged")
	}
	if key == nil {
		return nil, fmt.Errorf("pki: private key: there is none, but %q; is it the file of the certificate?", others[:min(len(others), maxNames)])
	}
	return key, nil
}

func encryptedKey() error {
	return fmt.Errorf("pki: private key: %w and no password is given; or decrypt it: openssl pkcs8 -in FILE -out key.pem", ErrEncryptedKey)
}

func errUnsupportedKey() error {
	return errors.New("pki: private key: of a kind that is not supported; RSA from 1024 bits, ECDSA P-256, P-384, P-521 or Ed25519 was expected")
}

// parseKeyDER does not pass on the errors of crypto/x509, which quote what they read.
func parseKeyDER(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, ok := key.(crypto.Signer)
		if !ok || weakKey(signer.Public(), true) != "" {
			return nil, errUnsupportedKey()
		}
		return signer, nil
	}
	var signer crypto.Signer
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		signer = key
	} else if key, err := x509.ParseECPrivateKey(der); err == nil {
		signer = key
	} else {
		return nil, errors.New("pki: private key: neither PEM nor DER in PKCS#8, PKCS#1 or SEC 1, or of a kind that is not supported; convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out key.pem")
	}
	if why := weakKey(signer.Public(), true); why != "" {
		return nil, fmt.Errorf("pki: private key: %s", why)
	}
	return signer, nil
}

// EncodeCertificate writes certificates in PEM.
func EncodeCertificate(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})...)
	}
	return out
}

// EncodeCRL writes a list in DER as PEM.
func EncodeCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: der})
}

// EncodePrivateKey writes a key that is held in memory in PEM, as PKCS#8 without
// encryption.
func EncodePrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: private key of type %T cannot be written", key)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

// NewCredential puts a key and the certificates of a file together. The leaf is the
// one that fits the key, wherever it stands; the others, without those that are
// self-issued, are the chain, of which one of those may be the root. The error is a
// *CertError.
func NewCredential(certs []*x509.Certificate, key crypto.Signer) (*Credential, error) {
	if key == nil || len(certs) == 0 || slices.Contains(certs, nil) {
		return nil, &CertError{Code: CodeMalformed, What: "credential is incomplete", Why: "it needs a certificate and its private key"}
	}
	leaf := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return SameKey(key.Public(), c.PublicKey) })
	if leaf < 0 {
		return nil, &CertError{
			Code: CodeKeyMismatch,
			What: "the private key does not belong to certificate " + named(certs[0]),
			Why:  fmt.Sprintf("the public key (%s) that goes with it is not the certificate's (%s)", keyType(key.Public()), keyType(certs[0].PublicKey)),
			Hint: "use the key with which the certificate was requested",
		}
	}
	out := &Credential{Cert: certs[leaf], Key: key}
	for i, cert := range certs {
		if i != leaf && !selfIssued(cert) {
			out.Chain = append(out.Chain, cert)
		}
	}
	for i, root := range certs {
		if i != leaf && selfIssued(root) && slices.ContainsFunc(append(out.Chain, out.Cert), func(c *x509.Certificate) bool { return c.CheckSignatureFrom(root) == nil }) {
			out.Root = root
		}
	}
	return out, nil
}
