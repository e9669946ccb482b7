package aaa

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/subtle"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"martlet/crypto/suite"
)

const fakeSecret = "a secret of the fake server"

// fake is a RADIUS server over connections in memory. Answer gets each request with how many
// came before it and returns what to send: nil is silence.
type fake struct {
	t      testing.TB
	answer func(n int, request []byte) [][]byte

	mu       sync.Mutex
	requests [][]byte
}

// dial is a RADIUSConfig.Dial that leads to the fake.
func (f *fake) dial(context.Context, netip.AddrPort) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		buf := make([]byte, radius.MaxPacketLength)
		for {
			n, err := theirs.Read(buf)
			if err != nil {
				return
			}
			request := bytes.Clone(buf[:n])
			f.mu.Lock()
			before := len(f.requests)
			f.requests = append(f.requests, request)
			f.mu.Unlock()
			for _, b := range f.answer(before, request) {
				if _, err := theirs.Write(b); err != nil {
					return
				}
			}
		}
	}()
	return ours, nil
}

func (f *fake) seen() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// client makes a client of fakes, in this order; they are 192.0.2.1 and so on.
func client(t testing.TB, fakes ...*fake) *RADIUS {
	t.Helper()
	c := RADIUSConfig{
		NASIdentifier: "gateway.test", Timeout: time.Second, Tries: 3, DeadTime: 30 * time.Second,
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return fakes[to.Addr().As4()[3]-1].dial(ctx, to)
		},
	}
	for i := range fakes {
		c.Servers = append(c.Servers, Server{
			Name: string(rune('a' + i)), Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}),
			Port: 1812, Acct: 1813, Secret: []byte(fakeSecret),
		})
	}
	return NewRADIUS(c)
}

// request reads what a client sent.
func request(t testing.TB, b []byte) *radius.Packet {
	t.Helper()
	p, err := radius.Parse(b, []byte(fakeSecret))
	if err != nil {
		t.Fatal(err)
	}
	at, n := findMessageAuthenticator(b)
	nonce := p.Authenticator
	if p.Code != radius.CodeAccessRequest {
		nonce = [16]byte{}
		if !bytes.Equal(packetAuthenticator(b, nonce, []byte(fakeSecret)), b[4:20]) {
			t.Error("the Request Authenticator is wrong")
		}
	}
	if n != 1 || at != headerLen+2 || !bytes.Equal(messageAuthenticator(b, at, nonce, []byte(fakeSecret)), b[at:at+16]) {
		t.Error("the Message-Authenticator is missing, not the first attribute, or wrong")
	}
	return p
}

// reply starts an answer to a request.
func answerTo(t testing.TB, b []byte, code radius.Code) *radius.Packet {
	t.Helper()
	p := newPacket(code, []byte(fakeSecret))
	req := request(t, b)
	p.Identifier, p.Authenticator = req.Identifier, req.Authenticator
	return p
}

func sealed(t testing.TB, p *radius.Packet) []byte {
	t.Helper()
	b, err := seal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// identityPacket is an EAP-Response/Identity.
func identityPacket(name string) []byte {
	return append([]byte{2, 1, 0, byte(5 + len(name)), 1}, name...)
}

var (
	eapRequest = []byte{1, 2, 0, 6, 4, 0}
	eapSuccess = []byte{3, 2, 0, 4}
	eapFailure = []byte{4, 2, 0, 4}
)

// accept is an Access-Accept with keys.
func accept(t testing.TB, b []byte) *radius.Packet {
	p := answerTo(t, b, radius.CodeAccessAccept)
	p.Add(rfc2869.EAPMessage_Type, eapSuccess)
	recv, send := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	nonce := request(t, b).Authenticator
	for typ, key := range map[byte][]byte{msMPPERecvKey: recv, msMPPESendKey: send} {
		value := sealKey(key, [2]byte{0x80 | typ, typ}, nonce, []byte(fakeSecret))
		p.Add(rfc2865.VendorSpecific_Type, append([]byte{0, 0, 1, 55, typ, byte(2 + len(value))}, value...))
	}
	return p
}

// conversation is one of alice's.
func conversation(r *RADIUS) *Conversation {
	return r.Authenticate(Caller{
		Session: "s1", Connection: "clients",
		Peer: netip.MustParseAddr("198.51.100.7"), Local: netip.MustParseAddr("203.0.113.1"),
	})
}

// sealKey is the inverse of openKey.
func sealKey(key []byte, salt [2]byte, nonce [16]byte, secret suite.Secret) []byte {
	const block = md5.Size
	plain := append([]byte{byte(len(key))}, key...)
	for len(plain)%block != 0 {
		plain = append(plain, 0)
	}
	out := salt[:]
	before := append(nonce[:], salt[:]...)
	for i := 0; i < len(plain); i += block {
		h := md5.New()
		h.Write(secret)
		h.Write(before)
		sealed := make([]byte, block)
		subtle.XORBytes(sealed, plain[i:i+block], h.Sum(nil))
		out = append(out, sealed...)
		before = sealed
	}
	return out
}
