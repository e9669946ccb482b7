package ike

import (
	"crypto"
	"errors"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// proof is how one side authenticates in IKE_AUTH: prove makes our AUTH payload, check
// verifies the peer's.
type proof interface {
	// identity is ours; wanted is what the peer asked for in IDr, or zero.
	identity(s *ikeSA, wanted pki.Identity) (pki.Identity, *Error)
	// prove calls then with our CERT and AUTH payloads, now or after an Ask. octets
	// is what is signed; identity was called before.
	prove(s *ikeSA, octets []byte, then func([]message.Payload, *Error))
	// check verifies the peer's AUTH payload over octets, and that it proves the
	// identity that it claims, which remote must allow.
	check(s *ikeSA, remote *Remote, p *peerProof) *Error
}

// peerProof is what the peer sent to authenticate.
type peerProof struct {
	id     pki.Identity
	auth   *message.Auth
	ps     []message.Payload // with the certificates
	octets []byte
	strict bool // no SHA-1
}

func identityOf(p *message.ID) pki.Identity {
	return pki.Identity{Type: pki.IDType(p.Kind), Data: string(p.Data)}
}

func idPayload(responder bool, id pki.Identity) *message.ID {
	return &message.ID{Responder: responder, Kind: uint8(id.Type), Data: []byte(id.Data)}
}

// methodOf tells how a peer proves itself by its AUTH payload.
func methodOf(a *message.Auth) AuthMethod {
	switch a.Method {
	case message.AuthPSK:
		return AuthPSK
	case message.AuthRSA, message.AuthECDSA256, message.AuthECDSA384, message.AuthECDSA521, message.AuthSignature:
		return AuthCert
	}
	return 0
}

// proofOf is how we authenticate on a connection in one round.
func proofOf(c *Connection, round *Local) (proof, *Error) {
	switch round.Method {
	case authResumed:
		return &resumedProof{}, nil
	case AuthPSK:
		return &pskProof{local: round}, nil
	case AuthCert:
		return &certProof{conn: c, local: round}, nil
	case AuthEAP:
		return &eapProof{local: round}, nil
	}
	return nil, errInternal("connection " + c.Name + " has no method to authenticate")
}

// checkerOf is how the peer has to authenticate.
func checkerOf(r *Remote) (proof, *Error) {
	switch r.Method {
	case authResumed:
		return &resumedProof{}, nil
	case AuthPSK:
		return &pskProof{}, nil
	case AuthCert:
		return &certProof{}, nil
	case AuthEAP:
		return &eapProof{}, nil
	}
	return nil, errInternal("a connection has no method for its peer to authenticate")
}

// pskProof is a pre-shared key (RFC 7296 §2.15).
type pskProof struct{ local *Local }

func (p *pskProof) identity(s *ikeSA, _ pki.Identity) (pki.Identity, *Error) {
	if !p.local.ID.IsZero() {
		return p.local.ID, nil
	}
	return pki.Addr(s.path.Local.Addr().Unmap()), nil
}

func (p *pskProof) prove(s *ikeSA, octets []byte, then func([]message.Payload, *Error)) {
	if len(p.local.PSK) == 0 {
		then(nil, errNoCredential(nil))
		return
	}
	then([]message.Payload{&message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, p.local.PSK, octets)}}, nil)
}

func (*pskProof) check(s *ikeSA, remote *Remote, p *peerProof) *Error {
	switch {
	case p.auth.Method != message.AuthPSK:
		return errMethod(s, p.auth.Method, AuthPSK)
	case len(remote.PSK) == 0:
		return errNoCredential(nil)
	case !remote.ID.Match(p.id):
		return errIdentity(s, p.id, remote.ID)
	case !VerifyPSKAuth(s.prf, remote.PSK, p.octets, p.auth.Data):
		return errPSK(p.id)
	}
	return nil
}

// certProof is a certificate, with the signature methods 1, 9, 10, 11 and 14.
type certProof struct {
	conn   *Connection
	local  *Local
	cred   *pki.Credential
	scheme pki.Scheme
}

