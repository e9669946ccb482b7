package netstack

import (
	"fmt"
	"slices"
)

// Reason says why a destination is not forwarded to.
type Reason uint8

// The reasons; Allowed is none.
const (
	Allowed       Reason = iota
	Unspecified          // 0.0.0.0/8, ::
	Broadcast            // 255.255.255.255, and those of the networks of this host
	Multicast            // 224.0.0.0/4, ff00::/8
	Loopback             // 127.0.0.0/8, ::1
	LinkLocal            // 169.254.0.0/16, fe80::/10
	Metadata             // where clouds tell a machine its secrets
	Own                  // an address of this host
	Pool                 // an address that is given to clients
	Private              // RFC 1918, unique local
	Shared               // 100.64.0.0/10, of carriers
	Documentation        // in no network
	Reserved             // in no network, or in none that a client should name
	Denied               // by Destinations.Deny
	reasons
)

var reasonNames = [reasons]string{
	"allowed", "unspecified", "broadcast", "multicast", "loopback", "link-local", "metadata", "own", "pool",
	"private", "shared", "documentation", "reserved", "denied",
}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// MarshalText writes the name, so that maps of counters read well as JSON.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes what MarshalText writes.
func (r *Reason) UnmarshalText(text []byte) error {
	i := slices.Index(reasonNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("netstack: no reason %q to refuse a destination", text)
	}
	*r = Reason(i)
	return nil
}

// silent tells whether no ICMP error may answer a packet for such a destination.
//
// RFC 1122 §3.2.2: none "as the result of receiving a datagram destined to an IP broadcast or
// IP multicast address". RFC 4443 §2.4(e) says the same.
func (r Reason) silent() bool { return r == Broadcast || r == Multicast || r == Unspecified }
