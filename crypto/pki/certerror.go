package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Codes of a CertError. They are stable: programs may compare them.
const (
	CodeUnknownAuthority  = "cert-unknown-authority" // no chain to a trusted CA
	CodeExpired           = "cert-expired"
	CodeNotYetValid       = "cert-not-yet-valid"
	CodeWrongUsage        = "cert-wrong-usage"   // key usage or extended key usage
	CodeNameMismatch      = "cert-name-mismatch" // does not prove the identity
	CodeWeakKey           = "cert-weak-key"
	CodeWeakSignature     = "cert-weak-signature" // signed with SHA-1, MD5 …
	CodeConstraint        = "cert-constraint"     // a CA may not issue it: names, path length, policies, not a CA
	CodeMalformed         = "cert-malformed"      // unreadable, too many, too deep, an unknown critical extension
	CodeKeyMismatch       = "cert-key-mismatch"   // the private key belongs to another certificate
	CodeRevoked           = "cert-revoked"
	CodeRevocationUnknown = "cert-revocation-unknown" // nobody tells whether it is revoked
)

// CertError says why a certificate is refused: a line each for what happened,
// why we think so, and what to do.
type CertError struct {
	Code string // one of the Code constants
	What string
	Why  string
	Hint string
	Err  error // the cause, where another package found it; may be nil
}

// Error is the what and the why in one line.
func (e *CertError) Error() string {
	if e.Why == "" {
		return "pki: " + e.What
	}
	return "pki: " + e.What + ": " + e.Why
}

// Unwrap gives the cause.
func (e *CertError) Unwrap() error { return e.Err }

// Is compares codes, so that errors.Is(err, &CertError{Code: CodeExpired}) works.
func (e *CertError) Is(target error) bool {
	t, ok := target.(*CertError)
	return ok && t.Code == e.Code
}

// named is the short name of a certificate in errors.
func named(cert *x509.Certificate) string {
	if id := IdentityOf(cert); !id.IsZero() {
		return quoted(id.shown())
	}
	return "without a name"
}

// shown is the text of the identity for an error, without a type before it.
func (id Identity) shown() string {
	text, _ := id.text()
	return text
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// chainError puts what crypto/x509 found into our words. leaf is the certificate that
// was to be verified.
func (v Verifier) chainError(err error, leaf *x509.Certificate, others []*x509.Certificate) *CertError {
	out := &CertError{Err: err, Code: CodeMalformed, What: "certificate " + named(leaf) + " cannot be verified", Why: err.Error()}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		cert := invalid.Cert
		if cert == nil {
			cert = leaf
		}
		switch invalid.Reason {
		case x509.Expired:
			return v.timeError(cert, err)
		case x509.NotAuthorizedToSign, x509.TooManyIntermediates, x509.CANotAuthorizedForThisName,
			x509.NameConstraintsWithoutSANs, x509.NameMismatch, x509.UnconstrainedName,
			x509.TooManyConstraints, x509.CANotAuthorizedForExtKeyUsage, x509.NoValidChains:
			out.Code = CodeConstraint
			out.What = "certificate " + named(leaf) + " breaks a rule of its CA"
			out.Hint = "have the certificate issued by a CA that may issue it"
		}
		return out
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		// x509 hides a refused signature behind "unknown authority".
		for _, cert := range others {
			if weakSignature(cert) && !selfIssued(cert) {
				return signatureError(cert)
			}
		}
		out.Code = CodeUnknownAuthority
		out.What = "certificate " + named(leaf) + " is not trusted"
		issuer := leaf
		if unknown.Cert != nil {
			issuer = unknown.Cert
		}
		out.Why = fmt.Sprintf("it was issued by %s, which leads to none of the %s", issuerName(issuer), v.rootsText())
		out.Hint = "configure the certificate of the CA that issued it, and have the peer send the CAs in between"
		if slices.ContainsFunc(v.Roots, func(root *x509.Certificate) bool { return bytes.Equal(root.RawSubject, issuer.RawIssuer) }) {
			out.Why = fmt.Sprintf("it names %s as its issuer, but the CA of that name that is configured has another key", issuerName(issuer))
			out.Hint = "there are two CAs of one name: configure the certificate of the other one"
		}
		return out
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		out.Why = "it, or a CA above it, has a critical extension that is not understood"
		out.Hint = "issue the certificate without that extension, or mark it as not critical"
		return out
	}
	if roots, ok := errors.AsType[x509.SystemRootsError](err); ok {
		out.Code = CodeUnknownAuthority
		out.Why = "the system's trusted CAs cannot be read: " + roots.Error()
		out.Hint = "install the system's CA certificates, or configure a CA"
	}
	return out
}

func (v Verifier) rootsText() string {
	switch n := len(v.Roots); {
	case n > 1:
		return fmt.Sprintf("%d CAs configured", n)
	case n == 1:
		return "CAs configured (" + quoted(showDN(v.Roots[0].RawSubject)) + ")"
	case v.SystemRoots:
		return "CAs that the system trusts"
	}
	return "trusted CAs: none is configured"
}

func (v Verifier) timeError(cert *x509.Certificate, err error) *CertError {
	out := &CertError{Err: err}
	if v.Now.Before(cert.NotBefore) {
		out.Code = CodeNotYetValid
		out.What = "certificate " + named(cert) + " is not valid yet"
		out.Why = fmt.Sprintf("it is valid from %s and it is %s now", date(cert.NotBefore), date(v.Now))
		out.Hint = "check the clock of this machine and of the one that issued it"
		return out
	}
	out.Code = CodeExpired
	out.What = "certificate " + named(cert) + " has expired"
	out.Why = fmt.Sprintf("it was valid until %s and it is %s now", date(cert.NotAfter), date(v.Now))
	out.Hint = "renew it, or check the clock of this machine"
	return out
}

func signatureError(cert *x509.Certificate) *CertError {
	return &CertError{
		Code: CodeWeakSignature,
		What: "certificate " + named(cert) + " is refused",
		Why:  fmt.Sprintf("its CA signed it with %s, which can be forged", cert.SignatureAlgorithm),
		Hint: "have it issued again with a SHA-2 signature",
	}
}

func issuerName(cert *x509.Certificate) string { return quoted(showDN(cert.RawIssuer)) }

// showDN shows a name whatever it is.
func showDN(raw []byte) string {
	if text, ok := formatDN(string(raw)); ok {
		return text
	}
	return "an empty name"
}
