package kex

import (
	"crypto/mlkem"
	"errors"
	"fmt"

	"martlet/crypto/suite"
)

// ML-KEM (FIPS 203) is no Diffie-Hellman: the initiator sends an encapsulation key, the
// responder a ciphertext, which may have another length.

// mlkemPair is the initiator's half: the decapsulation key and its public part.
type mlkemPair struct {
	decapsulate func(ciphertext []byte) ([]byte, error)
	wire        []byte
}

func (p mlkemPair) public() []byte { return p.wire }

// shared never fails for a ciphertext of the right length: one that nobody made for
// this key gives a secret that nobody knows (FIPS 203 §6.3).
func (p mlkemPair) shared(peer []byte) ([]byte, error) { return p.decapsulate(peer) }

func generateMLKEM(method uint16) (keyPair, error) {
	switch method {
	case suite.KEMLKEM768:
		key, err := mlkem.GenerateKey768()
		if err != nil {
			return nil, fmt.Errorf("kex: generate key for ML-KEM-768: %w", err)
		}
		return mlkemPair{key.Decapsulate, key.EncapsulationKey().Bytes()}, nil
	case suite.KEMLKEM1024:
		key, err := mlkem.GenerateKey1024()
		if err != nil {
			return nil, fmt.Errorf("kex: generate key for ML-KEM-1024: %w", err)
		}
		return mlkemPair{key.Decapsulate, key.EncapsulationKey().Bytes()}, nil
	}
	return nil, errNotMLKEM
}

var (
	errNotMLKEM     = errors.New("kex: not a parameter set of ML-KEM")
	errEncapsulator = errors.New("peer's encapsulation key has coefficients that are not reduced")
)

// encapsulate is the responder's half: a secret, and the ciphertext that carries it to
// the owner of the encapsulation key. A key that FIPS 203 §7.2 refuses is an error.
func encapsulate(method uint16, key []byte) (ciphertext, secret []byte, err error) {
	switch method {
	case suite.KEMLKEM768:
		k, err := mlkem.NewEncapsulationKey768(key)
		if err != nil {
			return nil, nil, errEncapsulator
		}
		secret, ciphertext = k.Encapsulate()
	case suite.KEMLKEM1024:
		k, err := mlkem.NewEncapsulationKey1024(key)
		if err != nil {
			return nil, nil, errEncapsulator
		}
		secret, ciphertext = k.Encapsulate()
	default:
		return nil, nil, errNotMLKEM
	}
	return ciphertext, secret, nil
}

// isMLKEM tells whether a method is a parameter set of ML-KEM that is implemented.
// ML-KEM-512 is not: nobody offers it alone, and 768 costs hardly more.
func isMLKEM(method uint16) bool {
	return method == suite.KEMLKEM768 || method == suite.KEMLKEM1024
}
