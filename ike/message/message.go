// Package message is the wire format of IKEv2: every payload of RFC 7296 and of
// RFC 7383 in both directions, one file a payload.
//
// Parsers take hostile bytes: they go through cryptobyte.String only, never index,
// copy what they keep, and return a *Error that names payload and offset. Encoders
// append. Parse and append are inverse on everything that parses, but for what a
// receiver must ignore: reserved bits, the critical bit of a payload that we know,
// attributes of transforms and types of traffic selectors that we do not know.
//
// Payloads stand in the order of the wire, which a receiver must not rely on
// (RFC 7296 §2.5); only SK and SKF must be last. Whether the payloads that an
// exchange needs are there is for package ike to see.
package message

// Message is a whole message. Parse leaves in one that is protected an *Encrypted
// as last payload; once it is opened, Payloads are those from inside.
type Message struct {
	Header
	Payloads []Payload
}

// Parse reads one whole message, header and chain of payloads. The encrypted
// payload, SK or SKF, becomes an *Encrypted and must be last. Errors are *Error and
// *VersionError; the Message is nil then.
func Parse(b []byte) (*Message, error) {
	h, first, r, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	ps, err := parseChain(first, r, true)
	if err != nil {
		return nil, err
	}
	return &Message{Header: h, Payloads: ps}, nil
}

// Append appends the message without protecting it. It returns nil where a payload
// does not fit its length fields.
func (m *Message) Append(b []byte) []byte {
	start := len(b)
	b = m.Header.append(b, FirstType(m.Payloads))
	if b = AppendPayloads(b, m.Payloads); b == nil {
		return nil
	}
	setLength(b[start:])
	return b
}

// Notify returns the first Notify payload of type t, or nil.
func (m *Message) Notify(t NotifyType) *Notify { return FindNotify(m.Payloads, t) }
