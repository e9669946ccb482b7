package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Errors that those of VerifySignature wrap.
var (
	// ErrBadSignature: the signature was not made by this key over these octets.
	ErrBadSignature = errors.New("pki: the signature is wrong")
	// ErrRefusedSignature: the algorithm, its encoding or the key is not allowed.
	ErrRefusedSignature = errors.New("pki: the signature is refused")
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefusedSignature, fmt.Sprintf(format, args...))
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadSignature, fmt.Sprintf(format, args...))
}

// SignaturePolicy is what VerifySignature accepts beyond what is always safe. The
// zero value is the strictest.
type SignaturePolicy struct {
	// AllowSHA1 accepts SHA-1 under method 1, and there only. Set it for a peer that
	// sent no SIGNATURE_HASH_ALGORITHMS (Apple, Windows) and unless strict.
	AllowSHA1 bool
	// AllowWeakRSA accepts RSA from 1024 bits and the exponent 3.
	AllowWeakRSA bool
	// Hashes are those that we announced; under method 14 others are refused.
	// None means all of Hashes().
	Hashes []HashID
}

// SignatureInfo says how a verified signature was made. Salt is the length of the
// salt of RSASSA-PSS in octets.
type SignatureInfo struct {
	Scheme
	Salt int
}

// VerifySignature checks the data of an AUTH payload over octets (RFC 7296 §2.15). The
// key decides which algorithms may be named, never the other way round. The error
// wraps ErrBadSignature or ErrRefusedSignature.
func VerifySignature(method uint8, data, octets []byte, pub crypto.PublicKey, pol SignaturePolicy) (SignatureInfo, error) {
	if why := weakKey(pub, pol.AllowWeakRSA); why != "" {
		return SignatureInfo{}, refused("%s", why)
	}
	switch method {
	case MethodRSA:
		return verifyMethod1(data, octets, pub, pol)
	case MethodECDSA256, MethodECDSA384, MethodECDSA521:
		return verifyRawECDSA(method, data, octets, pub)
	case MethodSignature:
		return verifyMethod14(data, octets, pub, pol)
	}
	return SignatureInfo{}, refused("method %d carries no signature; 1, 9, 10, 11 or 14 was expected", method)
}

// verifyMethod1 finds out the hash by trying: RFC 7296 §3.8 names SHA-1 as the
// default only, and the data do not say.
func verifyMethod1(data, octets []byte, pub crypto.PublicKey, pol SignaturePolicy) (SignatureInfo, error) {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return SignatureInfo{}, refused("method 1 needs an RSA key; the peer's is %s", keyType(pub))
	}
	for _, h := range []HashID{HashSHA2_256, HashSHA2_384, HashSHA2_512, HashSHA1} {
		if rsa.VerifyPKCS1v15(key, h.crypto(), h.sum(octets), data) != nil {
			continue
		}
		if h == HashSHA1 && !pol.AllowSHA1 {
			return SignatureInfo{}, refused("method 1 with SHA-1 is not allowed here; have the peer use RFC 7427 or an ECDSA certificate, or turn strict off")
		}
		return SignatureInfo{Scheme: Scheme{Method: MethodRSA, Key: KeyRSA, Hash: h}}, nil
	}
	return SignatureInfo{}, wrong("RSA under method 1, %d octets, fits the key with none of SHA-1 and SHA-2", len(data))
}

func verifyRawECDSA(method uint8, data, octets []byte, pub crypto.PublicKey) (SignatureInfo, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return SignatureInfo{}, refused("method %d needs an ECDSA key; the peer's is %s", method, keyType(pub))
	}
	want, h, ok := ecdsaMethod(key.Curve)
	if !ok || want != method {
		return SignatureInfo{}, refused("method %d is for another curve than the peer's, %s", method, key.Curve.Params().Name)
	}
	size := scalarSize(key.Curve)
	if len(data) != 2*size {
		return SignatureInfo{}, wrong("method %d with %d octets; %d were expected", method, len(data), 2*size)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(data[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(data[size:]))
	})
	der, err := b.Bytes()
	if err != nil || !ecdsa.VerifyASN1(key, h.sum(octets), der) {
		return SignatureInfo{}, wrong("ECDSA under method %d", method)
	}
	return SignatureInfo{Scheme: Scheme{Method: method, Key: KeyECDSA, Hash: h}}, nil
}

// verifyMethod14 is RFC 7427 §3.
func verifyMethod14(data, octets []byte, pub crypto.PublicKey, pol SignaturePolicy) (SignatureInfo, error) {
	in := cryptobyte.String(data)
	var identifier cryptobyte.String
	if !in.ReadUint8LengthPrefixed(&identifier) {
		return SignatureInfo{}, wrong("%d octets are too short for an algorithm identifier", len(data))
	}
	a, err := parseAlgorithm(identifier)
	if err != nil {
		return SignatureInfo{}, err
	}
	if got := keyType(pub); got != a.Key {
		return SignatureInfo{}, refused("signed with %s; the peer's key is %s", a.Key, got)
	}
	if len(pol.Hashes) > 0 && !slices.Contains(pol.Hashes, a.Hash) {
		return SignatureInfo{}, refused("signed with %s, which we did not announce", a.Hash)
	}
	info := SignatureInfo{Scheme: Scheme{Method: MethodSignature, Key: a.Key, Hash: a.Hash, PSS: a.PSS}, Salt: a.Salt}
	ok := false
	switch key := pub.(type) {
	case *rsa.PublicKey:
		// RFC 8017 §9.1.2: the encoded message holds hash, salt and two octets more.
		if room := (key.N.BitLen()-1+7)/8 - a.Hash.crypto().Size() - 2; a.PSS && a.Salt > room {
			return SignatureInfo{}, refused("RSASSA-PSS with a salt of %d octets; the key has room for %d", a.Salt, room)
		}
		if a.PSS {
			opts := &rsa.PSSOptions{SaltLength: a.Salt, Hash: a.Hash.crypto()}
			ok = rsa.VerifyPSS(key, a.Hash.crypto(), a.Hash.sum(octets), in, opts) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(key, a.Hash.crypto(), a.Hash.sum(octets), in) == nil
		}
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, a.Hash.sum(octets), in)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, octets, in)
	}
	if !ok {
		return SignatureInfo{}, wrong("%s with a signature of %d octets does not fit the peer's key", info.Scheme, len(in))
	}
	return info, nil
}

// SameKey tells whether two public keys are the same: kind, parameters and all.
// Keys of kinds that cannot be compared are never the same.
func SameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
