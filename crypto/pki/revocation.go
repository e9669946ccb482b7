package pki

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Revocation is how much is asked about the revocation of certificates.
type Revocation uint8

const (
	// RevocationOff asks nobody.
	RevocationOff Revocation = iota
	// RevocationRelaxed refuses a certificate that is known to be revoked.
	RevocationRelaxed
	// RevocationStrict also refuses one of which nobody says that it is good.
	RevocationStrict
)

// String is the word of the configuration.
func (r Revocation) String() string {
	switch r {
	case RevocationOff:
		return "off"
	case RevocationRelaxed:
		return "relaxed"
	case RevocationStrict:
		return "strict"
	}
	return fmt.Sprintf("revocation %d", uint8(r))
}

// State is what a CA says of a certificate.
type State uint8

const (
	StateUnknown State = iota
	StateGood
	StateRevoked
)

// Status is what a list or a response says of one certificate.
type Status struct {
	State State
	// Until is how long that holds; an unknown state holds not at all.
	Until time.Time
	// At and Reason are of a revocation.
	At     time.Time
	Reason string
	// Why tells why the state is unknown.
	Why string
}

func unknown(format string, args ...any) Status {
	return Status{Why: fmt.Sprintf(format, args...)}
}

func revoked(at time.Time, reason int, until time.Time) Status {
	return Status{State: StateRevoked, At: at, Reason: reasonText(reason), Until: until}
}

// Reasons of revocation (RFC 5280 §5.3.1).
const (
	reasonHold          = 6
	reasonRemoveFromCRL = 8
)

func reasonText(code int) string {
	names := []string{
		"no reason given", "key compromise", "CA compromise", "affiliation changed", "superseded",
		"cessation of operation", "on hold", "", "", "privilege withdrawn", "attribute authority compromise",
	}
	if code < 0 || code >= len(names) || names[code] == "" {
		return fmt.Sprintf("reason %d", code)
	}
	return names[code]
}

// Link is a certificate of a verified chain with the one of its issuer.
type Link struct{ Cert, Issuer *x509.Certificate }

// Links are the certificates of a chain that can be revoked: all but the trusted one at
// its end.
func Links(chain []*x509.Certificate) []Link {
	var links []Link
	for i := 1; i < len(chain); i++ {
		links = append(links, Link{chain[i-1], chain[i]})
	}
	return links
}

// Source is a place where a CA tells what it revoked.
type Source struct {
	URL  string
	OCSP bool // else a CRL
}

// maxSources bounds what one certificate makes us ask.
const maxSources = 4

// Sources are the places that the certificate names, OCSP responders first; only http and
// https, and a few.
func (l Link) Sources() []Source {
	var out []Source
	add := func(list []string, isOCSP bool) {
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
				continue
			}
			if s := (Source{u.String(), isOCSP}); len(out) < maxSources && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	add(l.Cert.OCSPServer, true)
	add(l.Cert.CRLDistributionPoints, false)
	return out
}

// Judge decides by the policy whether the certificate passes with a status; the error is a
// *CertError.
func (r Revocation) Judge(l Link, s Status) error {
	switch {
	case r == RevocationOff:
	case s.State == StateRevoked:
		return &CertError{
			Code: CodeRevoked,
			What: "certificate " + named(l.Cert) + " is revoked",
			Why:  fmt.Sprintf("its CA %s revoked it on %s (%s)", issuerName(l.Cert), date(s.At), s.Reason),
			Hint: "have a new certificate issued",
		}
	case r == RevocationStrict && s.State != StateGood:
		return &CertError{
			Code: CodeRevocationUnknown,
			What: "it is not known whether certificate " + named(l.Cert) + " is revoked",
			Why:  cmp.Or(s.Why, "it names neither an OCSP responder nor a revocation list"),
			Hint: `make the CA's revocation list or responder reachable, configure a list as a file, or set revocation = "relaxed"`,
		}
	}
	return nil
}

// within says why a statement made at from and good until to is not valid now; empty if it
// is. Clocks may differ by skew.
func within(now, from, to time.Time) string {
	switch {
	case from.After(now.Add(skew)):
		return fmt.Sprintf("it is of %s, and it is %s now", date(from), date(now))
	case now.After(to.Add(skew)):
		return fmt.Sprintf("it was good until %s, and it is %s now", date(to), date(now))
	}
	return ""
}
