package pki

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// algorithm is a signature algorithm of method 14. Salt is the length of the salt
// of RSASSA-PSS in octets.
type algorithm struct {
	Key  KeyType
	Hash HashID
	PSS  bool
	Salt int
	der  []byte // AlgorithmIdentifier
}

// Content octets of object identifiers.
const (
	oidPKCS1     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01" // 1.2.840.113549.1.1, one more octet follows
	oidPSS       = oidPKCS1 + "\x0a"
	oidMGF1      = oidPKCS1 + "\x08"
	oidECDSASHA2 = "\x2a\x86\x48\xce\x3d\x04\x03" // 1.2.840.10045.4.3, one more octet follows
	oidECDSASHA1 = "\x2a\x86\x48\xce\x3d\x04\x01"
	oidEd25519   = "\x2b\x65\x70"
	oidSHA2      = "\x60\x86\x48\x01\x65\x03\x04\x02" // 2.16.840.1.101.3.4.2, one more octet follows
)

// algorithms are those that we sign with, in the encodings of RFC 7427 appendix A and
// RFC 8420 appendix A. All are accepted as they stand here; parseAlgorithm accepts
// a few more encodings.
func algorithms() []algorithm {
	var all []algorithm
	for i, h := range []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512} {
		salt := h.crypto().Size()
		all = append(all,
			algorithm{Key: KeyRSA, Hash: h, der: identifier(oidPKCS1+string(rune(11+i)), null)},
			algorithm{Key: KeyRSA, Hash: h, PSS: true, Salt: salt, der: identifier(oidPSS, pssParameters(h, salt))},
			algorithm{Key: KeyECDSA, Hash: h, der: identifier(oidECDSASHA2+string(rune(2+i)), nil)},
		)
	}
	return append(all, algorithm{Key: KeyEd25519, Hash: HashIdentity, der: identifier(oidEd25519, nil)})
}

// identifier encodes an AlgorithmIdentifier; parameters may be nil.
func identifier(oid string, parameters func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	addIdentifier(&b, oid, parameters)
	return b.BytesOrPanic() // of constants: cannot fail
}

func addIdentifier(b *cryptobyte.Builder, oid string, parameters func(*cryptobyte.Builder)) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
		if parameters != nil {
			parameters(b)
		}
	})
}

func null(b *cryptobyte.Builder) { b.AddASN1NULL() }

func explicit(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }

// pssParameters are RSASSA-PSS-params (RFC 8017 appendix A.2.3) with one hash for both
// places.
func pssParameters(h HashID, salt int) func(*cryptobyte.Builder) {
	hash := oidSHA2 + string(rune(h-HashSHA2_256+1))
	return func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addIdentifier(b, hash, null) })
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				addIdentifier(b, oidMGF1, func(b *cryptobyte.Builder) { addIdentifier(b, hash, null) })
			})
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(salt)) })
		})
	}
}

// parseAlgorithm reads the AlgorithmIdentifier of method 14. Beside the known
// encodings it accepts RSA PKCS#1 v1.5 without the NULL (RFC 4055 §5) and other
// parameters of RSASSA-PSS.
func parseAlgorithm(der []byte) (algorithm, error) {
	for _, a := range algorithms() {
		if bytes.Equal(a.der, der) {
			return a, nil
		}
	}
	in := cryptobyte.String(der)
	var seq, oid cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return algorithm{}, refused("the algorithm identifier %s is not DER", shownHex(string(der)))
	}
	if string(oid) == oidPSS {
		return parsePSS(seq)
	}
	if seq.Empty() {
		for i, h := range []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512} {
			if string(oid) == oidPKCS1+string(rune(11+i)) {
				return algorithm{Key: KeyRSA, Hash: h, der: der}, nil
			}
		}
	}
	return algorithm{}, refused("the signature algorithm %s (RSA, ECDSA with SHA-2 or Ed25519 was expected)", algorithmName(oid, der))
}

