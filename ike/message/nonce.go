package message

import "fmt"

// Length of a nonce in octets (RFC 7296 §3.9).
const (
	MinNonceLen = 16
	MaxNonceLen = 256
)

// Nonce is the Nonce payload, 16 to 256 octets (RFC 7296 §3.9).
type Nonce struct{ Data []byte }

func (*Nonce) Type() PayloadType { return TypeNonce }

func parseNonce(r *reader) (*Nonce, error) {
	if n := len(r.s); n < MinNonceLen || n > MaxNonceLen {
		return nil, r.fail(fmt.Sprintf("nonce has %d octets, want %d to %d", n, MinNonceLen, MaxNonceLen))
	}
	return &Nonce{Data: r.rest()}, nil
}

func (p *Nonce) appendBody(b []byte) []byte { return append(b, p.Data...) }
