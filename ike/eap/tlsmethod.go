package eap

import (
	"cmp"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// tlsMethod is either end of TLS, TTLS or PEAP: it carries the octets of a channel in
// fragments.
type tlsMethod struct {
	typ   Type
	c     *channel
	frag  fragments
	begun bool
	cert  *x509.Certificate // the other side's, once it was verified
}

func newTLSMethod(t Type, client bool, size int, script func(*tlsMethod) error) *tlsMethod {
	m := &tlsMethod{typ: t, frag: fragments{size: min(max(cmp.Or(size, defaultFragment), minFragment), maxFragment)}}
	m.c = newChannel(client, func(*channel) error { return script(m) })
	return m
}

func (m *tlsMethod) handle(id byte, data []byte) turn {
	server := !m.c.client
	if server && !m.begun {
		m.begun = true
		return turn{send: []byte{flagStart}}
	}
	in, err := parseFragment(data)
	if err != nil {
		return turn{err: err}
	}
	// A server of PEAP may begin with a higher version; ours is 0, and it must follow
	// (RFC 5281 §9.1 has the same for TTLS).
	start := in.flags&flagStart != 0
	if v := in.flags & maskVersion; m.typ != TypeTLS && v != 0 && !start {
		return turn{err: protocolError(m.typ.String() + " of another version than 0")}
	}
	m.c.id = id
	if server {
		m.c.id++
	}
	switch {
	case start != (m.c.client && !m.begun):
		return turn{err: protocolError("the start of " + m.typ.String() + " is missing or came out of turn")}
	case start:
		m.begun = true
		return m.advance()
	case m.frag.pending():
		if !in.isAck() {
			return turn{err: protocolError("a fragment was not acknowledged")}
		}
		return turn{send: m.frag.next()}
	}
	message, whole, err := m.frag.receive(in)
	if err != nil {
		return turn{err: err}
	}
	if !whole {
		return turn{send: m.frag.next()}
	}
	return m.feed(message)
}

// feed gives a whole message to the script.
func (m *tlsMethod) feed(message []byte) turn {
	if !m.c.over {
		m.c.in = append(m.c.in, message...)
		return m.advance()
	}
	// What the script wrote at its end was sent.
	if err := m.failure(); err != nil {
		return turn{err: err}
	}
	if len(message) > 0 || m.c.client {
		return turn{err: protocolError("TLS goes on after its end")}
	}
	return turn{over: true}
}

// advance lets the script run and says what it wants.
func (m *tlsMethod) advance() turn {
	w := m.c.pull()
	switch {
	case w.work != nil:
		return turn{work: w.work}
	case w.lookup != "":
		return turn{lookup: w.lookup}
	case w.vouch != nil:
		return turn{vouch: w.vouch}
	}
	out := m.c.take()
	if m.c.over && len(out) == 0 {
		err := m.failure()
		switch {
		case err != nil && !(m.c.client && err.Remote):
			return turn{err: err}
		case err == nil && !m.c.client:
			return turn{over: true}
		}
		// What the server refused is acknowledged, so that it can end with EAP-Failure
		// (RFC 5216 §2.1.3).
	}
	m.frag.load(out)
	return turn{send: m.frag.next()}
}

func (m *tlsMethod) resume() turn { return m.advance() }

func (m *tlsMethod) account(a *Account) turn {
	m.c.answer = a
	return m.advance()
}

func (m *tlsMethod) vouched(err error) turn {
	m.c.verdict = err
	return m.advance()
}

func (m *tlsMethod) complete() bool {
	return !m.frag.pending() && !m.frag.inside && (m.c.over && m.c.err == nil || m.c.complete)
}

// failure is why the script ended, or what it knows while it waits.
func (m *tlsMethod) failure() *Error {
	if m.c.err != nil {
		return tlsError(m.c.err)
	}
	return m.c.reason
}

func (m *tlsMethod) key() suite.Secret  { return m.c.msk }
func (m *tlsMethod) warnings() []string { return m.c.warned }
func (m *tlsMethod) stop()              { m.c.stop() }
func (m *tlsMethod) identity() string   { return m.c.who }

func (m *tlsMethod) certificate() *x509.Certificate { return m.cert }

// tlsError explains what crypto/tls or a script found.
func tlsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*pki.CertError](err); ok {
		return &Error{Code: CodeCertificate, What: "the TLS certificate of the other side is refused: " + e.What, Why: e.Why, Hint: e.Hint, Err: e}
	}
	e := &Error{Code: CodeTLS, What: "TLS inside EAP failed", Why: printable(err.Error()), Err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		e.Remote = true
		e.What, e.Why = "the other side ended TLS inside EAP", "it said: "+printable(op.Err.Error())
		e.Hint = "its log says more"
		if strings.Contains(e.Why, "certificate") {
			e.Code = CodeCertificate
			e.What = "the other side refuses our TLS certificate"
			e.Hint = "check that it trusts the issuer, that the certificate is valid now, and that it has the right extended key usage and name"
		}
	}
	return e
}
