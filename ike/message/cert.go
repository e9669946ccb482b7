package message

import "fmt"

// CertEncoding tells what a CERT or CERTREQ holds (RFC 7296 §3.6).
type CertEncoding uint8

const (
	CertX509Signature CertEncoding = 4
	CertHashURL       CertEncoding = 12
	CertBundleURL     CertEncoding = 13
	CertOCSP          CertEncoding = 14 // RFC 4806
	CertRawPublicKey  CertEncoding = 15 // RFC 7670
)

// String is the name in IANA's registry, or the number.
func (e CertEncoding) String() string {
	switch e {
	case CertX509Signature:
		return "X.509 Certificate - Signature"
	case CertHashURL:
		return "Hash and URL of X.509 certificate"
	case CertBundleURL:
		return "Hash and URL of X.509 bundle"
	case CertOCSP:
		return "OCSP Content"
	case CertRawPublicKey:
		return "Raw Public Key"
	}
	return fmt.Sprintf("certificate encoding %d", uint8(e))
}

// Cert is the Certificate payload (RFC 7296 §3.6).
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

func (*Cert) Type() PayloadType { return TypeCERT }

// CertReq is the Certificate Request payload (RFC 7296 §3.7). Data is, for X.509, a
// run of 20-octet SHA-1 hashes of the SubjectPublicKeyInfo of trusted CAs.
type CertReq struct {
	Encoding CertEncoding
	Data     []byte
}

func (*CertReq) Type() PayloadType { return TypeCERTREQ }

func parseCert(r *reader) (*Cert, error) {
	var e uint8
	if !r.s.ReadUint8(&e) {
		return nil, r.fail("certificate encoding is missing")
	}
	return &Cert{Encoding: CertEncoding(e), Data: r.rest()}, nil
}

func parseCertReq(r *reader) (*CertReq, error) {
	var e uint8
	if !r.s.ReadUint8(&e) {
		return nil, r.fail("certificate encoding is missing")
	}
	return &CertReq{Encoding: CertEncoding(e), Data: r.rest()}, nil
}

func (p *Cert) appendBody(b []byte) []byte {
	return append(append(b, uint8(p.Encoding)), p.Data...)
}

func (p *CertReq) appendBody(b []byte) []byte {
	return append(append(b, uint8(p.Encoding)), p.Data...)
}
