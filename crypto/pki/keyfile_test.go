package pki

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sample reads a file that OpenSSL 3 made; all hold the key of carol.pem, and the password is
// "martlet".
func sample(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func carol(tb testing.TB) *x509.Certificate {
	tb.Helper()
	certs, err := ParseCertificates(sample(tb, "carol.pem"))
	if err != nil {
		tb.Fatal(err)
	}
	return certs[0]
}

func TestKeyFiles(t *testing.T) {
	want := carol(t).PublicKey
	for name, password := range map[string][]byte{
		"pkcs8.pem": nil, "sec1.pem": nil, "aes256.pem": []byte("martlet"), "aes128-sha512.pem": []byte("martlet"), "aes192-sha1.pem": []byte("martlet"),
	} {
		key, err := ParsePrivateKey(sample(t, name), password)
		if err != nil || !SameKey(key.Public(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		password []byte
		want     error
	}{
		"aes256.pem":        {nil, ErrEncryptedKey},
		"aes128-sha512.pem": {[]byte("Martlet"), ErrPassword},
		"aes192-sha1.pem":   {[]byte{}, ErrPassword},
		"traditional.pem":   {[]byte("martlet"), ErrEncryptedKey},
	} {
		if key, err := ParsePrivateKey(sample(t, name), c.password); !errors.Is(err, c.want) || key != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParsePrivateKey(sample(t, "des3.pem"), []byte("martlet")); err == nil {
		t.Error("3DES was read")
	}
}

func TestPKCS12(t *testing.T) {
	cert := carol(t)
	for name, password := range map[string]string{"modern.p12": "martlet", "legacy.p12": "martlet", "empty.p12": ""} {
		b := sample(t, name)
		key, certs, err := ParsePKCS12(b, password)
		if err != nil || len(certs) != 1 || !certs[0].Equal(cert) || !SameKey(key.Public(), cert.PublicKey) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := ParsePKCS12(b, "wrong"); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
		if !IsPKCS12(b) {
			t.Errorf("%s is not recognized", name)
		}
		for n := 0; n < len(b); n += 7 {
			if _, _, err := ParsePKCS12(b[:n], password); err == nil {
				t.Errorf("%s cut at %d was read", name, n)
			}
		}
	}
	if IsPKCS12(cert.Raw) || IsPKCS12(nil) || IsPKCS12(sample(t, "carol.pem")) {
		t.Error("something else is recognized")
	}
	if _, _, err := ParsePKCS12(make([]byte, maxPKCS12+1), ""); err == nil {
		t.Error("too long")
	}

	o := newOffice(t)
	for _, legacy := range []bool{false, true} {
		b, err := EncodePKCS12(o.leaf, []*x509.Certificate{o.root.Cert}, "secret", legacy)
		if err != nil {
			t.Fatal(err)
		}
		key, certs, err := ParsePKCS12(b, "secret")
		if err != nil || !SameKey(key.Public(), o.leaf.Cert.PublicKey) || len(certs) != 3 || !slices.ContainsFunc(certs, o.root.Cert.Equal) {
			t.Errorf("legacy %v: %d certificates, %v", legacy, len(certs), err)
		}
	}
	for _, c := range []*Credential{{Cert: o.leaf.Cert}, {Key: o.leaf.Key}, {Cert: o.leaf.Cert, Key: brokenKey{o.leaf.Key}}} {
		if _, err := EncodePKCS12(c, nil, "secret", false); err == nil {
			t.Error("an incomplete credential was written")
		}
	}
}

func TestPublicKeys(t *testing.T) {
	cert := carol(t)
	b := sample(t, "public.pem")
	der, err := EncodePublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range [][]byte{b, der, slices.Concat(sample(t, "carol.pem"), b)} {
		key, err := ParsePublicKey(file)
		if err != nil || !SameKey(key, cert.PublicKey) {
			t.Error(err)
		}
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(testRSA().Public().(*rsa.PublicKey))
	if key, err := ParsePublicKey(pkcs1); err != nil || !SameKey(key, testRSA().Public()) {
		t.Error(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.MarshalPKIXPublicKey(x25519.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), sample(t, "carol.pem"), slices.Concat(b, b), weak, make([]byte, maxFile+1)} {
		if key, err := ParsePublicKey(bad); err == nil || key != nil {
			t.Error("read as a public key")
		}
	}
	for n := range der {
		if _, err := ParsePublicKey(der[:n]); err == nil {
			t.Errorf("cut at %d it is read", n)
		}
	}
	if !HasPublicKey(b) || HasPublicKey(sample(t, "carol.pem")) || HasPublicKey(sample(t, "pkcs8.pem")) {
		t.Error("HasPublicKey")
	}
	v := Verifier{Keys: []crypto.PublicKey{cert.PublicKey}}
	wantCode(t, "known", v.CheckKey(cert.PublicKey), "")
	wantCode(t, "unknown", v.CheckKey(testRSA().Public()), CodeUnknownAuthority)
	wantCode(t, "none", Verifier{}.CheckKey(cert.PublicKey), CodeUnknownAuthority)
	wantCode(t, "of no kind", v.CheckKey(nil), CodeWeakKey)
	if _, err := EncodePublicKey(7); err == nil {
		t.Error("a number as a key")
	}
	if (&Credential{}).Public() != nil || !SameKey((&Credential{Cert: cert}).Public(), cert.PublicKey) {
		t.Error("Public")
	}
}

func FuzzDecryptPKCS8(f *testing.F) {
	for _, name := range []string{"aes128-sha512.pem", "aes192-sha1.pem", "des3.pem"} {
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParsePrivateKey(b, []byte("p")); err == nil && weakKey(key.Public(), true) != "" {
			t.Error("a key that cannot be used was read")
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(sample(f, "public.pem"))
	der, err := EncodePublicKey(carol(f).PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParsePublicKey(b); err == nil && weakKey(key, true) != "" {
			t.Error("a key that cannot be used was read")
		}
	})
}
