package pki

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"
)

// KeyKind is a kind of key to make. The zero value is RSA3072 for an issued
// certificate, because every client can use it (manual iOS profiles refuse ECDSA
// servers).
type KeyKind uint8

const (
	RSA3072 KeyKind = iota
	RSA2048
	ECDSAP256
	ECDSAP384
	ECDSAP521
	Ed25519
)

// String is the name as in "rsa3072" or "ecdsa-p256".
func (k KeyKind) String() string {
	switch k {
	case RSA3072:
		return "rsa3072"
	case RSA2048:
		return "rsa2048"
	case ECDSAP256:
		return "ecdsa-p256"
	case ECDSAP384:
		return "ecdsa-p384"
	case ECDSAP521:
		return "ecdsa-p521"
	case Ed25519:
		return "ed25519"
	}
	return fmt.Sprintf("key kind %d", uint8(k))
}

// GenerateKey makes a private key.
func GenerateKey(kind KeyKind) (crypto.Signer, error) {
	switch kind {
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ECDSAP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("pki: generate key: no such kind as %s", kind)
}

// Validities used where none is asked for. Apple refuses server certificates that are
// valid for longer than 825 days.
const (
	defaultCAValidity = 10 * 365 * 24 * time.Hour
	defaultValidity   = 825 * 24 * time.Hour
	// skew is how far the clocks of those who verify may be behind.
	skew = time.Hour
)

// Credential is a certificate with its private key and the CAs between it and a
// trusted one, or a bare key (RFC 7670 §3).
type Credential struct {
	Cert  *x509.Certificate   // nil for a bare key
	Chain []*x509.Certificate // intermediates, in the order to send; no root
	Root  *x509.Certificate   // at their end, if it is at hand; it is not sent
	Key   crypto.Signer       // nil if the certificate was issued for a foreign key
}

// Authority is a CA.
type Authority struct {
	Cert  *x509.Certificate
	Chain []*x509.Certificate // between Cert and the trusted one, nearest first; both left out
	Key   crypto.Signer
	// CRL and OCSP are URLs that go into what it issues, to tell where its list of revoked
	// certificates and its responder are.
	CRL, OCSP []string
}

// NewAuthority makes a self-signed CA, below which other CAs may stand by
// Intermediate; validity 0 means ten years.
func NewAuthority(name string, now time.Time, validity time.Duration, kind KeyKind) (*Authority, error) {
	return newAuthority(nil, name, now, validity, kind, Limits{})
}

// Limits are the names for which a CA may issue (RFC 5280 §4.2.1.10); none limit nothing.
type Limits struct {
	DNSNames []string       // a name allows what is below it, too
	Prefixes []netip.Prefix // of addresses
	Emails   []string       // an address, or a host, or .domain
}

// Intermediate makes a CA below a, which issues end entity certificates only. It is never
// valid for longer than a.
func (a *Authority) Intermediate(name string, now time.Time, validity time.Duration, kind KeyKind, limits Limits) (*Authority, error) {
	return newAuthority(a, name, now, validity, kind, limits)
}

func newAuthority(above *Authority, name string, now time.Time, validity time.Duration, kind KeyKind, limits Limits) (*Authority, error) {
	if name == "" {
		return nil, errors.New("pki: new authority: no name")
	}
	key, err := GenerateKey(kind)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{CommonName: name},
		NotBefore:                   now.Add(-skew),
		NotAfter:                    now.Add(cmp.Or(validity, defaultCAValidity)),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  1,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         limits.DNSNames,
		PermittedEmailAddresses:     limits.Emails,
	}
	for _, p := range limits.Prefixes {
		if !p.IsValid() {
			return nil, errors.New("pki: new authority: a limit is no prefix")
		}
		p = p.Masked()
		template.PermittedIPRanges = append(template.PermittedIPRanges,
			&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	a := &Authority{Key: key}
	parent, signer := template, key
	if above != nil {
		above.locate(template)
		template.MaxPathLen, template.MaxPathLenZero = 0, true
		parent, signer = above.Cert, above.Key
		if !selfIssued(above.Cert) {
			a.Chain = append([]*x509.Certificate{above.Cert}, above.Chain...)
		}
		if template.NotAfter.After(above.Cert.NotAfter) {
			template.NotAfter = above.Cert.NotAfter
		}
	}
	if a.Cert, err = sign(template, parent, key.Public(), signer); err != nil {
		return nil, err
	}
	return a, nil
}

// locate says in a certificate where to ask whether it was revoked.
func (a *Authority) locate(cert *x509.Certificate) {
	cert.CRLDistributionPoints, cert.OCSPServer = a.CRL, a.OCSP
}

// chain is what to send with a certificate that a issued.
func (a *Authority) chain() []*x509.Certificate {
	if selfIssued(a.Cert) {
		return nil
	}
	return append([]*x509.Certificate{a.Cert}, a.Chain...)
}

// Request says what certificate to issue.
type Request struct {
	CommonName string // default: the first name
	DNSNames   []string
	Addresses  []netip.Addr
	Emails     []string
	Purpose    Purpose // default: both
	// IKEIntermediate adds the usage that old versions of macOS want of a gateway. It stands
	// for any role in IKE.
	IKEIntermediate bool
	Now             time.Time
	Validity        time.Duration // default 825 days; never beyond the CA's
	Key             KeyKind
	Public          crypto.PublicKey // issue for this key instead of making one
}

// Issue makes a key, unless the request brings a public one, and issues the
// certificate. For a server, addresses are written as dNSName too, because Windows
// looks for them there.
func (a *Authority) Issue(req Request) (*Credential, error) {
	var key crypto.Signer
	pub := req.Public
	if pub == nil {
		var err error
		if key, err = GenerateKey(req.Key); err != nil {
			return nil, err
		}
		pub = key.Public()
	}
	template, err := req.template()
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(a.Cert.NotAfter) {
		template.NotAfter = a.Cert.NotAfter
	}
	if !template.NotAfter.After(req.Now) {
		return nil, fmt.Errorf("pki: issue: the CA is valid until %s only", date(a.Cert.NotAfter))
	}
	a.locate(template)
	cert, err := sign(template, a.Cert, pub, a.Key)
	if err != nil {
		return nil, err
	}
	out := &Credential{Cert: cert, Chain: a.chain(), Key: key}
	if selfIssued(a.Cert) {
		out.Root = a.Cert
	}
	return out, nil
}

func (req Request) template() (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	purpose := cmp.Or(req.Purpose, PeerAuth)
	cert := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             req.Now.Add(-skew),
		NotAfter:              req.Now.Add(cmp.Or(req.Validity, defaultValidity)),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              slices.Clone(req.DNSNames),
		EmailAddresses:        req.Emails,
	}
	for _, addr := range req.Addresses {
		if !addr.IsValid() || addr.Zone() != "" {
			return nil, fmt.Errorf("pki: issue: %s is not an address without zone", quote(addr.String()))
		}
		cert.IPAddresses = append(cert.IPAddresses, addr.AsSlice())
		if purpose&ServerAuth != 0 && !slices.Contains(cert.DNSNames, addr.String()) {
			cert.DNSNames = append(cert.DNSNames, addr.String())
		}
	}
	if purpose&ServerAuth != 0 {
		cert.ExtKeyUsage = append(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if purpose&ClientAuth != 0 {
		cert.ExtKeyUsage = append(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if req.IKEIntermediate {
		cert.UnknownExtKeyUsage = append(cert.UnknownExtKeyUsage, ikeIntermediate())
	}
	cert.Subject.CommonName = req.CommonName
	if req.CommonName == "" {
		switch {
		case len(cert.DNSNames) > 0:
			cert.Subject.CommonName = cert.DNSNames[0]
		case len(req.Emails) > 0:
			cert.Subject.CommonName = req.Emails[0]
		case len(req.Addresses) > 0:
			cert.Subject.CommonName = req.Addresses[0].String()
		default:
			return nil, errors.New("pki: issue: a name is needed: a host name, an e-mail address, an address or a common name")
		}
	}
	return cert, nil
}

// sign signs a template and reads the result back.
func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", quote(template.Subject.CommonName), err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", quote(template.Subject.CommonName), err)
	}
	return cert, nil
}

// newSerial is 127 random bits: unique, positive, and not to be guessed.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("pki: serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
