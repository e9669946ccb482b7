package ike

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/binary"
	"slices"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// signatureHashes is the data of our SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4).
func signatureHashes() []byte {
	var b []byte
	for _, h := range pki.Hashes() {
		b = binary.BigEndian.AppendUint16(b, uint16(h))
	}
	return b
}

// parseHashes reads a peer's.
func parseHashes(b []byte) []pki.HashID {
	var out []pki.HashID
	for ; len(b) >= 2 && len(out) < 32; b = b[2:] {
		out = append(out, pki.HashID(binary.BigEndian.Uint16(b)))
	}
	return out
}

// certPayloads is the certificates of a credential, the end entity first, and an OCSP
// response about it (RFC 4806 §3), or a bare key. They are sent whether or not the peer
// asked, since Apple's clients do not ask.
func certPayloads(c *pki.Credential, ocsp []byte) ([]message.Payload, error) {
	if c.Cert == nil {
		spki, err := pki.EncodePublicKey(c.Public())
		return []message.Payload{&message.Cert{Encoding: message.CertRawPublicKey, Data: spki}}, err
	}
	ps := []message.Payload{&message.Cert{Encoding: message.CertX509Signature, Data: c.Cert.Raw}}
	for _, x := range c.Chain {
		ps = append(ps, &message.Cert{Encoding: message.CertX509Signature, Data: x.Raw})
	}
	if len(ocsp) > 0 {
		ps = append(ps, &message.Cert{Encoding: message.CertOCSP, Data: ocsp})
	}
	return ps, nil
}

// peerCerts is what the peer's CERT payloads hold.
type peerCerts struct {
	leaf   *x509.Certificate
	others []*x509.Certificate
	rawKey []byte   // a bare public key (RFC 7670 §3), nil without
	ocsp   [][]byte // OCSP responses (RFC 4806 §3)
}

// readCerts reads the peer's certificates; the first is the end entity
// (RFC 7296 §3.6). Those that cannot be read are left out, but for the first. All
// encodings but X.509, OCSP responses and bare keys are passed over unread.
func readCerts(ps []message.Payload) (c peerCerts, err *Error) {
	n := 0
	for _, p := range ps {
		p, ok := p.(*message.Cert)
		if !ok {
			continue
		}
		switch p.Encoding {
		case message.CertRawPublicKey:
			if c.rawKey == nil {
				c.rawKey = p.Data
			}
			continue
		case message.CertOCSP:
			if len(c.ocsp) < pki.MaxChain {
				c.ocsp = append(c.ocsp, bytes.Clone(p.Data))
			}
			continue
		case message.CertX509Signature:
		default:
			continue
		}
		if n++; n > pki.MaxCertificates {
			return c, errTooManyCerts()
		}
		x, parseErr := x509.ParseCertificate(p.Data)
		switch {
		case parseErr != nil && c.leaf == nil:
			return c, errCertMalformed(parseErr)
		case parseErr != nil:
		case c.leaf == nil:
			c.leaf = x
		default:
			c.others = append(c.others, x)
		}
	}
	return c, nil
}

// certReqs asks for what the connections want to see: the CAs that they trust
// (RFC 7296 §3.7), OCSP responses (RFC 4806 §3: of any responder), bare keys
// (RFC 7670 §3).
func certReqs(conns []*Connection) []message.Payload {
	var ps []message.Payload
	cas := &message.CertReq{Encoding: message.CertX509Signature}
	var hashes [][20]byte
	var wantsOCSP, wantsKeys, wantsAny bool
	for _, c := range conns {
		for r := &c.Remote; r != nil; r = r.Next {
			if r.Method != AuthCert {
				continue
			}
			wantsOCSP = wantsOCSP || r.Revocation != pki.RevocationOff
			wantsKeys = wantsKeys || len(r.Verifier.Keys) > 0
			wantsAny = wantsAny || r.Verifier.SystemRoots
			for _, root := range r.Verifier.Roots {
				if h := pki.KeyHash(root); len(hashes) < maxCAHashes && !slices.Contains(hashes, h) {
					hashes = append(hashes, h)
					cas.Data = append(cas.Data, h[:]...)
				}
			}
		}
	}
	if len(hashes) == 0 && wantsAny {
		// Who is not asked need not send a certificate (RFC 4945 §3.2.6), and strongSwan does not.
		// The system's CAs are too many to name, and it takes an empty list, which stands for any
		// CA (§3.2.7.2), for damaged. A CA that nobody has is no reason to send none.
		cas.Data = make([]byte, 20)
	}
	if len(cas.Data) > 0 {
		ps = append(ps, cas)
	}
	if wantsOCSP {
		ps = append(ps, &message.CertReq{Encoding: message.CertOCSP})
	}
	if wantsKeys {
		ps = append(ps, &message.CertReq{Encoding: message.CertRawPublicKey})
	}
	return ps
}

