package eap

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"martlet/crypto/pki"
)

func TestClientName(t *testing.T) {
	a := newAuthority(t)
	both := a.issue(t, pki.Request{CommonName: "Alice A", Emails: []string{"alice@example.com"}, DNSNames: []string{"laptop.example.com"}}).Cert
	for claimed, want := range map[string]string{
		"": "alice@example.com", "bob": "alice@example.com", "LAPTOP.example.com": "laptop.example.com", "Alice A": "Alice A",
	} {
		if got := clientName(both, claimed); got != want {
			t.Errorf("claimed %q: %q", claimed, got)
		}
	}
	// Windows' way, and names that are not for people's eyes.
	windows := &x509.Certificate{
		Subject:        pkix.Name{CommonName: "Alice"},
		EmailAddresses: []string{"alice@example.com\x00.evil.example"},
		Extensions:     []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: principal("alice@corp.example.com")}},
	}
	if got := clientName(windows, ""); got != "alice@corp.example.com" {
		t.Errorf("%q", got)
	}
	if got := clientName(windows, "alice@example.com\x00.evil.example"); got != "alice@corp.example.com" {
		t.Errorf("%q", got)
	}
	if got := clientName(&x509.Certificate{}, "alice"); got != "" {
		t.Errorf("a certificate without a name is for %q", got)
	}
}

// principal is a subjectAltName with one user principal name behind a host name.
func principal(name string) []byte {
	tag := cbasn1.Tag(0).ContextSpecific().Constructed()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte("laptop")) })
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
			b.AddASN1(tag, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
			})
		})
	})
	return b.BytesOrPanic()
}

func TestPrincipalsTruncated(t *testing.T) {
	whole := principal("alice@corp")
	if got := readPrincipals(whole); !slices.Equal(got, []string{"alice@corp"}) {
		t.Errorf("%q", got)
	}
	for n := range whole {
		if got := readPrincipals(whole[:n]); len(got) > 0 {
			t.Errorf("%d octets: %q", n, got)
		}
	}
}

func FuzzPrincipals(f *testing.F) {
	f.Add(principal("alice@corp"))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for _, name := range readPrincipals(b) {
			total += len(name)
		}
		if total > len(b) {
			t.Fatalf("%d octets of names in %d", total, len(b))
		}
	})
}
