package message

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
)

// reader is a cryptobyte.String that knows where it stands, for error messages.
type reader struct {
	s       cryptobyte.String
	payload PayloadType
	end     int // offset of the end of s in what is parsed
}

// offset is where the next octet stands.
func (r *reader) offset() int { return r.end - len(r.s) }

func (r *reader) empty() bool { return r.s.Empty() }

// fail is an *Error at the place reached.
func (r *reader) fail(reason string) error {
	return &Error{Payload: r.payload, Offset: r.offset(), Reason: reason}
}

// sub splits the next n octets off into a reader of their own.
func (r *reader) sub(n int) (reader, bool) {
	var s []byte
	if n < 0 || !r.s.ReadBytes(&s, n) {
		return reader{}, false
	}
	return reader{s: s, payload: r.payload, end: r.offset()}, true
}

// bytes copies the next n octets.
func (r *reader) bytes(n int) ([]byte, bool) {
	var s []byte
	if !r.s.ReadBytes(&s, n) {
		return nil, false
	}
	return bytes.Clone(s), true
}

// rest copies all that is left.
func (r *reader) rest() []byte {
	b, _ := r.bytes(len(r.s))
	return b
}
