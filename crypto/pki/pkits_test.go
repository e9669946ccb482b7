package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// pkitsCert is a certificate of PKITS, taken apart and put together again.
type pkitsCert struct {
	old, new *x509.Certificate
	key      *ecdsa.PrivateKey
}

// resign gives the certificate a key of today and a signature of today: PKITS of 2001
// has RSA with 1024 bits and SHA-1, both of which are refused before anything else is
// looked at. All other fields stay as they are, octet for octet.
func resign(tb testing.TB, c *pkitsCert, signer *ecdsa.PrivateKey) {
	tb.Helper()
	var version, serial, algorithm, issuer, validity, subject, spki, seq cryptobyte.String
	in := cryptobyte.String(c.old.RawTBSCertificate)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadOptionalASN1(&version, new(bool), explicit(0)) ||
		!seq.ReadASN1Element(&serial, asn1.INTEGER) || !seq.ReadASN1Element(&algorithm, asn1.SEQUENCE) ||
		!seq.ReadASN1Element(&issuer, asn1.SEQUENCE) || !seq.ReadASN1Element(&validity, asn1.SEQUENCE) ||
		!seq.ReadASN1Element(&subject, asn1.SEQUENCE) || !seq.ReadASN1Element(&spki, asn1.SEQUENCE) {
		tb.Fatal("a certificate of PKITS cannot be taken apart")
	}
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	ecdsaSHA256 := algorithmFor(tb, KeyECDSA, HashSHA2_256, false)
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if len(version) > 0 {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(version) })
		}
		for _, part := range [][]byte{serial, ecdsaSHA256, issuer, validity, subject, spki, seq} {
			b.AddBytes(part)
		}
	})
	tbs := b.BytesOrPanic()
	signature, err := ecdsa.SignASN1(rand.Reader, signer, HashSHA2_256.sum(tbs))
	if err != nil {
		tb.Fatal(err)
	}
	b = cryptobyte.Builder{}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(ecdsaSHA256)
		b.AddASN1BitString(signature)
	})
	if c.new, err = x509.ParseCertificate(b.BytesOrPanic()); err != nil {
		tb.Fatal(err)
	}
}

// TestPKITS runs NIST's test suite of path validation, with fresh keys and
// signatures (see resign). A signature that was wrong is wrong again.
//
// Left out: what is about revocation lists (they are checked elsewhere), DSA, and
// certificate policies that depend on the verifier's own settings.
//
// Refused although valid: names that are chained with another case, spacing or
// string type (Go compares issuer and subject octet for octet), serial numbers
// below zero, paths in which self-issued CAs exceed a length, and subdomains of
// a host that is excluded for e-mail or URIs (Go excludes them with it).
func TestPKITS(t *testing.T) {
	about := func(name string, words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
	}
	keys := map[string]*ecdsa.PrivateKey{} // by the old key
	var certs []*pkitsCert
	leaves := map[string]*pkitsCert{}
	unread := 0
	for path, b := range untar(t, vectors(t), "x509/pkits.tar.gz") {
		name, ok := strings.CutSuffix(strings.TrimPrefix(path, "PKITS/certs/"), ".crt")
		if !ok {
			continue
		}
		old, err := x509.ParseCertificate(b)
		if err != nil {
			// Go reads neither inherited DSA parameters nor distribution points
			// relative to the CRL's issuer, nor serial numbers below zero.
			if !about(name, "NegativeSerial", "DSAParameter", "distributionPointTest", "cRLIssuerTest29") {
				t.Errorf("%s: %v", name, err)
			}
			unread++
			continue
		}
		spki := string(old.RawSubjectPublicKeyInfo)
		if keys[spki] == nil {
			keys[spki] = mustKey(ECDSAP256).(*ecdsa.PrivateKey)
		}
		c := &pkitsCert{old: old, key: keys[spki]}
		certs = append(certs, c)
		if strings.HasSuffix(name, "EE") {
			leaves[name] = c
		}
	}
	if len(certs)+unread != 405 || unread != 7 {
		t.Errorf("%d certificates, %d unread; want 405, 7", len(certs)+unread, unread)
	}
	stranger := mustKey(ECDSAP256).(*ecdsa.PrivateKey)
	var anchor *x509.Certificate
	for _, c := range certs {
		signer := stranger
		digest := sha1.Sum(c.old.RawTBSCertificate)
		for _, ca := range certs {
			key, ok := ca.old.PublicKey.(*rsa.PublicKey)
			// Names may differ in case and spaces; the key tells who signed.
			if ok && rsa.VerifyPKCS1v15(key, crypto.SHA1, digest[:], c.old.Signature) == nil {
				signer = ca.key
				break
			}
		}
		resign(t, c, signer)
		if c.old.Subject.CommonName == "Trust Anchor" {
			anchor = c.new
		}
	}
	// path finds the CAs that lead from a leaf to the trust anchor, by name.
	path := func(leaf *x509.Certificate) []*x509.Certificate {
		var found []*x509.Certificate
		next := [][]byte{leaf.RawIssuer}
		for len(next) > 0 {
			issuer := next[0]
			next = next[1:]
			for _, c := range certs {
				if sameName(c.new.RawSubject, issuer) && c.new != anchor && !slices.Contains(found, c.new) {
					found = append(found, c.new)
					next = append(next, c.new.RawIssuer)
				}
			}
		}
		return found
	}
	v := Verifier{Roots: []*x509.Certificate{anchor}, Now: time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC)}
	ran := map[bool]int{}
	for name, leaf := range leaves {
		if about(name, "CRL", "cRL", "IDP", "deltaCRL", "distributionPoint", "DistributionPoint", "onlyContains", "onlySomeReasons",
			"Revoked", "DSA", "SeparateCertificate", "LongSerialNumberTest18", "NewWithOldTest5", "OldWithNewTest2") {
			continue
		}
		valid := strings.HasPrefix(name, "Valid")
		if !valid && !strings.HasPrefix(name, "Invalid") || about(name, "Policy", "Policies") {
			continue
		}
		stricter := about(name, "NameChainingWhitespace", "NameChainingCapitalization", "RolloverfromPrintableString", "UTF8StringCaseInsensitiveMatch",
			"ValidSelfIssuedpathLen", "ValidRFC822nameConstraintsTest25", "ValidURInameConstraintsTest36")
		ran[valid]++
		err := v.Verify(leaf.new, path(leaf.new), PeerAuth)
		if (err == nil) != (valid && !stricter) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ran[true] != 44 || ran[false] != 44 {
		t.Errorf("%d valid and %d invalid paths ran, want 44 and 44", ran[true], ran[false])
	}
}

// sameName compares names as the tests about chaining want it.
func sameName(a, b []byte) bool {
	x, ok1 := readDN(string(a))
	y, ok2 := readDN(string(b))
	return ok1 && ok2 && slices.EqualFunc(x, y, sameRDN)
}
