package eap

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"martlet/crypto/pki"
)

// clientName is who a client's certificate is for (RFC 5216 §5.2): the name that the peer
// claimed, if the certificate has it, else the first of the certificate's names.
func clientName(cert *x509.Certificate, claimed string) string {
	names := slices.Concat(principalNames(cert), cert.EmailAddresses, cert.DNSNames)
	if cert.Subject.CommonName != "" {
		names = append(names, cert.Subject.CommonName)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" || printable(n) != n })
	if subject := pki.DN(cert.RawSubject); len(cert.Subject.Names) > 0 {
		names = append(names, subject.String())
	}
	for _, n := range names {
		if strings.EqualFold(n, claimed) {
			return n
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// principalNames are the user principal names, by which Windows issues certificates for
// its users (RFC 5280 §4.2.1.6).
func principalNames(cert *x509.Certificate) []string {
	var out []string
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			out = append(out, readPrincipals(e.Value)...)
		}
	}
	return out
}

// readPrincipals reads those of a subjectAltName: otherName with the type
// 1.3.6.1.4.1.311.20.2.3 and text in UTF-8. What it cannot read it passes over.
func readPrincipals(value []byte) []string {
	var out []string
	var names cryptobyte.String
	s := cryptobyte.String(value)
	if !s.ReadASN1(&names, cbasn1.SEQUENCE) {
		return nil
	}
	otherName := cbasn1.Tag(0).ContextSpecific().Constructed()
	for !names.Empty() {
		var name, inner, text cryptobyte.String
		var tag cbasn1.Tag
		var oid asn1.ObjectIdentifier
		if !names.ReadAnyASN1(&name, &tag) {
			break
		}
		if tag == otherName && name.ReadASN1ObjectIdentifier(&oid) && oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}) &&
			name.ReadASN1(&inner, otherName) && inner.ReadASN1(&text, cbasn1.UTF8String) {
			out = append(out, string(text))
		}
	}
	return out
}
