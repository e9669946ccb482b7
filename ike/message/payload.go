package message

import (
	"encoding/binary"
	"fmt"
	"math"
)

// PayloadType is a payload's number (RFC 7296 §3.2).
type PayloadType uint8

const (
	NoNextPayload PayloadType = 0
	TypeSA        PayloadType = 33
	TypeKE        PayloadType = 34
	TypeIDi       PayloadType = 35
	TypeIDr       PayloadType = 36
	TypeCERT      PayloadType = 37
	TypeCERTREQ   PayloadType = 38
	TypeAUTH      PayloadType = 39
	TypeNonce     PayloadType = 40
	TypeNotify    PayloadType = 41
	TypeDelete    PayloadType = 42
	TypeVendorID  PayloadType = 43
	TypeTSi       PayloadType = 44
	TypeTSr       PayloadType = 45
	TypeSK        PayloadType = 46
	TypeCP        PayloadType = 47
	TypeEAP       PayloadType = 48
	TypeSKF       PayloadType = 53 // RFC 7383
	TypePS        PayloadType = 54 // RFC 8019
)

// String is the notation of RFC 7296 §1.2, or the number.
func (t PayloadType) String() string {
	switch t {
	case NoNextPayload:
		return "none"
	case TypeSA:
		return "SA"
	case TypeKE:
		return "KE"
	case TypeIDi:
		return "IDi"
	case TypeIDr:
		return "IDr"
	case TypeCERT:
		return "CERT"
	case TypeCERTREQ:
		return "CERTREQ"
	case TypeAUTH:
		return "AUTH"
	case TypeNonce:
		return "Nonce"
	case TypeNotify:
		return "N"
	case TypeDelete:
		return "D"
	case TypeVendorID:
		return "V"
	case TypeTSi:
		return "TSi"
	case TypeTSr:
		return "TSr"
	case TypeSK:
		return "SK"
	case TypeCP:
		return "CP"
	case TypeEAP:
		return "EAP"
	case TypeSKF:
		return "SKF"
	case TypePS:
		return "PS"
	}
	return fmt.Sprintf("payload %d", uint8(t))
}

const (
	payloadHeaderLen = 4 // generic payload header (RFC 7296 §3.2)
	criticalBit      = 0x80

	// maxPayloads bounds one chain. Real messages stay far below: Windows sends
	// about 10, a certificate chain with its requests perhaps 20.
	maxPayloads = 100
)

// Payload is one payload: a pointer to one of the structs of this package.
type Payload interface {
	Type() PayloadType
	// appendBody appends what follows the generic payload header, or returns nil
	// where that cannot be expressed. b is never nil.
	appendBody(b []byte) []byte
}

// ParsePayloads reads the chain of payloads b, the first of which has type first:
// what was inside SK. An encrypted payload in it is an error.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, newReader(b), false)
}

// parseChain reads all of r. With outer, SK or SKF may stand at the end.
func parseChain(next PayloadType, r reader, outer bool) ([]Payload, error) {
	var ps []Payload
	for next != NoNextPayload {
		t, following, critical, body, err := parsePayloadHeader(next, &r)
		if err != nil {
			return nil, err
		}
		if len(ps) == maxPayloads {
			return nil, body.fail(fmt.Sprintf("more than %d payloads", maxPayloads))
		}
		if t == TypeSK || t == TypeSKF {
			if !outer {
				return nil, body.fail("encrypted payload inside another")
			}
			e, err := parseEncrypted(t, following, &body)
			if err != nil {
				return nil, err
			}
			if !r.empty() {
				return nil, r.fail("octets behind the encrypted payload, which must be last")
			}
			return append(ps, e), nil
		}
		p, err := parseBody(t, critical, &body)
		if err != nil {
			return nil, err
		}
		if !body.empty() {
			return nil, body.fail("octets left over at the end of the payload")
		}
		ps = append(ps, p)
		next = following
	}
	if !r.empty() {
		return nil, r.fail("octets behind the last payload")
	}
	return ps, nil
}

// parsePayloadHeader reads a generic payload header (RFC 7296 §3.2) and splits the
// body off.
func parsePayloadHeader(t PayloadType, r *reader) (_, following PayloadType, critical bool, body reader, err error) {
	r.payload = t
	var next, flags uint8
	var length uint16
	if !r.s.ReadUint8(&next) || !r.s.ReadUint8(&flags) || !r.s.ReadUint16(&length) {
		return t, 0, false, body, r.fail("announced and not there, or its header is cut off")
	}
	body, ok := r.sub(int(length) - payloadHeaderLen)
	if !ok {
		return t, 0, false, body, r.fail(fmt.Sprintf("length field says %d octets, want %d to %d", length, payloadHeaderLen, len(r.s)+payloadHeaderLen))
	}
	return t, PayloadType(next), flags&criticalBit != 0, body, nil
}

// parseBody reads what follows the generic payload header.
func parseBody(t PayloadType, critical bool, r *reader) (Payload, error) {
	switch t {
	case TypeSA:
		return parseSA(r)
	case TypeKE:
		return parseKE(r)
	case TypeIDi, TypeIDr:
		return parseID(r)
	case TypeCERT:
		return parseCert(r)
	case TypeCERTREQ:
		return parseCertReq(r)
	case TypeAUTH:
		return parseAuth(r)
	case TypeNonce:
		return parseNonce(r)
	case TypeNotify:
		return parseNotify(r)
	case TypeDelete:
		return parseDelete(r)
	case TypeVendorID:
		return &VendorID{Data: r.rest()}, nil
	case TypeTSi, TypeTSr:
		return parseTS(r)
	case TypeCP:
		return parseConfig(r)
	case TypeEAP:
		return parseEAP(r)
	case TypePS:
		return &PuzzleSolution{Data: r.rest()}, nil
	}
	return &Unknown{Number: t, Critical: critical, Body: r.rest()}, nil
}

// AppendPayloads appends ps as a chain. It returns nil where a payload does not fit
// its length fields.
func AppendPayloads(b []byte, ps []Payload) []byte {
	if b == nil {
		b = []byte{}
	}
	for i, p := range ps {
		next := FirstType(ps[i+1:])
		var flags uint8
		switch p := p.(type) {
		case *Encrypted:
			next = p.First
		case *Unknown:
			if p.Critical {
				flags = criticalBit
			}
		}
		start := len(b)
		b = append(b, uint8(next), flags, 0, 0)
		if b = p.appendBody(b); b == nil || len(b)-start > math.MaxUint16 {
			return nil
		}
		binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	return b
}

// FirstType is the type of the first of ps, and NoNextPayload where there is none.
func FirstType(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return NoNextPayload
	}
	return ps[0].Type()
}

// Find returns the first payload of the Go type T, as in Find[*SA](ps).
func Find[T Payload](ps []Payload) (T, bool) {
	for _, p := range ps {
		if t, ok := p.(T); ok {
			return t, true
		}
	}
	var zero T
	return zero, false
}

// CheckCritical returns a *UnsupportedCriticalError where a payload that this
// package does not know is marked critical (RFC 7296 §2.5). The mark on a payload
// that it knows means nothing.
func CheckCritical(ps []Payload) error {
	for _, p := range ps {
		if u, ok := p.(*Unknown); ok && u.Critical {
			return &UnsupportedCriticalError{Number: u.Number}
		}
	}
	return nil
}
