package martlet

import (
	"crypto/x509"
	"testing"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

func TestCertificateChecks(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	cert := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"alice.example.com"}, NotBefore: now.Add(from), NotAfter: now.Add(to)}
	}
	const day = 24 * time.Hour
	for name, tt := range map[string]struct {
		own, root *x509.Certificate
		want      string
	}{
		"all is well":   {own: cert(-day, 365*day), want: "ok our certificate (office): that of alice.example.com is valid until 2027-12-01"},
		"it ends soon":  {own: cert(-day, 3*day), want: "warn our certificate (office): that of alice.example.com expires on 2026-12-04"},
		"it has ended":  {own: cert(-9*day, -day), want: "fail our certificate (office): that of alice.example.com has expired on 2026-11-30"},
		"not yet":       {own: cert(day, 9*day), want: "fail our certificate (office): that of alice.example.com is valid from 2026-12-02 12:00:00 on only"},
		"the CA's ends": {root: cert(-day, day), want: "warn the peer's CA (office): that of alice.example.com expires on 2026-12-02"},
	} {
		conn := &config.Connection{Name: "office"}
		if tt.own != nil {
			conn.Local.Credentials = []*pki.Credential{{Cert: tt.own}}
		}
		if tt.root != nil {
			conn.Peer.Verifier.Roots = []*x509.Certificate{tt.root}
		}
		c := &config.Config{Connections: map[string]*config.Connection{"office": conn}}
		var found []Finding
		for _, check := range certificateChecks {
			found = append(found, check(c, now)...)
		}
		if got := told(found); got != tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, tt.want)
		}
	}
	for _, check := range certificateChecks {
		if found := check(nil, now); found != nil {
			t.Errorf("without a configuration: %s", told(found))
		}
	}
}

// A chain that does not reach the CA that the peer must have is told of: one in between is missing.
func TestCertificateChain(t *testing.T) {
	now := time.Now()
	root, err := pki.NewAuthority("root", now, time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	between, err := root.Intermediate("between", now, time.Hour, pki.ECDSAP256, pki.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cred, err := between.Issue(pki.Request{DNSNames: []string{"alice.example.com"}, Now: now, Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	conn := &config.Connection{Name: "office", Remote: []string{"gw"}}
	conn.Peer.Verifier.Roots = []*x509.Certificate{root.Cert}
	if found := chain(conn, cred, now); found != nil {
		t.Errorf("a whole chain: %s", told(found))
	}
	cred.Chain = nil
	one(t, "one is missing", chain(conn, cred, now), ResultWarn, "does not lead to the CA")
}
