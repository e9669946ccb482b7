package ike

import (
	"cmp"
	"errors"
	"fmt"

	"martlet/crypto/pki"
	"martlet/ike/eap"
	"martlet/ike/message"
)

var errNoRequest = errors.New("its answer has neither a verdict nor an EAP request")

// errNoResponse: a AAA server is not bothered with anything else, and most do not answer it.
var errNoResponse = &eap.Error{Code: eap.CodeProtocol, What: "the client's EAP packet is no response"}

// errEAP puts what package eap says into an Error; the codes are the same.
func errEAP(s *ikeSA, err error) *Error {
	out := &Error{
		Code: CodeInternal, Notify: message.AuthenticationFailed,
		What: "EAP could not be finished", Why: err.Error(), Hint: "see the line above",
	}
	e, ok := errors.AsType[*eap.Error](err)
	if !ok {
		return out
	}
	out.Code, out.Remote, out.What = Code(e.Code), e.Remote, e.What
	out.Why = cmp.Or(e.Why, eapReason(s, e))
	out.Hint = cmp.Or(e.Hint, eapHint(s, e))
	if cert, ok := errors.AsType[*pki.CertError](e.Err); ok {
		out.Detail = cert.What
		out.Hint = cmp.Or(cert.Hint, out.Hint)
	}
	return out
}

func eapReason(s *ikeSA, e *eap.Error) string {
	switch {
	case e.Remote:
		return fmt.Sprintf("%v says so", s.path.Remote)
	case e.Code == eap.CodePassword:
		return "what the peer made of its password does not fit the account"
	}
	return "the EAP conversation shows it"
}

func eapHint(s *ikeSA, e *eap.Error) string {
	switch {
	case e.Code == eap.CodePassword && s.initiator:
		return "check user name and password"
	case e.Code == eap.CodePassword:
		return "have the user type the password again, or set another one"
	case e.Code == eap.CodeNoMethod:
		return "allow the same EAP method on both sides"
	case s.initiator:
		return "the gateway's log may tell more"
	}
	return "the client's log may tell more"
}

func errEAPBinding(s *ikeSA) *Error {
	return &Error{
		Code: CodeEAPBinding, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v did not prove that it took part in EAP", s.remote),
		Why:  "its AUTH payload after EAP-Success does not fit the key of the method (RFC 7296 §2.16): somebody relays another conversation, or an AAA server gave the gateway no key",
		Hint: "see that the AAA server sends MS-MPPE keys; if it does, somebody may be in between",
	}
}

func errEAPOnlyUnsafe() *Error {
	return &Error{
		Code: CodeEAPOnly, Notify: message.AuthenticationFailed,
		What: "the gateway is not proven by this EAP method",
		Why:  "it sent no AUTH, so that EAP alone has to prove it; only methods on TLS with a known server name can (RFC 5998 §4)",
		Hint: "use eap-tls, eap-ttls or eap-peap with the name of the EAP server, or have the gateway prove itself by a certificate",
	}
}

func errEAPOnlyForbidden() *Error {
	return &Error{
		Code: CodeEAPOnly, Notify: message.AuthenticationFailed,
		What: "the gateway wants to prove itself by EAP alone",
		Why:  "its first IKE_AUTH has no AUTH payload, and that is not allowed here",
		Hint: "set eap_only = true where the EAP method proves the server, or have the gateway send its certificate",
	}
}

func errEAPOnlyDemanded(s *ikeSA) *Error {
	return &Error{
		Code: CodeEAPOnly, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v wants a proof of identity before EAP", s.remote),
		Why:  "it did not announce EAP_ONLY_AUTHENTICATION, and we have no other proof",
		Hint: "give this gateway a certificate, or set eap_only = true on the client",
	}
}

func errEAPMissing(s *ikeSA) *Error {
	return &Error{
		Code: CodeSyntax, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v does not go on with EAP", s.remote),
		Why:  "its message has no EAP packet where one is due", Hint: "report it to whoever made the peer",
	}
}

func errLoginUnanswered(s *ikeSA) *Error {
	return &Error{
		Code: CodePeerDead,
		What: fmt.Sprintf("%v does not answer any more", s.path.Remote),
		Why:  "it answered the first message of IKE_AUTH, and then no more: it is gone, or it waited too long for the password",
		Hint: "try again",
	}
}

func errTooManyLogins() *Error {
	return &Error{
		Code: CodeRefused, Notify: message.NoAdditionalSAs,
		What: "too many logins at once", Why: fmt.Sprintf("%d conversations on TLS are under way", maxConversations),
		Hint: "try again later",
	}
}

func errNoPassword(s *ikeSA, err error) *Error {
	out := &Error{
		Code: CodeNoCredential, Notify: message.AuthenticationFailed,
		What: "there is no user name and password for connection " + s.conn.Name,
		Why:  "the configuration has none, and nobody gave one", Hint: "set user and secret, or answer the prompt",
	}
	if err != nil {
		out.Why = err.Error()
	}
	return out
}

func errRelay(s *ikeSA, err error) *Error {
	return &Error{
		Code: CodeEAPRelay, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("the login of %v could not be checked", s.remote), Why: err.Error(),
		Hint: "see that the AAA server runs, that its shared secret is the same on both sides, and that it knows this gateway as a client",
	}
}

func errRelayRejected(s *ikeSA, user string) *Error {
	return &Error{
		Code: Code(eap.CodeRefused), Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("the AAA server refuses %v", eapIdentity(user)),
		Why:  fmt.Sprintf("it rejected the login of %v", s.path.Remote), Hint: "its log tells why",
	}
}
