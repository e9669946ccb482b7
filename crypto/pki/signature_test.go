package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The keys of the tests: making RSA keys takes long.
var testRSA = sync.OnceValue(func() crypto.Signer { return mustKey(RSA2048) })

func mustKey(kind KeyKind) crypto.Signer {
	key, err := GenerateKey(kind)
	if err != nil {
		panic(err)
	}
	return key
}

func keyOf(kind KeyKind) crypto.Signer {
	if kind == RSA2048 {
		return testRSA()
	}
	return mustKey(kind)
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The encodings as RFC 7427 appendix A and RFC 8420 appendix A print them.
func TestAlgorithmIdentifiers(t *testing.T) {
	for _, c := range []struct {
		der  string
		want Scheme
		salt int
	}{
		{"300d 0609 2a86 4886 f70d 0101 0b05 00", Scheme{14, KeyRSA, HashSHA2_256, false}, 0},
		{"300d 0609 2a86 4886 f70d 0101 0c05 00", Scheme{14, KeyRSA, HashSHA2_384, false}, 0},
		{"300d 0609 2a86 4886 f70d 0101 0d05 00", Scheme{14, KeyRSA, HashSHA2_512, false}, 0},
		{"300b 0609 2a86 4886 f70d 0101 0b", Scheme{14, KeyRSA, HashSHA2_256, false}, 0}, // RFC 4055 §5: NULL may be absent
		{"300a 0608 2a86 48ce 3d04 0302", Scheme{14, KeyECDSA, HashSHA2_256, false}, 0},
		{"300a 0608 2a86 48ce 3d04 0303", Scheme{14, KeyECDSA, HashSHA2_384, false}, 0},
		{"300a 0608 2a86 48ce 3d04 0304", Scheme{14, KeyECDSA, HashSHA2_512, false}, 0},
		{"3005 0603 2b65 70", Scheme{14, KeyEd25519, HashIdentity, false}, 0},
		// A.4.3, with the trailer field written out
		{"3046 0609 2a86 4886 f70d 0101 0a30 39a0 0f30 0d06 0960 8648 0165 0304 0201 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 20a3 0302 0101", Scheme{14, KeyRSA, HashSHA2_256, true}, 32},
		// the same in DER, where a default is not written
		{"3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0201 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 20", Scheme{14, KeyRSA, HashSHA2_256, true}, 32},
		// hashes without NULL, default salt
		{"3038 0609 2a86 4886 f70d 0101 0a30 2ba0 0d30 0b06 0960 8648 0165 0304 0203 a11a 3018 0609 2a86 4886 f70d 0101 0830 0b06 0960 8648 0165 0304 0203", Scheme{14, KeyRSA, HashSHA2_512, true}, 20},
	} {
		a, err := parseAlgorithm(unhex(t, c.der))
		if err != nil {
			t.Errorf("%s: %v", c.der, err)
			continue
		}
		if got := (Scheme{14, a.Key, a.Hash, a.PSS}); got != c.want || a.Salt != c.salt {
			t.Errorf("%s: %s with salt %d, want %s with %d", c.der, got, a.Salt, c.want, c.salt)
		}
	}
	// What we send ourselves is in the list above.
	if got := algorithmFor(t, KeyRSA, HashSHA2_256, true); !bytes.Equal(got, unhex(t, "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120")) {
		t.Errorf("RSASSA-PSS with SHA2-256 is written as %x", got)
	}
}

func TestChooseScheme(t *testing.T) {
	all := []HashID{HashSHA1, HashSHA2_256, HashSHA2_384, HashSHA2_512, HashIdentity}
	for _, c := range []struct {
		kind   KeyKind
		hashes []HashID
		prefs  Prefs
		want   string // scheme, or part of an error
	}{
		{RSA2048, all, Prefs{}, "RSA SHA2-256"},
		{RSA2048, all, Prefs{PSS: true, Strict: true}, "RSA-PSS SHA2-256"},
		{RSA2048, []HashID{HashSHA2_512}, Prefs{PSS: true}, "RSA-PSS SHA2-512"},
		{RSA2048, nil, Prefs{PSS: true}, "RSA SHA1 (method 1)"},
		{RSA2048, nil, Prefs{Strict: true}, "strict forbids RSA with SHA-1"},
		{RSA2048, []HashID{HashSHA1}, Prefs{}, "announced are SHA1"},
		{ECDSAP256, all, Prefs{PSS: true}, "ECDSA SHA2-256"},
		{ECDSAP384, all, Prefs{}, "ECDSA SHA2-384"},
		{ECDSAP521, all, Prefs{}, "ECDSA SHA2-512"},
		{ECDSAP256, []HashID{HashSHA2_512, HashSHA2_384}, Prefs{}, "ECDSA SHA2-384"},
		{ECDSAP384, []HashID{HashSHA2_256}, Prefs{}, "ECDSA SHA2-256"},
		{ECDSAP521, []HashID{HashSHA2_256, HashSHA2_384}, Prefs{}, "ECDSA SHA2-384"},
		{ECDSAP256, nil, Prefs{Strict: true}, "ECDSA SHA2-256 (method 9)"},
		{ECDSAP384, nil, Prefs{}, "ECDSA SHA2-384 (method 10)"},
		{ECDSAP521, nil, Prefs{}, "ECDSA SHA2-512 (method 11)"},
		{ECDSAP521, []HashID{HashSHA1}, Prefs{}, "ECDSA SHA2-512 (method 11)"},
		{Ed25519, all, Prefs{}, "Ed25519"},
		{Ed25519, nil, Prefs{}, "announced are none"},
		{Ed25519, []HashID{HashSHA2_256}, Prefs{}, "announced are SHA2-256"},
	} {
		pub := keyOf(c.kind).Public()
		s, err := ChooseScheme(pub, c.hashes, c.prefs)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrNoScheme) {
				t.Errorf("%s for %v: %v, want %s", c.kind, c.hashes, err, c.want)
			}
			continue
		}
		if s.String() != c.want {
			t.Errorf("%s for %v: %s, want %s", c.kind, c.hashes, s, c.want)
		}
	}
	if _, err := ChooseScheme("key", all, Prefs{}); !errors.Is(err, ErrNoScheme) {
		t.Error(err)
	}
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if _, err := ChooseScheme(p224.Public(), all, Prefs{}); !errors.Is(err, ErrNoScheme) {
		t.Error(err)
	}
}

