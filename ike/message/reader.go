package message

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// reader is a cryptobyte.String that knows where it stands, for error messages.
type reader struct {
	s       cryptobyte.String
	payload PayloadType
	end     int // offset of the end of s in what is parsed
	parts   *int
}

// maxParts bounds the proposals, transforms, traffic selectors and configuration
// attributes of one chain of payloads, so that a message of 64 KiB cannot make us
// allocate many times its size. Windows sends some 80.
const maxParts = 2048

func newReader(b []byte) reader {
	return reader{s: cryptobyte.String(b), end: len(b), parts: new(int)}
}

// part counts one more part of a payload.
func (r *reader) part() error {
	if *r.parts == maxParts {
		return r.fail(fmt.Sprintf("more than %d proposals, transforms, selectors and attributes", maxParts))
	}
	*r.parts++
	return nil
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
	return reader{s: s, payload: r.payload, end: r.offset(), parts: r.parts}, true
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
