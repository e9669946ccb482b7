package eap

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// when is the time of the tests.
func when() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// authority is the CA of the tests with what it issued.
type authority struct {
	*pki.Authority
	server, client *pki.Credential
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ca, err := pki.NewAuthority("CA", when().Add(-time.Hour), 0, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{Authority: ca}
	a.server = a.issue(t, pki.Request{DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth})
	a.client = a.issue(t, pki.Request{CommonName: "alice", Emails: []string{"alice@example.com"}, Purpose: pki.ClientAuth})
	return a
}

func (a *authority) issue(t testing.TB, r pki.Request) *pki.Credential {
	t.Helper()
	if r.Now.IsZero() {
		r.Now = when().Add(-time.Hour)
	}
	if r.Key == pki.RSA3072 {
		r.Key = pki.ECDSAP256
	}
	c, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *authority) verifier() pki.Verifier {
	return pki.Verifier{Roots: []*x509.Certificate{a.Cert}, Now: when()}
}

// peer is a client of the method; change may alter its configuration.
func (a *authority) peer(m Type, inner []Type, version uint16, change ...func(*PeerConfig)) *Peer {
	c := PeerConfig{
		Identity: "anonymous@example.com", Username: "alice", Password: suite.Secret("wonderland"), Methods: []Type{m}, Inner: inner,
		Credential: a.client, Verifier: a.verifier(), ServerName: pki.Identity{Type: pki.IDFQDN, Data: "aaa.example.com"},
		MinTLS: version, MaxTLS: version,
	}
	for _, f := range change {
		f(&c)
	}
	return NewPeer(c)
}

func (a *authority) gateway(m Type, inner []Type, change ...func(*ServerConfig)) *Server {
	c := ServerConfig{Methods: []Type{m}, Inner: inner, Credentials: []*pki.Credential{a.server}, Verifier: a.verifier()}
	for _, f := range change {
		f(&c)
	}
	return NewServer(c)
}

// kind is one way to authenticate on TLS.
type kind struct {
	method Type
	inner  []Type
}

func (k kind) String() string { return fmt.Sprintf("%s%v", k.method, k.inner) }

// kinds are all of them.
func kinds() []kind {
	out := []kind{{method: TypeTLS}}
	for _, inner := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC, TypeTLS} {
		out = append(out, kind{TypeTTLS, []Type{inner}}, kind{TypePEAP, []Type{inner}})
	}
	return append(out, kind{TypeTTLS, []Type{TypePAP}}, kind{TypeTTLS, []Type{TypePlainMSCHAPv2}})
}

func versions() []uint16 { return []uint16{tls.VersionTLS12, tls.VersionTLS13} }

func TestMethodsOnTLS(t *testing.T) {
	a := newAuthority(t)
	for _, k := range kinds() {
		for _, version := range versions() {
			t.Run(k.String()+"/"+tls.VersionName(version), func(t *testing.T) {
				p, s := a.peer(k.method, k.inner, version), a.gateway(k.method, k.inner)
				o := converse(t, p, s, nil)
				agree(t, p, s, o)
				if len(p.MSK()) != 64 || bytes.Equal(p.MSK(), make([]byte, 64)) || !p.Mutual() || p.Method() != k.method {
					t.Error("no key, or not mutual")
				}
				if s.Claimed() != "anonymous@example.com" {
					t.Errorf("claimed %q", s.Claimed())
				}
				want := "alice"
				if k.method == TypeTLS {
					want = "alice@example.com"
				}
				if s.Identity() != want && s.Identity() != "alice@example.com" {
					t.Errorf("identity %q", s.Identity())
				}
				if p.Certificate() == nil || (s.Certificate() != nil) != (k.method == TypeTLS) {
					t.Error("certificates are not known")
				}
				if len(p.Warnings())+len(s.Warnings()) != 0 {
					t.Errorf("warned %q %q", p.Warnings(), s.Warnings())
				}
				for _, b := range o.packets {
					if bytes.Contains(b, []byte("wonderland")) || bytes.Contains(b, []byte("alice")) && (version == tls.VersionTLS13 || k.method != TypeTLS) {
						t.Errorf("a secret in the clear: %q", b)
					}
				}
			})
		}
	}
}

