package message

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
)

// AuthAnnouncement is one way to authenticate that a peer supports, from
// SUPPORTED_AUTH_METHODS (RFC 9593 §3.2). CertLink is the number, from 1, of the CA in
// the same message's CERTREQs to which it belongs, and 0 where it belongs to none in
// particular. Algorithm is the DER of an AlgorithmIdentifier where Method is
// AuthSignature, and nil else.
type AuthAnnouncement struct {
	Method    AuthMethod
	CertLink  uint8
	Algorithm []byte
}

// maxAnnouncements bounds what we keep of a peer's list.
const maxAnnouncements = 128

// ParseAuthMethods reads the data of SUPPORTED_AUTH_METHODS. The lengths tell the three
// forms of an announcement apart; one with a length of 0 or 1 is a fault. An empty list is
// well-formed: it says that the peer knows the notify.
func ParseAuthMethods(data []byte) (out []AuthAnnouncement, ok bool) {
	s := cryptobyte.String(data)
	for !s.Empty() && len(out) < maxAnnouncements {
		var length, method uint8
		var rest []byte
		if !s.ReadUint8(&length) || length < 2 || !s.ReadUint8(&method) || !s.ReadBytes(&rest, int(length)-2) {
			return nil, false
		}
		a := AuthAnnouncement{Method: AuthMethod(method)}
		r := cryptobyte.String(rest)
		if r.ReadUint8(&a.CertLink) && !r.Empty() {
			a.Algorithm = bytes.Clone(r)
		}
		out = append(out, a)
	}
	return out, true
}

// AppendAuthMethods appends the data of SUPPORTED_AUTH_METHODS. A shared key goes in
// the form without, everything else in one with a link to a CA.
func AppendAuthMethods(b []byte, list []AuthAnnouncement) []byte {
	for _, a := range list {
		switch {
		case len(a.Algorithm) > 0xff-3:
		case a.Algorithm == nil && a.Method == AuthPSK:
			b = append(b, 2, uint8(a.Method))
		default:
			b = append(b, uint8(3+len(a.Algorithm)), uint8(a.Method), a.CertLink)
			b = append(b, a.Algorithm...)
		}
	}
	return b
}
