package pki

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// CRL is a list of revoked certificates (RFC 5280 §5). It keeps what it needs, not what
// it was read from, is never changed, and may be shared.
type CRL struct {
	signed   x509.RevocationList // only what its signature needs, and the issuer
	from, to time.Time
	revoked  []revokedSerial // in order
	scope    scope
	unusable string // why nothing may be concluded from it
}

type revokedSerial struct {
	serial string // as big.Int.Bytes
	at     int64  // Unix time in seconds
	reason uint8
}

// scope is an issuingDistributionPoint extension (RFC 5280 §5.2.5).
type scope struct {
	names            []string // GeneralNames in DER; empty: every name
	named            bool     // there is a distribution point
	onlyUser, onlyCA bool
	otherKinds       bool // attribute certificates only
	indirect         bool // certificates of other CAs too
	someReasons      bool
}

const pemCRL = "X509 CRL"

// ParseCRL reads a complete CRL in DER or PEM. Lists that only say what changed (delta CRLs),
// and lists with critical extensions that are not understood, are read, but tell
// nothing.
func ParseCRL(b []byte) (*CRL, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("pki: revocation list: %d octets; at most %d are read", len(b), maxFile)
	}
	if bytes.Contains(b, []byte(pemBegin)) {
		block, _ := pem.Decode(b)
		if block == nil || block.Type != pemCRL {
			return nil, errors.New("pki: revocation list: the PEM block is broken or holds something else")
		}
		b = block.Bytes
	}
	list, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, fmt.Errorf("pki: revocation list: %w", err)
	}
	c := &CRL{
		from: list.ThisUpdate, to: list.NextUpdate,
		signed: x509.RevocationList{
			RawTBSRevocationList: bytes.Clone(list.RawTBSRevocationList),
			RawIssuer:            bytes.Clone(list.RawIssuer),
			Signature:            bytes.Clone(list.Signature),
			SignatureAlgorithm:   list.SignatureAlgorithm,
		},
	}
	c.extensions(list.Extensions)
	for _, e := range list.RevokedCertificateEntries {
		// RFC 5280 §5.3: with a critical entry extension that is not understood the list
		// says nothing of any certificate.
		if slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return x.Critical && !x.Id.Equal(reasonCodeOID()) }) {
			c.unusable = "it has a critical extension that is not understood"
		}
		if e.ReasonCode == reasonRemoveFromCRL || e.SerialNumber.Sign() < 0 {
			continue
		}
		reason := uint8(0)
		if e.ReasonCode > 0 && e.ReasonCode < 256 {
			reason = uint8(e.ReasonCode)
		}
		c.revoked = append(c.revoked, revokedSerial{string(e.SerialNumber.Bytes()), e.RevocationTime.Unix(), reason})
	}
	sort.Slice(c.revoked, func(i, j int) bool { return c.revoked[i].serial < c.revoked[j].serial })
	return c, nil
}

func reasonCodeOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 21} }

func (c *CRL) extensions(list []pkix.Extension) {
	for _, e := range list {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}):
			var ok bool
			if c.scope, ok = readScope(e.Value); !ok {
				c.unusable = "its distribution point cannot be read"
			}
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}):
			// RFC 5280 §5.2.4: what is on it counts only together with the list that it names.
			c.unusable = "it is a delta list, which only tells what changed since a complete one; such lists are not supported"
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 20}), e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}):
			// Number and key of the issuer: crypto/x509 reads them.
		case e.Critical:
			c.unusable = "it has a critical extension that is not understood"
		}
	}
}

// Unusable says why the list tells nothing of any certificate; empty if it does.
func (c *CRL) Unusable() string {
	if c.unusable == "" && c.scope.indirect {
		// RFC 5280 §5.2.5: each entry would have to name its CA, and the list's signer be one that those
		// CAs appointed.
		return "it is an indirect list, which is for certificates of other CAs too; such lists are not supported"
	}
	return c.unusable
}

// Size is about how many octets of memory the list takes.
func (c *CRL) Size() int {
	return len(c.signed.RawTBSRevocationList) + 64*len(c.revoked) + 512
}

// Len is how many certificates are on the list.
func (c *CRL) Len() int { return len(c.revoked) }

// Issuer is the name of the CA.
func (c *CRL) Issuer() string { return showDN(c.signed.RawIssuer) }

// Until is when the list's successor is due.
func (c *CRL) Until() time.Time { return c.to }

