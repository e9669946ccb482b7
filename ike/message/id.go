package message

// ID is an IDi or IDr payload (RFC 7296 §3.5); Responder tells which. Reserved is 0
// in what we send; it is kept because the authentication covers it.
type ID struct {
	Responder bool
	Kind      uint8 // pki.IDType
	Reserved  [3]byte
	Data      []byte
}

func (p *ID) Type() PayloadType {
	if p.Responder {
		return TypeIDr
	}
	return TypeIDi
}

// Body returns the payload without its generic header: the octets IDi' or IDr' that
// the authentication covers (RFC 7296 §2.15).
func (p *ID) Body() []byte { return p.appendBody([]byte{}) }

func parseID(r *reader) (*ID, error) {
	p := &ID{Responder: r.payload == TypeIDr}
	if !r.s.ReadUint8(&p.Kind) || !r.s.CopyBytes(p.Reserved[:]) {
		return nil, r.fail("identity type is cut off")
	}
	p.Data = r.rest()
	return p, nil
}

func (p *ID) appendBody(b []byte) []byte {
	b = append(b, p.Kind)
	b = append(b, p.Reserved[:]...)
	return append(b, p.Data...)
}

// FindID returns the IDr payload of ps, or its IDi payload, or nil.
func FindID(ps []Payload, responder bool) *ID {
	for _, p := range ps {
		if id, ok := p.(*ID); ok && id.Responder == responder {
			return id
		}
	}
	return nil
}