// TestFragments: the smallest fragments, and chains of RSA that need many.
func TestFragments(t *testing.T) {
	a := newAuthority(t)
	for _, size := range []int{64, 300, 1000, 60000} {
		for _, version := range versions() {
			p := a.peer(TypeTLS, nil, version, func(c *PeerConfig) { c.FragmentSize = size })
			s := a.gateway(TypeTLS, nil, func(c *ServerConfig) { c.FragmentSize = size })
			o := converse(t, p, s, nil)
			agree(t, p, s, o)
			for _, b := range o.packets {
				if len(b) > size+10 {
					t.Errorf("a packet of %d octets with fragments of %d", len(b), size)
				}
			}
		}
	}
}

// TestWrongInside: refusals inside a tunnel say why.
func TestWrongInside(t *testing.T) {
	a := newAuthority(t)
	for _, k := range kinds()[1:] {
		for _, version := range versions() {
			for _, user := range []string{"alice", "nobody"} {
				t.Run(k.String()+"/"+tls.VersionName(version)+"/"+user, func(t *testing.T) {
					p := a.peer(k.method, k.inner, version, func(c *PeerConfig) {
						c.Username, c.Password = user, suite.Secret("wrong")
						if k.inner[0] == TypeTLS {
							c.Credential = newAuthority(t).client
						}
					})
					s := a.gateway(k.method, k.inner)
					o := converse(t, p, s, nil)
					want := CodePassword
					if k.inner[0] == TypeTLS {
						want = CodeCertificate
					}
					is(t, o.server.Err, want)
					if o.peer.Err == nil || p.MSK() != nil || s.MSK() != nil {
						t.Error("let in")
					}
					if k.inner[0] == TypeMSCHAPv2 || k.inner[0] == TypeTLS {
						is(t, o.peer.Err, want)
					} else {
						is(t, o.peer.Err, CodeRefused)
					}
				})
			}
		}
	}
}

// TestInnerNak: the method inside is negotiated too.
func TestInnerNak(t *testing.T) {
	a := newAuthority(t)
	for _, m := range []Type{TypeTTLS, TypePEAP} {
		p := a.peer(m, []Type{TypeGTC}, 0)
		s := a.gateway(m, []Type{TypeMSCHAPv2, TypeMD5, TypeGTC})
		agree(t, p, s, converse(t, p, s, nil))
		p, s = a.peer(m, []Type{TypeGTC}, 0), a.gateway(m, []Type{TypeMD5})
		o := converse(t, p, s, nil)
		is(t, o.server.Err, CodeNoMethod)
		is(t, o.peer.Err, map[Type]Code{TypeTTLS: CodeRefused, TypePEAP: CodeRefused}[m])
	}
	for _, inner := range []Type{TypePAP, TypePlainMSCHAPv2} {
		p, s := a.peer(TypeTTLS, []Type{inner}, 0), a.gateway(TypeTTLS, []Type{TypeMSCHAPv2})
		is(t, converse(t, p, s, nil).server.Err, CodeNoMethod)
	}
	// The defaults meet.
	for _, m := range []Type{TypeTTLS, TypePEAP} {
		p, s := a.peer(m, nil, 0), a.gateway(m, nil)
		agree(t, p, s, converse(t, p, s, nil))
	}
}

// TestServerKeys: the server has more than one certificate.
func TestServerKeys(t *testing.T) {
	a := newAuthority(t)
	rsa := a.issue(t, pki.Request{DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth, Key: pki.RSA2048})
	ed := a.issue(t, pki.Request{DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth, Key: pki.Ed25519})
	for _, creds := range [][]*pki.Credential{{rsa}, {ed}, {rsa, a.server}} {
		for _, version := range versions() {
			p := a.peer(TypeTTLS, []Type{TypePAP}, version)
			s := a.gateway(TypeTTLS, nil, func(c *ServerConfig) { c.Credentials = creds })
			agree(t, p, s, converse(t, p, s, nil))
		}
	}
}

