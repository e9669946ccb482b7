package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// testCA is a CA that issues whatever a test wants.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// make issues a certificate; change may alter the template. Without a CA it is self-signed.
func (ca *testCA) make(tb testing.TB, name string, isCA bool, change func(*x509.Certificate)) *testCA {
	tb.Helper()
	key := mustKey(ECDSAP256)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             testNow.Add(-time.Hour),
		NotAfter:              testNow.Add(time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  isCA,
	}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if change != nil {
		change(template)
	}
	pub := key.Public()
	if template.PublicKey != nil {
		pub, template.PublicKey = template.PublicKey, nil
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	cert, err := sign(template, parent, pub, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return &testCA{cert, key}
}

// wantCode checks a *CertError and that it says what, why and what to do.
func wantCode(tb testing.TB, what string, err error, code string) {
	tb.Helper()
	if code == "" {
		if err != nil {
			tb.Errorf("%s: %v", what, err)
		}
		return
	}
	e, ok := errors.AsType[*CertError](err)
	if !ok || e.Code != code {
		tb.Errorf("%s: %v, want %s", what, err, code)
		return
	}
	if e.What == "" || e.Why == "" || !errors.Is(err, &CertError{Code: code}) || strings.ContainsAny(e.Error()+e.Hint, "\n\x00") {
		tb.Errorf("%s: poor error %#v", what, e)
	}
}

func TestRow31CertificatesRefused(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	other := (*testCA)(nil).make(t, "root", true, nil) // the same name, another key
	inter := root.make(t, "intermediate", true, nil)
	verify := func(leaf *testCA, role Purpose, inters ...*testCA) error {
		v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
		var certs []*x509.Certificate
		for _, ca := range inters {
			certs = append(certs, ca.cert)
		}
		return v.Verify(leaf.cert, certs, role)
	}
	usage := func(ekus ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = ekus }
	}
	plain := inter.make(t, "leaf", false, nil)
	wantCode(t, "a good chain", verify(plain, PeerAuth, inter), "")
	wantCode(t, "a good chain with the root sent along", verify(plain, 0, root, inter), "")
	wantCode(t, "no intermediate", verify(plain, ServerAuth), CodeUnknownAuthority)
	wantCode(t, "an unknown CA", verify(other.make(t, "leaf", false, nil), ServerAuth, other), CodeUnknownAuthority)
	wantCode(t, "self-signed", verify((*testCA)(nil).make(t, "leaf", false, nil), ServerAuth), CodeUnknownAuthority)
	wantCode(t, "expired", verify(root.make(t, "leaf", false, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) }), ServerAuth), CodeExpired)
	wantCode(t, "not yet valid", verify(root.make(t, "leaf", false, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Second) }), ServerAuth), CodeNotYetValid)
	old := root.make(t, "old", true, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) })
	wantCode(t, "an expired CA", verify(old.make(t, "leaf", false, nil), ServerAuth, old), CodeExpired)
	wantCode(t, "issued by a leaf", verify(plain.make(t, "leaf2", false, nil), ServerAuth, plain, inter), CodeUnknownAuthority)
	short := root.make(t, "short", true, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := short.make(t, "below", true, nil)
	wantCode(t, "a path too long", verify(below.make(t, "leaf", false, nil), ServerAuth, short, below), CodeConstraint)

	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	ike := func(c *x509.Certificate) {
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 8, 2, 2}}
	}
	for _, c := range []struct {
		what   string
		change func(*x509.Certificate)
		good   Purpose
	}{
		{"no usage", nil, PeerAuth},
		{"any", usage(x509.ExtKeyUsageAny), PeerAuth},
		{"ikeIntermediate", ike, PeerAuth},
		{"serverAuth", usage(server), ServerAuth},
		{"clientAuth", usage(client), ClientAuth},
		{"both", usage(server, client), PeerAuth},
		{"mail", usage(x509.ExtKeyUsageEmailProtection), 0},
		{"an unknown one", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }, 0},
	} {
		for _, role := range []Purpose{ServerAuth, ClientAuth, PeerAuth} {
			code := CodeWrongUsage
			if role&c.good == role {
				code = ""
			}
			wantCode(t, fmt.Sprintf("%s as %d", c.what, role), verify(root.make(t, "leaf", false, c.change), role), code)
			ca := root.make(t, "ca", true, c.change)
			wantCode(t, fmt.Sprintf("a CA with %s as %d", c.what, role), verify(ca.make(t, "leaf", false, nil), role, ca), code)
		}
	}
	for usage, code := range map[x509.KeyUsage]string{
		x509.KeyUsageDigitalSignature:  "",
		x509.KeyUsageContentCommitment: "",
		x509.KeyUsageKeyEncipherment:   CodeWrongUsage,
		x509.KeyUsageKeyAgreement:      CodeWrongUsage,
	} {
		leaf := root.make(t, "leaf", false, func(c *x509.Certificate) { c.KeyUsage = usage })
		wantCode(t, fmt.Sprintf("key usage %d", usage), verify(leaf, ServerAuth), code)
	}
	sha1 := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }
	wantCode(t, "a leaf signed with SHA-1", verify(root.make(t, "leaf", false, sha1), ServerAuth), CodeWeakSignature)
	forged := root.make(t, "ca", true, sha1)
	wantCode(t, "a CA signed with SHA-1", verify(forged.make(t, "leaf", false, nil), ServerAuth, forged), CodeWeakSignature)

	critical := root.make(t, "leaf", false, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	})
	wantCode(t, "an unknown critical extension", verify(critical, ServerAuth), CodeMalformed)

	v := Verifier{Roots: []*x509.Certificate{root.cert}}
	wantCode(t, "no time", v.Verify(plain.cert, nil, ServerAuth), CodeMalformed)
	v.Now = testNow
	wantCode(t, "no leaf", v.Verify(nil, nil, ServerAuth), CodeMalformed)
	wantCode(t, "no intermediate, but its place", v.Verify(plain.cert, []*x509.Certificate{nil}, ServerAuth), CodeMalformed)
	v.Roots = nil
	wantCode(t, "no roots", v.Verify(plain.cert, []*x509.Certificate{inter.cert}, ServerAuth), CodeUnknownAuthority)
	v.SystemRoots = true
	wantCode(t, "the system's roots", v.Verify(plain.cert, []*x509.Certificate{inter.cert}, ServerAuth), CodeUnknownAuthority)
	v.Roots = []*x509.Certificate{plain.cert}
	wantCode(t, "a pinned leaf", v.Verify(plain.cert, nil, ServerAuth), "")
	v.Roots = []*x509.Certificate{root.cert, other.cert}
	wantCode(t, "two roots of one name", v.Verify(plain.cert, []*x509.Certificate{inter.cert}, ServerAuth), "")
}

