package ike

import (
	"crypto/x509"

	"martlet/crypto/pki"
)

// mustVouch notes that a chain was verified and that its revocation is still to be
// asked about. Nothing is fetched for chains that are not trusted.
func (s *ikeSA) mustVouch(remote *Remote, chain []*x509.Certificate, stapled [][]byte) {
	if remote.Revocation == pki.RevocationOff || len(pki.Links(chain)) == 0 {
		return
	}
	s.unvouched = &Vouch{SA: s.id(), Chain: chain, Policy: remote.Revocation, Stapled: stapled}
}

// vouch calls then when it is known whether the peer may go on with the certificates that
// it showed, at once where nothing is to be asked.
func (s *ikeSA) vouch(then func(*Error)) {
	q := s.unvouched
	if q == nil {
		then(nil)
		return
	}
	s.unvouched = nil
	q.Connection = s.conn.Name
	s.ask(*q, func(r Reply) {
		got, ok := r.(Vouched)
		switch {
		case !ok:
			then(errInternal(errWrongReply.Error()))
		case got.Err != nil:
			then(errCert(s, got.Err))
		default:
			then(nil)
		}
	})
}

// staple calls then with an OCSP response about our certificate, if the peer asked for one
// and there is one.
func (s *ikeSA) staple(cred *pki.Credential, then func(ocsp []byte)) {
	if !s.wantsOCSP || cred.Cert == nil || len(cred.Cert.OCSPServer) == 0 {
		then(nil)
		return
	}
	s.ask(Staple{Credential: cred}, func(r Reply) {
		stapled, _ := r.(Stapled)
		then(stapled.OCSP)
	})
}
