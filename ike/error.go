package ike

import (
	"strings"

	"martlet/ike/message"
)

// Class groups errors by who can mend them; the program's exit status tells it.
type Class uint8

const (
	ClassNetwork Class = iota + 1
	ClassAuthentication
	ClassPolicy
	ClassConfiguration
)

// Code is the stable name of a kind of failure.
type Code string

const (
	CodeUnreachable     Code = "unreachable"        // no answer to IKE_SA_INIT at all
	CodePortBlocked     Code = "port-4500-blocked"  // INIT was answered, what went to 4500 was not
	CodePeerDead        Code = "peer-dead"          // an established peer answers no more
	CodePeerRestarted   Code = "peer-restarted"     // the peer shows that it has lost the SA
	CodeDeleted         Code = "closed-by-peer"     // the peer deleted an SA that we want
	CodeNoNATT          Code = "no-nat-traversal"   // the peer does not do UDP encapsulation
	CodeNoProposal      Code = "no-proposal-chosen" // IKE algorithms do not meet
	CodeNoChildProposal Code = "no-child-proposal"  // ESP algorithms do not meet
	CodeNegotiationLoop Code = "negotiation-loop"   // COOKIE and INVALID_KE without end
	CodeSelectors       Code = "ts-unacceptable"    // traffic selectors do not meet
	CodeAddress         Code = "no-address"         // the gateway gave no virtual address
	CodePSK             Code = "wrong-psk"          // the pre-shared key does not fit
	CodePPK             Code = "ppk"                // a post-quantum pre-shared key is missing on one side
	CodeAuthRefused     Code = "auth-refused"       // the peer refused us and does not say why
	CodeIdentity        Code = "unknown-identity"   // no connection for the peer's identity
	CodeAuthMethod      Code = "auth-method"        // peer proves itself another way than demanded
	CodeSignature       Code = "bad-signature"      // the peer's signature is wrong
	CodeCertUntrusted   Code = "cert-untrusted"     // no chain to a trusted CA
	CodeCertExpired     Code = "cert-expired"       // or not yet valid
	CodeCertName        Code = "cert-name-mismatch" // the certificate is for another identity
	CodeCertInvalid     Code = "cert-invalid"       // wrong usage, weak key, malformed
	CodeCertRevoked     Code = "cert-revoked"       // by its CA
	CodeCertStatus      Code = "cert-status"        // nobody tells whether it is revoked, and strict is set
	CodeCertMissing     Code = "cert-missing"       // the peer sent none that fits
	CodeNoCredential    Code = "no-credential"      // we have nothing that the peer takes
	CodeEAPBinding      Code = "eap-binding"        // AUTH after EAP does not fit the method's key
	CodeEAPOnly         Code = "eap-only"           // EAP alone may not or cannot prove the gateway
	CodeEAPRelay        Code = "eap-relay"          // the AAA server gives no answer
	CodeSyntax          Code = "invalid-syntax"     // an authenticated message is malformed
	CodeRefused         Code = "refused"            // by the gateway's policy: full, disabled
	CodeResolve         Code = "name-not-found"     // the peer's name has no address
	CodeNoConnection    Code = "no-connection"      // nothing of that name is configured
	CodeNoRemote        Code = "no-remote"          // a connection that only answers was to be opened
	CodeReload          Code = "not-reloaded"       // another configuration was refused, the one before is in force
	CodeHost            Code = "host"               // addresses, routes or devices could not be set up
	CodeTerminated      Code = "terminated"         // by command
	CodeInternal        Code = "internal"           // a bug of ours; one message or SA is lost
)

// Class tells who can mend it; 0 for what nobody can (a bug, an order to stop).
func (c Code) Class() Class {
	// Package eap has codes of its own.
	if strings.HasPrefix(string(c), "eap-") && c != CodeEAPRelay {
		return ClassAuthentication
	}
	switch c {
	case CodeUnreachable, CodePortBlocked, CodePeerDead, CodePeerRestarted, CodeDeleted, CodeNoNATT, CodeResolve, CodeEAPRelay:
		return ClassNetwork
	case CodePSK, CodePPK, CodeAuthRefused, CodeIdentity, CodeAuthMethod, CodeSignature, CodeCertUntrusted,
		CodeCertExpired, CodeCertRevoked, CodeCertStatus, CodeCertName, CodeCertInvalid, CodeCertMissing, CodeNoCredential,
		CodeEAPBinding, CodeEAPOnly:
		return ClassAuthentication
	case CodeNoProposal, CodeNoChildProposal, CodeNegotiationLoop, CodeSelectors, CodeAddress, CodeRefused, CodeSyntax:
		return ClassPolicy
	case CodeNoConnection, CodeNoRemote, CodeReload, CodeHost:
		return ClassConfiguration
	case CodeTerminated, CodeInternal:
	}
	return 0
}

// Error is a failure that a person should understand: one line what happened, one
// why we think so, one what to do.
type Error struct {
	Code   Code               `json:"code"`
	Notify message.NotifyType `json:"notify,omitempty"` // what was sent or received, 0 if none
	Remote bool               `json:"remote,omitempty"` // the peer said so; else we found it
	What   string             `json:"what"`
	Why    string             `json:"why,omitempty"`
	Hint   string             `json:"hint,omitempty"`
	Detail string             `json:"detail,omitempty"` // more lines: the two columns of a proposal mismatch
}

// Error gives the one line of what happened, with the code.
func (e *Error) Error() string { return "ike: " + e.What + " [" + string(e.Code) + "]" }

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}
