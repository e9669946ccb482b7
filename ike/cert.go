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

// certPayloads is the certificates of a credential, the end entity first. They are
// sent whether or not the peer asked, since Apple's clients do not ask.
func certPayloads(c *pki.Credential) []message.Payload {
	ps := []message.Payload{&message.Cert{Encoding: message.CertX509Signature, Data: c.Cert.Raw}}
	for _, x := range c.Chain {
		ps = append(ps, &message.Cert{Encoding: message.CertX509Signature, Data: x.Raw})
	}
	return ps
}

// readCerts reads the peer's certificates; the first is the end entity
// (RFC 7296 §3.6). Those that cannot be read are left out, but for the first.
func readCerts(ps []message.Payload) (leaf *x509.Certificate, others []*x509.Certificate, err *Error) {
	for _, p := range ps {
		c, ok := p.(*message.Cert)
		if !ok || c.Encoding != message.CertX509Signature {
			continue
		}
		x, parseErr := x509.ParseCertificate(c.Data)
		switch {
		case parseErr != nil && leaf == nil:
			return nil, nil, errCertMalformed(parseErr)
		case parseErr != nil:
		case leaf == nil:
			leaf = x
		case len(others)+1 >= pki.MaxCertificates:
			return nil, nil, errTooManyCerts()
		default:
			others = append(others, x)
		}
	}
	if leaf == nil {
		return nil, nil, errCertMissing()
	}
	return leaf, others, nil
}

// certReq names the CAs that the connections trust, nil where none asks for
// certificates (RFC 7296 §3.7).
func certReq(conns []*Connection) *message.CertReq {
	var hashes [][20]byte
	wanted := false
	for _, c := range conns {
		for r := &c.Remote; r != nil; r = r.Next {
			if r.Method != AuthCert {
				continue
			}
			wanted = true
			for _, root := range r.Verifier.Roots {
				if h := pki.KeyHash(root); len(hashes) < maxCAHashes && !slices.Contains(hashes, h) {
					hashes = append(hashes, h)
				}
			}
		}
	}
	if !wanted || len(hashes) == 0 {
		return nil
	}
	r := &message.CertReq{Encoding: message.CertX509Signature}
	for _, h := range hashes {
		r.Data = append(r.Data, h[:]...)
	}
	return r
}

// readCertReqs collects the CA hashes of a peer's CERTREQs. Windows sends about 53.
func readCertReqs(ps []message.Payload) [][20]byte {
	var out [][20]byte
	for _, p := range ps {
		r, ok := p.(*message.CertReq)
		if !ok || r.Encoding != message.CertX509Signature {
			continue
		}
		for b := r.Data; len(b) >= 20 && len(out) < 1000; b = b[20:] {
			out = append(out, [20]byte(b[:20]))
		}
	}
	return out
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
		scheme, err := pki.ChooseScheme(cred.Cert.PublicKey, s.peerHashes, pki.Prefs{PSS: !local.PKCS1, Strict: c.StrictSignatures})
		if err != nil || cred.Key == nil {
			last = err
			continue
		}
		o := option{cred: cred, scheme: scheme}
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
	slices.SortStableFunc(options, func(a, b option) int { return cmp.Compare(a.rank, b.rank) })
	return options[0].cred, options[0].scheme, nil
}

// namesCA tells whether the peer's CERTREQs name a CA above the credential, as far as
// we know those: the ones in its chain, and the ones that we trust ourselves.
func (s *ikeSA) namesCA(cred *pki.Credential, roots []*x509.Certificate) bool {
	chain := append([]*x509.Certificate{cred.Cert}, cred.Chain...)
	named := func(ca *x509.Certificate) bool {
		return slices.Contains(s.caHashes, pki.KeyHash(ca)) &&
			slices.ContainsFunc(chain, func(x *x509.Certificate) bool { return bytes.Equal(x.RawIssuer, ca.RawSubject) })
	}
	return slices.ContainsFunc(chain, named) || slices.ContainsFunc(roots, named)
}
