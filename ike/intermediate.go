package ike

import (
	"encoding/binary"
	"slices"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Additional key exchanges (RFC 9370 §2.2.2) while an IKE SA is set up: each takes one
// IKE_INTERMEDIATE (RFC 9242 §3) between IKE_SA_INIT and IKE_AUTH. It is encrypted, so it
// may go in fragments as IKE_SA_INIT may not, and AUTH covers it.

// IntAuth is what the IKE_INTERMEDIATE exchanges add to what AUTH covers
// (RFC 9242 §3.3.1). The zero value is an SA without any.
type IntAuth struct {
	i, r   []byte // IntAuth_iN and IntAuth_rN of the exchanges so far
	rounds uint32
}

// Add takes one exchange: request and response as message.Plain gives them, and SK_pi
// and SK_pr as they were for that exchange.
func (a *IntAuth) Add(prf suite.PRF, pi, pr suite.Secret, request, response []byte) {
	a.i, a.r = prf.Sum(pi, a.i, request), prf.Sum(pr, a.r, response)
	a.rounds++
}

// append appends IntAuth_i, IntAuth_r and the message ID of the first IKE_AUTH, or
// nothing.
func (a *IntAuth) append(b []byte) []byte {
	if a.rounds == 0 {
		return b
	}
	b = append(append(b, a.i...), a.r...)
	return binary.BigEndian.AppendUint32(b, a.rounds+1)
}

// knowsAddKE tells whether there may be additional key exchanges with the peer: with an
// initiator's connection, or with any that a responder may mean.
func (s *ikeSA) knowsAddKE() bool {
	of := s.candidates
	if s.initiator {
		of = []*Connection{s.conn}
	}
	return slices.ContainsFunc(of, func(c *Connection) bool {
		return slices.ContainsFunc(c.Proposals, suite.Proposal.HasAddKE)
	})
}

// intermediate tells whether additional key exchanges are still to be done before
// IKE_AUTH.
func (s *ikeSA) intermediate() bool { return len(s.moreKEs) > 0 }

// exchanged ends an additional key exchange: the keys from here on depend on its secret
// too (RFC 9370 §2.2.2). What was sealed by the old keys is sealed by now.
func (s *ikeSA) exchanged(request, response, shared []byte) error {
	s.intAuth.Add(s.prf, s.keys.Pi, s.keys.Pr, request, response)
	s.moreKEs = s.moreKEs[1:]
	if err := s.setKeys(RekeyedSKEYSEED(s.prf, s.keys.D, s.ni, s.nr, shared)); err != nil {
		return err
	}
	if !s.intermediate() {
		s.stageDone(StageIntermediate)
	}
	return nil
}

// plain is a message of ours without encryption.
func (s *ikeSA) plain(id uint32, flags message.Flags, ps ...message.Payload) []byte {
	return message.Plain(s.header(message.IKEIntermediate, id, flags), message.FirstType(ps), message.AppendPayloads(nil, ps))
}

// intermediateTask is IKE_INTERMEDIATE of the initiator, with one key exchange.
type intermediateTask struct {
	pair    kex.Initiator
	request []byte // without encryption
}

func (*intermediateTask) priority() priority { return prioSetup }

func (t *intermediateTask) start(s *ikeSA) {
	s.generate(s.moreKEs[0], func(pair kex.Initiator, err error) {
		if err != nil {
			s.close("key exchange failed", errInternal(err.Error()))
			return
		}
		t.pair = pair
		ke := &message.KE{Method: pair.Method(), Data: pair.Public()}
		t.request = s.plain(s.nextID, 0, ke)
		s.request(message.IKEIntermediate, ke)
	})
}

func (t *intermediateTask) expired(s *ikeSA) {
	err := errAuthUnanswered(s)
	s.close(err.What, err)
}

func (t *intermediateTask) response(s *ikeSA, ps []message.Payload) {
	response := s.received
	if n := message.FindError(ps); n != nil {
		err := errIntermediateRefused(s, n)
		s.close(err.What, err)
		return
	}
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != t.pair.Method() {
		err := errSyntax(errMissing("an answer to IKE_INTERMEDIATE without its key exchange"))
		s.close(err.What, err)
		return
	}
	s.finish(t.pair, ke.Data, func(shared []byte, err error) {
		if err != nil {
			err := errKeyExchange(err)
			s.close(err.What, err)
			return
		}
		if err := s.exchanged(t.request, response, shared); err != nil {
			s.close("no keys", errInternal(err.Error()))
			return
		}
		s.setupNext()
		s.done()
	})
}

// setupNext queues what comes next when an SA is being set up: the next additional key
// exchange, or IKE_AUTH.
func (s *ikeSA) setupNext() {
	if s.intermediate() {
		s.enqueue(&intermediateTask{})
		return
	}
	s.enqueue(&authTask{})
}

// intermediateRequest takes IKE_INTERMEDIATE of an initiator. The answer is still sealed
// by the keys of the request.
func (s *ikeSA) intermediateRequest(ps []message.Payload) {
	request, method := s.received, s.moreKEs[0]
	ke, ok := message.Find[*message.KE](ps)
	if !ok || ke.Method != method || len(ke.Data) != kex.PublicLen(method) {
		s.badRequest(errMissing("IKE_INTERMEDIATE without the key exchange that is due"))
		return
	}
	s.exchangeKeys(method, ke.Data, func(public, shared []byte, err error) {
		if err != nil {
			s.badRequest(err)
			return
		}
		answer := &message.KE{Method: method, Data: public}
		response := s.plain(s.serving.id, message.FlagResponse, answer)
		s.respond(answer)
		if err := s.exchanged(request, response, shared); err != nil {
			s.close("no keys", errInternal(err.Error()))
		}
	})
}
