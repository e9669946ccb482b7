package aaa

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"martlet/crypto/suite"
)

const (
	headerLen        = 20
	authenticatorAt  = 4
	authenticatorEnd = 20
	maxAttribute     = 253
)

// newPacket starts a request. Message-Authenticator stands first, so that nothing
// which an attacker chooses stands before it (CVE-2024-3596).
func newPacket(code radius.Code, secret suite.Secret) *radius.Packet {
	p := &radius.Packet{Code: code, Secret: secret}
	_, _ = rand.Read(p.Authenticator[:]) // never fails
	p.Add(rfc2869.MessageAuthenticator_Type, make(radius.Attribute, md5.Size))
	return p
}

// sealRequest writes a request under an identifier, with its Message-Authenticator
// (RFC 3579 §3.2) and, where the code has one, its Request Authenticator (RFC 2866 §3,
// RFC 5176 §3.4).
func sealRequest(p *radius.Packet, id byte) ([]byte, error) {
	p.Identifier = id
	if p.Code != radius.CodeAccessRequest {
		p.Authenticator = [16]byte{}
	}
	return seal(p)
}

// seal writes a packet with both authenticators. In an answer p.Authenticator is the
// request's.
func seal(p *radius.Packet) ([]byte, error) {
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("aaa: %w", err)
	}
	if at, n := findMessageAuthenticator(b); n == 1 {
		copy(b[at:], messageAuthenticator(b, at, p.Authenticator, p.Secret))
	}
	if p.Code != radius.CodeAccessRequest {
		copy(b[authenticatorAt:], packetAuthenticator(b, p.Authenticator, p.Secret))
	}
	copy(p.Authenticator[:], b[authenticatorAt:])
	return b, nil
}

// packetAuthenticator is the MD5 of RFC 2865 §3, with nonce in the place of the
// authenticator.
func packetAuthenticator(b []byte, nonce [16]byte, secret suite.Secret) []byte {
	h := md5.New()
	h.Write(b[:authenticatorAt])
	h.Write(nonce[:])
	h.Write(b[headerLen:])
	h.Write(secret)
	return h.Sum(nil)
}

// messageAuthenticator is the HMAC of RFC 3579 §3.2 for the attribute whose value stands
// at an offset, with nonce in the place of the authenticator.
func messageAuthenticator(b []byte, at int, nonce [16]byte, secret suite.Secret) []byte {
	h := hmac.New(md5.New, secret)
	h.Write(b[:authenticatorAt])
	h.Write(nonce[:])
	h.Write(b[headerLen:at])
	h.Write(make([]byte, md5.Size))
	h.Write(b[at+md5.Size:])
	return h.Sum(nil)
}

// findMessageAuthenticator returns where the value of the last Message-Authenticator
// stands, and how many there are. The packet has been parsed, or is ours.
func findMessageAuthenticator(b []byte) (at, n int) {
	for i := headerLen; i+2 <= len(b); {
		size := int(b[i+1])
		if size < 2 || i+size > len(b) {
			return 0, 0
		}
		if radius.Type(b[i]) == rfc2869.MessageAuthenticator_Type {
			if size != 2+md5.Size {
				return 0, 2 // malformed: as bad as two
			}
			at, n = i+2, n+1
		}
		i += size
	}
	return at, n
}

// What is wrong with a packet that claims to be a server's.
var (
	errMalformed  = errors.New("its packets are malformed")
	errNotSigned  = errors.New("its answers have no Message-Authenticator, so that anybody between could have changed them (CVE-2024-3596)")
	errWrongProof = errors.New("its packets have an authenticator that does not fit: the secrets differ, or they are forged")
)

// parse reads a packet as long as its header says (RFC 2865 §3); what stands behind is
// padding.
func parse(b []byte, secret suite.Secret) (*radius.Packet, []byte, error) {
	p, err := radius.Parse(b, secret)
	if err != nil {
		return nil, nil, errMalformed
	}
	return p, b[:binary.BigEndian.Uint16(b[2:])], nil
}

// openAnswer reads the answer to a request whose authenticator was nonce. Of answers to
// Access-Request a Message-Authenticator is demanded; of others it must fit if there is one.
func openAnswer(b []byte, nonce [16]byte, secret suite.Secret) (*radius.Packet, error) {
	p, b, err := parse(b, secret)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(packetAuthenticator(b, nonce, secret), b[authenticatorAt:authenticatorEnd]) {
		return nil, errWrongProof
	}
	return p, checkMessageAuthenticator(p, b, nonce, p.Code != radius.CodeAccountingResponse)
}

// openOrder reads a request of a server to us (RFC 5176 §3).
func openOrder(b []byte, secret suite.Secret) (*radius.Packet, error) {
	p, b, err := parse(b, secret)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(packetAuthenticator(b, [16]byte{}, secret), b[authenticatorAt:authenticatorEnd]) {
		return nil, errWrongProof
	}
	return p, checkMessageAuthenticator(p, b, [16]byte{}, false)
}

func checkMessageAuthenticator(p *radius.Packet, b []byte, nonce [16]byte, demanded bool) error {
	at, n := findMessageAuthenticator(b)
	switch {
	case n > 1:
		return errMalformed
	case n == 0 && demanded:
		return errNotSigned
	case n == 1 && !hmac.Equal(messageAuthenticator(b, at, nonce, p.Secret), b[at:at+md5.Size]):
		return errWrongProof
	}
	return nil
}

// addSplit adds a value that may be longer than an attribute as several (RFC 3579 §3.1).
func addSplit(p *radius.Packet, t radius.Type, value []byte) {
	for len(value) > maxAttribute {
		p.Add(t, radius.Attribute(value[:maxAttribute]))
		value = value[maxAttribute:]
	}
	p.Add(t, radius.Attribute(value))
}

// joined is the values of all attributes of a type, one after the other; nil for none.
func joined(p *radius.Packet, t radius.Type) []byte {
	var out []byte
	for _, a := range all(p, t) {
		out = append(out, a...)
	}
	return out
}

// all returns the values of the attributes of a type.
func all(p *radius.Packet, t radius.Type) []radius.Attribute {
	var out []radius.Attribute
	for _, a := range p.Attributes {
		if a.Type == t {
			out = append(out, a.Attribute)
		}
	}
	return out
}

// number reads the attribute of a type as a number; ok is false if there is none.
func number(p *radius.Packet, t radius.Type) (n uint32, ok bool) {
	a, ok := p.Lookup(t)
	if !ok || len(a) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(a), true
}

// addText adds a text, cut to what an attribute holds; none if it is empty.
func addText(p *radius.Packet, t radius.Type, text string) {
	if text != "" {
		p.Add(t, radius.Attribute(text[:min(len(text), maxAttribute)]))
	}
}

func addNumber(p *radius.Packet, t radius.Type, n uint32) {
	p.Add(t, binary.BigEndian.AppendUint32(nil, n))
}

// microsofts returns the values of Microsoft's attributes of a type (RFC 2865 §5.26). An
// element that is shorter than its own header, or longer than what is left, ends its
// attribute.
func microsofts(p *radius.Packet, t byte) [][]byte {
	var out [][]byte
	for _, a := range all(p, rfc2865.VendorSpecific_Type) {
		if len(a) < 4 || binary.BigEndian.Uint32(a) != microsoft {
			continue
		}
		for rest := a[4:]; len(rest) >= 2; {
			size := int(rest[1])
			if size < 2 || size > len(rest) {
				break
			}
			if rest[0] == t {
				out = append(out, rest[2:size])
			}
			rest = rest[size:]
		}
	}
	return out
}
