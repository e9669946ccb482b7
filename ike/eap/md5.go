package eap

import (
	"crypto/md5"
	"crypto/subtle"
	"io"

	"golang.org/x/crypto/cryptobyte"

	"martlet/crypto/suite"
)

// md5Hash is the response to a challenge (RFC 3748 §5.4, RFC 1994 §4.1).
func md5Hash(id byte, password suite.Secret, challenge []byte) []byte {
	h := md5.New()
	h.Write([]byte{id})
	h.Write(password)
	h.Write(challenge)
	return h.Sum(nil)
}

// parseMD5 reads a challenge or response: a value with its length before it, then a name
// that nobody needs.
func parseMD5(b []byte) (value []byte, err *Error) {
	s := cryptobyte.String(b)
	var v cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&v) || len(v) == 0 {
		return nil, protocolError("an MD5 challenge or response without a value")
	}
	return v, nil
}

// md5Peer is the peer's end of MD5-Challenge.
type md5Peer struct {
	plain
	user     string
	password suite.Secret
}

func (m *md5Peer) handle(id byte, data []byte) turn {
	if m.finished {
		return outOfTurn(TypeMD5)
	}
	challenge, err := parseMD5(data)
	if err != nil {
		return turn{err: err}
	}
	m.finished = true
	out := append([]byte{md5.Size}, md5Hash(id, m.password, challenge)...)
	return turn{send: append(out, m.user...)}
}

// md5Server is the server's end.
type md5Server struct {
	plain
	rand      io.Reader
	user      string
	id        byte
	challenge []byte
	received  []byte
}

func (m *md5Server) handle(id byte, data []byte) turn {
	if m.challenge == nil {
		m.id, m.challenge = id, make([]byte, 16)
		if err := random(m.rand, m.challenge); err != nil {
			return turn{err: err}
		}
		return turn{send: append(append([]byte{byte(len(m.challenge))}, m.challenge...), serverName...)}
	}
	if m.received != nil {
		return outOfTurn(TypeMD5)
	}
	value, err := parseMD5(data)
	if err != nil {
		return turn{err: err}
	}
	if len(value) != md5.Size {
		return turn{err: protocolError("an MD5 response that has not 16 octets")}
	}
	m.received = value
	if m.user == "" {
		return m.account(nil)
	}
	return turn{lookup: m.user}
}

func (m *md5Server) account(a *Account) turn {
	if m.received == nil || m.finished {
		return outOfTurn(TypeMD5)
	}
	password, known, err := a.secret(m.rand)
	if err != nil {
		return turn{err: err}
	}
	if subtle.ConstantTimeCompare(md5Hash(m.id, password, m.challenge), m.received) != 1 || !known {
		m.reason = a.refusal(m.user)
		if a.usable() && !known {
			m.reason = &Error{
				Code: CodeAccount, What: "user \"" + printable(m.user) + "\" cannot log in by MD5",
				Why:  "the account has only the hash of the password",
				Hint: "use mschapv2, or store the password",
			}
		}
		return turn{err: m.reason}
	}
	m.finished = true
	return turn{over: true}
}

func (m *md5Server) identity() string { return m.user }
