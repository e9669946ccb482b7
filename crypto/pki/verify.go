package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// Limits on what a peer can make us verify (strongSwan and Libreswan both ran in
// circles through cross-signed CAs).
const (
	MaxChain        = 8  // certificates from leaf to root, both counted
	MaxCertificates = 16 // certificates in one message, the leaf counted
)

// Purpose is what a certificate is used for; purposes may be added up, and then all
// are needed. The zero value means both.
type Purpose uint8

const (
	ServerAuth Purpose = 1 << iota // a gateway, seen by a client
	ClientAuth                     // a client, seen by a gateway
	PeerAuth   = ServerAuth | ClientAuth
)

// Verifier checks chains of certificates (RFC 5280 §6, RFC 4945 §5).
type Verifier struct {
	Roots        []*x509.Certificate // trusted CAs, or peers' own certificates
	SystemRoots  bool                // with no Roots: trust what the system trusts
	Keys         []crypto.PublicKey  // trusted as they are, without certificates (RFC 7670 §3)
	Now          time.Time           // required
	AllowWeakRSA bool                // allow RSA from 1024 bits and the exponent 3
}

// Verify checks that leaf is valid now, serves the purpose, and leads over
// intermediates, in any order, to a trusted CA. It does not compare names (MatchCert does)
// and does not ask for revocation (Links). The error is a *CertError.
//
// A certificate without extended key usage serves every purpose, as does one with
// anyExtendedKeyUsage or ikeIntermediate; the same holds for each CA above it.
func (v Verifier) Verify(leaf *x509.Certificate, intermediates []*x509.Certificate, role Purpose) error {
	_, err := v.Chain(leaf, intermediates, role)
	return err
}

// Chain is Verify, and returns the chain that was found: the leaf first, the trusted
// certificate last.
func (v Verifier) Chain(leaf *x509.Certificate, intermediates []*x509.Certificate, role Purpose) ([]*x509.Certificate, error) {
	if v.Now.IsZero() {
		return nil, &CertError{Code: CodeMalformed, What: "certificate cannot be verified", Why: "the time was not given"}
	}
	if leaf == nil || slices.Contains(intermediates, nil) {
		return nil, &CertError{Code: CodeMalformed, What: "certificate cannot be verified", Why: "there is none"}
	}
	if n := 1 + len(intermediates); n > MaxCertificates {
		return nil, &CertError{
			Code: CodeMalformed, What: "too many certificates",
			Why:  fmt.Sprintf("the peer sent %d; at most %d are looked at", n, MaxCertificates),
			Hint: "have the peer send its own certificate and the CAs in between only",
		}
	}
	if role == 0 {
		role = PeerAuth
	}
	if err := v.checkLeaf(leaf, role); err != nil {
		return nil, err
	}
	opts := x509.VerifyOptions{
		Intermediates: x509.NewCertPool(),
		CurrentTime:   v.Now,
		// ikeIntermediate is unknown to crypto/x509; usages are checked below.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, cert := range v.trusted(intermediates) {
		opts.Intermediates.AddCert(understood(cert))
	}
	if len(v.Roots) > 0 || !v.SystemRoots {
		opts.Roots = x509.NewCertPool()
		for _, cert := range v.Roots {
			opts.Roots.AddCert(understood(cert))
		}
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return nil, v.chainError(err, leaf, intermediates)
	}
	var first error
	for _, chain := range chains {
		err := v.checkChain(chain, role)
		if err == nil {
			return chain, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// trusted leaves of a peer's certificates those that a trusted CA signed, over others of them
// or itself. crypto/x509 searches upward from the leaf and tries up to a hundred signatures, by
// keys of a stranger's making; downward from the roots each certificate is tried once, by
// keys that are trusted.
//
// A certificate with a key of more than maxRSA bits is left out at once: to verify one
// signature by a key of 240,000 bits, which fits into an IKE message, takes seconds.
func (v Verifier) trusted(certs []*x509.Certificate) []*x509.Certificate {
	certs = slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool {
		key, ok := c.PublicKey.(*rsa.PublicKey)
		return ok && key.N.BitLen() > maxRSA
	})
	if len(certs) < 3 || len(v.Roots) == 0 {
		return certs // the search is short, or the system's roots are not known here
	}
	known, left := slices.Clone(v.Roots), slices.Clone(certs)
	for i := 0; i < len(known) && len(left) > 0; i++ {
		ca := known[i]
		left = slices.DeleteFunc(left, func(c *x509.Certificate) bool {
			signed := bytes.Equal(c.RawIssuer, ca.RawSubject) && c.CheckSignatureFrom(ca) == nil
			if signed {
				known = append(known, c)
			}
			return signed
		})
	}
	return known[len(v.Roots):]
}

// checkLeaf looks at what needs no chain.
func (v Verifier) checkLeaf(leaf *x509.Certificate, role Purpose) error {
	if err := v.checkKey(leaf); err != nil {
		return err
	}
	if weakSignature(leaf) && !selfIssued(leaf) {
		return signatureError(leaf)
	}
	// RFC 4945 §5.1.3.2: with a key usage, digitalSignature or nonRepudiation.
	if ku := leaf.KeyUsage; ku != 0 && ku&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return &CertError{
			Code: CodeWrongUsage,
			What: "certificate " + named(leaf) + " may not be used to authenticate",
			Why:  "its key usage has neither digitalSignature nor nonRepudiation",
			Hint: "issue it with the key usage digitalSignature",
		}
	}
	return checkUsage(leaf, role)
}

// checkChain looks at what crypto/x509 does not.
func (v Verifier) checkChain(chain []*x509.Certificate, role Purpose) error {
	if len(chain) > MaxChain {
		return &CertError{
			Code: CodeMalformed, What: "the chain of certificates is too long",
			Why: fmt.Sprintf("it has %d certificates; at most %d are allowed", len(chain), MaxChain),
		}
	}
	for _, cert := range chain[1:] {
		if err := v.checkKey(cert); err != nil {
			return err
		}
		if err := checkUsage(cert, role); err != nil {
			return err
		}
	}
	return checkNameConstraints(chain)
}

func checkUsage(cert *x509.Certificate, role Purpose) error {
	if len(cert.ExtKeyUsage) == 0 && len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) ||
		slices.ContainsFunc(cert.UnknownExtKeyUsage, ikeIntermediate().Equal) {
		return nil
	}
	for _, need := range []struct {
		role  Purpose
		usage x509.ExtKeyUsage
		name  string
	}{
		{ServerAuth, x509.ExtKeyUsageServerAuth, "serverAuth"},
		{ClientAuth, x509.ExtKeyUsageClientAuth, "clientAuth"},
	} {
		if role&need.role == 0 || slices.Contains(cert.ExtKeyUsage, need.usage) {
			continue
		}
		return &CertError{
			Code: CodeWrongUsage,
			What: "certificate " + named(cert) + " is not meant for this",
			Why:  "its extended key usage lacks " + need.name,
			Hint: "issue it with the extended key usage " + need.name + ", or with none",
		}
	}
	return nil
}