func TestRow33WeakKeys(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	weak := Verifier{Roots: v.Roots, Now: testNow, AllowWeakRSA: true}
	t.Setenv("GODEBUG", "rsa1024min=0")
	with := func(n *big.Int, e int) *testCA {
		return root.make(t, "leaf", false, func(c *x509.Certificate) { c.PublicKey = &rsa.PublicKey{N: n, E: e} })
	}
	modulus := func(bits uint) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return n.Add(n, big.NewInt(1))
	}
	for _, c := range []struct {
		bits         uint
		e            int
		code, weakly string
	}{
		{2048, 65537, "", ""},
		{3072, 17, "", ""},
		{8192, 65537, "", ""},
		{2047, 65537, CodeWeakKey, ""},
		{1024, 65537, CodeWeakKey, ""},
		{1023, 65537, CodeWeakKey, CodeWeakKey},
		{2048, 3, CodeWeakKey, ""},
		{2048, 1, CodeWeakKey, CodeWeakKey},
		{2048, 4, CodeWeakKey, CodeWeakKey},
		{8193, 65537, CodeWeakKey, CodeWeakKey},
	} {
		leaf := with(modulus(c.bits), c.e)
		what := fmt.Sprintf("RSA %d bits e=%d", c.bits, c.e)
		wantCode(t, what, v.Verify(leaf.cert, nil, ServerAuth), c.code)
		wantCode(t, what+", weak allowed", weak.Verify(leaf.cert, nil, ServerAuth), c.weakly)
	}
	even := new(big.Int).Add(modulus(2048), big.NewInt(1))
	wantCode(t, "an even modulus", weak.Verify(with(even, 65537).cert, nil, ServerAuth), CodeWeakKey)

	// A weak CA in between is as bad.
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ca := root.make(t, "weak CA", true, func(c *x509.Certificate) { c.PublicKey = key.Public() })
	ca.key = key
	leaf := ca.make(t, "leaf", false, nil)
	wantCode(t, "a weak CA", v.Verify(leaf.cert, []*x509.Certificate{ca.cert}, ServerAuth), CodeWeakKey)
	wantCode(t, "a weak CA, allowed", weak.Verify(leaf.cert, []*x509.Certificate{ca.cert}, ServerAuth), "")
}

