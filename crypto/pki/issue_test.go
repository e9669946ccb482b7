package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	ca, err := NewAuthority("Martlet test", testNow, 0, ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	v := Verifier{Roots: []*x509.Certificate{ca.Cert}, Now: testNow}
	for _, kind := range []KeyKind{RSA3072, RSA2048, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519} {
		cred, err := ca.Issue(Request{
			DNSNames: []string{"vpn.example.com"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			Emails: []string{"carol@example.com"}, Purpose: ServerAuth, Now: testNow, Key: kind,
		})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		wantCode(t, kind.String(), v.Verify(cred.Cert, cred.Chain, ServerAuth), "")
		wantCode(t, kind.String(), v.Verify(cred.Cert, cred.Chain, ClientAuth), CodeWrongUsage)
		for _, id := range []string{"vpn.example.com", "192.0.2.1", "2001:db8::1", "fqdn:192.0.2.1", "carol@example.com", "CN=vpn.example.com"} {
			wantCode(t, id, MatchCert(mustParse(t, id), cred.Cert), "")
		}
		if !slices.Equal(cred.Cert.DNSNames, []string{"vpn.example.com", "192.0.2.1", "2001:db8::1"}) {
			t.Errorf("%s: dNSNames %q", kind, cred.Cert.DNSNames)
		}
		if days := cred.Cert.NotAfter.Sub(testNow).Hours() / 24; days > 825 {
			t.Errorf("%s: valid for %f days; Apple allows 825", kind, days)
		}
		// Out to PEM and back.
		pem, err := EncodePrivateKey(cred.Key)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePrivateKey(pem, nil)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := ParseCertificates(EncodeCertificate(ca.Cert, cred.Cert))
		if err != nil {
			t.Fatal(err)
		}
		back, err := NewCredential(certs, key)
		if err != nil || !back.Cert.Equal(cred.Cert) || len(back.Chain) != 0 || back.Root == nil || !back.Root.Equal(ca.Cert) {
			t.Errorf("%s: %v %v", kind, back, err)
		}
		_, err = NewCredential(certs, mustKey(ECDSAP256))
		wantCode(t, "another key", err, CodeKeyMismatch)
	}
	client, err := ca.Issue(Request{Emails: []string{"carol@example.com"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Purpose: ClientAuth, Now: testNow, Public: mustKey(Ed25519).Public()})
	if err != nil {
		t.Fatal(err)
	}
	if client.Key != nil || len(client.Cert.DNSNames) != 0 || client.Cert.Subject.CommonName != "carol@example.com" {
		t.Errorf("a client: %v %q %s", client.Key, client.Cert.DNSNames, client.Cert.Subject)
	}
	wantCode(t, "a client", v.Verify(client.Cert, nil, ClientAuth), "")
	wantCode(t, "a client as server", v.Verify(client.Cert, nil, ServerAuth), CodeWrongUsage)
	both, err := ca.Issue(Request{CommonName: "site", Now: testNow, Key: Ed25519, Validity: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a site", v.Verify(both.Cert, nil, PeerAuth), "")
	if !both.Cert.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("valid until %s, its CA until %s", both.Cert.NotAfter, ca.Cert.NotAfter)
	}
	if both.Cert.SerialNumber.Cmp(client.Cert.SerialNumber) == 0 || both.Cert.SerialNumber.Sign() <= 0 {
		t.Error("serial numbers")
	}
	for want, req := range map[string]Request{
		"a name is needed": {Now: testNow, Key: Ed25519},
		"without zone":     {Now: testNow, Key: Ed25519, Addresses: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}},
		"the CA is valid":  {CommonName: "x", Now: testNow.AddDate(11, 0, 0), Key: Ed25519},
		"no such kind":     {CommonName: "x", Now: testNow, Key: 77},
		"IA5String":        {DNSNames: []string{"m\u00fcller"}, Now: testNow, Key: Ed25519},
	} {
		if _, err := ca.Issue(req); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := NewAuthority("", testNow, 0, Ed25519); err == nil {
		t.Error("a CA without a name")
	}
	if KeyHash(ca.Cert) == KeyHash(both.Cert) {
		t.Error("two keys with one hash")
	}
}

func TestLoadErrors(t *testing.T) {
	ca, err := NewAuthority("x", testNow, time.Hour, Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(EncodeCertificate(ca.Cert))
	keyPEM, err := EncodePrivateKey(ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := string(keyPEM)
	if certs, err := ParseCertificates([]byte("comment\n" + key + cert + cert)); err != nil || len(certs) != 2 {
		t.Errorf("a bundle: %d, %v", len(certs), err)
	}
	if certs, err := ParseCertificates(append(slices.Clone(ca.Cert.Raw), ca.Cert.Raw...)); err != nil || len(certs) != 2 {
		t.Errorf("DER: %d, %v", len(certs), err)
	}
	for what, text := range map[string]string{
		"empty":              "",
		"text":               "hello",
		"a key":              key,
		"a cut certificate":  cert[:len(cert)/2],
		"a broken first one": strings.Replace(cert, "M", "!", 1) + cert,
		"a broken second":    cert + strings.Replace(cert, "END", "FIN", 1),
		"PEM of nothing":     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"endless":            strings.Repeat("a", maxFile+1),
		"DER cut":            string(ca.Cert.Raw[:len(ca.Cert.Raw)-1]),
		"DER and more":       string(ca.Cert.Raw) + "x",
	} {
		certs, err := ParseCertificates([]byte(text))
		wantCode(t, what, err, CodeMalformed)
		if certs != nil {
			t.Errorf("%s: certificates and an error", what)
		}
	}
	if _, err := ParsePrivateKey([]byte(cert+key), nil); err != nil {
		t.Error(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(testRSA().(*rsa.PrivateKey))
	if k, err := ParsePrivateKey(pkcs1, nil); err != nil || !SameKey(k.Public(), testRSA().Public()) {
		t.Errorf("PKCS#1: %v", err)
	}
	for want, text := range map[string]string{
		"neither PEM nor DER":    "hello",
		"is it the file":         cert,
		"several":                key + key,
		"broken":                 key[:len(key)/2],
		"openssl pkcs8 -in FILE": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"is encrypted":           "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"ssh-keygen":             "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"at most":                strings.Repeat("a", maxFile+1),
		"not supported":          "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20" + strings.Repeat("k", 32), // X25519
	} {
		k, err := ParsePrivateKey([]byte(text), nil)
		if err == nil || !strings.Contains(err.Error(), want) || k != nil {
			t.Errorf("%v, want %s", err, want)
		}
		if strings.Contains(want, "encrypted") && !errors.Is(err, ErrEncryptedKey) {
			t.Errorf("%v is not ErrEncryptedKey", err)
		}
	}
	for n := range pkcs1 {
		if _, err := ParsePrivateKey(pkcs1[:n], nil); err == nil {
			t.Errorf("a key cut at %d was read", n)
		}
	}
	for n := range ca.Cert.Raw {
		if _, err := ParseCertificates(ca.Cert.Raw[:n]); err == nil {
			t.Errorf("a certificate cut at %d was read", n)
		}
	}
	for _, certs := range [][]*x509.Certificate{nil, {nil}} {
		_, err := NewCredential(certs, ca.Key)
		wantCode(t, "no certificate", err, CodeMalformed)
	}
	_, err = NewCredential([]*x509.Certificate{ca.Cert}, nil)
	wantCode(t, "no key", err, CodeMalformed)
	if _, err := EncodePrivateKey(brokenKey{ca.Key}); err == nil {
		t.Error("a key in a token was written")
	}
}
