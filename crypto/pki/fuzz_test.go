package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// corpus adds the seeds of strongSwan's fuzzers from one folder, where they are there.
func corpus(f *testing.F, folder string, add func(b []byte)) {
	f.Helper()
	if os.Getenv("MARTLET_VECTORS") == "" {
		if _, err := os.Stat("../../../shared/vectors"); err != nil {
			return
		}
	}
	for name, b := range untar(f, vectors(f), "x509/strongswan-fuzzing-corpora-x509-ocsp-ids.tar.gz") {
		if strings.HasPrefix(name, folder) && len(b) < 4096 {
			add(b)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"%any", "@#00", "@@a", "keyid:a", "{11}:#00", "C=CH, CN=*", `CN=a\,\00`, "/C=CH/CN=x", "10.0.0.0/8", "::1-::2", "*@x", "ipv4:#01020304"} {
		f.Add(s)
	}
	corpus(f, "ids/", func(b []byte) { f.Add(string(b)) })
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err != nil {
			if !id.IsZero() {
				t.Errorf("%q: an error and %s", s, id)
			}
			return
		}
		roundTrip(t, id)
	})
}

func FuzzIdentityString(f *testing.F) {
	f.Add(uint8(2), []byte("moon"), []byte("*on"))
	f.Add(uint8(9), []byte(moonDN), []byte(moonDN))
	f.Add(uint8(1), []byte{1, 2, 3, 4}, []byte{1, 2, 3, 4, 255, 0, 0, 0})
	corpus(f, "ids/", func(b []byte) { f.Add(uint8(9), bytes.TrimRight(b, "\n"), []byte(moonDN)) })
	cert := (*testCA)(nil).make(f, "leaf", false, func(c *x509.Certificate) { c.DNSNames = []string{"moon"} }).cert
	f.Fuzz(func(t *testing.T, kind uint8, a, b []byte) {
		id, other := Identity{IDType(kind), string(a)}, Identity{IDType(kind), string(b)}
		roundTrip(t, id)
		other.Match(id)
		if MatchCert(id, cert) == nil && !equalFold(id.Data, "moon") && !DN(cert.RawSubject).Match(id) {
			t.Errorf("the certificate proves %s", id)
		}
	})
}

func FuzzVerifySignature(f *testing.F) {
	octets := []byte("octets")
	var keys []crypto.Signer
	for _, kind := range []KeyKind{RSA2048, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519} {
		key := keyOf(kind)
		keys = append(keys, key)
		for _, s := range schemes(kind) {
			method, data, err := Sign(s, key, octets)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(method, uint8(len(keys)-1), data)
		}
	}
	f.Fuzz(func(t *testing.T, method, key uint8, data []byte) {
		pub := keys[int(key)%len(keys)].Public()
		// No one here can sign other octets.
		if info, err := VerifySignature(method, data, []byte("other octets"), pub, SignaturePolicy{AllowSHA1: true, AllowWeakRSA: true}); err == nil {
			t.Errorf("method %d %x passes as %v", method, data, info)
		}
		if len(data) > 0 {
			if a, err := parseAlgorithm(data[1:min(1+int(data[0]), len(data))]); err == nil && a.PSS && (a.Salt < 1 || a.Salt > maxRSA/8) {
				t.Errorf("salt %d", a.Salt)
			}
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	root := (*testCA)(nil).make(f, "root", true, nameConstraints(f, true, []string{"C=CH"}, []string{"C=DE, O=x"}))
	leaf := root.make(f, "leaf", false, func(c *x509.Certificate) { c.DNSNames = []string{"moon", "10.0.0.1"} })
	f.Add(EncodeCertificate(leaf.cert, root.cert))
	f.Add(leaf.cert.Raw)
	f.Add(root.cert.Raw)
	corpus(f, "certs", func(b []byte) { f.Add(b) })
	v := Verifier{Roots: []*x509.Certificate{(*testCA)(nil).make(f, "other", true, nil).cert}, Now: testNow}
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseCertificates(b)
		if err != nil {
			wantCode(t, "fuzz", err, CodeMalformed)
			return
		}
		examine(t, v, certs)
		for _, cert := range certs {
			understood(cert)
			_ = checkNameConstraints([]*x509.Certificate{leaf.cert, cert})
			_ = checkNameConstraints([]*x509.Certificate{cert, root.cert})
		}
	})
}

func FuzzParsePrivateKey(f *testing.F) {
	for _, kind := range []KeyKind{RSA2048, ECDSAP256, Ed25519} {
		key := keyOf(kind)
		b, err := EncodePrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePrivateKey(b, nil)
		if err != nil {
			return
		}
		if weakKey(key.Public(), true) != "" {
			t.Error("a key that cannot be used was read")
		}
		again, err := EncodePrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParsePrivateKey(again, nil); err != nil || !SameKey(back.Public(), key.Public()) {
			t.Errorf("a key does not come back: %v", err)
		}
	})
}

func FuzzParseCRL(f *testing.F) {
	o := newOffice(f)
	der, err := o.sub.IssueCRL([]RevokedCert{{Serial: big.NewInt(5), At: testNow, Reason: 1}}, 1, testNow, testNow.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(EncodeCRL(der))
	corpus(f, "crls", func(b []byte) { f.Add(b) })
	for _, value := range []string{"\x30\x03\x81\x01\xff", "\x30\x04\xa0\x02\xa1\x00"} {
		readScope([]byte(value))
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := readScope(b); ok {
			s.excludes(o.leaf.Cert)
		}
		crl, err := ParseCRL(b)
		if err != nil {
			return
		}
		// No one here can sign.
		if s := crl.Status(o.link(), testNow); s.State == StateRevoked {
			t.Errorf("%+v", s)
		}
		if crl.Size() <= 0 {
			t.Error("size")
		}
	})
}

func FuzzCheckOCSP(f *testing.F) {
	o := newOffice(f)
	good := o.response(f, o.sub.Cert, o.sub.Key, nil)
	f.Add(good)
	corpus(f, "ocsp_rsp", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := o.link().CheckOCSP(b, testNow); s.State == StateRevoked {
			t.Errorf("%+v", s)
		}
	})
}
