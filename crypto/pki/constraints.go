package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// crypto/x509 enforces constraints on host names, e-mail addresses, URIs and
// addresses. Missing for IKE, where a subject and an address in a dNSName prove
// identities, are constraints on distinguished names, constraints on addresses that
// look at dNSNames too, and those on e-mail addresses that look at subjects and take
// a host name to mean that host only.

// subtrees are the distinguished names in a nameConstraints extension.
type subtrees struct {
	permitted, excluded [][][]attribute
}

func nameConstraintsOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 30} }

// understood gives cert without the mark of an unhandled critical extension if the
// only reason for the mark are distinguished names in its name constraints, which
// checkNameConstraints enforces.
func understood(cert *x509.Certificate) *x509.Certificate {
	if !slices.ContainsFunc(cert.UnhandledCriticalExtensions, nameConstraintsOID().Equal) {
		return cert
	}
	if _, ok := readSubtrees(cert); !ok {
		return cert
	}
	// What is shared with the original is only read.
	alike := *cert
	alike.UnhandledCriticalExtensions = slices.DeleteFunc(
		slices.Clone(cert.UnhandledCriticalExtensions), nameConstraintsOID().Equal)
	return &alike
}

// readSubtrees takes the distinguished names out of a nameConstraints extension
// (RFC 5280 §4.2.1.10); ok is false if there is a form of name in it that nobody here
// understands.
func readSubtrees(cert *x509.Certificate) (t subtrees, ok bool) {
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(nameConstraintsOID()) })
	if i < 0 {
		return t, true
	}
	in := cryptobyte.String(cert.Extensions[i].Value)
	var seq, permitted, excluded cryptobyte.String
	var has bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&permitted, &has, explicit(0)) ||
		!seq.ReadOptionalASN1(&excluded, &has, explicit(1)) || !seq.Empty() {
		return t, false
	}
	if t.permitted, ok = readNames(permitted); !ok {
		return t, false
	}
	t.excluded, ok = readNames(excluded)
	return t, ok
}

func readNames(list cryptobyte.String) (names [][][]attribute, ok bool) {
	for !list.Empty() {
		var subtree, base cryptobyte.String
		var tag cbasn1.Tag
		// minimum must be 0 and is not written, maximum must be absent.
		if !list.ReadASN1(&subtree, cbasn1.SEQUENCE) || !subtree.ReadAnyASN1(&base, &tag) || !subtree.Empty() {
			return nil, false
		}
		switch tag {
		case cbasn1.Tag(1).ContextSpecific(), cbasn1.Tag(2).ContextSpecific(),
			cbasn1.Tag(6).ContextSpecific(), cbasn1.Tag(7).ContextSpecific():
			// crypto/x509 does these.
		case explicit(4):
			dn, ok := readDN(string(base))
			if !ok {
				return nil, false
			}
			names = append(names, dn)
		default:
			return nil, false
		}
	}
	return names, true
}

// checkNameConstraints applies the constraints of each CA to the certificates
// below it. chain runs from leaf to root.
func checkNameConstraints(chain []*x509.Certificate) error {
	for i, ca := range chain[1:] {
		t, ok := readSubtrees(ca)
		if !ok {
			return constraintError(chain[0], ca, "it uses a form of name constraint that is not understood")
		}
		for j, cert := range chain[:i+1] {
			// RFC 5280 §6.1.3 (b): self-issued CAs, as in a key rollover, are exempt.
			if j > 0 && selfIssued(cert) {
				continue
			}
			names, ok := directoryNames(cert)
			if !ok {
				return constraintError(chain[0], ca, "a name below it cannot be read")
			}
			for _, dn := range names {
				if !t.allow(dn) {
					return constraintError(chain[0], ca, "it may not issue for the subject or a name of "+quoted(showDN(cert.RawSubject)))
				}
			}
			for _, email := range emailsOf(cert, names) {
				if !allowEmail(ca, email) {
					return constraintError(chain[0], ca, "it may not issue for "+quote(email))
				}
			}
		}
		if name, ok := foreignAddress(chain[0], ca); ok {
			return constraintError(chain[0], ca, "it may not issue for address "+quote(name)+" (given as dNSName)")
		}
	}
	return nil
}