// readCertReqs collects what a peer's CERTREQs ask for. Windows sends about 53 hashes of
// CAs.
func (s *ikeSA) readCertReqs(ps []message.Payload) {
	s.caHashes = nil
	for _, p := range ps {
		r, ok := p.(*message.CertReq)
		if !ok {
			continue
		}
		s.wantsOCSP = s.wantsOCSP || r.Encoding == message.CertOCSP
		if r.Encoding != message.CertX509Signature {
			continue
		}
		for b := r.Data; len(b) >= 20 && len(s.caHashes) < 1000; b = b[20:] {
			s.caHashes = append(s.caHashes, [20]byte(b[:20]))
		}
	}
}

// chooseCredential picks one of ours, with the way to sign, for what the peer takes:
// of those whose kind it can verify, one whose CA it named, and else the first. A peer
// that announced no hashes knows RSA above all.
func (s *ikeSA) chooseCredential(c *Connection, local *Local) (*pki.Credential, pki.Scheme, *Error) {
	type option struct {
		cred   *pki.Credential
		scheme pki.Scheme
		rank   int
	}
	var options []option
	var last error
	for _, cred := range local.Credentials {
		scheme, taken, err := s.schemeFor(cred.Public(), pki.Prefs{PSS: !local.PKCS1, Strict: c.StrictSignatures})
		if err != nil || cred.Key == nil {
			last = err
			continue
		}
		o := option{cred: cred, scheme: scheme}
		if !taken {
			o.rank += 4
		}
		if !s.supports(extSignatureHashes) && scheme.Method != uint8(message.AuthRSA) {
			o.rank += 2
		}
		if len(s.caHashes) > 0 && !s.namesCA(cred, c.Remote.Verifier.Roots) {
			o.rank++
		}
		options = append(options, o)
	}
	if len(options) == 0 {
		return nil, pki.Scheme{}, errNoCredential(last)
	}
	best := slices.MinFunc(options, func(a, b option) int { return cmp.Compare(a.rank, b.rank) })
	return best.cred, best.scheme, nil
}

// namesCA tells whether the peer's CERTREQs name a CA above the credential, as far as
// we know those: the ones in its chain, and the ones that we trust ourselves.
func (s *ikeSA) namesCA(cred *pki.Credential, roots []*x509.Certificate) bool {
	if cred.Cert == nil {
		return true // a bare key has no CA
	}
	chain := append([]*x509.Certificate{cred.Cert}, cred.Chain...)
	cas := slices.Concat(cred.Chain, roots)
	if cred.Root != nil {
		cas = append(cas, cred.Root)
	}
	return slices.ContainsFunc(cas, func(ca *x509.Certificate) bool {
		return slices.Contains(s.caHashes, pki.KeyHash(ca)) &&
			slices.ContainsFunc(chain, func(x *x509.Certificate) bool { return issued(ca, x) })
	})
}

// issued tells whether a CA issued a certificate, by name and, as a new CA may have the name of
// an old one, by the identifier of the key where both have it.
func issued(ca, x *x509.Certificate) bool {
	return bytes.Equal(x.RawIssuer, ca.RawSubject) &&
		(len(x.AuthorityKeyId) == 0 || len(ca.SubjectKeyId) == 0 || bytes.Equal(x.AuthorityKeyId, ca.SubjectKeyId))
}
