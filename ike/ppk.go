package ike

import (
	"fmt"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Post-quantum pre-shared keys (RFC 8784 §3): who breaks the key exchange later still
// needs this key. Both sides say USE_PPK in IKE_SA_INIT; the initiator names the key in
// the request that has its last AUTH, which is made with it, and unless the key is
// required an AUTH without it beside.

// PPK is a post-quantum pre-shared key with the name by which both sides know it.
type PPK struct {
	ID  string
	Key suite.Secret
}

// ppkFixed is the type of a PPK_ID that is a name, which both sides know from elsewhere
// (RFC 8784 §5.1).
const ppkFixed = 2

// MixPPK makes a pre-shared key part of the keys of an IKE SA: SK_d, SK_pi and SK_pr
// become prf+(PPK, of them); the others stay (RFC 8784 §3).
func MixPPK(prf suite.PRF, ppk suite.Secret, k IKEKeys) IKEKeys {
	mix := func(key suite.Secret) suite.Secret { return suite.PRFPlus(prf, ppk, key, prf.KeyLen()) }
	k.D, k.Pi, k.Pr = mix(k.D), mix(k.Pi), mix(k.Pr)
	return k
}

// mixedPPK is what became of the PPK of an SA.
type mixedPPK struct {
	used   bool
	unsaid bool    // a responder's next answer has to say so
	before IKEKeys // without it, as long as an initiator does not know what the peer does
}

// hasPPK tells whether we can use a PPK with the peer: an initiator by its connection, a
// responder by any that may be meant.
func (s *ikeSA) hasPPK() bool {
	if s.initiator {
		return len(s.conn.PPKs) > 0
	}
	for _, c := range s.candidates {
		if len(c.PPKs) > 0 {
			return true
		}
	}
	return false
}

// withPPK makes the AUTH of an initiator's last round: sign gives its payloads, AUTH last,
// with the keys that the SA has when it is called. then gets them with what stands behind
// AUTH.
func (s *ikeSA) withPPK(sign func(then func([]message.Payload, *Error)), then func(auth, behind []message.Payload, err *Error)) {
	if !s.supports(extPPK) {
		sign(func(auth []message.Payload, err *Error) { then(auth, nil, err) })
		return
	}
	ppk := s.conn.PPKs[0]
	plain, mixed := s.keys, MixPPK(s.prf, ppk.Key, s.keys)
	behind := []message.Payload{notifyData(message.PPKIdentity, append([]byte{ppkFixed}, ppk.ID...))}
	withKey := func() {
		s.keys, s.ppk = mixed, mixedPPK{used: true, before: plain}
		sign(func(auth []message.Payload, err *Error) { then(auth, behind, err) })
	}
	if s.conn.PPKRequired {
		withKey()
		return
	}
	sign(func(auth []message.Payload, err *Error) {
		if err != nil {
			then(nil, nil, err)
			return
		}
		if without, ok := auth[len(auth)-1].(*message.Auth); ok {
			behind = append(behind, notifyData(message.NoPPKAuth, without.Data))
		}
		withKey()
	})
}

// settlePPK reads, on the initiator, whether the responder used the PPK that we named.
func (s *ikeSA) settlePPK(ps []message.Payload) *Error {
	if !s.ppk.used {
		return nil
	}
	plain := s.ppk.before
	s.ppk.before = IKEKeys{}
	switch {
	case message.FindNotify(ps, message.PPKIdentity) != nil:
		return nil
	case s.conn.PPKRequired:
		return errPPKRefused(s)
	}
	s.keys, s.ppk = plain, mixedPPK{}
	s.warnWithoutPPK(s.conn, s.conn.PPKs[0].ID)
	return nil
}

// verifyWithPPK verifies, on a responder, the AUTH of a round of a peer that may have
// named a PPK. verify is called with the AUTH that counts, when the SA has the keys for it.
func (s *ikeSA) verifyWithPPK(r *Remote, c *Connection, auth *message.Auth, ps []message.Payload, verify func(*message.Auth) *Error) *Error {
	plain, named := s.keys, message.FindNotify(ps, message.PPKIdentity)
	if named == nil || !s.supports(extPPK) || s.ppk.used {
		if c.PPKRequired && r.Next == nil && !s.ppk.used {
			return errPPKMissing(s)
		}
		return verify(auth)
	}
	id, ppk := "", suite.Secret(nil)
	if len(named.Data) > 1 && named.Data[0] == ppkFixed {
		id = string(named.Data[1:])
	}
	for _, p := range c.PPKs {
		if id != "" && p.ID == id {
			ppk = p.Key
		}
	}
	if ppk != nil {
		s.keys = MixPPK(s.prf, ppk, plain)
		if err := verify(auth); err != nil {
			s.keys = plain
			return err
		}
		s.ppk = mixedPPK{used: true, unsaid: true}
		return nil
	}
	without := message.FindNotify(ps, message.NoPPKAuth)
	if c.PPKRequired || without == nil || auth == nil {
		return errPPKUnknown(s, id)
	}
	// RFC 8784 §5.1: the method is that of AUTH.
	if err := verify(&message.Auth{Method: auth.Method, Data: without.Data}); err != nil {
		return err
	}
	s.warnWithoutPPK(c, id)
	return nil
}

func (s *ikeSA) warnWithoutPPK(c *Connection, id string) {
	s.e.report(Warned{
		SA: s.id(), Connection: c.Name, Path: s.path,
		Text: fmt.Sprintf("the post-quantum pre-shared key %.64q is not used: only one side has it", id),
	})
}
