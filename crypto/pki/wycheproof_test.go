package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// hexBytes reads hex from JSON.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type wycheproof struct {
	TestGroups []struct {
		Type         string
		SHA          string `json:"sha"`
		MGFSHA       string `json:"mgfSha"`
		SaltLength   int    `json:"sLen"`
		PublicKeyDER hexBytes
		PublicKey    struct {
			Modulus        hexBytes
			PublicExponent hexBytes
			PK             hexBytes
		}
		Tests []struct {
			TcID    int
			Comment string
			Flags   []string
			Msg     hexBytes
			Sig     hexBytes
			Result  string
		}
	}
}

// method14 wraps a signature as RFC 7427 §3 does.
func method14(identifier, signature []byte) []byte {
	return slices.Concat([]byte{byte(len(identifier))}, identifier, signature)
}

// hashIDs are the hashes that method 14 may use, by Wycheproof's names.
var hashIDs = map[string]HashID{"SHA-256": HashSHA2_256, "SHA-384": HashSHA2_384, "SHA-512": HashSHA2_512}

func algorithmFor(tb testing.TB, key KeyType, hash HashID, pss bool) []byte {
	tb.Helper()
	for _, a := range algorithms() {
		if a.Key == key && a.Hash == hash && a.PSS == pss {
			return a.der
		}
	}
	tb.Fatalf("no algorithm %s %s", key, hash)
	return nil
}

// pssIdentifier encodes any parameters of RSASSA-PSS.
func pssIdentifier(tb testing.TB, hash, mgf string, salt int) []byte {
	tb.Helper()
	oids := map[string]string{
		"SHA-1": "\x2b\x0e\x03\x02\x1a", "SHA-256": oidSHA2 + "\x01", "SHA-384": oidSHA2 + "\x02", "SHA-512": oidSHA2 + "\x03",
		"SHA-224": oidSHA2 + "\x04", "SHA-512/224": oidSHA2 + "\x05", "SHA-512/256": oidSHA2 + "\x06",
	}
	if oids[hash] == "" || oids[mgf] == "" {
		tb.Fatalf("unknown hash %s or %s", hash, mgf)
	}
	return identifier(oidPSS, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addIdentifier(b, oids[hash], null) })
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				addIdentifier(b, oidMGF1, func(b *cryptobyte.Builder) { addIdentifier(b, oids[mgf], null) })
			})
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(salt)) })
		})
	})
}

// TestWycheproof runs every vector as the data of an AUTH payload.
//
// What "acceptable" means here: the only vectors so marked are PKCS#1 v1.5
// signatures whose DigestInfo lacks the NULL. They are refused, as crypto/rsa does:
// no signer of the last decades makes them.
//
// Valid signatures that are refused on purpose: RSA with the exponent 3 (unless
// AllowWeakRSA), RSASSA-PSS with SHA-1, SHA-224 or the truncated SHA-512s, with
// another hash in MGF1, or without salt. These must be *refused*, not found wrong.
func TestWycheproof(t *testing.T) {
	root := vectors(t)
	dir, err := root.Open("wycheproof")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	ran := map[string]int{}
	for _, name := range names {
		family, _, _ := strings.Cut(name, "_")
		if family == "rsa" {
			family = name[:len("rsa_pss")]
		}
		if family != "rsa_pss" && family != "rsa_sig" && family != "ecdsa" && family != "ed25519" {
			continue
		}
		t.Run(strings.TrimSuffix(name, ".json.gz"), func(t *testing.T) {
			var file wycheproof
			readJSON(t, root, path.Join("wycheproof", name), &file)
			for _, g := range file.TestGroups {
				var pub crypto.PublicKey
				var der []byte
				unsupported := false
				switch family {
				case "ed25519":
					pub, der = ed25519.PublicKey(g.PublicKey.PK), algorithmFor(t, KeyEd25519, HashIdentity, false)
				case "ecdsa":
					if pub, err = x509.ParsePKIXPublicKey(g.PublicKeyDER); err != nil {
						t.Fatal(err)
					}
					der = algorithmFor(t, KeyECDSA, hashIDs[g.SHA], false)
				default:
					key := &rsa.PublicKey{
						N: new(big.Int).SetBytes(g.PublicKey.Modulus),
						E: int(new(big.Int).SetBytes(g.PublicKey.PublicExponent).Int64()),
					}
					pub, unsupported = key, key.E == 3
					if family == "rsa_sig" {
						der = algorithmFor(t, KeyRSA, hashIDs[g.SHA], false)
						break
					}
					der = pssIdentifier(t, g.SHA, g.MGFSHA, g.SaltLength)
					unsupported = unsupported || hashIDs[g.SHA] == 0 || g.MGFSHA != g.SHA || g.SaltLength == 0
				}
				for _, v := range g.Tests {
					ran[family]++
					_, err := VerifySignature(MethodSignature, method14(der, v.Sig), v.Msg, pub, SignaturePolicy{})
					switch {
					case unsupported:
						if !errors.Is(err, ErrRefusedSignature) {
							t.Errorf("%d %s: %v, want a refusal of %s/%s/%d", v.TcID, v.Comment, err, g.SHA, g.MGFSHA, g.SaltLength)
						}
					case (err == nil) != (v.Result == "valid"):
						t.Errorf("%d %s %v: %v, want %s", v.TcID, v.Comment, v.Flags, err, v.Result)
					case err != nil && !errors.Is(err, ErrBadSignature):
						t.Errorf("%d %s: %v is not ErrBadSignature", v.TcID, v.Comment, err)
					}
					if unsupported && family == "rsa_sig" {
						_, err := VerifySignature(MethodSignature, method14(der, v.Sig), v.Msg, pub, SignaturePolicy{AllowWeakRSA: true})
						if (err == nil) != (v.Result == "valid") {
							t.Errorf("%d %s with weak RSA: %v, want %s", v.TcID, v.Comment, err, v.Result)
						}
					}
					if family == "rsa_sig" && !unsupported {
						// Method 1 finds the hash itself, and must agree where it is this one.
						info, err := VerifySignature(MethodRSA, v.Sig, v.Msg, pub, SignaturePolicy{})
						if (err == nil && info.Hash == hashIDs[g.SHA]) != (v.Result == "valid") {
							t.Errorf("%d %s under method 1: %v, want %s", v.TcID, v.Comment, err, v.Result)
						}
					}
					if key, ok := pub.(*ecdsa.PublicKey); ok {
						method, _, _ := ecdsaMethod(key.Curve)
						raw, err := rawECDSA(pub, method, v.Sig)
						if err != nil {
							if v.Result == "valid" {
								t.Errorf("%d %s: %v", v.TcID, v.Comment, err)
							}
							continue // not a pair of numbers that the older methods could carry
						}
						_, err = VerifySignature(method, raw, v.Msg, pub, SignaturePolicy{})
						if (err == nil) != (v.Result == "valid") {
							t.Errorf("%d %s under method %d: %v, want %s", v.TcID, v.Comment, method, err, v.Result)
						}
					}
				}
			}
		})
	}
	for family, least := range map[string]int{"rsa_pss": 2502, "rsa_sig": 2330, "ecdsa": 1530, "ed25519": 151} {
		if ran[family] < least {
			t.Errorf("%s: %d vectors ran, want %d", family, ran[family], least)
		}
	}
}
