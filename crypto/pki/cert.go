package pki

import (
	"crypto/sha1"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// KeyHash is the SHA-1 of the certificate's SubjectPublicKeyInfo, by which a CERTREQ
// names a CA (RFC 7296 §3.7).
func KeyHash(cert *x509.Certificate) [20]byte {
	return sha1.Sum(cert.RawSubjectPublicKeyInfo)
}

// MatchCert tells whether the certificate proves the identity: a host name by a
// dNSName (in which one whole first label may be '*'), an e-mail address by an
// rfc822Name, an address by an iPAddress or, as Windows wants it, by a dNSName with the
// address as text, a distinguished name by the subject. The common name never
// counts, wildcards in id never match, and key IDs are proved by no certificate.
// The error is a *CertError with CodeNameMismatch and lists what the certificate is for.
//
// It does not verify the certificate.
func MatchCert(id Identity, cert *x509.Certificate) error {
	if cert != nil && proves(id, cert) {
		return nil
	}
	if cert == nil {
		return &CertError{Code: CodeMalformed, What: "no certificate to compare with " + quoted(id.shown())}
	}
	return &CertError{
		Code: CodeNameMismatch,
		What: "the certificate does not prove the identity " + quoted(id.String()),
		Why:  "it is for " + strings.Join(certNames(cert), ", "),
		Hint: mismatchHint(id),
	}
}

func mismatchHint(id Identity) string {
	switch id.Type {
	case IDFQDN, IDRFC822Addr, IDIPv4Addr, IDIPv6Addr:
		return "use one of these as the identity, or issue the certificate with this one as subjectAltName (the CN does not count)"
	case IDDERASN1DN:
		return "use one of these as the identity; a distinguished name must be the whole subject"
	}
	return "use one of these as the identity; identities of this type cannot be proved by a certificate"
}

func proves(id Identity, cert *x509.Certificate) bool {
	switch id.Type {
	case IDFQDN:
		return slices.ContainsFunc(cert.DNSNames, func(san string) bool { return hostMatch(san, id.Data) })
	case IDRFC822Addr:
		return !hasControl(id.Data) && !strings.Contains(id.Data, "*") &&
			slices.ContainsFunc(cert.EmailAddresses, func(san string) bool { return sameText(san, id.Data, true) })
	case IDIPv4Addr, IDIPv6Addr:
		want, ok := id.addr()
		if !ok {
			return false
		}
		for _, ip := range cert.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == want.Unmap() {
				return true
			}
		}
		return slices.ContainsFunc(cert.DNSNames, func(san string) bool {
			a, err := netip.ParseAddr(san)
			return err == nil && a == want
		})
	case IDDERASN1DN:
		// An empty name would fit every certificate that has only alternative names.
		dn, ok := readDN(id.Data)
		return ok && len(dn) > 0 && matchDN(string(cert.RawSubject), id.Data, false)
	}
	return false
}

// hostMatch compares a dNSName with a host name (RFC 6125 §6.4.3).
func hostMatch(san, name string) bool {
	if name == "" || hasControl(name) || strings.Contains(name, "*") {
		return false
	}
	if rest, ok := strings.CutPrefix(san, "*."); ok {
		label, tail, ok := strings.Cut(name, ".")
		_, err := netip.ParseAddr(name)
		return ok && label != "" && err != nil && strings.Contains(rest, ".") && equalFold(rest, tail)
	}
	return equalFold(san, name)
}

// maxNames is how many names of a certificate an error lists.
const maxNames = 8

// certNames lists what the certificate is for, in the grammar of identities.
func certNames(cert *x509.Certificate) []string {
	var names []string
	for _, san := range cert.DNSNames {
		names = append(names, "dns:"+printable(san))
	}
	for _, san := range cert.EmailAddresses {
		names = append(names, "email:"+printable(san))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, "ip:"+ip.String())
	}
	if len(names) > maxNames {
		names = append(names[:maxNames], fmt.Sprintf("%d more", len(names)-maxNames))
	}
	if subject, ok := formatDN(string(cert.RawSubject)); ok {
		names = append(names, "subject "+quoted(subject))
	}
	if len(names) == 0 {
		names = append(names, "nobody")
	}
	return names
}

// quoted is for text that is printable already.
func quoted(s string) string { return `"` + s + `"` }

// IdentityOf is the identity to use with a certificate when none is configured: its
// first host name, else e-mail address, else address, else the subject. Wildcards
// and addresses written as dNSName are no host names. The zero Identity means that
// the certificate has no name at all.
func IdentityOf(cert *x509.Certificate) Identity {
	for _, san := range cert.DNSNames {
		if _, err := netip.ParseAddr(san); err != nil && san != "" && !strings.Contains(san, "*") {
			return Identity{Type: IDFQDN, Data: san}
		}
	}
	for _, san := range cert.EmailAddresses {
		return Identity{Type: IDRFC822Addr, Data: san}
	}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			return Addr(a)
		}
	}
	if dn, ok := readDN(string(cert.RawSubject)); ok && len(dn) > 0 {
		return DN(cert.RawSubject)
	}
	return Identity{}
}
