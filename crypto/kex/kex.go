// Package kex does the key exchanges of IKEv2: MODP, ECP and X25519 groups and ML-KEM,
// all behind the face of a key encapsulation mechanism, so that ML-KEM is one more
// method and not another protocol (RFC 7296 §3.4, RFC 9370 §2.2).
//
// The initiator calls Generate, sends Public, and later calls Finish with what
// came back. The responder calls Respond once.
package kex

// Initiator is the initiator's half of one key exchange. It is used once.
type Initiator interface {
	// Method is the transform ID (type 4).
	Method() uint16
	// Public is the Key Exchange Data to send. The caller must not change it.
	Public() []byte
	// Finish takes the responder's Key Exchange Data and returns the shared
	// secret g^ir, padded as the method's RFC says. A value that is malformed,
	// out of range, off the curve or degenerate is an error.
	Finish(peer []byte) ([]byte, error)
}
