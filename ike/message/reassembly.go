package message

import "bytes"

// Bounds of one reassembly. Windows has been seen with 29 fragments.
const (
	MaxFragments   = 64
	MaxReassembled = 64 << 10 // octets
)

// Reassembly puts the fragments of one message together (RFC 7383 §2.6). It is for
// one direction of one IKE SA and holds one message at a time. It keeps no time:
// whoever owns it calls Reset when a message does not become whole. The zero value
// is ready.
type Reassembly struct {
	id    uint32
	first PayloadType
	total int
	have  int // fragments
	size  int // octets
	parts [][]byte
}

// Pending tells whether some, not all fragments of a message are there, and the
// message's ID.
func (r *Reassembly) Pending() (id uint32, ok bool) { return r.id, r.have > 0 }

// Reset forgets the fragments.
func (r *Reassembly) Reset() { *r = Reassembly{} }

// Add takes the fragment e of message id with what Open returned for it. Only a
// fragment whose ICV was right may be given. When it was the last that missed, done
// is true, whole is the chain of payloads, the caller's to keep, first the type of
// its first payload, and r is empty again. text is copied.
//
// A fragment of another message than the one begun replaces that: whether an ID is
// due is for the caller to check before.
func (r *Reassembly) Add(id uint32, e *Encrypted, text []byte) (first PayloadType, whole []byte, done bool) {
	number, total := int(e.Fragment), int(e.Total)
	if number == 0 || number > total || total > MaxFragments {
		return 0, nil, false
	}
	// RFC 7383 §2.6: with a larger total the peer has begun anew with smaller
	// fragments; one with a smaller total is late.
	if r.have > 0 && id == r.id && total < r.total {
		return 0, nil, false
	}
	if r.have == 0 || id != r.id || total > r.total {
		*r = Reassembly{id: id, total: total, parts: make([][]byte, total)}
	}
	if r.parts[number-1] != nil {
		return 0, nil, false
	}
	if r.size+len(text) > MaxReassembled {
		r.Reset()
		return 0, nil, false
	}
	// An empty fragment counts too: never nil.
	r.parts[number-1] = append([]byte{}, text...)
	r.have++
	r.size += len(text)
	if number == 1 {
		r.first = e.First
	}
	if r.have < r.total {
		return 0, nil, false
	}
	first, whole = r.first, bytes.Join(r.parts, nil)
	r.Reset()
	return first, whole, true
}
