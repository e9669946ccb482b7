package message

import (
	"errors"
	"fmt"
)

// Error tells where a message breaks the wire format. It stands for INVALID_SYNTAX
// (RFC 7296 §3.10.1), which is sent only to a peer whose message passed the
// integrity check. Its text holds numbers and words of ours, no octet of the peer.
type Error struct {
	Payload PayloadType // NoNextPayload: the IKE header
	Offset  int         // octets from the start of what was parsed
	Reason  string
}

func (e *Error) Error() string {
	what := "header"
	if e.Payload != NoNextPayload {
		what = e.Payload.String() + " payload"
	}
	return fmt.Sprintf("message: %s, octet %d: %s", what, e.Offset, e.Reason)
}

// UnsupportedCriticalError names a payload that we do not know and that the sender
// marked critical. It stands for UNSUPPORTED_CRITICAL_PAYLOAD, whose data is Number
// in one octet (RFC 7296 §2.5, §3.10.1).
type UnsupportedCriticalError struct{ Number PayloadType }

func (e *UnsupportedCriticalError) Error() string {
	return fmt.Sprintf("message: payload type %d is marked critical and not supported", uint8(e.Number))
}

// VersionError is a major version other than 2. It stands for
// INVALID_MAJOR_VERSION (RFC 7296 §2.5).
type VersionError struct{ Major uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("message: IKE major version is %d, want 2", e.Major)
}

// ErrICV is returned by Open where the integrity check fails, also because there is
// not enough to be checked. Such a message must change no state and get no answer
// (RFC 7296 §2.21).
var ErrICV = errors.New("message: integrity check failed: wrong keys, or the message was damaged or forged")
