package eap

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"martlet/crypto/pki"
)

// A TLS 1.2 by hand, with one cipher suite and no extension at all, so without extended
// master secret, which crypto/tls cannot leave out: ECDHE with X25519, AES-128-GCM and
// SHA-256 (RFC 5246 §7.3, RFC 5288 §3, RFC 8422 §5).
type bareTLS struct {
	client, server [32]byte // the randoms
	transcript     []byte
	key            *ecdh.PrivateKey
	master         []byte
	seal, open     cipher.AEAD
	sealIV, openIV []byte
	in             []byte
}

func newBareTLS(t testing.TB) *bareTLS {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &bareTLS{key: key}
}

// pSHA256 is written apart from the code under test.
func pSHA256(secret []byte, label string, seed []byte, n int) []byte {
	mac := func(b []byte) []byte { m := hmac.New(sha256.New, secret); m.Write(b); return m.Sum(nil) }
	full := append([]byte(label), seed...)
	a, out := mac(full), []byte(nil)
	for len(out) < n {
		out = append(out, mac(append(bytes.Clone(a), full...))...)
		a = mac(a)
	}
	return out[:n]
}

func (b *bareTLS) secrets(t testing.TB, other []byte, isServer bool) {
	t.Helper()
	pub, err := ecdh.X25519().NewPublicKey(other)
	if err != nil {
		t.Fatal(err)
	}
	premaster, err := b.key.ECDH(pub)
	if err != nil {
		t.Fatal(err)
	}
	b.master = pSHA256(premaster, "master secret", append(b.client[:], b.server[:]...), 48)
	block := pSHA256(b.master, "key expansion", append(b.server[:], b.client[:]...), 40)
	aead := func(key []byte) cipher.AEAD {
		c, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		g, err := cipher.NewGCM(c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	b.seal, b.open, b.sealIV, b.openIV = aead(block[:16]), aead(block[16:32]), block[32:36], block[36:40]
	if isServer {
		b.seal, b.open, b.sealIV, b.openIV = b.open, b.seal, b.openIV, b.sealIV
	}
}

func (b *bareTLS) msk() []byte {
	return pSHA256(b.master, "ttls keying material", append(b.client[:], b.server[:]...), 128)[:64]
}

func (b *bareTLS) finished(label string) []byte {
	sum := sha256.Sum256(b.transcript)
	return handshakeMessage(20, pSHA256(b.master, label, sum[:], 12))
}

func handshakeMessage(typ byte, body []byte) []byte {
	return append([]byte{typ, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func record(typ byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{typ, 3, 3}, uint16(len(body))), body...)
}

// say gives handshake messages in the clear.
func (b *bareTLS) say(messages ...[]byte) []byte {
	var out []byte
	for _, m := range messages {
		b.transcript = append(b.transcript, m...)
		out = append(out, record(22, m)...)
	}
	return out
}

// sealFinished is change cipher spec and Finished, the first record under the keys.
func (b *bareTLS) sealFinished(label string) []byte {
	m := b.finished(label)
	b.transcript = append(b.transcript, m...)
	nonce := make([]byte, 8)
	aad := append(make([]byte, 8), 22, 3, 3, 0, byte(len(m)))
	body := b.seal.Seal(bytes.Clone(nonce), append(bytes.Clone(b.sealIV), nonce...), m, aad)
	return append(record(20, []byte{1}), record(22, body)...)
}

// hear takes the next record.
func (b *bareTLS) hear(t testing.TB, want byte) []byte {
	t.Helper()
	s := cryptobyte.String(b.in)
	var typ uint8
	var version uint16
	var body cryptobyte.String
	if !s.ReadUint8(&typ) || !s.ReadUint16(&version) || !s.ReadUint16LengthPrefixed(&body) || typ != want {
		t.Fatalf("a record of type %d, want %d: %x", typ, want, b.in)
	}
	b.in = s
	return body
}

// openFinished checks what sealFinished of the other side makes.
func (b *bareTLS) openFinished(t testing.TB, label string) {
	t.Helper()
	b.hear(t, 20)
	body := b.hear(t, 22)
	want := b.finished(label)
	aad := append(make([]byte, 8), 22, 3, 3, 0, byte(len(want)))
	got, err := b.open.Open(nil, append(bytes.Clone(b.openIV), body[:8]...), body[8:], aad)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("Finished is %x, %v", got, err)
	}
	b.transcript = append(b.transcript, want...)
}

func (b *bareTLS) keyExchangeParams(pub []byte) []byte {
	return append([]byte{3, 0, 29, byte(len(pub))}, pub...)
}

// TestNoExtendedMasterSecretPeer: our client, a server without RFC 7627.
func TestNoExtendedMasterSecretPeer(t *testing.T) {
	a := newAuthority(t)
	p := a.peer(TypeTTLS, []Type{TypePAP}, 0, func(c *PeerConfig) { c.FragmentSize = 60000 })
	t.Cleanup(p.Stop)
	b := newBareTLS(t)
	id := byte(0)
	ask := func(body []byte) []byte {
		id++
		st := settle(t, p, p.Handle(newPacket(codeRequest, id, TypeTTLS, body)), nil, nil)
		if st.Err != nil {
			t.Fatal(describe(st.Err))
		}
		return st.Send[6:]
	}
	b.in = ask([]byte{flagStart})
	hello := b.hear(t, 22)
	b.transcript = append(b.transcript, hello...)
	copy(b.client[:], hello[6:])
	b.server = [32]byte{1, 2, 3}
	serverHello := handshakeMessage(2, append(append([]byte{3, 3}, b.server[:]...), 0, 0xc0, 0x2b, 0))
	der := a.server.Cert.Raw
	n := len(der)
	cert := handshakeMessage(11, append([]byte{0, byte((n + 3) >> 8), byte(n + 3), 0, byte(n >> 8), byte(n)}, der...))
	params := b.keyExchangeParams(b.key.PublicKey().Bytes())
	digest := sha256.Sum256(append(append(bytes.Clone(b.client[:]), b.server[:]...), params...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.server.Key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	exchange := handshakeMessage(12, append(append(params, 4, 3, 0, byte(len(sig))), sig...))
	b.in = ask(append([]byte{0}, b.say(serverHello, cert, exchange, handshakeMessage(14, nil))...))
	clientKey := b.hear(t, 22)
	b.transcript = append(b.transcript, clientKey...)
	b.secrets(t, clientKey[5:], true)
	b.openFinished(t, "client finished")
	ask(append([]byte{0}, b.sealFinished("server finished")...))
	if st := p.Handle(resultPacket(codeSuccess, id)); st.Err != nil {
		t.Fatal(describe(st.Err))
	}
	if !bytes.Equal(p.MSK(), b.msk()) {
		t.Error("another key")
	}
	if len(p.Warnings()) != 1 || !strings.Contains(p.Warnings()[0], "extended master secret") {
		t.Errorf("warned %q", p.Warnings())
	}
}

// TestNoExtendedMasterSecretServer: our server, a client without RFC 7627. The method
// inside is that whose challenge comes from the exporter too.
func TestNoExtendedMasterSecretServer(t *testing.T) {
	a := newAuthority(t)
	s := a.gateway(TypeTTLS, nil, func(c *ServerConfig) { c.FragmentSize, c.SkipIdentity = 60000, "anonymous" })
	t.Cleanup(s.Stop)
	b := newBareTLS(t)
	s.Start()
	answer := func(body []byte) []byte {
		st := settle(t, s, s.Handle(newPacket(codeResponse, s.id, TypeTTLS, body)), accounts, new([]string))
		if st.Err != nil {
			t.Fatal(describe(st.Err))
		}
		return st.Send[6:]
	}
	b.client = [32]byte{9, 8, 7}
	// supported_groups and signature_algorithms are what crypto/tls insists on.
	extensions := []byte{0, 18, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4}
	hello := append(append([]byte{3, 3}, b.client[:]...), 0, 0, 2, 0xc0, 0x2b, 1, 0)
	b.in = answer(append([]byte{0}, b.say(handshakeMessage(1, append(hello, extensions...)))...))
	var other []byte
	for range 4 {
		// Records may hold several messages.
		body := cryptobyte.String(b.hear(t, 22))
		b.transcript = append(b.transcript, body...)
		for !body.Empty() {
			var typ uint8
			var m cryptobyte.String
			if !body.ReadUint8(&typ) || !body.ReadUint24LengthPrefixed(&m) {
				t.Fatal("no handshake message")
			}
			switch typ {
			case 2:
				copy(b.server[:], m[2:34])
			case 12:
				other = m[4:36]
			}
		}
		if len(b.in) == 0 {
			break
		}
	}
	b.secrets(t, other, false)
	pub := b.key.PublicKey().Bytes()
	flight := b.say(handshakeMessage(16, append([]byte{byte(len(pub))}, pub...)))
	flight = append(flight, b.sealFinished("client finished")...)
	b.in = answer(append([]byte{0}, flight...))
	b.openFinished(t, "server finished")
	c := s.method.(*tlsMethod).c
	if !bytes.Equal(c.msk, b.msk()) {
		t.Error("another key")
	}
	challenge, err := c.export(labelChallenge, nil, ttlsChallengeLen)
	if err != nil || !bytes.Equal(challenge, pSHA256(b.master, "ttls challenge", append(b.client[:], b.server[:]...), 17)) {
		t.Errorf("another challenge, %v", err)
	}
	if len(s.Warnings()) != 1 {
		t.Errorf("warned %q", s.Warnings())
	}
}

// TestPRFVectors are the known answers for the PRF of TLS 1.2 that went round the IETF's
// TLS list.
func TestPRFVectors(t *testing.T) {
	octets := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, v := range []struct {
		hash         func() hash.Hash
		secret, seed string
		want         string
	}{
		{
			sha256.New, "9bbe436ba940f017b17652849a71db35", "a0ba9f936cda311827a6f796ffd5198c",
			"e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66",
		},
		{
			sha512.New384, "b80b733d6ceefcdc71566ea48e5567df", "cd665cf6a8447dd6ff8b27555edb7465",
			"7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d9184259b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703d73e56f",
		},
	} {
		want := octets(v.want)
		if got := prf12(v.hash, octets(v.secret), "test label", octets(v.seed), len(want)); !bytes.Equal(got, want) {
			t.Errorf("%x", got)
		}
	}
}

// TestPRFAgrees: for each cipher suite of TLS 1.2 our PRF gives what the exporter of
// crypto/tls does: with extended master secret both start from the same master secret.
func TestPRFAgrees(t *testing.T) {
	a := newAuthority(t)
	rsa := a.issue(t, pki.Request{DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth, Key: pki.RSA2048})
	ed := a.issue(t, pki.Request{DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth, Key: pki.Ed25519})
	if _, ok := ed.Key.(ed25519.PrivateKey); !ok {
		t.Fatal("no Ed25519")
	}
	for _, suites := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, c := range suites {
			if c.SupportedVersions[0] == tls.VersionTLS13 || strings.Contains(c.Name, "RC4") || strings.Contains(c.Name, "3DES") {
				continue
			}
			if _, err := prfHash(c.ID); err != nil {
				t.Error(err)
			}
		}
	}
	for _, cred := range []*pki.Credential{rsa, ed, a.server} {
		p := a.peer(TypeTTLS, []Type{TypePAP}, tls.VersionTLS12)
		s := a.gateway(TypeTTLS, nil, func(c *ServerConfig) { c.Credentials = []*pki.Credential{cred} })
		agree(t, p, s, converse(t, p, s, nil))
		for _, c := range []*channel{p.method.(*tlsMethod).c, s.method.(*tlsMethod).c} {
			key, err := c.secret.export(labelTTLS, c.conn.ConnectionState().CipherSuite, 128)
			if err != nil || !bytes.Equal(key[:64], p.MSK()) {
				t.Errorf("another key, %v", err)
			}
		}
	}
	if _, err := prfHash(0xffff); err == nil {
		t.Error("an unknown cipher suite has a hash")
	}
	if _, err := new(tlsSecret).export(labelTTLS, 0xc02b, 64); err == nil {
		t.Error("a key from nothing")
	}
}