// Status is what the list says of a certificate. Its signature is checked with the
// key of the issuer.
func (c *CRL) Status(l Link, now time.Time) Status {
	const list = "the revocation list is of no use: "
	switch {
	case !bytes.Equal(c.signed.RawIssuer, l.Issuer.RawSubject) || !bytes.Equal(l.Cert.RawIssuer, l.Issuer.RawSubject):
		return unknown(list+"it is of %s", quoted(showDN(c.signed.RawIssuer)))
	case c.Unusable() != "":
		return unknown("%s", list+c.Unusable())
	}
	if why := c.scope.excludes(l.Cert); why != "" {
		return unknown("%s", list+why)
	}
	if err := c.signed.CheckSignatureFrom(l.Issuer); err != nil {
		return unknown(list+"its signature is refused: %v", err)
	}
	serial := string(l.Cert.SerialNumber.Bytes())
	i, found := slices.BinarySearchFunc(c.revoked, serial, func(r revokedSerial, s string) int { return cmp.Compare(r.serial, s) })
	why := within(now, c.from, c.to)
	// What was revoked stays so, whatever the age of the list; what was on hold may not.
	if found && (why == "" || c.revoked[i].reason != reasonHold) {
		r := c.revoked[i]
		return revoked(time.Unix(r.at, 0), int(r.reason), c.to)
	}
	switch {
	case why != "":
		return unknown("%s", list+why)
	case c.scope.someReasons:
		return unknown("%s", list+"it covers some reasons of revocation only")
	}
	return Status{State: StateGood, Until: c.to}
}

// excludes says why the list does not cover the certificate; empty if it does
// (RFC 5280 §6.3.3 (b)).
func (s scope) excludes(cert *x509.Certificate) string {
	isCA := cert.BasicConstraintsValid && cert.IsCA
	switch {
	case s.otherKinds:
		return "it is for other kinds of certificates"
	case s.onlyUser && isCA:
		return "it is for end entities only"
	case s.onlyCA && !isCA:
		return "it is for CAs only"
	case !s.named:
		return ""
	}
	names, ok := pointsOf(cert)
	if !ok || !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.names, n) }) {
		return "it is for certificates with another distribution point"
	}
	return ""
}

func readScope(der []byte) (s scope, ok bool) {
	in := cryptobyte.String(der)
	var seq, point, reasons cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&point, &s.named, explicit(0)) {
		return s, false
	}
	if s.named {
		if s.names, ok = readPoint(point); !ok {
			return s, false
		}
	}
	var indirect, attributes bool
	if !readFlag(&seq, 1, &s.onlyUser) || !readFlag(&seq, 2, &s.onlyCA) ||
		!seq.ReadOptionalASN1(&reasons, &s.someReasons, cbasn1.Tag(3).ContextSpecific()) ||
		!readFlag(&seq, 4, &indirect) || !readFlag(&seq, 5, &attributes) || !seq.Empty() {
		return s, false
	}
	s.otherKinds, s.indirect = attributes, indirect
	return s, true
}

// readFlag reads a BOOLEAN DEFAULT FALSE with an implicit tag.
func readFlag(in *cryptobyte.String, tag cbasn1.Tag, out *bool) bool {
	var body cryptobyte.String
	var has bool
	if !in.ReadOptionalASN1(&body, &has, tag.ContextSpecific()) {
		return false
	}
	*out = has && len(body) == 1 && body[0] != 0
	return !has || len(body) == 1
}

// readPoint reads a DistributionPointName: the GeneralNames of a fullName. A name relative
// to the issuer gives none.
func readPoint(in cryptobyte.String) (names []string, ok bool) {
	var full cryptobyte.String
	var has bool
	if !in.ReadOptionalASN1(&full, &has, explicit(0)) {
		return nil, false
	}
	if !has {
		return nil, in.SkipASN1(explicit(1)) && in.Empty()
	}
	for !full.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !full.ReadAnyASN1Element(&name, &tag) {
			return nil, false
		}
		names = append(names, string(name))
	}
	return names, in.Empty()
}

// pointsOf are the names of a certificate's distribution points, without those whose list
// another CA issues (RFC 5280 §4.2.1.13).
func pointsOf(cert *x509.Certificate) (names []string, ok bool) {
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 31}) })
	if i < 0 {
		return nil, true
	}
	in := cryptobyte.String(cert.Extensions[i].Value)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	for !seq.Empty() {
		var dp, point, reasons, issuer cryptobyte.String
		var has, other bool
		if !seq.ReadASN1(&dp, cbasn1.SEQUENCE) || !dp.ReadOptionalASN1(&point, &has, explicit(0)) ||
			!dp.ReadOptionalASN1(&reasons, new(bool), cbasn1.Tag(1).ContextSpecific()) ||
			!dp.ReadOptionalASN1(&issuer, &other, explicit(2)) {
			return nil, false
		}
		if !has || other {
			continue
		}
		more, ok := readPoint(point)
		if !ok {
			return nil, false
		}
		names = append(names, more...)
	}
	return names, true
}