// nameConstraints encodes constraints on distinguished names.
func nameConstraints(tb testing.TB, critical bool, permitted, excluded []string) func(*x509.Certificate) {
	tb.Helper()
	list := func(tag int, names []string) asn1.RawValue {
		var body []byte
		for _, name := range names {
			raw := []byte(mustParse(tb, name).Data)
			general, err := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: raw})
			if err != nil {
				tb.Fatal(err)
			}
			subtree, err := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: general})
			if err != nil {
				tb.Fatal(err)
			}
			body = append(body, subtree...)
		}
		return asn1.RawValue{Class: 2, Tag: tag, IsCompound: true, Bytes: body}
	}
	var fields []asn1.RawValue
	if permitted != nil {
		fields = append(fields, list(0, permitted))
	}
	if excluded != nil {
		fields = append(fields, list(1, excluded))
	}
	value, err := asn1.Marshal(fields)
	if err != nil {
		tb.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: nameConstraintsOID(), Critical: critical, Value: value})
	}
}

func TestRow33NameConstraints(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	check := func(what string, limit, leaf func(*x509.Certificate), code string) {
		t.Helper()
		ca := root.make(t, "ca", true, limit)
		got := ca.make(t, "leaf", false, func(c *x509.Certificate) {
			c.Subject = pkix.Name{Country: []string{"CH"}, Organization: []string{"Good Org"}, CommonName: "leaf"}
			if leaf != nil {
				leaf(c)
			}
		})
		wantCode(t, what, v.Verify(got.cert, []*x509.Certificate{ca.cert}, ServerAuth), code)
	}
	dns := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	within := func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }
	check("a host within", within, dns("a.example.com"), "")
	check("a host outside", within, dns("a.example.com", "a.example.org"), CodeConstraint)
	without := func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"example.com"} }
	check("a host excluded", without, dns("A.example.com"), CodeConstraint)
	mail := func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} }
	check("an address of mail outside", mail, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} }, CodeConstraint)

	ip := func(c *x509.Certificate) {
		c.PermittedIPRanges = ipNets("192.0.2.0/24", "2001:db8::/32")
	}
	check("an IP address within", ip, func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, []byte{192, 0, 2, 9}) }, "")
	check("an IP address outside", ip, func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, []byte{192, 0, 3, 9}) }, CodeConstraint)
	check("an IP address within, as dNSName", ip, dns("192.0.2.9", "2001:db8::1", "host.example.com"), "")
	check("an IP address outside, as dNSName", ip, dns("192.0.3.9"), CodeConstraint)
	check("an IPv6 address outside, as dNSName", ip, dns("2001:db9::9"), CodeConstraint)
	check("an IP address excluded, as dNSName", func(c *x509.Certificate) { c.ExcludedIPRanges = ipNets("10.0.0.0/8") }, dns("10.1.1.1"), CodeConstraint)

	for _, critical := range []bool{true, false} {
		dn := func(permitted, excluded []string) func(*x509.Certificate) {
			return nameConstraints(t, critical, permitted, excluded)
		}
		check("a subject within", dn([]string{"C=CH, O=Good Org"}, nil), nil, "")
		check("a subject within, other case and spaces", dn([]string{"C=ch, O=good  org"}, nil), nil, "")
		check("a subject within one of two", dn([]string{"C=DE", "C=CH"}, nil), nil, "")
		check("a subject outside", dn([]string{"C=CH, O=Other"}, nil), nil, CodeConstraint)
		check("a subject above", dn([]string{"C=CH, O=Good Org, CN=leaf, OU=x"}, nil), nil, CodeConstraint)
		check("a subject excluded", dn(nil, []string{"C=CH, O=GOOD ORG"}), nil, CodeConstraint)
		check("a subject not excluded", dn(nil, []string{"C=CH, O=Other"}), nil, "")
		check("permitted and excluded", dn([]string{"C=CH"}, []string{"C=CH, O=Good Org"}), nil, CodeConstraint)
	}
	// Two CAs, each with a limit of its own.
	upper := root.make(t, "upper", true, nameConstraints(t, true, []string{"C=CH"}, nil))
	lower := upper.make(t, "lower", true, func(c *x509.Certificate) { c.Subject = pkix.Name{Country: []string{"DE"}, CommonName: "lower"} })
	leaf := lower.make(t, "leaf", false, func(c *x509.Certificate) { c.Subject = pkix.Name{Country: []string{"CH"}} })
	wantCode(t, "a CA outside", v.Verify(leaf.cert, []*x509.Certificate{upper.cert, lower.cert}, ServerAuth), CodeConstraint)

	// A form of name that nobody here understands: otherName.
	odd := func(critical bool) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: nameConstraintsOID(), Critical: critical, Value: []byte{0x30, 0x0a, 0xa0, 0x08, 0x30, 0x06, 0xa0, 0x04, 0x06, 0x02, 0x2a, 0x03}}}
		}
	}
	check("an unknown form", odd(true), nil, CodeMalformed)
	check("an unknown form, not critical", odd(false), nil, CodeConstraint)
}

