package eap

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"io"
	"slices"
	"strings"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// PeerConfig is what a client knows before a conversation.
type PeerConfig struct {
	Identity string // what EAP-Response/Identity says, the outer one of a tunnel; empty: Username
	Username string // may be DOMAIN\user
	Password suite.Secret

	// Methods are those to accept, by preference. None: TLS if there is a Credential,
	// and MSCHAPv2 if there is a password. A method for which something is missing (a
	// password, a certificate) is never accepted.
	Methods []Type
	// Inner are the methods inside TTLS and PEAP. None: MSCHAPv2, GTC and MD5. TTLS
	// begins with the first: by EAP, or without for PAP and PlainMSCHAPv2.
	Inner []Type

	Credential *pki.Credential // for TLS, nil none
	Verifier   pki.Verifier    // of the server's TLS certificate; Now must be set for methods on TLS
	// ServerName is what the server's TLS certificate must prove. Zero: nothing; only for
	// where the gateway's own identity was proved by IKE already.
	ServerName pki.Identity

	Revocation pki.Revocation // not off: ask by Vouch about the server's certificates

	MinTLS, MaxTLS uint16 // as in crypto/tls; zero: 1.2 and 1.3
	FragmentSize   int    // most octets of TLS in one packet; zero: 1,000

	Rand   io.Reader // nil: crypto/rand
	KeyLog io.Writer // TLS secrets in the format of NSS, for Wireshark; nil none
}

// Peer is the client's end of one conversation. It may be used from any goroutine, but not
// by two at once.
type Peer struct {
	config PeerConfig
	life   lifetime

	method  method
	typ     Type
	id      byte   // of the request that is being answered
	lastIn  []byte // and the answer to it
	lastOut []byte
	waits   waiting
	said    string // by the last notification
	refused bool   // we answered with Nak
	end     *Step
}

// NewPeer starts a conversation that waits for the server's first request.
func NewPeer(config PeerConfig) *Peer {
	config.Rand = cmp.Or[io.Reader](config.Rand, rand.Reader)
	config.Identity = cmp.Or(config.Identity, config.Username)
	if len(config.Methods) == 0 {
		config.Methods = []Type{TypeTLS, TypeMSCHAPv2}
	}
	if len(config.Inner) == 0 {
		config.Inner = []Type{TypeMSCHAPv2, TypeGTC, TypeMD5}
	}
	p := &Peer{config: config}
	p.config.Methods = slices.DeleteFunc(slices.Clone(config.Methods), func(t Type) bool { return !p.able(t) })
	return p
}

// able tells whether we have what the method needs.
func (p *Peer) able(t Type) bool {
	switch t {
	case TypeMSCHAPv2, TypeMD5, TypeGTC:
		return len(p.config.Password) > 0
	case TypeTLS:
		return p.config.Credential != nil && p.config.Credential.Key != nil
	case TypeTTLS, TypePEAP:
		return slices.ContainsFunc(p.config.Inner, func(inner Type) bool { return p.ableInside(t, inner) })
	default:
		return false
	}
}

// Handle takes a request, EAP-Success or EAP-Failure. The packet is not kept.
func (p *Peer) Handle(raw []byte) Step {
	if p.end != nil {
		return *p.end
	}
	if err := p.life.spend(raw); err != nil {
		return p.fail(err)
	}
	if p.waits != waitPacket {
		return p.fail(protocolError("a packet came while the last one was being worked on"))
	}
	if p.lastOut != nil && bytes.Equal(raw, p.lastIn) {
		return Step{Send: bytes.Clone(p.lastOut)}
	}
	raw = bytes.Clone(raw)
	in, err := parsePacket(raw)
	if err != nil {
		return p.fail(err)
	}
	switch in.code {
	case codeSuccess:
		return p.success()
	case codeFailure:
		return p.failure()
	case codeResponse:
		return p.fail(protocolError("a response came where requests are expected"))
	case codeRequest:
	}
	p.id, p.lastIn, p.lastOut = in.id, raw, nil
	switch in.typ {
	case TypeIdentity:
		if p.method != nil {
			return p.fail(protocolError("the identity was asked for in the middle of " + p.typ.String()))
		}
		return p.send(TypeIdentity, []byte(p.config.Identity))
	case TypeNotification:
		p.said = printable(in.data)
		return p.send(TypeNotification, nil)
	case TypeNak:
		return p.fail(protocolError("a request of type nak"))
	default:
		return p.ask(in)
	}
}

// ask takes a request of a method.
func (p *Peer) ask(in packet) Step {
	if p.method == nil {
		if p.method = p.newMethod(in.typ); p.method == nil {
			return p.nak()
		}
		p.typ = in.typ
	}
	if in.typ != p.typ {
		return p.fail(protocolError("a request of " + in.typ.String() + " in the middle of " + p.typ.String()))
	}
	return p.step(p.method.handle(in.id, in.data))
}

func (p *Peer) newMethod(t Type) method {
	if !slices.Contains(p.config.Methods, t) {
		return nil
	}
	c := &p.config
	switch t {
	case TypeMSCHAPv2:
		return &mschapPeer{user: c.Username, password: c.Password, rand: c.Rand}
	case TypeMD5:
		return &md5Peer{user: c.Username, password: c.Password}
	case TypeGTC:
		return &gtcPeer{password: c.Password}
	case TypeTLS:
		return newTLSMethod(t, true, c.FragmentSize, p.tlsPeer)
	case TypeTTLS:
		return newTLSMethod(t, true, c.FragmentSize, p.ttlsPeer)
	case TypePEAP:
		return newTLSMethod(t, true, c.FragmentSize, p.peapPeer)
	default:
		return nil
	}
}

