package ike

import (
	"crypto/subtle"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// SignedOctets is what the AUTH payload of one side covers (RFC 7296 §2.15):
//
//	RealMessage | Nonce | prf(SK_p, ID body) | IntAuth
//
// real is the whole IKE_SA_INIT message that this side sent, from the header on, and
// in the case of the initiator the one that was answered at last; nonce is the other
// side's; skP is SK_pi for the initiator and SK_pr for the responder; id is the body
// of this side's ID payload, with its reserved octets as they were sent; extra is what
// the IKE_INTERMEDIATE exchanges add, if there were any (RFC 9242 §3.3.2).
func SignedOctets(prf suite.PRF, real, nonce []byte, skP suite.Secret, id []byte, extra IntAuth) []byte {
	out := make([]byte, 0, len(real)+len(nonce)+3*prf.Size()+4)
	out = append(append(out, real...), nonce...)
	return extra.append(append(out, prf.Sum(skP, id)...))
}

// signedOctets is what the AUTH payload of the initiator, or of the responder, covers in
// this SA, with the identity of its round.
func (s *ikeSA) signedOctets(initiator bool, id *message.ID) []byte {
	if initiator {
		return SignedOctets(s.prf, s.realI, s.nr, s.keys.Pi, id.Body(), s.intAuth)
	}
	return SignedOctets(s.prf, s.realR, s.ni, s.keys.Pr, id.Body(), s.intAuth)
}

// PSKAuth is the AUTH data of a pre-shared key (RFC 7296 §2.15):
// prf(prf(Shared Secret, "Key Pad for IKEv2"), SignedOctets). EAP's MSK takes the
// place of the shared secret where a method made one.
func PSKAuth(prf suite.PRF, psk suite.Secret, octets []byte) []byte {
	return prf.Sum(prf.Sum(psk, []byte("Key Pad for IKEv2")), octets)
}

// VerifyPSKAuth compares in constant time what a peer sent with what PSKAuth gives.
func VerifyPSKAuth(prf suite.PRF, psk suite.Secret, octets, auth []byte) bool {
	return subtle.ConstantTimeCompare(PSKAuth(prf, psk, octets), auth) == 1
}
