package ike

import "fmt"

// Drop is why a message was not acted upon. Each message that is dropped counts to
// exactly one reason.
type Drop uint8

const (
	DropMalformed      Drop = iota + 1 // no IKEv2 message, or one that misses what it must have
	DropVersion                        // another major version than 2
	DropUnknownSPI                     // no SA of ours, or with the roles or the peer's SPI wrong
	DropICV                            // integrity check failed
	DropUnprotected                    // not encrypted where it has to be
	DropReplayed                       // a request that was answered long ago
	DropRepeated                       // a repetition: the stored answer was sent again, or is being made
	DropMessageID                      // a request ahead of the window
	DropUnsolicited                    // a response to nothing that is outstanding
	DropState                          // not due in the state that the SA is in
	DropHalfOpenLimit                  // too many half-open SAs
	DropCookieRequired                 // under load, a cookie was asked for
	DropCookieInvalid                  // under load, the cookie was not ours or too old
	DropRateLimit                      // an error that was not answered, because too many were
	DropNoConnection                   // no connection for the address of the peer
	DropNoProposal                     // algorithms do not meet, NO_PROPOSAL_CHOSEN was sent
	DropInvalidKE                      // another group was asked for, INVALID_KE_PAYLOAD was sent
	DropNoNATT                         // an initiator without NAT traversal
	DropRedirected                     // sent to another gateway
	DropTicket                         // a ticket that is not ours, too old, or no good any more
	DropPanic                          // a fault of ours met while it was handled
)

const dropCount = int(DropPanic) + 1

// String is a short name with hyphens, stable: it labels metrics.
func (d Drop) String() string {
	switch d {
	case DropMalformed:
		return "malformed"
	case DropVersion:
		return "wrong-version"
	case DropUnknownSPI:
		return "unknown-spi"
	case DropICV:
		return "bad-icv"
	case DropUnprotected:
		return "unprotected"
	case DropReplayed:
		return "replayed"
	case DropRepeated:
		return "repeated"
	case DropMessageID:
		return "bad-message-id"
	case DropUnsolicited:
		return "unsolicited-response"
	case DropState:
		return "wrong-state"
	case DropHalfOpenLimit:
		return "half-open-limit"
	case DropCookieRequired:
		return "cookie-required"
	case DropCookieInvalid:
		return "cookie-invalid"
	case DropRateLimit:
		return "rate-limit"
	case DropNoConnection:
		return "no-connection"
	case DropNoProposal:
		return "no-proposal"
	case DropInvalidKE:
		return "invalid-ke"
	case DropNoNATT:
		return "no-nat-traversal"
	case DropRedirected:
		return "redirected"
	case DropTicket:
		return "ticket"
	case DropPanic:
		return "panic"
	}
	return fmt.Sprintf("drop %d", uint8(d))
}

// Count is how often messages were dropped for one reason.
type Count struct {
	Reason Drop
	Count  uint64
}

// Counters returns the count of every reason, also where it is 0, in a fixed order.
func (e *Engine) Counters() []Count {
	out := make([]Count, 0, dropCount-1)
	for d := Drop(1); int(d) < dropCount; d++ {
		out = append(out, Count{d, e.drops[d]})
	}
	return out
}

// drop counts a message that is not acted upon.
func (e *Engine) drop(d Drop) { e.drops[d]++ }

// refuse counts a message that came from p and reports it, with err where there is
// more to say.
func (e *Engine) refuse(p Path, d Drop, err error) {
	e.drop(d)
	e.report(Refused{Path: p, Reason: d, Err: err})
}
