package eap

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"martlet/crypto/suite"
)

const mskLen = 64

// Labels of the keys (RFC 5216 §2.3, RFC 5281 §8 and §11.1, RFC 9190 §2.3,
// RFC 9427 §2.1).
const (
	labelTLS       = "client EAP encryption" // PEAP too
	labelTTLS      = "ttls keying material"
	labelTLS13     = "EXPORTER_EAP_TLS_Key_Material" // with the type as context
	labelChallenge = "ttls challenge"
)

// exportMSK makes the MSK of a method whose handshake is over.
func (c *channel) exportMSK(t Type) error {
	label, context := labelTLS, []byte(nil)
	if t == TypeTTLS {
		label = labelTTLS
	}
	if c.version() == tls.VersionTLS13 {
		label, context = labelTLS13, []byte{byte(t)}
	}
	// MSK and EMSK are one piece: in TLS 1.3 the length counts.
	key, err := c.export(label, context, 2*mskLen)
	if err != nil {
		return err
	}
	c.msk = suite.Secret(key[:mskLen])
	return nil
}

func (c *channel) version() uint16 { return c.conn.ConnectionState().Version }

// export is the exporter of TLS (RFC 5705 §4). crypto/tls refuses it for TLS 1.2 without
// extended master secret (RFC 7627 §5.4), which older peers do not have; then the PRF is
// run here.
func (c *channel) export(label string, context []byte, n int) ([]byte, error) {
	cs := c.conn.ConnectionState()
	key, err := cs.ExportKeyingMaterial(label, context, n)
	if err == nil || cs.Version != tls.VersionTLS12 || context != nil {
		return key, err
	}
	c.warn("the other side's TLS 1.2 lacks the extended master secret (RFC 7627): its TLS should be updated")
	return c.secret.export(label, cs.CipherSuite, n)
}

func (c *channel) warn(text string) {
	for _, w := range c.warned {
		if w == text {
			return
		}
	}
	c.warned = append(c.warned, text)
}

// tlsSecret is what the PRF needs, gathered from the key log and from the wire.
type tlsSecret struct {
	also         io.Writer // where the key log goes too, nil nowhere
	master       []byte
	clientRandom []byte
	hello        []byte // what the server sent first
}

// The server's random stands behind the header of the record (5 octets), of the handshake
// message (4) and the version (2) of the first thing that it says.
const (
	randomLen   = 32
	serverHello = 5 + 4 + 2 + randomLen
)

// watch sees what the server sends.
func (s *tlsSecret) watch(b []byte) {
	if n := serverHello - len(s.hello); n > 0 {
		s.hello = append(s.hello, b[:min(n, len(b))]...)
	}
}

// serverRandom is the random of a ServerHello that stands first and in one record, as
// every TLS sends it.
func (s *tlsSecret) serverRandom() ([]byte, bool) {
	const typeHandshake, typeServerHello = 22, 2
	if len(s.hello) < serverHello || s.hello[0] != typeHandshake || s.hello[5] != typeServerHello {
		return nil, false
	}
	return s.hello[serverHello-randomLen : serverHello], true
}

// Write takes a line of the key log.
func (s *tlsSecret) Write(line []byte) (int, error) {
	if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "CLIENT_RANDOM" {
		random, err := hex.DecodeString(string(f[1]))
		master, err2 := hex.DecodeString(string(f[2]))
		if err == nil && err2 == nil {
			s.clientRandom, s.master = random, master
		}
	}
	if s.also != nil {
		return s.also.Write(line)
	}
	return len(line), nil
}

// export is TLS-PRF(master secret, label, client random + server random) (RFC 5216 §2.3).
func (s *tlsSecret) export(label string, cipher uint16, n int) ([]byte, error) {
	server, ok := s.serverRandom()
	if !ok || len(s.master) == 0 || len(s.clientRandom) != randomLen {
		return nil, errors.New("eap: the secrets of this TLS 1.2 without extended master secret are not known")
	}
	h, err := prfHash(cipher)
	if err != nil {
		return nil, err
	}
	return prf12(h, s.master, label, append(bytes.Clone(s.clientRandom), server...), n), nil
}

// prfHash is the hash of the PRF of a cipher suite of TLS 1.2 (RFC 5246 §5, RFC 5288 §3).
func prfHash(cipher uint16) (func() hash.Hash, error) {
	switch cipher {
	case tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return sha512.New384, nil
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA256:
		return sha256.New, nil
	}
	return nil, fmt.Errorf("eap: the hash of cipher suite %s is not known", tls.CipherSuiteName(cipher))
}

// prf12 is the PRF of TLS 1.2 (RFC 5246 §5).
func prf12(h func() hash.Hash, secret []byte, label string, seed []byte, n int) []byte {
	seed = append([]byte(label), seed...)
	sum := func(parts ...[]byte) []byte {
		m := hmac.New(h, secret)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}