// algorithmName names what is refused by name, and shows the rest in hex.
func algorithmName(oid, der []byte) string {
	switch string(oid) {
	case oidPKCS1 + "\x04":
		return "RSA with MD5"
	case oidPKCS1 + "\x05":
		return "RSA with SHA-1"
	case oidPKCS1 + "\x0e":
		return "RSA with SHA2-224"
	case oidECDSASHA1:
		return "ECDSA with SHA-1"
	case oidECDSASHA2 + "\x01":
		return "ECDSA with SHA2-224"
	}
	return shownHex(string(der))
}

// parsePSS reads RSASSA-PSS-params. The defaults of absent fields are SHA-1, which is
// refused, and a salt of 20 octets. Both hashes must be the same, as RFC 4055
// §3.1 strongly recommends and crypto/rsa demands. The trailer field may be
// written although its value is the default, as some strongSwan set-ups do.
func parsePSS(s cryptobyte.String) (algorithm, error) {
	bad := func(what string) (algorithm, error) {
		return algorithm{}, refused("RSASSA-PSS with %s", what)
	}
	var params, field, mgf, oid cryptobyte.String
	var has bool
	if s.Empty() {
		return bad("SHA-1 (no parameters)")
	}
	if !s.ReadASN1(&params, asn1.SEQUENCE) || !s.Empty() {
		return bad("parameters that cannot be read")
	}
	if !params.ReadOptionalASN1(&field, &has, explicit(0)) {
		return bad("a hash that cannot be read")
	}
	if !has {
		return bad("SHA-1 (no hash)")
	}
	hash, ok := readHash(&field)
	if !ok || !field.Empty() {
		return bad("a hash other than SHA2-256, SHA2-384 and SHA2-512")
	}
	if !params.ReadOptionalASN1(&field, &has, explicit(1)) {
		return bad("a mask that cannot be read")
	}
	if !has {
		return bad("MGF1 with SHA-1 (no mask)")
	}
	if !field.ReadASN1(&mgf, asn1.SEQUENCE) || !field.Empty() ||
		!mgf.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || string(oid) != oidMGF1 {
		return bad("another mask than MGF1")
	}
	if maskHash, ok := readHash(&mgf); !ok || !mgf.Empty() || maskHash != hash {
		return bad("another hash in MGF1 than " + hash.String())
	}
	salt := 20
	if !params.ReadOptionalASN1(&field, &has, explicit(2)) ||
		has && (!field.ReadASN1Integer(&salt) || !field.Empty()) {
		return bad("a salt length that cannot be read")
	}
	// No more fits the largest key; the key at hand is compared later. Without
	// salt crypto/rsa would take any length.
	if salt < 1 || salt > maxRSA/8 {
		return bad(fmt.Sprintf("a salt of %d octets", salt))
	}
	trailer := 1
	if !params.ReadOptionalASN1(&field, &has, explicit(3)) ||
		has && (!field.ReadASN1Integer(&trailer) || !field.Empty()) || trailer != 1 || !params.Empty() {
		return bad("an unknown trailer")
	}
	return algorithm{Key: KeyRSA, Hash: hash, PSS: true, Salt: salt}, nil
}

// readHash reads the AlgorithmIdentifier of a SHA-2 hash, whose parameters are
// NULL or absent (RFC 4055 §2.1).
func readHash(s *cryptobyte.String) (HashID, bool) {
	var seq, oid, nothing cryptobyte.String
	var has bool
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		!seq.ReadOptionalASN1(&nothing, &has, asn1.NULL) || !nothing.Empty() || !seq.Empty() {
		return 0, false
	}
	for i, h := range []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512} {
		if string(oid) == oidSHA2+string(rune(1+i)) {
			return h, true
		}
	}
	return 0, false
}

// Identifiers returns the DER of each AlgorithmIdentifier that VerifySignature takes under
// method 14, for an announcement (RFC 9593 §3.2.3). The caller owns it.
func Identifiers() [][]byte {
	var out [][]byte
	for _, a := range algorithms() {
		out = append(out, bytes.Clone(a.der))
	}
	return out
}

// ParseScheme is the scheme of method 14 that an AlgorithmIdentifier names.
func ParseScheme(der []byte) (Scheme, error) {
	a, err := parseAlgorithm(der)
	if err != nil {
		return Scheme{}, err
	}
	return Scheme{Method: MethodSignature, Key: a.Key, Hash: a.Hash, PSS: a.PSS}, nil
}