// schemes are all that can be signed with a kind of key.
func schemes(kind KeyKind) []Scheme {
	var all []Scheme
	hashes := []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512}
	switch kind {
	case Ed25519:
		return []Scheme{{MethodSignature, KeyEd25519, HashIdentity, false}}
	case RSA2048, RSA3072:
		all = append(all, Scheme{MethodRSA, KeyRSA, HashSHA1, false})
		for _, h := range hashes {
			all = append(all, Scheme{MethodRSA, KeyRSA, h, false}, Scheme{MethodSignature, KeyRSA, h, false}, Scheme{MethodSignature, KeyRSA, h, true})
		}
		return all
	}
	for _, h := range hashes {
		all = append(all, Scheme{MethodSignature, KeyECDSA, h, false})
	}
	n := kind - ECDSAP256
	return append(all, Scheme{MethodECDSA256 + uint8(n), KeyECDSA, HashSHA2_256 + HashID(n), false})
}

func TestSignAndVerify(t *testing.T) {
	octets := []byte("message | nonce | prf(SK_p, ID')")
	kinds := []KeyKind{RSA2048, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519}
	for _, kind := range kinds {
		key, other := keyOf(kind), mustKey(kind)
		for _, s := range schemes(kind) {
			method, data, err := Sign(s, key, octets)
			if err != nil {
				t.Errorf("%s: %v", s, err)
				continue
			}
			pol := SignaturePolicy{AllowSHA1: s.Hash == HashSHA1, Hashes: Hashes()}
			info, err := VerifySignature(method, data, octets, key.Public(), pol)
			if err != nil || info.Scheme != s {
				t.Errorf("%s: verified as %s, %v", s, info.Scheme, err)
			}
			if s.PSS && info.Salt != s.Hash.crypto().Size() {
				t.Errorf("%s: salt %d", s, info.Salt)
			}
			if _, err := VerifySignature(method, data, octets[1:], key.Public(), pol); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s over other octets: %v", s, err)
			}
			if _, err := VerifySignature(method, data, octets, other.Public(), pol); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s by another key: %v", s, err)
			}
			for _, foreign := range kinds {
				if foreign != kind {
					if _, err := VerifySignature(method, data, octets, keyOf(foreign).Public(), pol); err == nil {
						t.Errorf("%s passes for %s", s, foreign)
					}
				}
			}
			for n := range 256 {
				if uint8(n) == method {
					continue
				}
				if _, err := VerifySignature(uint8(n), data, octets, key.Public(), pol); err == nil {
					t.Errorf("%s passes under method %d", s, n)
				}
			}
		}
	}
}

