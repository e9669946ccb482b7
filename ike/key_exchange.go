package ike

import (
	"slices"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// The key exchange of CREATE_CHILD_SA, whatever it makes: a child, a child in place of
// another, or an IKE SA in place of another (RFC 7296 §1.3). It is here and nowhere else.

// keyExchange is the half of who asks: the nonces and the key pair.
type keyExchange struct {
	groups   []uint16      // that are offered; none: no perfect forward secrecy
	pair     kex.Initiator // nil without
	ni, nr   []byte
	restarts int
}

// begin makes a key pair of the preferred group, if there is one.
func (x *keyExchange) begin(s *ikeSA, then func(*Error)) {
	if len(x.groups) == 0 {
		then(nil)
		return
	}
	x.take(s, x.groups[0], then)
}

func (x *keyExchange) take(s *ikeSA, group uint16, then func(*Error)) {
	s.generate(group, func(pair kex.Initiator, err error) {
		if err != nil {
			then(errInternal(err.Error()))
			return
		}
		x.pair = pair
		then(nil)
	})
}

// again begins anew with the group that INVALID_KE_PAYLOAD names (RFC 7296 §1.3).
func (x *keyExchange) again(s *ikeSA, n *message.Notify, then func(*Error)) {
	group, ok := groupOf(n)
	if !ok || x.pair == nil || group == x.pair.Method() || x.restarts == maxRestarts || !slices.Contains(x.groups, group) {
		then(errForeignGroup(s, group))
		return
	}
	x.restarts++
	x.take(s, group, then)
}

// payloads is Nonce and KE of a request. The nonce is a fresh one.
func (x *keyExchange) payloads() []message.Payload {
	x.ni = newNonce()
	ps := []message.Payload{&message.Nonce{Data: x.ni}}
	if x.pair != nil {
		ps = append(ps, &message.KE{Method: x.pair.Method(), Data: x.pair.Public()})
	}
	return ps
}

// finish takes Nonce and KE of the answer, which chose the group, and goes on with the
// shared secret, nil without a key exchange.
func (x *keyExchange) finish(s *ikeSA, group uint16, ps []message.Payload, then func(shared []byte, err *Error)) {
	nonce, ok := message.Find[*message.Nonce](ps)
	if !ok {
		then(nil, errChildIncomplete())
		return
	}
	x.nr = nonce.Data
	if group == suite.KENone {
		then(nil, nil)
		return
	}
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != group || x.pair == nil || x.pair.Method() != group {
		then(nil, errChildIncomplete())
		return
	}
	s.finish(x.pair, ke.Data, func(shared []byte, err error) {
		if err != nil {
			then(nil, errKeyExchange(err))
			return
		}
		then(shared, nil)
	})
}

// oneExchange leaves the additional key exchanges out of proposals: what those of the first
// SA protect, its SK_d among it, goes into the keys of all that follow (RFC 7296 §2.18).
func oneExchange(proposals []suite.Proposal) []suite.Proposal {
	out := make([]suite.Proposal, len(proposals))
	for i, p := range proposals {
		for t := suite.TypeAddKE1; t <= suite.TypeAddKE7; t++ {
			p = p.Without(t)
		}
		out[i] = p
	}
	return out
}

// lowest is the lower nonce of the exchange, by which simultaneous ones are judged.
func (x *keyExchange) lowest() []byte { return lower(x.ni, x.nr) }

// agreed is what the half of who answers comes to.
type agreed struct {
	nr     []byte
	shared []byte // nil without a key exchange
	ke     *message.KE
}

// between is what stands between SA and TSi in an answer.
func (x *agreed) between() []message.Payload {
	ps := []message.Payload{&message.Nonce{Data: x.nr}}
	if x.ke != nil {
		ps = append(ps, x.ke)
	}
	return ps
}

// answerExchange is the half of who answers: a request whose group is not the chosen one
// is told so, and one whose value cannot be meant ends the SA; then gets nil in both
// cases. The request may have become void when then is called.
func (s *ikeSA) answerExchange(group uint16, ps []message.Payload, then func(*agreed)) {
	if group == suite.KENone {
		then(&agreed{nr: newNonce()})
		return
	}
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != group {
		then(nil)
		s.respond(invalidKE(group))
		return
	}
	if len(ke.Data) != kex.PublicLen(group) {
		then(nil)
		s.badRequest(errMissing("a KE payload of the wrong length"))
		return
	}
	s.exchangeKeys(group, ke.Data, func(public, shared []byte, err error) {
		if err != nil {
			then(nil)
			s.badRequest(err)
			return
		}
		then(&agreed{nr: newNonce(), shared: shared, ke: &message.KE{Method: group, Data: public}})
	})
}
