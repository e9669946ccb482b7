package message

import "encoding/binary"

// Plain is a protected message as it would be without encryption: header, SK payload
// header, and the payloads that were inside, without IV, padding and ICV, both lengths
// counting just that, and in one piece whether or not it went in fragments. It is what
// IKE_INTERMEDIATE adds to the authentication (RFC 9242 §3.3.2). text is a chain of
// payloads whose first has the type first.
func Plain(h Header, first PayloadType, text []byte) []byte {
	b := h.append(make([]byte, 0, HeaderLen+payloadHeaderLen+len(text)), TypeSK)
	b = append(b, uint8(first), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(payloadHeaderLen+len(text)))
	b = append(b, text...)
	setLength(b)
	return b
}
