package eap

import (
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"time"

	"martlet/crypto/suite"
)

// want is what a script waits for; the zero value means octets of the other side.
type want struct {
	work   func()
	lookup string
	vouch  *Vouch
}

// channel runs crypto/tls, and what goes on inside, as a coroutine: a script that reads
// like a program which blocks, and in truth yields what it wants to whoever calls pull.
// It is the net.Conn of crypto/tls at the same time.
type channel struct {
	client bool
	next   func() (want, bool)
	halt   func()
	yield  func(want) bool
	gone   bool // the script must end: nobody will call again

	in, out []byte
	polling bool // reading does not wait
	id      byte // of the packet that was received, or on a server of the one to come
	answer  *Account
	verdict error // on the chain that was shown last

	conn   *tls.Conn
	secret tlsSecret

	over     bool // the script has ended
	err      error
	complete bool // EAP-Success may come though the script waits
	reason   *Error
	msk      suite.Secret
	who      string
	warned   []string
}

var (
	errGone  = errors.New("the conversation was ended")
	errEmpty = errors.New("the other side sent nothing where TLS was expected")
)

// newChannel prepares a coroutine that runs the script; it is started by the first pull
// and freed by stop.
func newChannel(client bool, script func(*channel) error) *channel {
	c := &channel{client: client}
	c.next, c.halt = iter.Pull(func(yield func(want) bool) {
		c.yield = yield
		c.err = script(c)
		c.over = true
	})
	return c
}

// pull lets the script run until it wants something or is over.
func (c *channel) pull() want {
	w, ok := c.next()
	if !ok {
		c.over = true
	}
	return w
}

// stop ends the coroutine; it may be called twice.
func (c *channel) stop() { c.halt() }

// take gives what was written since the last time.
func (c *channel) take() []byte {
	b := c.out
	c.out = nil
	return b
}

// ask yields; false means that the script must end.
func (c *channel) ask(w want) bool {
	if !c.gone && !c.yield(w) {
		c.gone = true
	}
	return !c.gone
}

// account asks for an account by its name; the empty name has none.
func (c *channel) account(name string) (*Account, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no account is no fault
	}
	if !c.ask(want{lookup: name}) {
		return nil, errGone
	}
	return c.answer, nil
}

// conversation is a Peer or a Server inside a tunnel.
type conversation interface {
	// Resume goes on after Work was done.
	Resume() Step
	// Vouched answers a Vouch.
	Vouched(error) Step
}

// settle does what a conversation inside wants besides packets.
func (c *channel) settle(inner conversation, st Step) (Step, error) {
	for {
		switch {
		case st.Vouch != nil:
			if !c.ask(want{vouch: st.Vouch}) {
				return st, errGone
			}
			st = inner.Vouched(c.verdict)
		case st.Work != nil:
			if !c.ask(want{work: st.Work}) {
				return st, errGone
			}
			st = inner.Resume()
		case st.Lookup != "":
			a, err := c.account(st.Lookup)
			s, ok := inner.(*Server)
			if err != nil || !ok {
				return st, errGone
			}
			st = s.Account(a)
		default:
			return st, nil
		}
	}
}

// flush has what was written sent and waits for the acknowledgement.
func (c *channel) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if !c.ask(want{}) {
		return errGone
	}
	return nil
}

// read gives the octets that one message of TLS carried inside, at least one.
func (c *channel) read() ([]byte, error) {
	var out []byte
	buf := make([]byte, 4096)
	defer func() { c.polling = false }()
	for {
		n, err := c.conn.Read(buf)
		out = append(out, buf[:n]...)
		switch {
		case errors.Is(err, errWouldBlock{}):
			return out, nil
		case err != nil:
			return nil, err
		case len(out) > maxMessage:
			return nil, protocolError("too much inside the tunnel")
		case n > 0:
			c.polling = true
		}
	}
}

func (c *channel) write(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}

// errWouldBlock says that nothing is left to read; crypto/tls goes on after it.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "nothing to read" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// Read gives crypto/tls what came, and waits for more.
func (c *channel) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		if c.polling {
			return 0, errWouldBlock{}
		}
		if !c.ask(want{}) {
			return 0, errGone
		}
		if len(c.in) == 0 {
			return 0, errEmpty
		}
		// Whatever it is, it has to be understood before EAP-Success may come.
		c.complete = false
	}
	if c.client {
		c.secret.watch(c.in)
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

// Write keeps what crypto/tls says until the next pull is over.
func (c *channel) Write(b []byte) (int, error) {
	if !c.client {
		c.secret.watch(b)
	}
	c.out = append(c.out, b...)
	return len(b), nil
}

// Close does nothing: the other side learns the end from EAP.
func (*channel) Close() error { return nil }

// The rest of net.Conn; there is neither address nor clock.
func (*channel) LocalAddr() net.Addr              { return nil }
func (*channel) RemoteAddr() net.Addr             { return nil }
func (*channel) SetDeadline(time.Time) error      { return nil }
func (*channel) SetReadDeadline(time.Time) error  { return nil }
func (*channel) SetWriteDeadline(time.Time) error { return nil }

// signer signs outside of the coroutine: a key may be in a smart card or far away.
type signer struct {
	crypto.Signer
	c *channel
}

// Sign yields the signature as work and waits until it was done.
func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var sig []byte
	err := errors.New("the signature was not made")
	if !s.c.ask(want{work: func() { sig, err = s.Signer.Sign(rand, digest, opts) }}) {
		return nil, errGone
	}
	return sig, err
}
