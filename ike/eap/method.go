package eap

import (
	"crypto/x509"

	"martlet/crypto/suite"
)

// turn is what a method wants after it was given something: one of send, work, lookup,
// vouch, over or err.
type turn struct {
	send   []byte // behind the type of the next packet; not nil
	work   func()
	lookup string
	vouch  *Vouch
	over   bool   // a server's method: the peer is authenticated
	err    *Error // over without success
}

// method is one method of one conversation, on either side.
type method interface {
	// handle takes what stands behind the type of a packet with this identifier. A
	// server's method is started by handle with nil; id is then that of the request to
	// come.
	handle(id byte, data []byte) turn
	// resume goes on after work was done.
	resume() turn
	// vouched answers a vouch; nil: nothing is revoked.
	vouched(error) turn
	// complete tells whether EAP-Success may come now (RFC 3748 §4.2).
	complete() bool
	// failure is what the method knows about why it failed, or nil.
	failure() *Error
	// key is the MSK of 64 octets, nil if the method makes none; after success only.
	key() suite.Secret
	warnings() []string
	stop()
}

// serverMethod is the server's end of a method.
type serverMethod interface {
	method
	// account answers a lookup; nil: there is none.
	account(*Account) turn
	// identity is who was authenticated; after success only.
	identity() string
	// certificate is the peer's, nil if the method uses none; after success only.
	certificate() *x509.Certificate
}

// plain is what the methods without TLS have in common.
type plain struct {
	finished bool
	reason   *Error
	msk      suite.Secret
}

func (*plain) resume() turn        { return turn{err: protocolError("there was no work to do")} }
func (*plain) vouched(error) turn  { return turn{err: protocolError("no certificate was shown")} }
func (p *plain) complete() bool    { return p.finished }
func (p *plain) failure() *Error   { return p.reason }
func (p *plain) key() suite.Secret { return p.msk }
func (*plain) warnings() []string  { return nil }
func (*plain) stop()               {}

func (*plain) certificate() *x509.Certificate { return nil }

// outOfTurn is a packet that the method does not expect in its state.
func outOfTurn(t Type) turn {
	return turn{err: protocolError("a packet of " + t.String() + " came out of turn")}
}