// ikeIntermediate is the usage "IP security IKE intermediate" that macOS once
// wanted and strongSwan's documentation still sets.
func ikeIntermediate() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}
}

// Bounds of RSA keys in bits. The upper one bounds the work for a stranger's
// certificate; crypto/tls has the same.
const (
	minRSA     = 2048
	minWeakRSA = 1024
	maxRSA     = 8192
)

func (v Verifier) checkKey(cert *x509.Certificate) error {
	why := weakKey(cert.PublicKey, v.AllowWeakRSA)
	if why == "" {
		return nil
	}
	return &CertError{
		Code: CodeWeakKey,
		What: "the key of certificate " + named(cert) + " is refused",
		Why:  why,
		Hint: "issue it with a key of RSA 3072, ECDSA P-256 or Ed25519",
	}
}

// weakKey says what is wrong with a public key, or nothing.
func weakKey(pub any, allowWeakRSA bool) string {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		least := minRSA
		if allowWeakRSA {
			least = minWeakRSA
		}
		switch n := key.N.BitLen(); {
		case n < least:
			return fmt.Sprintf("RSA with %d bits; at least %d were expected", n, least)
		case n > maxRSA:
			return fmt.Sprintf("RSA with %d bits; at most %d were expected", n, maxRSA)
		case key.N.Bit(0) == 0:
			return "RSA with an even modulus"
		case key.E < 3 || key.E%2 == 0:
			return fmt.Sprintf("RSA with the impossible exponent %d", key.E)
		case key.E == 3 && !allowWeakRSA:
			return "RSA with the exponent 3, with which signatures were forged; 65537 was expected"
		}
		return ""
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return ""
		}
		return "ECDSA on another curve than P-256, P-384 and P-521"
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			return ""
		}
		return fmt.Sprintf("Ed25519 with %d octets; %d were expected", len(key), ed25519.PublicKeySize)
	}
	return "a kind of key that is not supported; RSA, ECDSA or Ed25519 was expected"
}

func weakSignature(cert *x509.Certificate) bool {
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

func selfIssued(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer)
}
