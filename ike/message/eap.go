package message

import "fmt"

// EAP is the EAP payload (RFC 7296 §3.16): one whole EAP packet, of which only the
// length field is looked at. It has at least 4 octets: code, identifier, length.
type EAP struct{ Data []byte }

func (*EAP) Type() PayloadType { return TypeEAP }

func parseEAP(r *reader) (*EAP, error) {
	head := r.s
	var length uint16
	if !head.Skip(2) || !head.ReadUint16(&length) {
		return nil, r.fail("EAP packet is cut off in its header")
	}
	if int(length) != len(r.s) {
		return nil, r.fail(fmt.Sprintf("EAP length field says %d octets, the payload has %d", length, len(r.s)))
	}
	return &EAP{Data: r.rest()}, nil
}

func (p *EAP) appendBody(b []byte) []byte { return append(b, p.Data...) }