// directoryNames are the subject, if it is not empty, and the distinguished names among
// the alternative names.
func directoryNames(cert *x509.Certificate) (names [][][]attribute, ok bool) {
	subject, ok := readDN(string(cert.RawSubject))
	if !ok {
		return nil, false
	}
	if len(subject) > 0 {
		names = append(names, subject)
	}
	subjectAltName := asn1.ObjectIdentifier{2, 5, 29, 17}
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltName) })
	if i < 0 {
		return names, true
	}
	in := cryptobyte.String(cert.Extensions[i].Value)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return nil, false
	}
	for !seq.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1(&name, &tag) {
			return nil, false
		}
		if tag != explicit(4) {
			continue
		}
		dn, ok := readDN(string(name))
		if !ok {
			return nil, false
		}
		names = append(names, dn)
	}
	return names, true
}

// emailsOf are the e-mail addresses to constrain: the alternative names or, without
// any, those in the subject (RFC 5280 §4.2.1.10).
func emailsOf(cert *x509.Certificate, names [][][]attribute) []string {
	if len(cert.EmailAddresses) > 0 {
		return cert.EmailAddresses
	}
	var emails []string
	for _, dn := range names {
		for _, a := range slices.Concat(dn...) {
			if a.name() == "E" {
				emails = append(emails, a.value)
			}
		}
	}
	return emails
}

func allowEmail(ca *x509.Certificate, email string) bool {
	fits := func(rule string) bool {
		domain := email[strings.LastIndexByte(email, '@')+1:]
		switch {
		case strings.Contains(rule, "@"):
			return sameText(rule, email, true)
		case strings.HasPrefix(rule, "."):
			return len(domain) > len(rule) && equalFold(domain[len(domain)-len(rule):], rule)
		}
		return equalFold(domain, rule)
	}
	if slices.ContainsFunc(ca.ExcludedEmailAddresses, fits) {
		return false
	}
	return len(ca.PermittedEmailAddresses) == 0 || slices.ContainsFunc(ca.PermittedEmailAddresses, fits)
}

func constraintError(leaf, ca *x509.Certificate, why string) error {
	return &CertError{
		Code: CodeConstraint,
		What: "certificate " + named(leaf) + " breaks a rule of its CA",
		Why:  "CA " + quoted(showDN(ca.RawSubject)) + ": " + why,
		Hint: "have the certificate issued by a CA that may issue it",
	}
}

func (t subtrees) allow(dn [][]attribute) bool {
	under := func(base [][]attribute) bool {
		return len(base) <= len(dn) && slices.EqualFunc(base, dn[:len(base)], sameRDN)
	}
	if slices.ContainsFunc(t.excluded, under) {
		return false
	}
	return len(t.permitted) == 0 || slices.ContainsFunc(t.permitted, under)
}

// sameRDN compares for constraints as RFC 5280 §7.1 asks: without regard to case,
// string type and the number of spaces, so that nothing slips past an exclusion.
func sameRDN(a, b []attribute) bool {
	return slices.EqualFunc(a, b, func(x, y attribute) bool {
		if x.oid != y.oid {
			return false
		}
		if isTextTag(x.tag) && isTextTag(y.tag) {
			return strings.EqualFold(strings.Join(strings.Fields(x.value), " "), strings.Join(strings.Fields(y.value), " "))
		}
		return x.tag == y.tag && x.value == y.value
	})
}

// foreignAddress finds an address, written as dNSName, that the CA's constraints
// on addresses forbid.
func foreignAddress(leaf, ca *x509.Certificate) (string, bool) {
	if len(ca.PermittedIPRanges) == 0 && len(ca.ExcludedIPRanges) == 0 {
		return "", false
	}
	for _, name := range leaf.DNSNames {
		a, err := netip.ParseAddr(name)
		if err != nil {
			continue
		}
		raw := a.Unmap().AsSlice()
		permitted := len(ca.PermittedIPRanges) == 0
		for _, r := range ca.PermittedIPRanges {
			permitted = permitted || r.Contains(raw)
		}
		for _, r := range ca.ExcludedIPRanges {
			permitted = permitted && !r.Contains(raw)
		}
		if !permitted {
			return name, true
		}
	}
	return "", false
}
