package tun

import "fmt"

// The MTU of a tunnel in octets: at least what IPv6 asks of a link less what an
// IPv4-only tunnel may be squeezed to (RFC 791: 68, of no use below 576), at most
// the length field of an IP packet.
const (
	MinMTU = 576
	MaxMTU = 65535
)

// OpenError tells why there is no TUN interface.
type OpenError struct {
	Name string // the name that was asked for; empty for any
	Hint string // what a person can do; may be empty
	Err  error
}

func (e *OpenError) Error() string {
	s := fmt.Sprintf("tun: open %q: %v", e.Name, e.Err)
	if e.Name == "" {
		s = fmt.Sprintf("tun: %v", e.Err)
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *OpenError) Unwrap() error { return e.Err }