// nak answers a request of a method that we do not want with those that we do
// (RFC 3748 §5.3.1).
func (p *Peer) nak() Step {
	p.refused = true
	var types []byte
	for _, t := range p.config.Methods {
		types = append(types, byte(t))
	}
	if types == nil {
		types = []byte{0}
	}
	return p.send(TypeNak, types)
}

func (p *Peer) send(t Type, data []byte) Step {
	if len(data) > maxData {
		return p.fail(protocolError("what we have to say does not fit into a packet"))
	}
	p.lastOut = newPacket(codeResponse, p.id, t, data)
	return Step{Send: bytes.Clone(p.lastOut)}
}

func (p *Peer) step(t turn) Step {
	switch {
	case t.err != nil:
		return p.fail(t.err)
	case t.work != nil:
		p.waits = waitWork
		return Step{Work: t.work}
	case t.vouch != nil:
		p.waits = waitVouched
		return Step{Vouch: t.vouch}
	case t.send != nil:
		return p.send(p.typ, t.send)
	}
	return p.fail(protocolError("the method has no answer"))
}

// Resume goes on after Work was done.
func (p *Peer) Resume() Step {
	if p.end != nil {
		return *p.end
	}
	if p.waits != waitWork {
		return p.fail(protocolError("there was no work to do"))
	}
	p.waits = waitPacket
	return p.step(p.method.resume())
}

// Vouched answers a Vouch; with an error, such as a *pki.CertError, the certificate is
// refused.
func (p *Peer) Vouched(err error) Step {
	if p.end != nil {
		return *p.end
	}
	if p.waits != waitVouched {
		return p.fail(protocolError("nobody was to be vouched for"))
	}
	p.waits = waitPacket
	return p.step(p.method.vouched(err))
}

// success is EAP-Success: right only where the method is complete (RFC 3748 §4.2).
func (p *Peer) success() Step {
	if p.method != nil && p.method.complete() {
		return p.finish(Step{Done: true})
	}
	if p.method != nil {
		if why := p.method.failure(); why != nil {
			return p.fail(why)
		}
	}
	e := &Error{Code: CodeEarlySuccess, What: "the gateway ended EAP with success before it was complete"}
	if p.typ == TypeTLS {
		e.Hint = "servers older than RFC 9190 do so with TLS 1.3: update it, or allow TLS 1.2 only"
	}
	return p.fail(e)
}

// failure is EAP-Failure, with what we know of the reason.
func (p *Peer) failure() Step {
	if p.method != nil {
		if why := p.method.failure(); why != nil {
			return p.fail(why)
		}
	}
	e := &Error{Code: CodeRefused, Remote: true, What: "the gateway refused the login", Why: p.said, Hint: "check user name and password, and that the gateway knows the user"}
	switch {
	case p.method == nil && p.refused:
		e.Code, e.What = CodeNoMethod, "the gateway offers no EAP method that we may use"
		e.Why = "it was told that we take: " + p.methods()
		e.Hint = "name another method in the configuration, or have the gateway offer one of these"
	case p.typ == TypeTLS:
		e.Hint = "check that the gateway trusts the issuer of the client certificate"
	}
	return p.fail(e)
}

func (p *Peer) methods() string {
	var names []string
	for _, t := range p.config.Methods {
		names = append(names, t.String())
	}
	return cmp.Or(strings.Join(names, ", "), "none, for want of a password or a client certificate")
}

func (p *Peer) fail(err *Error) Step { return p.finish(Step{Done: true, Err: err}) }

func (p *Peer) finish(s Step) Step {
	p.end = &s
	p.halt()
	return s
}

func (p *Peer) halt() {
	if p.method != nil {
		p.method.stop()
	}
}

// Stop frees what the conversation holds and must be called at its end; more than once is
// allowed. What it was asked for later is answered with the end.
func (p *Peer) Stop() {
	if p.end == nil {
		p.fail(stoppedError())
	}
}

func (p *Peer) succeeded() bool { return p.end != nil && p.end.Err == nil }

// MSK is the key of 64 octets after success, nil where the method makes none.
func (p *Peer) MSK() suite.Secret {
	if !p.succeeded() {
		return nil
	}
	return p.method.key()
}

// Method is the method of the conversation, outside a tunnel, 0 before there is one.
func (p *Peer) Method() Type { return p.typ }

// Mutual tells after success whether the method authenticated the server too and made a
// key, and is thus fit for EAP alone (RFC 5998 §4).
func (p *Peer) Mutual() bool { return p.succeeded() && p.typ.Mutual() }

// Certificate is the server's of a method on TLS after success, else nil.
func (p *Peer) Certificate() *x509.Certificate {
	if m, ok := p.method.(*tlsMethod); ok && p.succeeded() {
		return m.cert
	}
	return nil
}

// Identity is empty: a peer knows who it is.
func (p *Peer) Identity() string { return "" }

// Warnings are for the log: what went on and should be mended.
func (p *Peer) Warnings() []string {
	if p.method == nil {
		return nil
	}
	return p.method.warnings()
}
