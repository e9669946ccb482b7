package kex

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"martlet/crypto/suite"
)

// curveOf returns the curve of an X25519 or ECP method.
func curveOf(method uint16) (ecdh.Curve, bool) {
	switch method {
	case suite.KEX25519:
		return ecdh.X25519(), true
	case suite.KEECP256:
		return ecdh.P256(), true
	case suite.KEECP384:
		return ecdh.P384(), true
	case suite.KEECP521:
		return ecdh.P521(), true
	}
	return nil, false
}

// uncompressed is SEC 1's first octet of a point with both coordinates, which IKE
// leaves out (RFC 5903 §7).
const uncompressed = 4

// curvePair is a key pair on an elliptic curve.
type curvePair struct {
	private *ecdh.PrivateKey
	wire    []byte
}

func generateCurve(curve ecdh.Curve) (keyPair, error) {
	private, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("kex: generate key on %v: %w", curve, err)
	}
	return newCurvePair(private), nil
}

func newCurvePair(private *ecdh.PrivateKey) curvePair {
	wire := private.PublicKey().Bytes()
	if private.Curve() != ecdh.X25519() {
		wire = wire[1:]
	}
	return curvePair{private, wire}
}

func (p curvePair) public() []byte { return p.wire }

// shared returns the x coordinate alone (RFC 5903 §7, RFC 8031 §3.1). The curve's
// methods refuse points off the curve, at infinity, with coordinates that are not
// reduced, and for X25519 the all-zero result of points of small order (RFC 8031
// §3.2).
func (p curvePair) shared(peer []byte) ([]byte, error) {
	if p.private.Curve() != ecdh.X25519() {
		peer = append([]byte{uncompressed}, peer...)
	}
	public, err := p.private.Curve().NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("peer's public value is not a point of the curve: %w", err)
	}
	secret, err := p.private.ECDH(public)
	if err != nil {
		return nil, errDegenerate
	}
	return secret, nil
}
