package eap

import (
	"crypto/subtle"
	"fmt"
	"io"

	"martlet/crypto/suite"
)

// serverName is what a server calls itself in a challenge; no peer looks at it.
const serverName = "martlet"

// mschapServer is the server's end of EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2 §2).
type mschapServer struct {
	plain
	rand      io.Reader
	state     mschapState
	id        byte
	challenge []byte

	user     string
	received []byte // the peer's 49 octets, while its account is looked up
	next     suite.Secret
}

func (m *mschapServer) handle(id byte, data []byte) turn {
	if m.state == mschapIdle {
		m.challenge = make([]byte, challengeLen)
		if err := random(m.rand, m.challenge); err != nil {
			return turn{err: err}
		}
		m.state, m.id = mschapChallenged, id
		return turn{send: appendMSCHAP(opChallenge, id, m.challenge, serverName)}
	}
	p, err := parseMSCHAP(data)
	if err != nil {
		return turn{err: err}
	}
	switch {
	case p.op == opResponse && m.state == mschapChallenged:
		if p.id != m.id {
			return turn{err: protocolError("the response of MSCHAPv2 is to another challenge")}
		}
		if len(p.rest) > maxName {
			return turn{err: protocolError("the user name is too long")}
		}
		m.state = mschapResponded
		m.user, m.received = string(p.rest), p.value
		if m.user == "" {
			return m.account(nil)
		}
		return turn{lookup: m.user}
	case p.op == opSuccess && m.state == mschapEnding && m.reason == nil:
		m.state, m.finished, m.msk = mschapOver, true, m.next
		return turn{over: true}
	case p.op == opFailure && m.state == mschapEnding:
		m.state = mschapOver
		if m.reason == nil {
			m.reason = &Error{Code: CodeServerProof, Remote: true, What: "the client did not take our proof that we know the password"}
		}
		return turn{err: m.reason}
	case m.state == mschapEnding && m.reason != nil:
		return turn{err: m.reason}
	}
	return outOfTurn(TypeMSCHAPv2)
}

// account checks the response. Without an account the answer and the work are the same as
// for a wrong password.
func (m *mschapServer) account(a *Account) turn {
	if m.state != mschapResponded {
		return outOfTurn(TypeMSCHAPv2)
	}
	m.state = mschapEnding
	v, err := verifyMSCHAP(m.rand, a, m.challenge, m.received, m.user)
	if err != nil {
		m.reason = err
		return turn{send: appendMSCHAP(opFailure, m.id, nil, mschapRefusal(m.challenge))}
	}
	m.next = v.msk
	return turn{send: appendMSCHAP(opSuccess, m.id, nil, v.message+" M=welcome")}
}

// mschapRefusal is the text of a failure: wrong password, no further try.
func mschapRefusal(challenge []byte) string {
	return fmt.Sprintf("E=691 R=0 C=%X V=3 M=Authentication failed", challenge)
}

func (m *mschapServer) identity() string { return m.user }

// mschapVerdict is what follows from a right response.
type mschapVerdict struct {
	message string // "S=" and the proof
	msk     suite.Secret
}

// verifyMSCHAP checks the 49 octets of a response. Peers differ in whether they hash
// the domain before the name, so both are tried.
func verifyMSCHAP(rand io.Reader, a *Account, challenge, value []byte, user string) (*mschapVerdict, *Error) {
	hash, known, err := a.hash(rand)
	if err != nil {
		return nil, err
	}
	own, response := value[:16], value[24:48]
	for _, name := range []string{BareName(user), user} {
		if subtle.ConstantTimeCompare(ntResponse(challenge, own, name, hash), response) == 1 && known {
			proof := authenticatorResponse(hash, response, own, challenge, name)
			return &mschapVerdict{message: fmt.Sprintf("S=%X", proof), msk: mschapMSK(hash, response)}, nil
		}
	}
	return nil, a.refusal(user)
}
