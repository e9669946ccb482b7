package eap

import (
	"io"

	"martlet/crypto/suite"
)

// gtcPeer is the peer's end of Generic Token Card (RFC 3748 §5.6): the password in the
// clear, so for inside a tunnel.
type gtcPeer struct {
	plain
	password suite.Secret
}

func (g *gtcPeer) handle(byte, []byte) turn {
	if g.finished {
		return outOfTurn(TypeGTC)
	}
	g.finished = true
	return turn{send: append([]byte(nil), g.password...)}
}

// gtcServer is the server's end.
type gtcServer struct {
	plain
	rand     io.Reader
	user     string
	asked    bool
	received suite.Secret
}

func (g *gtcServer) handle(_ byte, data []byte) turn {
	if !g.asked {
		g.asked = true
		return turn{send: []byte("Password: ")}
	}
	if g.received != nil {
		return outOfTurn(TypeGTC)
	}
	if len(data) == 0 {
		return turn{err: protocolError("GTC without a password")}
	}
	g.received = data
	if g.user == "" {
		return g.account(nil)
	}
	return turn{lookup: g.user}
}

func (g *gtcServer) account(a *Account) turn {
	if g.received == nil || g.finished {
		return outOfTurn(TypeGTC)
	}
	ok, err := a.check(g.rand, g.received)
	if err != nil {
		return turn{err: err}
	}
	if !ok {
		g.reason = a.refusal(g.user)
		return turn{err: g.reason}
	}
	g.finished = true
	return turn{over: true}
}

func (g *gtcServer) identity() string { return g.user }