// TestKeyLog: what Wireshark needs comes out where it was asked for.
func TestKeyLog(t *testing.T) {
	a := newAuthority(t)
	var client, server strings.Builder
	p := a.peer(TypeTLS, nil, 0, func(c *PeerConfig) { c.KeyLog = &client })
	s := a.gateway(TypeTLS, nil, func(c *ServerConfig) { c.KeyLog = &server })
	agree(t, p, s, converse(t, p, s, nil))
	if client.Len() == 0 || !strings.Contains(server.String(), "CLIENT_TRAFFIC_SECRET_0") {
		t.Error("no key log")
	}
}

// TestRevocation: who asks for it is asked about each chain, before anything is shown to
// its owner, inside a tunnel too; who does not is not.
func TestRevocation(t *testing.T) {
	a := newAuthority(t)
	badServer := a.issue(t, pki.Request{CommonName: "revoked", DNSNames: []string{"aaa.example.com"}, Purpose: pki.ServerAuth})
	badClient := a.issue(t, pki.Request{CommonName: "revoked", Emails: []string{"alice@example.com"}, Purpose: pki.ClientAuth})
	for _, k := range []kind{{method: TypeTLS}, {TypeTTLS, []Type{TypePAP}}, {TypePEAP, []Type{TypeTLS}}} {
		for _, version := range versions() {
			for _, policy := range []pki.Revocation{pki.RevocationOff, pki.RevocationStrict} {
				for _, bad := range []string{"", "server", "client"} {
					t.Run(fmt.Sprint(k, tls.VersionName(version), policy, bad), func(t *testing.T) {
						p := a.peer(k.method, k.inner, version, func(c *PeerConfig) {
							c.Revocation = policy
							if bad == "client" {
								c.Credential = badClient
							}
						})
						s := a.gateway(k.method, k.inner, func(c *ServerConfig) {
							c.Revocation = policy
							if bad == "server" {
								c.Credentials = []*pki.Credential{badServer}
							}
						})
						o := converse(t, p, s, nil)
						noCert := k.method == TypeTTLS
						if policy == pki.RevocationOff || bad == "" || bad == "client" && noCert {
							agree(t, p, s, o)
							return
						}
						is(t, o.peer.Err, CodeCertificate)
						is(t, o.server.Err, CodeCertificate)
						found := o.peer.Err
						if bad == "client" {
							found = o.server.Err
						}
						if !errors.Is(found, &pki.CertError{Code: pki.CodeRevoked}) {
							t.Errorf("found %v", describe(found))
						}
						if len(o.lookups) > 0 || p.MSK() != nil || s.MSK() != nil {
							t.Error("it went on")
						}
					})
				}
			}
		}
	}
	// Stopped while somebody asks, nothing is left, as TestMain sees.
	p := a.peer(TypeTTLS, nil, 0, func(c *PeerConfig) { c.Revocation = pki.RevocationRelaxed })
	s := a.gateway(TypeTTLS, nil)
	var seen []string
	st := s.Start()
	for st.Vouch == nil {
		if st = p.Handle(st.Send); st.Vouch == nil {
			st = settle(t, s, s.Handle(st.Send), accounts, &seen)
		}
	}
	if st.Vouch.Chain[0] == nil || len(st.Vouch.Chain) != 2 {
		t.Errorf("a chain of %d", len(st.Vouch.Chain))
	}
	is(t, p.Resume().Err, CodeProtocol)
	is(t, p.Vouched(nil).Err, CodeProtocol)
	s.Stop()
	is(t, alice().Vouched(nil).Err, CodeProtocol)
	is(t, NewServer(ServerConfig{}).Vouched(nil).Err, CodeProtocol)
}
