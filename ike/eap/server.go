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

// ServerConfig is what a gateway knows before a conversation.
type ServerConfig struct {
	Methods []Type // offered, by preference; a Nak chooses among them. None: MSCHAPv2
	// Inner are the methods inside TTLS and PEAP. None: MSCHAPv2, GTC, MD5, and in TTLS
	// PAP and PlainMSCHAPv2.
	Inner       []Type
	Credentials []*pki.Credential // TLS server certificates
	Verifier    pki.Verifier      // of client certificates (TLS); Now must be set for it
	// SkipIdentity, where it is not empty, is the identity that is known already, so that
	// there is no EAP-Request/Identity.
	SkipIdentity string

	Revocation pki.Revocation // not off: ask by Vouch about client certificates

	MinTLS, MaxTLS uint16 // as in crypto/tls; zero: 1.2 and 1.3
	FragmentSize   int    // most octets of TLS in one packet; zero: 1,000

	Rand   io.Reader // nil: crypto/rand
	KeyLog io.Writer // TLS secrets in the format of NSS, for Wireshark; nil none
}

// Server is the gateway's end of one conversation. It may be used from any goroutine, but
// not by two at once.
type Server struct {
	config  ServerConfig
	life    lifetime
	method  serverMethod
	typ     Type
	claimed string // by EAP-Response/Identity, or known before
	started bool
	naked   bool // the peer answered the first request of a method with anything else than Nak
	left    []Type
	nextID  byte
	id      byte   // of the request that is not answered yet
	request []byte // this request
	lastIn  []byte // the response that brought it about
	waits   waiting
	end     *Step
}

// NewServer makes a conversation; Start begins it.
func NewServer(config ServerConfig) *Server {
	config.Rand = cmp.Or[io.Reader](config.Rand, rand.Reader)
	if len(config.Methods) == 0 {
		config.Methods = []Type{TypeMSCHAPv2}
	}
	if len(config.Inner) == 0 {
		config.Inner = []Type{TypeMSCHAPv2, TypeGTC, TypeMD5, TypePAP, TypePlainMSCHAPv2}
	}
	s := &Server{config: config, nextID: 1}
	s.left = slices.DeleteFunc(slices.Clone(config.Methods), func(t Type) bool { return !s.able(t) })
	return s
}

// able tells whether we have what the method needs.
func (s *Server) able(t Type) bool {
	switch t {
	case TypeMSCHAPv2, TypeMD5, TypeGTC:
		return true
	case TypeTLS, TypeTTLS, TypePEAP:
		return len(s.config.Credentials) > 0
	default:
		return false
	}
}

// Start gives the first request.
func (s *Server) Start() Step {
	if s.end != nil {
		return *s.end
	}
	if s.started {
		return s.fail(protocolError("started twice"))
	}
	s.started = true
	if s.config.SkipIdentity != "" {
		s.claimed = s.config.SkipIdentity
		return s.begin()
	}
	s.typ = TypeIdentity
	return s.send(nil)
}

// Handle takes a response. The packet is not kept.
func (s *Server) Handle(raw []byte) Step {
	if s.end != nil {
		return *s.end
	}
	if err := s.life.spend(raw); err != nil {
		return s.fail(err)
	}
	if !s.started || s.waits != waitPacket {
		return s.fail(protocolError("a packet came where none was expected"))
	}
	if s.lastIn != nil && bytes.Equal(raw, s.lastIn) {
		return Step{Send: bytes.Clone(s.request)}
	}
	raw = bytes.Clone(raw)
	in, err := parsePacket(raw)
	switch {
	case err != nil:
		return s.fail(err)
	case in.code != codeResponse:
		return s.fail(protocolError("not a response"))
	case in.id != s.id:
		return s.fail(protocolError("the response is to another request"))
	}
	s.lastIn = raw
	switch {
	case s.typ == TypeIdentity && in.typ == TypeIdentity:
		if len(in.data) > maxName {
			return s.fail(protocolError("the identity is too long"))
		}
		s.claimed = string(in.data)
		return s.begin()
	case s.typ == in.typ:
		s.naked = true
		return s.step(s.method.handle(s.id, in.data))
	case in.typ == TypeNak && s.method != nil && !s.naked:
		return s.another(in.data)
	}
	return s.fail(protocolError("a response of " + in.typ.String() + " to a request of " + s.typ.String()))
}

// begin starts the method that stands first.
func (s *Server) begin() Step {
	if len(s.left) == 0 {
		return s.fail(&Error{
			Code: CodeNoMethod, What: "no EAP method is possible", Why: "what is configured lacks a certificate for TLS",
			Hint: "give the gateway a certificate, or name a method that needs none",
		})
	}
	s.typ, s.left = s.left[0], s.left[1:]
	s.method = s.newMethod(s.typ)
	return s.step(s.method.handle(s.nextID, nil))
}

func (s *Server) newMethod(t Type) serverMethod {
	c := &s.config
	switch t {
	case TypeMD5:
		return &md5Server{rand: c.Rand, user: s.claimed}
	case TypeGTC:
		return &gtcServer{rand: c.Rand, user: s.claimed}
	case TypeTLS:
		return newTLSMethod(t, false, c.FragmentSize, s.tlsServer)
	case TypeTTLS:
		return newTLSMethod(t, false, c.FragmentSize, s.ttlsServer)
	case TypePEAP:
		return newTLSMethod(t, false, c.FragmentSize, s.peapServer)
	default: // able lets no other through
		return &mschapServer{rand: c.Rand}
	}
}