func TestSignErrors(t *testing.T) {
	p256, ed := keyOf(ECDSAP256), keyOf(Ed25519)
	for _, c := range []struct {
		s    Scheme
		key  crypto.Signer
		want string
	}{
		{Scheme{MethodSignature, KeyRSA, HashSHA2_256, true}, p256, "the key is ECDSA"},
		{Scheme{MethodECDSA384, KeyECDSA, HashSHA2_384, false}, p256, "another curve"},
		{Scheme{MethodECDSA256, KeyECDSA, HashSHA2_384, false}, p256, "no scheme"},
		{Scheme{MethodSignature, KeyECDSA, HashSHA1, false}, p256, "no scheme"},
		{Scheme{MethodSignature, KeyEd25519, HashSHA2_512, false}, ed, "no scheme"},
		{Scheme{2, KeyEd25519, HashIdentity, false}, ed, "no scheme"},
		{Scheme{MethodRSA, KeyEd25519, HashIdentity, false}, ed, "no scheme"},
		{Scheme{}, nil, "no private key"},
		{Scheme{MethodSignature, KeyECDSA, HashSHA2_256, false}, brokenKey{p256}, "token is gone"},
		{Scheme{MethodECDSA256, KeyECDSA, HashSHA2_256, false}, oddKey{p256}, "cannot be read"},
	} {
		if _, data, err := Sign(c.s, c.key, []byte("x")); err == nil || !strings.Contains(err.Error(), c.want) || data != nil {
			t.Errorf("%s: %v, want %s", c.s, err, c.want)
		}
	}
}

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token is gone")
}

type oddKey struct{ crypto.Signer }

func (oddKey) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return []byte{0x30, 0x00}, nil
}

