package ike

import (
	"fmt"
	"strings"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// String is the word of the configuration.
func (m AuthMethod) String() string {
	switch m {
	case AuthPSK:
		return "psk"
	case AuthCert:
		return "certificate"
	case AuthEAP:
		return "EAP"
	case authResumed:
		return "session resumption"
	}
	return fmt.Sprintf("method %d", uint8(m))
}

func errMethod(s *ikeSA, got message.AuthMethod, want AuthMethod) *Error {
	return &Error{
		Code: CodeAuthMethod, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v authenticates by %v, but has to by %v", s.remote, got, want),
		Why:  "that is the method of its AUTH payload", Hint: "configure the same method on both sides",
	}
}

func errWantsEAP(s *ikeSA) *Error {
	return &Error{
		Code: CodeAuthMethod, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v wants to authenticate by EAP", s.remote),
		Why:  "its IKE_AUTH has no AUTH payload; a pre-shared key or a certificate is asked of peers here",
		Hint: "configure the client for a certificate or a pre-shared key, or set EAP as the peer's method",
	}
}

func errOneRoundOnly(s *ikeSA) *Error {
	return &Error{
		Code: CodeAuthMethod,
		What: fmt.Sprintf("%v takes one proof of identity only", s.path.Remote),
		Why:  "a second one is configured, and its answer to IKE_SA_INIT has no MULTIPLE_AUTH_SUPPORTED (RFC 4739)",
		Hint: "have the gateway demand two rounds, or configure one here",
	}
}

func errRounds(s *ikeSA, announced bool) *Error {
	err := &Error{
		Code: CodeAuthMethod, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v does not go on to a second proof of its identity", s.remote),
		Why:  "one is demanded (RFC 4739), and its request does not announce it",
		Hint: "configure the second round on the peer too",
	}
	if announced {
		err.What = fmt.Sprintf("%v wants to prove its identity once more", s.remote)
		err.Why = "its request has ANOTHER_AUTH_FOLLOWS (RFC 4739), and no further proof is demanded here"
		err.Hint = "configure the same rounds on both sides"
	}
	return err
}

func errIdentity(s *ikeSA, got, want pki.Identity) *Error {
	err := &Error{
		Code: CodeIdentity, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("no connection for the identity %v", got),
		Why:  "the peer says that it is this", Hint: "allow it as the peer's identity in a connection, or give the peer another one",
	}
	if s.initiator {
		err.What = fmt.Sprintf("the gateway is %v, not %v", got, want)
		err.Why = "that is what its IDr says, and we demand the other"
		err.Hint = "check that this is the right gateway, and then correct the identity that is demanded"
	} else if !want.IsZero() {
		err.Why = fmt.Sprintf("the peer says that it is this; %v is demanded", want)
	}
	return err
}

func errPSK(id pki.Identity) *Error {
	return &Error{
		Code: CodePSK, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("the pre-shared key of %v is wrong", id),
		Why:  "its AUTH payload does not fit the key that is configured here for it",
		Hint: "configure the same key on both sides; mind blanks and line ends",
	}
}

func errPPKUnsupported(s *ikeSA) *Error {
	return &Error{
		Code: CodePPK, What: fmt.Sprintf("%v uses no post-quantum pre-shared keys", s.path.Remote),
		Why:  "its IKE_SA_INIT has no USE_PPK, and ppk_required is set for " + s.conn.Name,
		Hint: "configure the key on the peer, or let the connection go without (ppk_required = false)",
	}
}

func errPPKRefused(s *ikeSA) *Error {
	return &Error{
		Code: CodePPK, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v does not use the post-quantum pre-shared key %q", s.path.Remote, s.conn.PPKs[0].ID),
		Why:  "its answer has no PPK_IDENTITY, and ppk_required is set for " + s.conn.Name,
		Hint: "configure the key under that name on the peer, or let the connection go without (ppk_required = false)",
	}
}

func errPPKMissing(s *ikeSA) *Error {
	return &Error{
		Code: CodePPK, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("%v names no post-quantum pre-shared key", s.remote),
		Why:  "ppk_required is set here, and its request has no PPK_IDENTITY or its IKE_SA_INIT no USE_PPK",
		Hint: "configure the key on the peer, or let peers come in without (ppk_required = false)",
	}
}

func errPPKUnknown(s *ikeSA, id string) *Error {
	return &Error{
		Code: CodePPK, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("no post-quantum pre-shared key %.64q for %v", id, s.remote),
		Why:  "the peer names this key, and one of the two sides does not go without",
		Hint: "configure the key under that name here, or give the peer the name of one that is",
	}
}

func errSignature(id pki.Identity, err error) *Error {
	return &Error{
		Code: CodeSignature, Notify: message.AuthenticationFailed,
		What: fmt.Sprintf("the signature of %v is refused", id), Why: err.Error(),
		Hint: "the private key of the peer does not fit its certificate, or it signs in a way that is not accepted",
	}
}

// errAuthRefused is AUTHENTICATION_FAILED and its like in place of the answer to
// IKE_AUTH. The peer does not say why.
func errAuthRefused(s *ikeSA, n *message.Notify) *Error {
	err := &Error{
		Code: CodeAuthRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("%v refuses us as %v: %v", s.path.Remote, s.local, n.Notify),
	}
	if n.Notify != message.AuthenticationFailed {
		err.Code = CodeRefused
		err.Why = "it answered IKE_AUTH with this error"
		err.Hint = "see what the gateway logs"
		return err
	}
	var reasons []string
	switch s.conn.Local.Method {
	case AuthPSK:
		reasons = append(reasons, "the pre-shared keys differ")
	case AuthEAP:
		reasons = append(reasons, "user name or password are wrong")
	default:
		reasons = append(reasons, "our certificate is not accepted (not trusted, expired, or for another identity)")
	}
	reasons = append(reasons, fmt.Sprintf("it knows no %v", s.local), "it demands another method than "+s.conn.Local.Method.String())
	if s.ppk.used {
		reasons = append(reasons, fmt.Sprintf("it has no or another post-quantum pre-shared key %q", s.conn.PPKs[0].ID))
	}
	if want := s.conn.Remote.ID; concrete(want) {
		reasons = append(reasons, fmt.Sprintf("it is not %v", want))
	}
	err.Why = "the gateway does not tell; one of: " + strings.Join(reasons, "; ")
	err.Hint = "the gateway's log tells which; compare key, identities and certificate"
	return err
}

func errAuthIncomplete(eap bool) *Error {
	if eap {
		return &Error{
			Code: CodeAuthMethod, Notify: message.AuthenticationFailed, What: "the gateway wants EAP",
			Why: "it answered our AUTH with an EAP payload", Hint: "set EAP as our method, with user name and password, or have the gateway accept a certificate or a pre-shared key",
		}
	}
	return &Error{
		Code: CodeSyntax, Notify: message.InvalidSyntax, What: "the gateway's IKE_AUTH is incomplete",
		Why: "IDr or AUTH is missing", Hint: "report it to whoever made the peer",
	}
}

func errNotChildless(s *ikeSA) *Error {
	return &Error{
		Code: CodeRefused, What: fmt.Sprintf("%v opens no IKE SA without a child", s.path.Remote),
		Why:  "it did not announce CHILDLESS_IKEV2_SUPPORTED (RFC 6023), which the configuration demands",
		Hint: `set childless = "prefer"`,
	}
}
