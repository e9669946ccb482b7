package ike

import (
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/eap"
)

// TestVouchInEAP: the certificates inside EAP are asked about as those outside, each side
// those of the other, and what is revoked does not come in.
func TestVouchInEAP(t *testing.T) {
	refuse := func(Vouch) Reply {
		return Vouched{Err: &pki.CertError{Code: pki.CodeRevoked, What: "revoked", Why: "so it is"}}
	}
	for _, c := range []struct {
		name          string
		method        eap.Type
		only          bool // the gateway proves itself by EAP alone
		refusesA      bool
		refusesB      bool
		askedA        int
		askedB        int
		wantA, wantB  Code
		establishesIt bool
	}{
		{"TLS", eap.TypeTLS, false, false, false, 2, 1, "", "", true},
		{"TLS alone", eap.TypeTLS, true, false, false, 1, 1, "", "", true},
		{"a password in TTLS alone", eap.TypeTTLS, true, false, false, 1, 0, "", "", true},
		{"client revoked", eap.TypeTLS, false, false, true, 2, 1, Code(eap.CodeCertificate), Code(eap.CodeCertificate), false},
		{"gateway revoked", eap.TypeTLS, true, true, false, 1, 0, Code(eap.CodeCertificate), Code(eap.CodeCertificate), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := eapPair(t, c.method)
			client.Local.EAP.Inner, gateway.Remote.EAP.Inner = []eap.Type{eap.TypeMSCHAPv2}, []eap.Type{eap.TypeMSCHAPv2}
			client.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]}
			client.Remote.Revocation, gateway.Remote.Revocation = pki.RevocationStrict, pki.RevocationStrict
			if c.only {
				client.EAPOnly, gateway.EAPOnly = true, true
				client.Remote.Method = AuthEAP
			}
			w, a, b := eapHosts(t, client, gateway)
			if c.refusesA {
				a.vouch = refuse
			}
			if c.refusesB {
				b.vouch = refuse
			}
			a.initiate("home", b)
			w.run(time.Minute)
			if n := countAsked[Vouch](a); n != c.askedA {
				t.Errorf("the client asked %d times, want %d", n, c.askedA)
			}
			if n := countAsked[Vouch](b); n != c.askedB {
				t.Errorf("the gateway asked %d times, want %d", n, c.askedB)
			}
			if c.establishesIt {
				agree(t, a, b, 1)
				return
			}
			if a.downCode() != c.wantA || b.downCode() != c.wantB {
				t.Errorf("client %s, gateway %s", a.downCode(), b.downCode())
			}
			empty(t, a, b)
		})
	}
}
