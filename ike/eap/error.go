package eap

import "strings"

// Code is the stable name of a kind of failure.
type Code string

const (
	CodePassword     Code = "eap-wrong-password" // name or password do not fit
	CodeRefused      Code = "eap-refused"        // the server refused and does not say why
	CodeAccount      Code = "eap-account"        // disabled, expired, outside its hours, cannot do the method
	CodeNoMethod     Code = "eap-no-method"      // no method in common
	CodeServerProof  Code = "eap-server-proof"   // the server did not prove that it knows the password
	CodeCertificate  Code = "eap-certificate"    // the other side's TLS certificate is refused
	CodeTLS          Code = "eap-tls"            // TLS failed otherwise
	CodeProtocol     Code = "eap-protocol"       // a packet is malformed or out of turn
	CodeEarlySuccess Code = "eap-early-success"  // EAP-Success before the method was complete
	CodeLimit        Code = "eap-limit"          // too many packets or octets
	CodeStopped      Code = "eap-stopped"        // Stop was called
)

// Error says why a conversation failed: what happened, why we think so, what to do. It
// holds no secret.
type Error struct {
	Code   Code
	Remote bool // the other side said so; else we found it
	What   string
	Why    string
	Hint   string
	Err    error // the cause, such as a *pki.CertError; may be nil
}

// Error is the what and the why in one line.
func (e *Error) Error() string {
	if e.Why == "" {
		return "eap: " + e.What
	}
	return "eap: " + e.What + ": " + e.Why
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is compares codes, so that errors.Is(err, &Error{Code: CodePassword}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// protocolError is a packet that makes no sense.
func protocolError(why string) *Error {
	return &Error{Code: CodeProtocol, What: "the EAP packet of the other side makes no sense", Why: why}
}

// stoppedError is what a conversation says that was ended from outside.
func stoppedError() *Error {
	return &Error{Code: CodeStopped, What: "the EAP conversation was ended"}
}

// printable is text of the other side for people: at most 200 characters, no control
// characters.
func printable[T string | []byte](text T) string {
	const most = 200
	var b strings.Builder
	n := 0
	for _, r := range string(text) {
		if n++; n > most {
			b.WriteString("…")
			break
		}
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029' || '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
