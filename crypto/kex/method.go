package kex

import (
	"crypto/mlkem"
	"errors"
	"fmt"

	"martlet/crypto/suite"
)

// keyPair is the private half of one exchange, the same for both sides.
type keyPair interface {
	// public is the Key Exchange Data of this side.
	public() []byte
	// shared returns the secret made with the other side's Key Exchange Data.
	shared(peer []byte) ([]byte, error)
}

// Generate makes the initiator's key pair for a method (transform type 4). An
// unsupported method is an error.
func Generate(method uint16) (Initiator, error) {
	pair, err := generate(method)
	if err != nil {
		return nil, err
	}
	return initiator{method, pair}, nil
}

// Respond does the responder's half at once: peer is the initiator's Key Exchange
// Data, public what to send back, secret the shared secret g^ir, padded as the
// method's RFC says. The caller owns both. A peer value that is malformed, out of
// range, off the curve or degenerate is an error, and so is an unsupported method.
func Respond(method uint16, peer []byte) (public, secret []byte, err error) {
	if err := checkLen(method, PublicLen(method), peer); err != nil {
		return nil, nil, err
	}
	if isMLKEM(method) {
		if public, secret, err = encapsulate(method, peer); err != nil {
			return nil, nil, fmt.Errorf("kex: %s: %w", suite.KEName(method), err)
		}
		return public, secret, nil
	}
	pair, err := generate(method)
	if err != nil {
		return nil, nil, err
	}
	secret, err = pair.shared(peer)
	if err != nil {
		return nil, nil, fmt.Errorf("kex: %s: %w", suite.KEName(method), err)
	}
	return pair.public(), secret, nil
}

// Supported says whether Generate and Respond know the method. That a method is
// supported does not make it a default: suite tells which are.
func Supported(method uint16) bool { return PublicLen(method) != 0 }

// Slow says whether an exchange takes milliseconds, so that it should not run where
// packets wait: MODP groups of 3072 bits and more.
func Slow(method uint16) bool {
	switch method {
	case suite.KEMODP3072, suite.KEMODP4096, suite.KEMODP6144, suite.KEMODP8192:
		return true
	}
	return false
}

// PublicLen is the exact length of the initiator's Key Exchange Data in octets; 0 for a
// method that is not supported.
func PublicLen(method uint16) int {
	switch method {
	case suite.KEMLKEM768:
		return mlkem.EncapsulationKeySize768
	case suite.KEMLKEM1024:
		return mlkem.EncapsulationKeySize1024
	case suite.KEX25519:
		return 32 // RFC 8031 §3.1
	case suite.KEECP256:
		return 64 // RFC 5903 §7
	case suite.KEECP384:
		return 96
	case suite.KEECP521:
		return 132
	}
	if g, ok := modpGroupOf(method); ok {
		return len(g.prime) / 2
	}
	return 0
}

// ReplyLen is the exact length of the responder's Key Exchange Data in octets, which
// differs from the initiator's with a key encapsulation mechanism; 0 for a method that is
// not supported.
func ReplyLen(method uint16) int {
	switch method {
	case suite.KEMLKEM768:
		return mlkem.CiphertextSize768
	case suite.KEMLKEM1024:
		return mlkem.CiphertextSize1024
	}
	return PublicLen(method)
}

// errDegenerate is a peer's value with which everybody could know the secret.
var errDegenerate = errors.New("peer's public value is degenerate: the secret would not be secret")

// checkLen checks the method and that a peer's value has n octets.
func checkLen(method uint16, n int, peer []byte) error {
	switch {
	case n == 0:
		return fmt.Errorf("kex: %s is not implemented", suite.KEName(method))
	case len(peer) != n:
		return fmt.Errorf("kex: %s: peer's public value: expected %d octets, got %d", suite.KEName(method), n, len(peer))
	}
	return nil
}

func generate(method uint16) (keyPair, error) {
	if curve, ok := curveOf(method); ok {
		return generateCurve(curve)
	}
	if g, ok := modpGroupOf(method); ok {
		return g.generate()
	}
	if isMLKEM(method) {
		return generateMLKEM(method)
	}
	return nil, fmt.Errorf("kex: %s is not implemented", suite.KEName(method))
}

// initiator is a key pair and what it is for.
type initiator struct {
	method uint16
	pair   keyPair
}

func (i initiator) Method() uint16 { return i.method }
func (i initiator) Public() []byte { return i.pair.public() }

func (i initiator) Finish(peer []byte) ([]byte, error) {
	if err := checkLen(i.method, ReplyLen(i.method), peer); err != nil {
		return nil, err
	}
	secret, err := i.pair.shared(peer)
	if err != nil {
		return nil, fmt.Errorf("kex: %s: %w", suite.KEName(i.method), err)
	}
	return secret, nil
}
