package martlet

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

// soon is how long before its end a certificate is warned of.
const soon = 14 * 24 * time.Hour

// certificateChecks are about what the configuration holds.
var certificateChecks = []func(*config.Config, time.Time) []Finding{checkOwnCertificates, checkAuthorities}

// checkOwnCertificates looks at those by which we prove who we are, and at the CAs that are sent
// with them.
func checkOwnCertificates(c *config.Config, now time.Time) []Finding {
	return ofConnections(c, func(conn *config.Connection) []Finding {
		var found []Finding
		for _, a := range []*config.Auth{&conn.Local, &conn.Local2} {
			for _, cred := range a.Credentials {
				if cred.Cert == nil {
					continue // a bare key does not expire
				}
				for _, cert := range append([]*x509.Certificate{cred.Cert}, cred.Chain...) {
					found = append(found, validity("our certificate", conn.Name, cert, now, "renew it with martlet pki, or ask who issued it")...)
				}
				found = append(found, chain(conn, cred, now)...)
			}
		}
		return found
	})
}

// chain tells whether our own chain reaches the CA that we hold the peer to, where that is the same.
func chain(conn *config.Connection, cred *pki.Credential, now time.Time) []Finding {
	check := "our certificate (" + conn.Name + ")"
	if len(conn.Peer.Verifier.Roots) == 0 || now.After(cred.Cert.NotAfter) {
		return nil // the peer has a CA of its own, or it was told already
	}
	v := conn.Peer.Verifier
	v.Now = now
	role := pki.ClientAuth
	if len(conn.Remote) == 0 {
		role = pki.ServerAuth
	}
	if err := v.Verify(cred.Cert, cred.Chain, role); err != nil {
		return finding(check, ResultWarn, "it does not lead to the CA that the peer must have: "+err.Error(), "that is right where the two sides have different CAs; else add the CAs in between to cert")
	}
	return nil
}

// checkAuthorities looks at the CAs that peers' certificates must lead to.
func checkAuthorities(c *config.Config, now time.Time) []Finding {
	return ofConnections(c, func(conn *config.Connection) []Finding {
		var found []Finding
		for _, a := range []*config.Auth{&conn.Peer, &conn.Peer2} {
			for _, root := range a.Verifier.Roots {
				found = append(found, validity("the peer's CA", conn.Name, root, now, "get the new certificate of the CA")...)
			}
		}
		return found
	})
}

func ofConnections(c *config.Config, check func(*config.Connection) []Finding) []Finding {
	if c == nil {
		return nil
	}
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		found = append(found, check(c.Connections[name])...)
	}
	return found
}

func validity(what, connection string, cert *x509.Certificate, now time.Time, hint string) []Finding {
	what += " (" + connection + ")"
	name := pki.IdentityOf(cert).String()
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		return finding(what, ResultFail, fmt.Sprintf("that of %s is valid from %s on only", name, cert.NotBefore.UTC().Format(time.DateTime)), "is the clock of this host right?")
	case left <= 0:
		return finding(what, ResultFail, fmt.Sprintf("that of %s has expired on %s", name, cert.NotAfter.UTC().Format(time.DateOnly)), hint)
	case left < soon:
		return finding(what, ResultWarn, fmt.Sprintf("that of %s expires on %s", name, cert.NotAfter.UTC().Format(time.DateOnly)), hint)
	default:
		return finding(what, ResultOK, fmt.Sprintf("that of %s is valid until %s", name, cert.NotAfter.UTC().Format(time.DateOnly)))
	}
}
