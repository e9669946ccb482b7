package ike

import (
	"bytes"
	"time"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Additional key exchanges in CREATE_CHILD_SA (RFC 9370 §2.2.4): each takes one
// IKE_FOLLOWUP_KE behind it. Who answers says that one is to come by a notify with link data,
// which the next request returns; what was agreed is put into service by the last one.

const (
	linkLen      = 8
	followUpLife = 30 * time.Second // for the next request
)

// opening is what a CREATE_CHILD_SA of the peer is to open: a child or an IKE SA.
type opening interface {
	// refusal is what the peer is told in place of an answer; 0 lets it pass. It is asked
	// again whenever time has passed.
	refusal(s *ikeSA) message.NotifyType
	// payloads is the answer, with Nonce and KE where they belong.
	payloads(s *ikeSA, between ...message.Payload) []message.Payload
	// finish puts it into service and answers got.reply.
	finish(s *ikeSA, got *agreed)
	// void gives back what was reserved for it. It may be called twice.
	void(s *ikeSA)
}

// followUp is an opening that waits for additional key exchanges.
type followUp struct {
	opening opening
	got     *agreed
	todo    []uint16 // the methods
	link    []byte
}

// complete opens what the key exchanges were for.
func (s *ikeSA) complete(o opening, got *agreed) {
	if why := o.refusal(s); why != 0 {
		s.respond(notify(why))
		o.void(s)
		return
	}
	o.finish(s, got)
}

// awaitFollowUp answers CREATE_CHILD_SA and waits for the rest.
func (s *ikeSA) awaitFollowUp(o opening, got *agreed, todo []uint16) {
	if why := o.refusal(s); why != 0 {
		s.respond(notify(why))
		o.void(s)
		return
	}
	s.followUp = &followUp{opening: o, got: got, todo: todo}
	s.respond(append(o.payloads(s, got.between()...), s.newLink())...)
}

// newLink says that another key exchange is to come.
func (s *ikeSA) newLink() message.Payload {
	s.followUp.link = newNonce()[:linkLen]
	s.after(dueFollowUp, followUpLife)
	return notifyData(message.AdditionalKeyExchange, s.followUp.link)
}

// dropFollowUp forgets what waits: the peer gave up, or something else came between.
func (s *ikeSA) dropFollowUp() {
	f := s.followUp
	if f == nil {
		return
	}
	s.followUp = nil
	s.set(dueFollowUp, time.Time{})
	f.opening.void(s)
}

// followUpRequest takes IKE_FOLLOWUP_KE of the peer.
func (s *ikeSA) followUpRequest(ps []message.Payload) {
	f, link := s.followUp, message.FindNotify(ps, message.AdditionalKeyExchange)
	if f == nil || link == nil || !bytes.Equal(link.Data, f.link) {
		s.respond(notify(message.StateNotFound))
		return
	}
	ke, ok := message.Find[*message.KE](ps)
	method := f.todo[0]
	if !ok || ke.Method != method || len(ke.Data) != kex.PublicLen(method) {
		s.badRequest(errMissing("IKE_FOLLOWUP_KE without the key exchange that is due"))
		return
	}
	s.set(dueFollowUp, time.Time{})
	s.exchangeKeys(method, ke.Data, func(public, shared []byte, err error) {
		switch {
		case err != nil:
			s.badRequest(err)
			return
		case s.followUp != f:
			s.respond(notify(message.StateNotFound))
			return
		}
		f.got.more, f.todo = append(f.got.more, shared), f.todo[1:]
		answer := &message.KE{Method: method, Data: public}
		if len(f.todo) > 0 {
			s.respond(answer, s.newLink())
			return
		}
		s.followUp = nil
		f.got.reply = []message.Payload{answer}
		s.complete(f.opening, f.got)
	})
}

// following tells whether the answer that is due is one to IKE_FOLLOWUP_KE.
func (x *keyExchange) following() bool { return x.then != nil }

// next sends the next IKE_FOLLOWUP_KE, for which ps, the answer before, has the link, or
// goes on with the secrets.
func (x *keyExchange) next(s *ikeSA, ps []message.Payload) {
	if len(x.todo) == 0 {
		x.end(nil)
		return
	}
	link := message.FindNotify(ps, message.AdditionalKeyExchange)
	if link == nil {
		x.end(errChildIncomplete())
		return
	}
	s.generate(x.todo[0], func(pair kex.Initiator, err error) {
		if err != nil {
			x.end(errInternal(err.Error()))
			return
		}
		x.extra = pair
		s.request(message.IKEFollowupKE, &message.KE{Method: pair.Method(), Data: pair.Public()}, notifyData(message.AdditionalKeyExchange, link.Data))
	})
}

// followed takes an answer to IKE_FOLLOWUP_KE that is no error.
func (x *keyExchange) followed(s *ikeSA, ps []message.Payload) {
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != x.extra.Method() {
		x.end(errChildIncomplete())
		return
	}
	s.finish(x.extra, ke.Data, func(shared []byte, err error) {
		if err != nil {
			x.end(errKeyExchange(err))
			return
		}
		x.more, x.todo = append(x.more, shared), x.todo[1:]
		x.next(s, ps)
	})
}

func (x *keyExchange) end(err *Error) {
	then := x.then
	x.then = nil
	then(x.shared, err)
}

// followable leaves those proposals whose additional key exchanges the peer can do: one
// that knows no IKE_INTERMEDIATE knows none of this.
func (s *ikeSA) followable(proposals []suite.Proposal) []suite.Proposal {
	if s.supports(extIntermediate) {
		return proposals
	}
	if plain := classic(proposals); len(plain) > 0 {
		return plain
	}
	return proposals
}
