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

	shared []byte // nil without a key exchange
	// Additional ones: the methods that are still to be done, the key pair of the one under
	// way, the secrets of those that were.
	todo  []uint16
	extra kex.Initiator
	more  [][]byte
	then  func(shared []byte, err *Error) // not nil while they are done
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

// finish takes Nonce and KE of the answer, which chose with, and goes on with the
// shared secret, nil without a key exchange, when the additional ones are done too.
func (x *keyExchange) finish(s *ikeSA, with suite.Suite, ps []message.Payload, then func(shared []byte, err *Error)) {
	group := with.KE.ID
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
		x.shared, x.todo, x.then = shared, with.AddKEs(), then
		x.next(s, ps)
	})
}

// lowest is the lower nonce of the exchange, by which simultaneous ones are judged.
func (x *keyExchange) lowest() []byte { return lower(x.ni, x.nr) }

// agreed is what the half of who answers comes to.
type agreed struct {
	nr     []byte
	shared []byte // nil without a key exchange
	ke     *message.KE
	more   [][]byte          // the secrets of additional key exchanges
	reply  []message.Payload // what the last of their requests is answered; nil without
}

// between is what stands between SA and TSi in an answer.
func (x *agreed) between() []message.Payload {
	ps := []message.Payload{&message.Nonce{Data: x.nr}}
	if x.ke != nil {
		ps = append(ps, x.ke)
	}
	return ps
}

// answer is what the request that ended the key exchanges is answered.
func (x *agreed) answer(s *ikeSA, o opening) []message.Payload {
	if x.reply != nil {
		return x.reply
	}
	return o.payloads(s, x.between()...)
}

// answerExchange is the half of who answers, with the suite that was chosen: a request
// whose group is another one is told so, and one whose value cannot be meant ends the SA.
// The request may have become void when o is finished.
func (s *ikeSA) answerExchange(with suite.Suite, ps []message.Payload, o opening) {
	group := with.KE.ID
	if group == suite.KENone {
		s.complete(o, &agreed{nr: newNonce()})
		return
	}
	ke, ok := message.Find[*message.KE](ps)
	switch {
	case !ok, ke.Method != group:
		s.respond(invalidKE(group))
		o.void(s)
		return
	case len(ke.Data) != kex.PublicLen(group):
		s.badRequest(errMissing("a KE payload of the wrong length"))
		o.void(s)
		return
	}
	s.exchangeKeys(group, ke.Data, func(public, shared []byte, err error) {
		if err != nil {
			s.badRequest(err)
			o.void(s)
			return
		}
		got := &agreed{nr: newNonce(), shared: shared, ke: &message.KE{Method: group, Data: public}}
		if todo := with.AddKEs(); len(todo) > 0 {
			s.awaitFollowUp(o, got, todo)
			return
		}
		s.complete(o, got)
	})
}
