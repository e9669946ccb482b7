package suite

import (
	"fmt"
	"io"
)

// redacted is what every way of printing a secret gives.
const redacted = "[redacted]"

// Secret is key material. However it is printed, logged or encoded, it shows
// [redacted]; the octets come out only where the program asks for them by a
// conversion to []byte.
type Secret []byte

// String returns [redacted].
func (Secret) String() string { return redacted }

// GoString returns [redacted].
func (Secret) GoString() string { return redacted }

// Format writes [redacted] for every verb, %x included.
func (Secret) Format(w fmt.State, _ rune) { io.WriteString(w, redacted) }

// MarshalJSON returns the JSON string "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns [redacted].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