// SLOTH: SHA-1 and MD5 are signed and accepted nowhere but under method 1, and
// there only where the policy says that the peer knows nothing better.
func TestRow38WeakHashes(t *testing.T) {
	key := testRSA().(*rsa.PrivateKey)
	octets := []byte("octets")
	digest := sha1.Sum(octets)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifySignature(MethodRSA, sig, octets, key.Public(), SignaturePolicy{}); !errors.Is(err, ErrRefusedSignature) {
		t.Errorf("SHA-1 under method 1: %v", err)
	}
	info, err := VerifySignature(MethodRSA, sig, octets, key.Public(), SignaturePolicy{AllowSHA1: true})
	if err != nil || info.Hash != HashSHA1 {
		t.Errorf("SHA-1 under method 1, allowed: %v %v", info, err)
	}
	for name, der := range map[string]string{
		"RSA with SHA-1":         "300d06092a864886f70d0101050500",
		"RSA with MD5":           "300d06092a864886f70d0101040500",
		"RSA with SHA2-224":      "300d06092a864886f70d01010e0500",
		"ECDSA with SHA-1":       "300906072a8648ce3d0401",
		"ECDSA with SHA2-224":    "300a06082a8648ce3d040301",
		"RSASSA-PSS with SHA-1 ": "300b06092a864886f70d01010a",
		"SHA-1 (no hash)":        "300d06092a864886f70d01010a3000",
	} {
		_, err := VerifySignature(MethodSignature, method14(unhex(t, der), sig), octets, key.Public(), SignaturePolicy{AllowSHA1: true})
		if !errors.Is(err, ErrRefusedSignature) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, data, err := Sign(Scheme{MethodSignature, KeyRSA, HashSHA2_512, true}, key, octets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifySignature(MethodSignature, data, octets, key.Public(), SignaturePolicy{Hashes: []HashID{HashSHA2_256}}); !errors.Is(err, ErrRefusedSignature) {
		t.Errorf("a hash that was not announced: %v", err)
	}
}

// PKCS#1 v1.5 with a low exponent was forged (CVE-2018-16151 and others): such keys
// are refused whatever the signature is.
func TestRow33LowExponent(t *testing.T) {
	key := *testRSA().Public().(*rsa.PublicKey)
	for _, e := range []int{-1, 0, 1, 2, 3, 4, 65536} {
		key.E = e
		for _, method := range []uint8{MethodRSA, MethodSignature} {
			_, err := VerifySignature(method, method14(algorithmFor(t, KeyRSA, HashSHA2_256, false), make([]byte, 256)), nil, &key, SignaturePolicy{})
			if !errors.Is(err, ErrRefusedSignature) || !strings.Contains(err.Error(), "exponent") {
				t.Errorf("exponent %d, method %d: %v", e, method, err)
			}
		}
	}
}

// CVE-2013-2944: an empty or zero signature passed.
func TestRow34EmptySignature(t *testing.T) {
	octets := []byte("octets")
	for _, kind := range []KeyKind{RSA2048, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519} {
		key := keyOf(kind)
		for _, s := range schemes(kind) {
			method, good, err := Sign(s, key, octets)
			if err != nil {
				t.Fatal(err)
			}
			pol := SignaturePolicy{AllowSHA1: true}
			head := 0
			if method == MethodSignature {
				head = 1 + int(good[0])
			}
			bad := func(what string, data []byte) {
				t.Helper()
				if info, err := VerifySignature(method, data, octets, key.Public(), pol); err == nil {
					t.Errorf("%s: %s passes as %v", s, what, info)
				}
			}
			bad("nothing", nil)
			for n := range len(good) {
				bad("cut", good[:n])
				flipped := slices.Clone(good)
				flipped[n] ^= 1
				bad("one bit changed", flipped)
			}
			for _, c := range []byte{0, 1, 0xff} {
				bad("filled", append(slices.Clone(good[:head]), bytes.Repeat([]byte{c}, len(good)-head)...))
			}
			bad("a trailing octet", append(slices.Clone(good), 0))
			bad("a leading octet", slices.Concat(good[:head], []byte{0}, good[head:]))
			bad("twice", slices.Concat(good, good[head:]))
		}
	}
	// r or s of 0 or n, and DER that is not canonical.
	key := keyOf(ECDSAP256)
	n := elliptic.P256().Params().N.Bytes()
	zero, one := make([]byte, 32), append(make([]byte, 31), 1)
	for _, r := range [][]byte{zero, one, n} {
		for _, s := range [][]byte{zero, one, n} {
			if _, err := VerifySignature(MethodECDSA256, slices.Concat(r, s), octets, key.Public(), SignaturePolicy{}); !errors.Is(err, ErrBadSignature) {
				t.Errorf("r %x s %x: %v", r, s, err)
			}
		}
	}
	_, good, err := Sign(Scheme{MethodSignature, KeyECDSA, HashSHA2_256, false}, key, octets)
	if err != nil {
		t.Fatal(err)
	}
	head := 1 + int(good[0])
	der := good[head:]
	for what, other := range map[string][]byte{
		"long form of a length": slices.Concat([]byte{0x30, 0x81, der[1]}, der[2:]),
		"indefinite length":     slices.Concat([]byte{0x30, 0x80}, der[2:], []byte{0, 0}),
		"a zero before r":       slices.Concat([]byte{0x30, der[1] + 1, 2, der[3] + 1, 0}, der[4:]),
		"an element too many":   slices.Concat([]byte{0x30, der[1] + 2}, der[2:], []byte{5, 0}),
		"zeros":                 {0x30, 6, 2, 1, 0, 2, 1, 0},
		"empty integers":        {0x30, 4, 2, 0, 2, 0},
		"an empty sequence":     {0x30, 0},
	} {
		if _, err := VerifySignature(MethodSignature, slices.Concat(good[:head], other), octets, key.Public(), SignaturePolicy{}); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// OpenIKED's CVE-2020-16088: the comparison of raw public keys was the wrong way round.
func TestRow35OtherKey(t *testing.T) {
	a := testRSA().Public().(*rsa.PublicKey)
	same := *a
	exponent := *a
	exponent.E = 17
	for _, c := range []struct {
		what string
		a, b crypto.PublicKey
		want bool
	}{
		{"itself", a, a, true},
		{"a copy", a, &same, true},
		{"the same modulus, another exponent", a, &exponent, false},
		{"another RSA key", a, mustKey(RSA2048).Public(), false},
		{"another kind", a, mustKey(Ed25519).Public(), false},
		{"another ECDSA key", mustKey(ECDSAP256).Public(), mustKey(ECDSAP256).Public(), false},
		{"another curve", mustKey(ECDSAP256).Public(), mustKey(ECDSAP384).Public(), false},
		{"another Ed25519 key", mustKey(Ed25519).Public(), mustKey(Ed25519).Public(), false},
		{"a shorter Ed25519 key", ed25519.PublicKey("abc"), ed25519.PublicKey("ab"), false},
		{"nothing", nil, nil, false},
		{"nothing against a key", a, nil, false},
		{"a kind that cannot be compared", "key", "key", false},
	} {
		if got := SameKey(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
		if got := SameKey(c.b, c.a); got != c.want {
			t.Errorf("%s, the other way round: %v", c.what, got)
		}
	}
	// A signature of one exponent must not pass for the other.
	_, data, err := Sign(Scheme{MethodSignature, KeyRSA, HashSHA2_256, false}, testRSA(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifySignature(MethodSignature, data, []byte("x"), &exponent, SignaturePolicy{}); !errors.Is(err, ErrBadSignature) {
		t.Error(err)
	}
}

// CVE-2021-41990 and CVE-2018-6459: a huge salt, a mask without hash.
func TestRow52PSSParameters(t *testing.T) {
	key := testRSA().(*rsa.PrivateKey)
	octets := []byte("octets")
	verify := func(identifier []byte, salt int) error {
		digest := HashSHA2_256.sum(octets)
		opts := &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256}
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		_, err = VerifySignature(MethodSignature, method14(identifier, sig), octets, key.Public(), SignaturePolicy{})
		return err
	}
	// 222 octets are all that a key of 2048 bits has room for.
	for _, salt := range []int{1, 20, 31, 32, 33, 64, 222} {
		if err := verify(pssIdentifier(t, "SHA-256", "SHA-256", salt), salt); err != nil {
			t.Errorf("salt of %d octets: %v", salt, err)
		}
		other := salt - 1
		if other == 0 {
			other = 2
		}
		if err := verify(pssIdentifier(t, "SHA-256", "SHA-256", salt), other); err == nil {
			t.Errorf("another salt than the %d octets that the parameters say passes", salt)
		}
	}
	for _, salt := range []int{-1 << 31, -1, 0, 223, 1 << 10, 1 << 16, 1<<31 - 1, 1 << 62} {
		if err := verify(pssIdentifier(t, "SHA-256", "SHA-256", salt), 32); !errors.Is(err, ErrRefusedSignature) {
			t.Errorf("salt of %d octets: %v", salt, err)
		}
	}
	const (
		head   = "06092a864886f70d01010a"
		hash   = "a00f300d06096086480165030402010500"
		mask   = "a11c301a06092a864886f70d010108300d06096086480165030402010500"
		salt32 = "a203020120"
	)
	wrap := func(fields string) []byte {
		params := unhex(t, fields)
		body := slices.Concat(unhex(t, head), []byte{0x30, byte(len(params))}, params)
		return slices.Concat([]byte{0x30, byte(len(body))}, body)
	}
	if err := verify(wrap(hash+mask+salt32), 32); err != nil {
		t.Errorf("the good one: %v", err)
	}
	for what, der := range map[string][]byte{
		"no hash":                   wrap(mask + salt32),
		"no mask":                   wrap(hash + salt32),
		"a mask without hash":       wrap(hash + "a10d300b06092a864886f70d010108" + salt32),
		"an empty mask":             wrap(hash + "a100" + salt32),
		"an empty mask sequence":    wrap(hash + "a1023000" + salt32),
		"another mask":              wrap(hash + "a11c301a06092a864886f70d010109300d06096086480165030402010500" + salt32),
		"another hash in the mask":  wrap(hash + "a11c301a06092a864886f70d010108300d06096086480165030402020500" + salt32),
		"SHA-1 in the mask":         wrap(hash + "a118301606092a864886f70d010108300906052b0e03021a0500" + salt32),
		"two masks":                 wrap(hash + mask + mask + salt32),
		"another order":             wrap(mask + hash + salt32),
		"a salt of two integers":    wrap(hash + mask + "a206020120020120"),
		"a salt that is no integer": wrap(hash + mask + "a2030c0120"),
		"an empty salt":             wrap(hash + mask + "a200"),
		"a salt of 20 octets size":  wrap(hash + mask + "a2160214" + strings.Repeat("7f", 20)),
		"trailer 2":                 wrap(hash + mask + salt32 + "a303020102"),
		"an empty trailer":          wrap(hash + mask + salt32 + "a300"),
		"a fifth field":             wrap(hash + mask + salt32 + "a303020101a403020101"),
		"a hash with parameters":    wrap("a010300e060960864801650304020105010 0" + mask + salt32),
		"trailing octets":           append(wrap(hash+mask+salt32), 0),
		"parameters twice":          unhex(t, "300f"+head+"30003000"),
		"parameters of NULL":        unhex(t, "300d"+head+"0500"),
		"no identifier":             {},
		"a lone octet":              {0x30},
		"no object identifier":      {0x30, 0},
		"ECDSA with NULL":           unhex(t, "300c06082a8648ce3d0403020500"),
		"PKCS#1 with a sequence":    unhex(t, "300d06092a864886f70d01010b3000"),
		"Ed25519 with NULL":         unhex(t, "300706032b65700500"),
	} {
		if err := verify(der, 32); !errors.Is(err, ErrRefusedSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Every truncation of the identifier, and a length octet that lies.
	good := wrap(hash + mask + salt32)
	for n := range good {
		if err := verify(good[:n], 32); !errors.Is(err, ErrRefusedSignature) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	_, data, err := Sign(Scheme{MethodSignature, KeyRSA, HashSHA2_256, true}, key, octets)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 256 {
		lie := slices.Clone(data)
		lie[0] = byte(n)
		if _, err := VerifySignature(MethodSignature, lie, octets, key.Public(), SignaturePolicy{}); (err == nil) != (data[0] == byte(n)) {
			t.Errorf("length octet %d: %v", n, err)
		}
	}
}

func TestHashNames(t *testing.T) {
	var names []string
	for h := range HashID(7) {
		names = append(names, h.String())
	}
	want := []string{"hash 0", "SHA1", "SHA2-256", "SHA2-384", "SHA2-512", "Identity", "hash 6"}
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}
