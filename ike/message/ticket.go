package message

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// AppendTicket appends the data of TICKET_LT_OPAQUE: how long the ticket is good, in
// whole seconds, and the ticket itself (RFC 5723 §7.2).
func AppendTicket(b []byte, life time.Duration, ticket []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(min(life/time.Second, 1<<32-1)))
	return append(b, ticket...)
}

// ParseTicket reads the data of TICKET_LT_OPAQUE; the ticket is a copy. It fails where there is
// none.
func ParseTicket(data []byte) (life time.Duration, ticket []byte, ok bool) {
	s := cryptobyte.String(data)
	var seconds uint32
	if !s.ReadUint32(&seconds) || s.Empty() {
		return 0, nil, false
	}
	return time.Duration(seconds) * time.Second, bytes.Clone(s), true
}
