package eap

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// code is the first octet of a packet (RFC 3748 §4).
type code uint8

const (
	codeRequest  code = 1
	codeResponse code = 2
	codeSuccess  code = 3
	codeFailure  code = 4
)

const headerLen = 4 // code, identifier, length

// packet is one EAP packet; typ and data are of a request or response only.
type packet struct {
	code code
	id   byte
	typ  Type
	data []byte // behind the type; part of what was parsed
}

// parsePacket reads a whole packet (RFC 3748 §4). The length field must tell the truth:
// IKE and RADIUS add no padding.
func parsePacket(b []byte) (packet, *Error) {
	var p packet
	var length uint16
	s := cryptobyte.String(b)
	if !s.ReadUint8((*uint8)(&p.code)) || !s.ReadUint8(&p.id) || !s.ReadUint16(&length) {
		return p, protocolError(fmt.Sprintf("it has %d octets, fewer than its header", len(b)))
	}
	if int(length) != len(b) {
		return p, protocolError(fmt.Sprintf("its length field says %d octets, it has %d", length, len(b)))
	}
	switch p.code {
	case codeSuccess, codeFailure:
		if !s.Empty() {
			return p, protocolError("success or failure with data")
		}
		return p, nil
	case codeRequest, codeResponse:
	default:
		return p, protocolError(fmt.Sprintf("it has the unknown code %d", p.code))
	}
	if !s.ReadUint8((*uint8)(&p.typ)) {
		return p, protocolError("a request or response without a type")
	}
	// RFC 3748 §5.7: vendor (3 octets) and vendor type (4).
	if p.typ == TypeExpanded && len(s) < 7 {
		return p, protocolError("an expanded type without its vendor")
	}
	p.data = s
	return p, nil
}

// maxData is what fits behind the type of a packet, in octets, with something to spare.
const maxData = 65000

// newPacket encodes a packet with a type; data are at most maxData octets.
func newPacket(c code, id byte, typ Type, data []byte) []byte {
	b := append(make([]byte, 0, headerLen+1+len(data)), byte(c), id)
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+1+len(data)))
	b = append(b, byte(typ))
	return append(b, data...)
}

// resultPacket is EAP-Success or EAP-Failure.
func resultPacket(c code, id byte) []byte { return []byte{byte(c), id, 0, headerLen} }
