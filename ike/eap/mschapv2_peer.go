package eap

import (
	"crypto/subtle"
	"io"

	"martlet/crypto/suite"
)

// mschapPeer is the peer's end of EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2 §2).
type mschapPeer struct {
	plain
	user     string
	password suite.Secret
	rand     io.Reader
	state    mschapState

	want []byte // the server's proof
	next suite.Secret
}

type mschapState uint8

const (
	mschapIdle mschapState = iota
	mschapChallenged
	mschapResponded
	mschapEnding // success or failure was said, the acknowledgement is missing
	mschapOver
)

func (m *mschapPeer) handle(_ byte, data []byte) turn {
	p, err := parseMSCHAP(data)
	if err != nil {
		return turn{err: err}
	}
	switch {
	case p.op == opChallenge && m.state == mschapIdle:
		return m.respond(p)
	case p.op == opSuccess && m.state == mschapResponded:
		m.state = mschapOver
		proof, ok := mschapProof(p.rest)
		if !ok || subtle.ConstantTimeCompare(proof, m.want) != 1 {
			return turn{err: serverProofError()}
		}
		m.finished, m.msk = true, m.next
		return turn{send: []byte{byte(opSuccess)}}
	case p.op == opFailure && m.state == mschapResponded:
		// Neither another try nor a change of the password is possible without a person:
		// both are declined by the acknowledgement.
		m.state = mschapOver
		m.reason = mschapFailure(p.rest)
		return turn{send: []byte{byte(opFailure)}}
	}
	return outOfTurn(TypeMSCHAPv2)
}

func (m *mschapPeer) respond(p mschapPacket) turn {
	r, err := newMSCHAPResponse(m.rand, p.value, m.user, m.password)
	if err != nil {
		return turn{err: err}
	}
	m.state, m.want, m.next = mschapResponded, r.proof, r.msk
	return turn{send: appendMSCHAP(opResponse, p.id, r.value(), m.user)}
}

// mschapResponse is a peer's answer to a challenge.
type mschapResponse struct {
	peerChallenge, response []byte
	proof                   []byte // what the server must say
	msk                     suite.Secret
}

// newMSCHAPResponse answers a challenge. The domain before the user's name is not hashed
// (RFC 2759 §4).
func newMSCHAPResponse(rand io.Reader, challenge []byte, user string, password suite.Secret) (*mschapResponse, *Error) {
	own := make([]byte, challengeLen)
	if err := random(rand, own); err != nil {
		return nil, err
	}
	bare, hash := BareName(user), ntHash(password)
	response := ntResponse(challenge, own, bare, hash)
	return &mschapResponse{
		peerChallenge: own, response: response,
		proof: authenticatorResponse(hash, response, own, challenge, bare),
		msk:   mschapMSK(hash, response),
	}, nil
}

// value is peer challenge, reserved octets, response and flags.
func (r *mschapResponse) value() []byte {
	v := append(make([]byte, 0, responseLen), r.peerChallenge...)
	v = append(v, make([]byte, 8)...)
	v = append(v, r.response...)
	return append(v, 0)
}

func serverProofError() *Error {
	return &Error{
		Code: CodeServerProof, What: "the gateway did not prove that it knows the password",
		Why:  "its answer to our challenge is wrong",
		Hint: "this may be a false gateway, or one whose user names have another spelling",
	}
}

func random(r io.Reader, b []byte) *Error {
	if _, err := io.ReadFull(r, b); err != nil {
		return &Error{Code: CodeProtocol, What: "no random octets", Err: err}
	}
	return nil
}
