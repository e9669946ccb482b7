package ike

import (
	"strings"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// EAPPeer is how we log in by EAP at a gateway.
type EAPPeer struct {
	Identity string       // what EAP-Response/Identity says; empty: User
	User     string       // empty: the runner is asked (Credential)
	Password suite.Secret // empty: the runner is asked, where a method takes one
	// Methods, at least one, are accepted, by preference; Inner are those inside TTLS
	// and PEAP.
	Methods, Inner []eap.Type
	// Verifier and ServerName are for the TLS certificate of the EAP server, which may be
	// another machine than the gateway. A zero ServerName stands for the identity that is
	// demanded of the gateway where the gateway proves itself by EAP alone, and for any
	// name that the Verifier trusts where it has proven itself before.
	Verifier       pki.Verifier
	ServerName     pki.Identity
	MinTLS, MaxTLS uint16 // of crypto/tls; zero: 1.2 and 1.3
}

// EAPServer is how peers log in by EAP at us.
type EAPServer struct {
	// Methods, at least one, are offered, by preference; Inner are those inside TTLS
	// and PEAP.
	Methods, Inner []eap.Type
	// Relay passes everything behind the identity on to a AAA server (Relay).
	Relay bool
	// StripDomain makes user of DOMAIN\user.
	StripDomain bool
	// Credentials are our TLS certificates; Verifier is for those of peers.
	Credentials    []*pki.Credential
	Verifier       pki.Verifier
	MinTLS, MaxTLS uint16 // of crypto/tls; zero: 1.2 and 1.3
}

// Codes of EAP packets (RFC 3748 §4).
const (
	eapResponse = 2
	eapSuccess  = 3
	eapFailure  = 4
)

// conversation is EAP in one round of IKE_AUTH, in either role.
type conversation struct {
	end      eapEnd // nil: not begun, or it is somewhere else
	seated   bool
	over     bool // successfully; AUTH comes next
	refused  bool // on an initiator: EAP-Failure came, with which the gateway ended the SA
	msk      suite.Secret
	identity string // on a responder: who the peer is
	id       byte   // of our EAP-Request/Identity, where we relay
}

// eapEnd is *eap.Peer or *eap.Server.
type eapEnd interface {
	Handle(packet []byte) eap.Step
	Resume() eap.Step
	Stop()
	MSK() suite.Secret
	Method() eap.Type
	Mutual() bool
	Warnings() []string
	Vouched(error) eap.Step
}

// converse begins EAP; what was before has come to its end.
func (s *ikeSA) converse() *conversation {
	s.stopEAP()
	s.eap = &conversation{}
	return s.eap
}

// stopEAP ends what runs of EAP. It may be called at any time.
func (s *ikeSA) stopEAP() {
	c := s.eap
	s.eap = nil
	if c == nil {
		return
	}
	if c.end != nil {
		c.end.Stop()
	}
	if c.seated {
		s.e.seats--
	}
}

// seat counts a conversation that has turned to a method on TLS, which costs a
// coroutine, and tells whether there is room. Where there is none, whoever has been silent
// for longest makes some: else strangers who begin and say no more would keep all others out.
func (s *ikeSA) seat() bool {
	c := s.eap
	if c.seated || c.end == nil || !c.end.Method().Mutual() {
		return true
	}
	if s.e.seats >= maxConversations && !s.e.clearSeat() {
		return false
	}
	s.e.seats++
	c.seated = true
	return true
}

// clearSeat ends the conversation of the peer that has been silent for longest, if that is
// longer than machines take to answer.
func (e *Engine) clearSeat() bool {
	var idle *ikeSA
	e.all(func(s *ikeSA) {
		if !s.initiator && s.eap != nil && s.eap.seated && s.serving == nil && e.now.Sub(s.heard) >= idleConversation &&
			(idle == nil || s.heard.Before(idle.heard)) {
			idle = s
		}
	})
	if idle == nil {
		return false
	}
	idle.close("silent in EAP while others wait", errTooManyLogins())
	return true
}

// eapWork lets the runner do what a step wants computed, and goes on with the next.
func (s *ikeSA) eapWork(c *conversation, work func(), then func(eap.Step)) {
	s.work(func() (any, error) {
		work()
		return nil, nil
	}, func(_ any, err error) {
		switch {
		case s.eap != c:
		case err != nil:
			then(eap.Step{Done: true, Err: err})
		default:
			then(c.end.Resume())
		}
	})
}

// eapVouch asks about the revocation of certificates inside EAP, and goes on with the
// next step.
func (s *ikeSA) eapVouch(c *conversation, policy pki.Revocation, q *eap.Vouch, then func(eap.Step)) {
	s.ask(Vouch{SA: s.id(), Connection: s.conn.Name, Chain: q.Chain, Policy: policy, Stapled: q.Stapled}, func(r Reply) {
		if s.eap != c {
			return
		}
		got, ok := r.(Vouched)
		if !ok {
			got.Err = errWrongReply
		}
		then(c.end.Vouched(got.Err))
	})
}

// succeed notes that the conversation ended well; AUTH comes next.
func (s *ikeSA) succeed(c *conversation) {
	c.over, c.msk = true, c.end.MSK()
	for _, text := range c.end.Warnings() {
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: text})
	}
}