// another takes the peer's list of methods and starts the first of them that was not yet
// offered (RFC 3748 §5.3.1).
func (s *Server) another(list []byte) Step {
	s.method.stop()
	var said []string
	for _, b := range list {
		t := Type(b)
		if i := slices.Index(s.left, t); i >= 0 {
			s.left = append([]Type{t}, slices.Delete(s.left, i, i+1)...)
			return s.begin()
		}
		if len(said) < 8 && t != 0 {
			said = append(said, t.String())
		}
	}
	return s.fail(&Error{
		Code: CodeNoMethod, What: "no EAP method in common with the client",
		Why:  "it takes: " + cmp.Or(strings.Join(said, ", "), "nothing"),
		Hint: "offer one of these, or have the client use another",
	})
}

func (s *Server) send(data []byte) Step {
	if len(data) > maxData {
		return s.fail(protocolError("what we have to say does not fit into a packet"))
	}
	s.id = s.nextID
	s.nextID++
	s.request = newPacket(codeRequest, s.id, s.typ, data)
	return Step{Send: bytes.Clone(s.request)}
}

func (s *Server) step(t turn) Step {
	switch {
	case t.err != nil:
		return s.fail(t.err)
	case t.work != nil:
		s.waits = waitWork
		return Step{Work: t.work}
	case t.lookup != "":
		s.waits = waitAccount
		return Step{Lookup: t.lookup}
	case t.vouch != nil:
		s.waits = waitVouched
		return Step{Vouch: t.vouch}
	case t.over:
		return s.finish(Step{Send: resultPacket(codeSuccess, s.id), Done: true})
	case t.send != nil:
		return s.send(t.send)
	}
	return s.fail(protocolError("the method has no answer"))
}

// Account answers a Lookup; nil: there is none. Then the conversation goes on and fails as
// with a wrong password, so that nobody learns which names there are.
func (s *Server) Account(a *Account) Step {
	if s.end != nil {
		return *s.end
	}
	if s.waits != waitAccount {
		return s.fail(protocolError("no account was asked for"))
	}
	s.waits = waitPacket
	return s.step(s.method.account(a))
}

// Resume goes on after Work was done.
func (s *Server) Resume() Step {
	if s.end != nil {
		return *s.end
	}
	if s.waits != waitWork {
		return s.fail(protocolError("there was no work to do"))
	}
	s.waits = waitPacket
	return s.step(s.method.resume())
}

// Vouched answers a Vouch; with an error, such as a *pki.CertError, the certificate is
// refused.
func (s *Server) Vouched(err error) Step {
	if s.end != nil {
		return *s.end
	}
	if s.waits != waitVouched {
		return s.fail(protocolError("nobody was to be vouched for"))
	}
	s.waits = waitPacket
	return s.step(s.method.vouched(err))
}

// fail ends with EAP-Failure, which bears the number of the request that was answered
// (RFC 3748 §4.2).
func (s *Server) fail(err *Error) Step {
	step := Step{Done: true, Err: err}
	if s.started {
		step.Send = resultPacket(codeFailure, s.id)
	}
	return s.finish(step)
}

func (s *Server) finish(step Step) Step {
	s.end = &step
	if s.method != nil {
		s.method.stop()
	}
	return step
}

// Stop frees what the conversation holds and must be called at its end; more than once is
// allowed. What it was asked for later is answered with the end.
func (s *Server) Stop() {
	if s.end == nil {
		s.fail(stoppedError())
	}
}

func (s *Server) succeeded() bool { return s.end != nil && s.end.Err == nil }

// MSK is the key of 64 octets after success, nil where the method makes none.
func (s *Server) MSK() suite.Secret {
	if !s.succeeded() {
		return nil
	}
	return s.method.key()
}

// Method is the method of the conversation, outside a tunnel, 0 before there is one.
func (s *Server) Method() Type {
	if s.method == nil {
		return 0
	}
	return s.typ
}

// Mutual tells after success whether the method authenticated the server too and made a
// key, and is thus fit for EAP alone (RFC 5998 §4).
func (s *Server) Mutual() bool { return s.succeeded() && s.typ.Mutual() }

// Identity is who was authenticated, after success: the user name of the innermost method
// as it came (see BareName), or for TLS a name that the client's certificate proves.
func (s *Server) Identity() string {
	if !s.succeeded() {
		return ""
	}
	return s.method.identity()
}

// Claimed is what the peer said in EAP-Response/Identity, proved by nothing.
func (s *Server) Claimed() string { return s.claimed }

// Certificate is the client's after success by TLS, else nil.
func (s *Server) Certificate() *x509.Certificate {
	if !s.succeeded() {
		return nil
	}
	return s.method.certificate()
}

// Reason is what is known of why the peer cannot succeed any more, while it has not been
// told all: some leave instead of answering the refusal of their password. Else nil.
func (s *Server) Reason() error {
	if s.end != nil || s.method == nil {
		return nil
	}
	if why := s.method.failure(); why != nil {
		return why
	}
	return nil
}

// Warnings are for the log: what went on and should be mended.
func (s *Server) Warnings() []string {
	if s.method == nil {
		return nil
	}
	return s.method.warnings()
}
