package message

import "encoding/binary"

// KE is the Key Exchange payload (RFC 7296 §3.4). Any method and any length parse;
// package kex knows which are right.
type KE struct {
	Method uint16
	Data   []byte
}

func (*KE) Type() PayloadType { return TypeKE }

func parseKE(r *reader) (*KE, error) {
	p := &KE{}
	if !r.s.ReadUint16(&p.Method) || !r.s.Skip(2) {
		return nil, r.fail("key exchange method is cut off")
	}
	p.Data = r.rest()
	return p, nil
}

func (p *KE) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.Method)
	b = append(b, 0, 0)
	return append(b, p.Data...)
}
