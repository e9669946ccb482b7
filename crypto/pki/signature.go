package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // method 1 of Apple and Windows
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// HashID is a hash in the SIGNATURE_HASH_ALGORITHMS notification (RFC 7427 §4).
type HashID uint16

const (
	HashSHA1     HashID = 1
	HashSHA2_256 HashID = 2
	HashSHA2_384 HashID = 3
	HashSHA2_512 HashID = 4
	HashIdentity HashID = 5 // the message itself, for Ed25519 (RFC 8420)
)

// Hashes are the hashes that VerifySignature can check under method 14: what to
// announce to a peer.
func Hashes() []HashID {
	return []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512, HashIdentity}
}

// String is IANA's name.
func (h HashID) String() string {
	switch h {
	case HashSHA1:
		return "SHA1"
	case HashSHA2_256:
		return "SHA2-256"
	case HashSHA2_384:
		return "SHA2-384"
	case HashSHA2_512:
		return "SHA2-512"
	case HashIdentity:
		return "Identity"
	}
	return fmt.Sprintf("hash %d", uint16(h))
}

// crypto gives the hash function; 0 for Identity and unknown ones.
func (h HashID) crypto() crypto.Hash {
	switch h {
	case HashSHA1:
		return crypto.SHA1
	case HashSHA2_256:
		return crypto.SHA256
	case HashSHA2_384:
		return crypto.SHA384
	case HashSHA2_512:
		return crypto.SHA512
	}
	return 0
}

func (h HashID) sum(octets []byte) []byte {
	f := h.crypto().New()
	f.Write(octets)
	return f.Sum(nil)
}

// Authentication methods that carry a signature (RFC 7296 §3.8, RFC 4754 §3,
// RFC 7427 §3).
const (
	MethodRSA       uint8 = 1
	MethodECDSA256  uint8 = 9
	MethodECDSA384  uint8 = 10
	MethodECDSA521  uint8 = 11
	MethodSignature uint8 = 14
)

// KeyType is a kind of key.
type KeyType string

const (
	KeyRSA     KeyType = "RSA"
	KeyECDSA   KeyType = "ECDSA"
	KeyEd25519 KeyType = "Ed25519"
)

// Scheme is a way to sign the AUTH payload. It is comparable.
type Scheme struct {
	Method uint8   // one of the Method constants
	Key    KeyType // the kind of key it needs
	Hash   HashID
	PSS    bool // RSA under method 14: RSASSA-PSS instead of RSASSA-PKCS1-v1_5
}

// String names the scheme, as in "RSA-PSS SHA2-256" or "ECDSA SHA2-384 (method 10)".
func (s Scheme) String() string {
	name := string(s.Key)
	if s.PSS {
		name += "-PSS"
	}
	if s.Hash != HashIdentity {
		name += " " + s.Hash.String()
	}
	if s.Method != MethodSignature {
		name += fmt.Sprintf(" (method %d)", s.Method)
	}
	return name
}

// Prefs are the choices of ChooseScheme that are matters of policy.
type Prefs struct {
	// PSS signs with RSASSA-PSS under method 14. No announcement tells whether a
	// peer knows it: strongSwan does, and itself signs PKCS#1 v1.5 unless told
	// otherwise.
	PSS bool
	// Strict never signs with SHA-1: a peer that knows only method 1 gets an error
	// for an RSA key.
	Strict bool
}

// ErrNoScheme is wrapped by the errors of ChooseScheme.
var ErrNoScheme = errors.New("pki: no way to sign that the peer accepts")

// ChooseScheme chooses how to sign with the key of pub for a peer that announced
// peerHashes; none means that it sent no SIGNATURE_HASH_ALGORITHMS and knows only
// the older methods.
func ChooseScheme(pub crypto.PublicKey, peerHashes []HashID, prefs Prefs) (Scheme, error) {
	announced := len(peerHashes) > 0
	switch key := pub.(type) {
	case *rsa.PublicKey:
		if h, ok := pick(peerHashes, HashSHA2_256, HashSHA2_384, HashSHA2_512); ok {
			return Scheme{Method: MethodSignature, Key: KeyRSA, Hash: h, PSS: prefs.PSS}, nil
		}
		if announced {
			return Scheme{}, noScheme("an RSA key", peerHashes, "have the peer announce SHA2-256")
		}
		if prefs.Strict {
			return Scheme{}, fmt.Errorf("%w: it sent no SIGNATURE_HASH_ALGORITHMS, and strict forbids RSA with SHA-1; use an ECDSA certificate or turn strict off", ErrNoScheme)
		}
		return Scheme{Method: MethodRSA, Key: KeyRSA, Hash: HashSHA1}, nil
	case *ecdsa.PublicKey:
		method, own, ok := ecdsaMethod(key.Curve)
		if !ok {
			return Scheme{}, fmt.Errorf("%w: ECDSA on another curve than P-256, P-384 and P-521", ErrNoScheme)
		}
		// First the hash that is as strong as the curve, then stronger ones.
		order := []HashID{own}
		for _, h := range []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512} {
			if h > own {
				order = append(order, h)
			}
		}
		order = append(order, HashSHA2_384, HashSHA2_256)
		if h, ok := pick(peerHashes, order...); ok {
			return Scheme{Method: MethodSignature, Key: KeyECDSA, Hash: h}, nil
		}
		// The hash is part of these methods, so no announcement rules them out.
		return Scheme{Method: method, Key: KeyECDSA, Hash: own}, nil
	case ed25519.PublicKey:
		if slices.Contains(peerHashes, HashIdentity) {
			return Scheme{Method: MethodSignature, Key: KeyEd25519, Hash: HashIdentity}, nil
		}
		return Scheme{}, noScheme("an Ed25519 key", peerHashes, "use an RSA or ECDSA certificate for this peer")
	}
	return Scheme{}, fmt.Errorf("%w: a key of type %T; RSA, ECDSA or Ed25519 was expected", ErrNoScheme, pub)
}