func (p *certProof) identity(s *ikeSA, wanted pki.Identity) (pki.Identity, *Error) {
	var err *Error
	if p.cred, p.scheme, err = s.chooseCredential(p.conn, p.local); err != nil {
		return pki.Identity{}, err
	}
	switch {
	case !p.local.ID.IsZero():
		return p.local.ID, nil
	case p.cred.Cert == nil:
		return pki.Identity{}, errNoCredential(errors.New("a bare key has no name that can be an identity"))
	case !wanted.IsZero() && pki.MatchCert(wanted, p.cred.Cert) == nil:
		return wanted, nil
	}
	if id := pki.IdentityOf(p.cred.Cert); !id.IsZero() {
		return id, nil
	}
	return pki.Identity{}, errNoCredential(errors.New("the certificate has no name that can be an identity"))
}

func (p *certProof) prove(s *ikeSA, octets []byte, then func([]message.Payload, *Error)) {
	cred, scheme := p.cred, p.scheme
	s.staple(cred, func(ocsp []byte) {
		s.work(func() (any, error) {
			method, data, err := pki.Sign(scheme, cred.Key, octets)
			return &message.Auth{Method: message.AuthMethod(method), Data: data}, err
		}, func(v any, err error) {
			auth, ok := v.(*message.Auth)
			if err == nil && !ok {
				err = errWrongReply
			}
			var certs []message.Payload
			if err == nil {
				certs, err = certPayloads(cred, ocsp)
			}
			if err != nil {
				then(nil, errNoCredential(err))
				return
			}
			then(append(certs, auth), nil)
		})
	})
}

func (*certProof) check(s *ikeSA, remote *Remote, p *peerProof) *Error {
	s.unvouched = nil
	if methodOf(p.auth) != AuthCert {
		return errMethod(s, p.auth.Method, AuthCert)
	}
	certs, failed := readCerts(p.ps)
	if failed != nil {
		return failed
	}
	policy := pki.SignaturePolicy{
		AllowSHA1:    !s.supports(extSignatureHashes) && !p.strict,
		AllowWeakRSA: remote.Verifier.AllowWeakRSA,
	}
	if len(remote.Verifier.Keys) > 0 {
		return checkRawKey(s, remote, p, certs, policy)
	}
	if certs.leaf == nil {
		return errCertMissing()
	}
	// A gateway may name itself otherwise than we know it (Windows: by its subject);
	// a certificate for the name that we demand is as good then.
	if !remote.ID.Match(p.id) && (!s.initiator || pki.MatchCert(remote.ID, certs.leaf) != nil) {
		return errIdentity(s, p.id, remote.ID)
	}
	if _, err := pki.VerifySignature(uint8(p.auth.Method), p.auth.Data, p.octets, certs.leaf.PublicKey, policy); err != nil {
		return errSignature(p.id, err)
	}
	v := remote.Verifier
	v.Now = s.e.now
	chain, err := v.Chain(certs.leaf, certs.others, remote.Purpose)
	if err != nil {
		return errCert(s, err)
	}
	if err := pki.MatchCert(p.id, certs.leaf); err != nil {
		return errCert(s, err)
	}
	s.mustVouch(remote, chain, certs.ocsp)
	return nil
}

// checkRawKey is for a peer whose key, and not a certificate, is known. It may leave it to us
// which that is; what it sends must be one of them. The key proves the identities
// that are configured beside it.
func checkRawKey(s *ikeSA, remote *Remote, p *peerProof, certs peerCerts, policy pki.SignaturePolicy) *Error {
	if !remote.ID.Match(p.id) {
		return errIdentity(s, p.id, remote.ID)
	}
	keys := remote.Verifier.Keys
	switch {
	case certs.rawKey != nil:
		key, err := pki.ParsePublicKey(certs.rawKey)
		if err != nil {
			return errCertMalformed(err)
		}
		keys = []crypto.PublicKey{key}
	case certs.leaf != nil:
		keys = []crypto.PublicKey{certs.leaf.PublicKey}
	}
	var last error
	for _, key := range keys {
		if err := remote.Verifier.CheckKey(key); err != nil {
			return errCert(s, err)
		}
		if _, last = pki.VerifySignature(uint8(p.auth.Method), p.auth.Data, p.octets, key, policy); last == nil {
			return nil
		}
	}
	return errSignature(p.id, last)
}