// CVE-2017-9023 and others: loops and long chains of CAs.
func TestRow50Chains(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	var inters []*x509.Certificate
	last := root
	for n := 2; n <= 20; n++ {
		leaf := last.make(t, "leaf", false, nil)
		code := ""
		if n > MaxChain {
			code = CodeMalformed
		}
		wantCode(t, fmt.Sprintf("a chain of %d", n), v.Verify(leaf.cert, inters, ServerAuth), code)
		last = last.make(t, fmt.Sprintf("ca %d", n), true, nil)
		inters = append(inters, last.cert)
	}
	wantCode(t, "17 certificates", v.Verify(root.make(t, "leaf", false, nil).cert, inters[:16], ServerAuth), CodeMalformed)
	wantCode(t, "16 certificates", v.Verify(root.make(t, "leaf", false, nil).cert, inters[:15], ServerAuth), "")

	// Three CAs that sign each other: no way out of the circle.
	names := []string{"a", "b", "c"}
	ring := map[string]*testCA{}
	for _, name := range names {
		ring[name] = (*testCA)(nil).make(t, name, true, nil)
	}
	var cross []*x509.Certificate
	for _, by := range names {
		for _, of := range names {
			if by == of {
				continue
			}
			signed := ring[by].make(t, of, true, func(c *x509.Certificate) { c.PublicKey = ring[of].key.Public() })
			cross = append(cross, signed.cert)
		}
	}
	leaf := ring["a"].make(t, "leaf", false, nil)
	wantCode(t, "a circle", v.Verify(leaf.cert, cross, ServerAuth), CodeUnknownAuthority)
	exit := root.make(t, "c", true, func(c *x509.Certificate) { c.PublicKey = ring["c"].key.Public() })
	wantCode(t, "a circle with a way out", v.Verify(leaf.cert, append(cross, exit.cert), ServerAuth), "")
}

