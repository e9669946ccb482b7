package message

// Unknown is a payload of a type that this package does not know. One with
// Critical set makes the message an error, UNSUPPORTED_CRITICAL_PAYLOAD, when it is
// handled (see CheckCritical); others are skipped (RFC 7296 §2.5).
type Unknown struct {
	Number   PayloadType
	Critical bool
	Body     []byte
}

func (p *Unknown) Type() PayloadType { return p.Number }

func (p *Unknown) appendBody(b []byte) []byte { return append(b, p.Body...) }
