package eap

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Flags of the methods on TLS (RFC 5216 §3.1, RFC 5281 §9.1); the three lowest bits are
// the version of TTLS and PEAP.
const (
	flagLength  = 0x80
	flagMore    = 0x40
	flagStart   = 0x20
	maskVersion = 0x07
)

const (
	// maxMessage bounds one message of TLS, in octets: what a flight with a long chain of
	// certificates needs, several times over.
	maxMessage      = 64 << 10
	defaultFragment = 1000
	minFragment     = 64
	maxFragment     = 60000
)

// fragment is what stands behind the type of a packet of TLS.
type fragment struct {
	flags  byte
	length uint32 // of the whole message; with flagLength
	data   []byte
}

func parseFragment(b []byte) (fragment, *Error) {
	var f fragment
	s := cryptobyte.String(b)
	if !s.ReadUint8(&f.flags) {
		return f, protocolError("a packet of TLS without flags")
	}
	if f.flags&flagLength != 0 && !s.ReadUint32(&f.length) {
		return f, protocolError("a packet of TLS without the length that its flags promise")
	}
	f.data = s
	return f, nil
}

// isAck tells whether the fragment only asks for more (RFC 5216 §2.1.5).
func (f fragment) isAck() bool { return f.flags&(flagMore|flagStart) == 0 && len(f.data) == 0 }

// fragments cuts the messages of one side and puts together those of the other.
type fragments struct {
	size int // most octets of TLS in a packet that we send

	in     []byte
	length uint32 // as announced, 0 unknown
	inside bool   // between the first and the last fragment of a message

	out   []byte
	first bool // nothing of out was sent
}

// receive takes a fragment. The message is given whole with the last one.
func (f *fragments) receive(in fragment) (message []byte, whole bool, err *Error) {
	more := in.flags&flagMore != 0
	if in.flags&flagLength != 0 {
		switch {
		case in.length > maxMessage:
			return nil, false, protocolError(fmt.Sprintf("a message of TLS with %d octets; at most %d are allowed", in.length, maxMessage))
		case f.inside && in.length != f.length:
			return nil, false, protocolError("the fragments of a message of TLS disagree about its length")
		}
		f.length = in.length
	}
	if more && len(in.data) == 0 {
		return nil, false, protocolError("an empty fragment")
	}
	f.inside = true
	f.in = append(f.in, in.data...)
	if len(f.in) > maxMessage || f.length > 0 && len(f.in) > int(f.length) {
		return nil, false, protocolError("a message of TLS is longer than announced or allowed")
	}
	if more {
		return nil, false, nil
	}
	if f.length > 0 && len(f.in) != int(f.length) {
		return nil, false, protocolError("a message of TLS is shorter than announced")
	}
	message = f.in
	f.in, f.length, f.inside = nil, 0, false
	return message, true, nil
}

// load takes a message to send.
func (f *fragments) load(message []byte) { f.out, f.first = message, true }

// pending tells whether fragments are left to send.
func (f *fragments) pending() bool { return len(f.out) > 0 }

// next is the next fragment, an acknowledgement where nothing is to be sent.
func (f *fragments) next() []byte {
	n := min(len(f.out), f.size)
	var flags byte
	var b []byte
	if n < len(f.out) {
		flags = flagMore
	}
	if f.first && flags != 0 {
		b = binary.BigEndian.AppendUint32([]byte{flags | flagLength}, uint32(len(f.out)))
	} else {
		b = []byte{flags}
	}
	b = append(b, f.out[:n]...)
	f.out, f.first = f.out[n:], false
	return b
}
