package kex

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"filippo.io/bigmod"

	"martlet/crypto/suite"
)

// modpGroup is a group modulo a safe prime with generator 2.
type modpGroup struct {
	prime string // hexadecimal
	// exponentLen is the length of a private exponent in octets: the larger of the
	// two estimates in RFC 3526 §8, rounded up. As long as the modulus would be eight
	// times slower and no stronger.
	exponentLen int
}

// modpGroupOf returns the group of a MODP method.
func modpGroupOf(method uint16) (modpGroup, bool) {
	switch method {
	case suite.KEMODP1024:
		return modpGroup{prime1024, 30}, true // not in RFC 3526: as the next longer group
	case suite.KEMODP1536:
		return modpGroup{prime1536, 30}, true
	case suite.KEMODP2048:
		return modpGroup{prime2048, 40}, true
	case suite.KEMODP3072:
		return modpGroup{prime3072, 53}, true
	case suite.KEMODP4096:
		return modpGroup{prime4096, 60}, true
	case suite.KEMODP6144:
		return modpGroup{prime6144, 68}, true
	case suite.KEMODP8192:
		return modpGroup{prime8192, 78}, true
	}
	return modpGroup{}, false
}

// modpPair is a key pair in a MODP group.
type modpPair struct {
	modulus  *bigmod.Modulus
	exponent []byte
	wire     []byte
}

func (g modpGroup) generate() (keyPair, error) {
	exponent := make([]byte, g.exponentLen)
	rand.Read(exponent) // never fails: the program ends without a random source
	exponent[0] |= 0x80 // the full length, and never 0 or 1
	return g.pair(exponent)
}

// pair computes the public value of a private exponent, which it keeps.
func (g modpGroup) pair(exponent []byte) (*modpPair, error) {
	prime, err := hex.DecodeString(g.prime)
	if err != nil {
		return nil, fmt.Errorf("kex: prime: %w", err)
	}
	modulus, err := bigmod.NewModulus(prime)
	if err != nil {
		return nil, fmt.Errorf("kex: prime: %w", err)
	}
	generator := bigmod.NewNat().SetUint(2).ExpandFor(modulus)
	public := bigmod.NewNat().Exp(generator, exponent, modulus)
	return &modpPair{modulus, exponent, public.Bytes(modulus)}, nil
}

func (p *modpPair) public() []byte { return p.wire }

// shared returns the secret padded to the length of the modulus (RFC 7296 §2.14).
// Of the values below the prime it refuses 0, 1 and p-1, which generate subgroups
// of one or two elements; in a group of a safe prime there are no other small ones
// (RFC 6989 §2.1).
func (p *modpPair) shared(peer []byte) ([]byte, error) {
	y, err := bigmod.NewNat().SetBytes(peer, p.modulus)
	if err != nil {
		return nil, fmt.Errorf("peer's public value is not below the prime: %w", err)
	}
	if y.IsZero() == 1 || y.IsOne() == 1 || y.IsMinusOne(p.modulus) == 1 {
		return nil, errDegenerate
	}
	return bigmod.NewNat().Exp(y, p.exponent, p.modulus).Bytes(p.modulus), nil
}
