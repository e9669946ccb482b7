package eap

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"martlet/crypto/pki"
)

// EAP-TLS (RFC 5216 §2.1, RFC 9190 §2.1), and what TTLS and PEAP share with it.

// protectedSuccess is what a server of EAP-TLS says at the end of TLS 1.3 (RFC 9190 §2.5).
const protectedSuccess = 0

// tlsConfig is what both ends have in common. Certificates are verified by verify and
// nowhere else. There are no session tickets: a resumed session would be an
// authentication without anybody's certificate or password.
func (m *tlsMethod) tlsConfig(least, most uint16, v pki.Verifier) *tls.Config {
	return &tls.Config{
		MinVersion: cmp.Or(least, tls.VersionTLS12),
		MaxVersion: cmp.Or(most, tls.VersionTLS13),
		// A ClientHello with ML-KEM does not fit into one packet, which some servers do
		// not expect; IKE around it has a hybrid of its own.
		CurvePreferences:       []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
		SessionTicketsDisabled: true,
		KeyLogWriter:           &m.c.secret,
		Time:                   func() time.Time { return v.Now },
	}
}

// certificate wraps a credential for crypto/tls, so that signing yields work.
func (m *tlsMethod) tlsCertificate(cred *pki.Credential) tls.Certificate {
	out := tls.Certificate{Certificate: [][]byte{cred.Cert.Raw}, PrivateKey: signer{cred.Key, m.c}, Leaf: cred.Cert}
	for _, ca := range cred.Chain {
		out.Certificate = append(out.Certificate, ca.Raw)
	}
	return out
}

// verify checks the other side's certificate: chain, usage, name and, where it is asked
// about, revocation. crypto/tls calls it before anything of ours is sent that is worth
// protecting.
func (m *tlsMethod) verify(v pki.Verifier, role pki.Purpose, name pki.Identity, revocation pki.Revocation) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return &pki.CertError{Code: pki.CodeMalformed, What: "the other side sent no certificate"}
		}
		leaf := cs.PeerCertificates[0]
		chain, err := v.Chain(leaf, cs.PeerCertificates[1:], role)
		if err != nil {
			return err
		}
		// A certificate for anything would let each of the CA's users play the server.
		if role == pki.ServerAuth && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return &pki.CertError{
				Code: pki.CodeWrongUsage, What: "the certificate is not one of a TLS server", Why: "it has no extended key usage serverAuth",
				Hint: "issue it with the extended key usage serverAuth",
			}
		}
		if !name.IsZero() {
			if err := pki.MatchCert(name, leaf); err != nil {
				return err
			}
		}
		if revocation != pki.RevocationOff && len(pki.Links(chain)) > 0 {
			vouch := &Vouch{Chain: chain}
			if len(cs.OCSPResponse) > 0 {
				vouch.Stapled = [][]byte{cs.OCSPResponse}
			}
			if !m.c.ask(want{vouch: vouch}) {
				return errGone
			}
			if m.c.verdict != nil {
				return m.c.verdict
			}
		}
		m.cert = leaf
		return nil
	}
}

// handshakePeer runs the client's handshake.
func (p *Peer) handshakePeer(m *tlsMethod) error {
	c := &p.config
	config := m.tlsConfig(c.MinTLS, c.MaxTLS, c.Verifier)
	config.Rand = c.Rand
	config.InsecureSkipVerify = true // verify does it, with the rules of package pki
	config.VerifyConnection = m.verify(c.Verifier, pki.ServerAuth, c.ServerName, c.Revocation)
	if m.typ == TypeTLS {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := m.tlsCertificate(c.Credential)
			return &cert, nil
		}
	}
	m.c.secret.also = c.KeyLog
	m.c.conn = tls.Client(m.c, config)
	return m.c.conn.Handshake()
}

// handshakeServer runs the server's handshake.
func (s *Server) handshakeServer(m *tlsMethod) error {
	c := &s.config
	config := m.tlsConfig(c.MinTLS, c.MaxTLS, c.Verifier)
	config.Rand = c.Rand
	for _, cred := range c.Credentials {
		config.Certificates = append(config.Certificates, m.tlsCertificate(cred))
	}
	if m.typ == TypeTLS {
		config.ClientAuth = tls.RequireAnyClientCert
		config.VerifyConnection = m.verify(c.Verifier, pki.ClientAuth, pki.Identity{}, c.Revocation)
		// Which CAs we name tells the client which of its certificates to use.
		config.ClientCAs = x509.NewCertPool()
		for _, ca := range c.Verifier.Roots {
			config.ClientCAs.AddCert(ca)
		}
	}
	m.c.secret.also = c.KeyLog
	m.c.conn = tls.Server(m.c, config)
	return m.c.conn.Handshake()
}

// tlsPeer is the script of a client of EAP-TLS.
func (p *Peer) tlsPeer(m *tlsMethod) error {
	c := m.c
	if err := p.handshakePeer(m); err != nil {
		return err
	}
	if c.version() < tls.VersionTLS13 {
		return c.exportMSK(TypeTLS)
	}
	// Without this word EAP-Success counts for nothing (RFC 9190 §2.5).
	said, err := c.read()
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != protectedSuccess {
		return protocolError("TLS 1.3 carries something else than the end of EAP-TLS")
	}
	return c.exportMSK(TypeTLS)
}

// tlsServer is the script of a server of EAP-TLS.
func (s *Server) tlsServer(m *tlsMethod) error {
	c := m.c
	if err := s.handshakeServer(m); err != nil {
		return err
	}
	if m.cert == nil {
		return errors.New("eap: no client certificate")
	}
	if c.who = clientName(m.cert, s.claimed); c.who == "" {
		return &pki.CertError{
			Code: pki.CodeNameMismatch, What: "the certificate is for nobody", Why: "it has neither a name nor an e-mail address",
			Hint: "issue it with the user's name as the common name or in subjectAltName",
		}
	}
	if err := c.exportMSK(TypeTLS); err != nil {
		return err
	}
	if c.version() == tls.VersionTLS13 {
		return c.write([]byte{protectedSuccess})
	}
	return nil
}
