package level2

import (
	"crypto"
	"crypto/x509"
	"sync"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

// people is a CA and the certificates of a gateway and a client.
type people struct {
	ca              *pki.Authority
	gateway, client *person
}

// person is who one side is.
type person struct {
	cred *pki.Credential
	ca   *pki.Authority
}

// rsaKey is one key for all tests, since to make one takes long.
var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return pki.GenerateKey(pki.RSA2048) })

// people makes everybody's certificates, valid by the time of the bubble.
func (w *world) people(kind pki.KeyKind) *people {
	w.Helper()
	ca, err := pki.NewAuthority("Test CA", time.Now(), 0, pki.ECDSAP256)
	if err != nil {
		w.Fatal(err)
	}
	p := &people{ca: ca}
	p.gateway = w.issue(ca, kind, pki.Request{DNSNames: []string{"gateway.test"}, Purpose: pki.ServerAuth})
	p.client = w.issue(ca, kind, pki.Request{Emails: []string{"alice@test"}, Purpose: pki.ClientAuth})
	return p
}

// issue makes a certificate and its key.
func (w *world) issue(ca *pki.Authority, kind pki.KeyKind, req pki.Request) *person {
	w.Helper()
	key, err := rsaKey()
	if kind != pki.RSA2048 {
		key, err = pki.GenerateKey(kind)
	}
	if err != nil {
		w.Fatal(err)
	}
	req.Public = key.Public()
	if req.Now.IsZero() {
		req.Now = time.Now()
	}
	cred, err := ca.Issue(req)
	if err != nil {
		w.Fatal(err)
	}
	cred.Key = key
	return &person{cred, ca}
}

// local is how the person proves who it is.
func (p *person) local() config.Auth {
	return config.Auth{Auth: "cert", Credentials: []*pki.Credential{p.cred}}
}

// trusts is what the person demands of the other side.
func (p *person) trusts(id string) config.Auth {
	return config.Auth{Auth: "cert", ID: id, Verifier: pki.Verifier{Roots: []*x509.Certificate{p.ca.Cert}}}
}