// eapAuth is the AUTH payload of one side after EAP: by the method's key, or where it
// makes none by that side's SK_p (RFC 7296 §2.16).
func (s *ikeSA) eapAuth(initiator bool, id *message.ID) *message.Auth {
	return &message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, s.eapKey(initiator), s.signedOctets(initiator, id))}
}

// checkEAPAuth verifies the peer's.
func (s *ikeSA) checkEAPAuth(id *message.ID, auth *message.Auth) *Error {
	if auth == nil || auth.Method != message.AuthPSK ||
		!VerifyPSKAuth(s.prf, s.eapKey(!s.initiator), s.signedOctets(!s.initiator, id), auth.Data) {
		return errEAPBinding(s)
	}
	return nil
}

func (s *ikeSA) eapKey(initiator bool) suite.Secret {
	switch {
	case len(s.eap.msk) > 0:
		return s.eap.msk
	case initiator:
		return s.keys.Pi
	}
	return s.keys.Pr
}

// eapIdentity is the name of a user as an identity, so that it can be compared with
// patterns such as *@example.org.
func eapIdentity(name string) pki.Identity {
	t := pki.IDFQDN
	if strings.ContainsRune(name, '@') {
		t = pki.IDRFC822Addr
	}
	return pki.Identity{Type: t, Data: name}
}

// mutualOnly leaves the methods that authenticate the server as well.
func mutualOnly(methods []eap.Type) []eap.Type {
	var out []eap.Type
	for _, m := range methods {
		if m.Mutual() {
			out = append(out, m)
		}
	}
	return out
}

// eapProof is EAP, which has no AUTH payload of its own in the first request.
type eapProof struct{ local *Local }

func (p *eapProof) identity(s *ikeSA, wanted pki.Identity) (pki.Identity, *Error) {
	switch {
	case !p.local.ID.IsZero():
		return p.local.ID, nil
	case !wanted.IsZero():
		return wanted, nil
	case p.local.EAP.Identity != "":
		return eapIdentity(p.local.EAP.Identity), nil
	case p.local.EAP.User != "":
		return eapIdentity(p.local.EAP.User), nil
	}
	return pki.Addr(s.path.Local.Addr().Unmap()), nil
}

func (*eapProof) prove(_ *ikeSA, _ []byte, then func([]message.Payload, *Error)) { then(nil, nil) }

// check is asked about a peer that sent AUTH instead of beginning EAP.
func (*eapProof) check(s *ikeSA, _ *Remote, p *peerProof) *Error {
	return errMethod(s, p.auth.Method, AuthEAP)
}