// TestRow50StrangersKeys: of certificates that sign each other in circles none is looked at,
// but those that a trusted CA leads to, in whatever order they come.
func TestRow50StrangersKeys(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	var good, junk []*x509.Certificate
	ca := root
	for i := range 5 {
		ca = ca.make(t, fmt.Sprintf("CA %d", i), true, nil)
		good = append(good, ca.cert)
	}
	leaf := ca.make(t, "leaf", false, nil)
	false1, false2 := (*testCA)(nil).make(t, "root", true, nil), (*testCA)(nil).make(t, "B", true, nil)
	for range 5 {
		junk = append(junk, false1.make(t, "B", true, nil).cert, false2.make(t, "root", true, nil).cert)
	}
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	if got := v.trusted(junk); len(got) != 0 {
		t.Errorf("%d certificates of a stranger are trusted", len(got))
	}
	mixed := slices.Concat(junk, good)
	for _, list := range [][]*x509.Certificate{good, mixed} {
		for range 2 {
			if got := v.trusted(list); len(got) != len(good) {
				t.Errorf("%d certificates are trusted, want %d", len(got), len(good))
			}
			wantCode(t, "a chain of seven", v.Verify(leaf.cert, list, ServerAuth), "")
			slices.Reverse(list)
		}
	}
	stray := false1.make(t, "leaf", false, nil)
	err := v.Verify(stray.cert, mixed, ServerAuth)
	wantCode(t, "a stranger", err, CodeUnknownAuthority)
	if !strings.Contains(err.Error(), "has another key") {
		t.Errorf("two CAs of one name: %v", err)
	}
}

// TestRow53HugeKeys: nobody verifies a signature by a key of 240,000 bits, which takes
// seconds, because a stranger sent it as a CA's.
func TestRow53HugeKeys(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	for bits, want := range map[int]int{maxRSA: 1, maxRSA + 8: 0, 240_000: 0} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		huge := root.make(t, "huge", true, func(c *x509.Certificate) {
			c.PublicKey = &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 1<<31 - 1}
		})
		for _, list := range [][]*x509.Certificate{{huge.cert}, {huge.cert, huge.cert, huge.cert}} {
			if got := v.trusted(list); min(len(got), 1) != want {
				t.Errorf("%d of %d CAs with a key of %d bits are looked at", len(got), len(list), bits)
			}
		}
	}
}