func noScheme(key string, peer []HashID, hint string) error {
	var names []string
	for _, h := range peer[:min(len(peer), 16)] {
		names = append(names, h.String())
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return fmt.Errorf("%w: we have %s, and the hashes that it announced are %s; %s", ErrNoScheme, key, strings.Join(names, ", "), hint)
}

func pick(have []HashID, want ...HashID) (HashID, bool) {
	for _, h := range want {
		if slices.Contains(have, h) {
			return h, true
		}
	}
	return 0, false
}

// ecdsaMethod is the method of RFC 4754 for a curve, and its hash.
func ecdsaMethod(c elliptic.Curve) (uint8, HashID, bool) {
	switch c {
	case elliptic.P256():
		return MethodECDSA256, HashSHA2_256, true
	case elliptic.P384():
		return MethodECDSA384, HashSHA2_384, true
	case elliptic.P521():
		return MethodECDSA521, HashSHA2_512, true
	}
	return 0, 0, false
}

// Sign signs octets (RFC 7296 §2.15) and returns the method and the data of an
// AUTH payload. It may block as long as the key's Sign does.
func Sign(s Scheme, key crypto.Signer, octets []byte) (method uint8, data []byte, err error) {
	if key == nil {
		return 0, nil, errors.New("pki: sign: no private key")
	}
	if got := keyType(key.Public()); got != s.Key {
		return 0, nil, fmt.Errorf("pki: sign: the key is %s; %s needs %s", got, s, s.Key)
	}
	identifier, err := s.identifier()
	if err != nil {
		return 0, nil, err
	}
	digest := octets
	if s.Hash != HashIdentity {
		digest = s.Hash.sum(octets)
	}
	var opts crypto.SignerOpts = s.Hash.crypto()
	if s.PSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.Hash.crypto()}
	}
	signature, err := key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return 0, nil, fmt.Errorf("pki: sign: %s: %w", s, err)
	}
	switch s.Method {
	case MethodRSA:
		return s.Method, signature, nil
	case MethodSignature:
		// RFC 7427 §3: one octet of length, the AlgorithmIdentifier, the signature.
		data = append([]byte{byte(len(identifier))}, identifier...)
		return s.Method, append(data, signature...), nil
	}
	raw, err := rawECDSA(key.Public(), s.Method, signature)
	return s.Method, raw, err
}

// identifier is the AlgorithmIdentifier for method 14, nothing for the others.
// It also refuses schemes that do not exist.
func (s Scheme) identifier() ([]byte, error) {
	switch s.Method {
	case MethodRSA:
		if s.Key == KeyRSA && s.Hash.crypto() != 0 && !s.PSS {
			return nil, nil
		}
	case MethodECDSA256, MethodECDSA384, MethodECDSA521:
		// The curve is compared when the signature is written.
		if s.Key == KeyECDSA && s.Hash == HashID(s.Method-MethodECDSA256)+HashSHA2_256 && !s.PSS {
			return nil, nil
		}
	case MethodSignature:
		for _, a := range algorithms() {
			if a.Key == s.Key && a.Hash == s.Hash && a.PSS == s.PSS {
				return a.der, nil
			}
		}
	}
	return nil, fmt.Errorf("pki: sign: there is no scheme %s", s)
}

func keyType(pub crypto.PublicKey) KeyType {
	switch pub.(type) {
	case *rsa.PublicKey:
		return KeyRSA
	case *ecdsa.PublicKey:
		return KeyECDSA
	case ed25519.PublicKey:
		return KeyEd25519
	}
	return KeyType(fmt.Sprintf("%T", pub))
}

// rawECDSA turns the DER of a signature into r and s of fixed length (RFC 4754 §7).
func rawECDSA(pub crypto.PublicKey, method uint8, der []byte) ([]byte, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("pki: sign: method %d needs an ECDSA key", method)
	}
	if want, _, ok := ecdsaMethod(key.Curve); !ok || want != method {
		return nil, fmt.Errorf("pki: sign: method %d is for another curve than the key's, %s", method, key.Curve.Params().Name)
	}
	size := scalarSize(key.Curve)
	out := make([]byte, 2*size)
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	var r, s []byte
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&s) || !seq.Empty() ||
		len(r) > size || len(s) > size {
		return nil, errors.New("pki: sign: the key made a signature that cannot be read")
	}
	copy(out[size-len(r):], r)
	copy(out[2*size-len(s):], s)
	return out, nil
}

func scalarSize(c elliptic.Curve) int { return (c.Params().BitSize + 7) / 8 }
