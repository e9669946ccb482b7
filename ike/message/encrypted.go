package message

import (
	"encoding/binary"
	"fmt"
)

// Encrypted is an SK or SKF payload before it is opened. Body is IV, ciphertext and
// ICV. Fragment and Total are 0 for SK (RFC 7296 §3.14) and the two numbers of
// SKF, from 1 (RFC 7383 §2.5).
type Encrypted struct {
	First           PayloadType // of the payloads inside
	Fragment, Total uint16
	Body            []byte
}

const fragmentHeaderLen = 4 // fragment number and total fragments

func (p *Encrypted) Type() PayloadType {
	if p.Fragment != 0 {
		return TypeSKF
	}
	return TypeSK
}

// parseEncrypted reads the body of an SK or SKF payload.
func parseEncrypted(t, first PayloadType, r *reader) (*Encrypted, error) {
	p, err := parseEncryptedHeader(t, first, r)
	if err != nil {
		return nil, err
	}
	p.Body = r.rest()
	return p, nil
}

// parseEncryptedHeader reads what precedes the IV.
func parseEncryptedHeader(t, first PayloadType, r *reader) (*Encrypted, error) {
	p := &Encrypted{First: first}
	if t == TypeSK {
		return p, nil
	}
	if !r.s.ReadUint16(&p.Fragment) || !r.s.ReadUint16(&p.Total) {
		return nil, r.fail("fragment number is cut off")
	}
	// RFC 7383 §2.6: such a fragment is discarded.
	if p.Fragment == 0 || p.Fragment > p.Total {
		return nil, r.fail(fmt.Sprintf("fragment %d of %d", p.Fragment, p.Total))
	}
	return p, nil
}

func (p *Encrypted) appendHeader(b []byte) []byte {
	if p.Fragment != 0 {
		b = binary.BigEndian.AppendUint16(b, p.Fragment)
		b = binary.BigEndian.AppendUint16(b, p.Total)
	}
	return b
}

func (p *Encrypted) appendBody(b []byte) []byte {
	return append(p.appendHeader(b), p.Body...)
}