// Certificates and keys of the golden transcripts: they load, fit, verify, and sign the
// octets that strongSwan signed.
func TestGoldenCertificates(t *testing.T) {
	root := vectors(t)
	for _, dir := range []string{"cert-ecdsa", "cert-ed25519", "cert-rsa-legacy", "cert-rsa-pkcs1"} {
		base := path.Join("captures/strongswan6-golden", dir)
		ca, err := ParseCertificates(readVector(t, root, path.Join(base, "ca.pem")))
		if err != nil {
			t.Fatal(err)
		}
		folder, err := root.Open(base)
		if err != nil {
			t.Fatal(err)
		}
		names, err := folder.Readdirnames(-1)
		folder.Close()
		if err != nil {
			t.Fatal(err)
		}
		var log struct {
			Initiator []struct {
				Label string
				Hex   hexBytes
			}
		}
		readJSON(t, root, path.Join(base, "golden.json.gz"), &log)
		var octets [][]byte
		for _, line := range log.Initiator {
			if strings.HasPrefix(line.Label, "octets = message") {
				octets = append(octets, line.Hex)
			}
		}
		seen := 0
		for _, name := range names {
			stem, ok := strings.CutSuffix(name, ".key")
			if !ok {
				continue
			}
			seen++
			certs, err := ParseCertificates(readVector(t, root, path.Join(base, stem+".pem")))
			if err != nil {
				t.Fatal(err)
			}
			key, err := ParsePrivateKey(readVector(t, root, path.Join(base, name)), nil)
			if err != nil {
				t.Fatal(err)
			}
			cred, err := NewCredential(append(certs, ca...), key)
			if err != nil {
				t.Fatal(err)
			}
			if len(cred.Chain) != 0 {
				t.Errorf("%s: the root is sent", stem)
			}
			v := Verifier{Roots: ca, Now: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
			if v.Now.Before(cred.Cert.NotBefore) {
				v.Now = cred.Cert.NotBefore.Add(time.Hour)
			}
			wantCode(t, dir+" "+stem, v.Verify(cred.Cert, nil, PeerAuth), "")
			if got, want := IdentityOf(cred.Cert).String(), stem[:2]+".test"; got != want {
				t.Errorf("%s/%s is %s, want %s", dir, stem, got, want)
			}
			wantCode(t, dir+" "+stem, MatchCert(mustParse(t, "C=XX, O=Golden, CN="+stem[:2]+".test"), cred.Cert), "")
			for _, hashes := range [][]HashID{Hashes(), nil} {
				if hashes == nil && dir == "cert-ed25519" {
					continue
				}
				s, err := ChooseScheme(key.Public(), hashes, Prefs{})
				if err != nil {
					t.Fatal(err)
				}
				for _, message := range octets {
					method, data, err := Sign(s, key, message)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := VerifySignature(method, data, message, cred.Cert.PublicKey, SignaturePolicy{AllowSHA1: true}); err != nil {
						t.Errorf("%s/%s: %v", dir, stem, err)
					}
				}
			}
		}
		if seen != 2 || len(octets) != 2 {
			t.Errorf("%s: %d keys and %d signed messages", dir, seen, len(octets))
		}
	}
}

// The seeds of strongSwan's fuzzers, among them what once crashed it.
func TestRow50CertificateCorpora(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	v := Verifier{Roots: []*x509.Certificate{root.cert}, Now: testNow}
	read, all := 0, 0
	for name, b := range untar(t, vectors(t), "x509/strongswan-fuzzing-corpora-x509-ocsp-ids.tar.gz") {
		all++
		certs, err := ParseCertificates(b)
		if err != nil {
			wantCode(t, name, err, CodeMalformed)
			continue
		}
		read++
		examine(t, v, certs)
	}
	t.Logf("%d of %d seeds are certificates", read, all)
	if read < 50 {
		t.Errorf("only %d seeds could be read", read)
	}
}

// examine asks everything of foreign certificates that a peer can make us ask.
func examine(tb testing.TB, v Verifier, certs []*x509.Certificate) {
	tb.Helper()
	leaf := certs[0]
	if err := v.Verify(leaf, certs[1:], PeerAuth); err == nil {
		tb.Error("a foreign certificate passes")
	} else if _, ok := errors.AsType[*CertError](err); !ok {
		tb.Errorf("not a *CertError: %v", err)
	}
	v.Roots = append(slices.Clone(v.Roots), certs...)
	_ = v.Verify(leaf, nil, ServerAuth)
	id := IdentityOf(leaf)
	roundTrip(tb, id)
	roundTrip(tb, DN(leaf.RawSubject))
	roundTrip(tb, DN(leaf.RawIssuer))
	for _, other := range []Identity{{}, {IDFQDN, ""}, {IDDERASN1DN, "0\x00"}, {IDKeyID, string(leaf.SubjectKeyId)}, {IDIPv4Addr, "abc"}} {
		wantCode(tb, other.String(), MatchCert(other, leaf), CodeNameMismatch)
	}
	if h := KeyHash(leaf); bytes.Equal(h[:], make([]byte, 20)) {
		tb.Error("no key hash")
	}
}

func TestSystemRootsText(t *testing.T) {
	for _, c := range []struct {
		v    Verifier
		want string
	}{
		{Verifier{SystemRoots: true}, "system"},
		{Verifier{}, "none is configured"},
	} {
		if got := c.v.rootsText(); !strings.Contains(got, c.want) {
			t.Errorf("%q lacks %q", got, c.want)
		}
	}
}

// ipNets are what crypto/x509 wants for constraints on addresses.
func ipNets(prefixes ...string) []*net.IPNet {
	var out []*net.IPNet
	for _, s := range prefixes {
		p := netip.MustParsePrefix(s)
		out = append(out, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}
