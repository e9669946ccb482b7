package pki

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// freshFor is how long an OCSP response holds that does not say when the next one comes.
const freshFor = time.Hour

// maxOCSP is the largest OCSP response that is read, in octets. It bounds the keys of the
// responders inside, too.
const maxOCSP = 16 << 10

// OCSPRequest asks a responder about the certificate (RFC 6960 §4.1). It has no nonce:
// most responders sign in advance (RFC 5019 §2.1.1), and validity times tell old answers.
func (l Link) OCSPRequest() ([]byte, error) {
	b, err := ocsp.CreateRequest(l.Cert, l.Issuer, nil)
	if err != nil {
		return nil, fmt.Errorf("pki: OCSP request for %s: %w", named(l.Cert), err)
	}
	return b, nil
}

// CheckOCSP is what an OCSP response says of the certificate (RFC 6960 §4.2). It must be
// signed by the issuer, or by a responder that the issuer delegated it to.
func (l Link) CheckOCSP(der []byte, now time.Time) Status {
	const response = "the OCSP response is of no use: "
	if len(der) > maxOCSP {
		return unknown(response+"it has %d octets; at most %d are read", len(der), maxOCSP)
	}
	r, err := ocsp.ParseResponseForCert(der, l.Cert, nil)
	if err == nil {
		err = l.checkResponder(r, now)
	}
	if err != nil {
		return unknown(response+"%v", err)
	}
	if !l.isAbout(r) {
		return unknown("%s", response+"it is about a certificate of another CA")
	}
	until := r.NextUpdate
	if until.IsZero() {
		until = r.ThisUpdate.Add(freshFor)
	}
	why := within(now, r.ThisUpdate, until)
	switch {
	case r.Status == ocsp.Revoked && (why == "" || r.RevocationReason != reasonHold):
		return revoked(r.RevokedAt, r.RevocationReason, until)
	case why != "":
		return unknown("%s", response+why)
	case r.Status == ocsp.Good:
		return Status{State: StateGood, Until: until}
	}
	return unknown("%s", "the OCSP responder does not know the certificate")
}

// checkResponder checks who signed a response (RFC 6960 §4.2.2.2). The signature of an
// embedded certificate on the response was checked when it was read.
func (l Link) checkResponder(r *ocsp.Response, now time.Time) error {
	signer := r.Certificate
	switch {
	case signer == nil:
		signer = l.Issuer
		if err := r.CheckSignatureFrom(l.Issuer); err != nil {
			return fmt.Errorf("its signature is refused: %w", err)
		}
	case SameKey(signer.PublicKey, l.Issuer.PublicKey) && bytes.Equal(signer.RawSubject, l.Issuer.RawSubject):
		// The issuer sent its own certificate along.
	default:
		if err := l.checkDelegate(signer, now); err != nil {
			return err
		}
	}
	if len(r.RawResponderName) > 0 && !bytes.Equal(r.RawResponderName, signer.RawSubject) {
		return errors.New("it is not signed by the responder that it names")
	}
	if len(r.ResponderKeyHash) > 0 {
		if hash := sha1.Sum(keyBits(signer)); !bytes.Equal(r.ResponderKeyHash, hash[:]) {
			return errors.New("it is not signed by the responder that it names")
		}
	}
	return nil
}

func (l Link) checkDelegate(signer *x509.Certificate, now time.Time) error {
	switch {
	case !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("its responder lacks the extended key usage OCSPSigning")
	case !bytes.Equal(signer.RawIssuer, l.Issuer.RawSubject):
		return errors.New("its responder has its certificate from another CA")
	case weakKey(signer.PublicKey, false) != "" || weakSignature(signer):
		return errors.New("the key or the certificate of its responder is too weak")
	case len(signer.UnhandledCriticalExtensions) > 0:
		return errors.New("the certificate of its responder has a critical extension that is not understood")
	}
	if why := within(now, signer.NotBefore, signer.NotAfter); why != "" {
		return errors.New("the certificate of its responder is not valid: " + why)
	}
	if err := signer.CheckSignatureFrom(l.Issuer); err != nil {
		return fmt.Errorf("the certificate of its responder is refused: %w", err)
	}
	return nil
}

// isAbout tells whether the entry that was read, the first with the certificate's serial
// number, names its issuer: serial numbers are unique within a CA only.
func (l Link) isAbout(r *ocsp.Response) bool {
	in := cryptobyte.String(r.TBSResponseData)
	var data, list cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1(&data, cbasn1.SEQUENCE) || !data.SkipOptionalASN1(explicit(0)) ||
		!data.ReadAnyASN1(new(cryptobyte.String), &tag) || !data.SkipASN1(cbasn1.GeneralizedTime) ||
		!data.ReadASN1(&list, cbasn1.SEQUENCE) {
		return false
	}
	sum := func(b []byte) []byte {
		h := r.IssuerHash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	for !list.Empty() {
		var single, id, name, key cryptobyte.String
		var serial big.Int
		if !list.ReadASN1(&single, cbasn1.SEQUENCE) || !single.ReadASN1(&id, cbasn1.SEQUENCE) || !id.SkipASN1(cbasn1.SEQUENCE) ||
			!id.ReadASN1(&name, cbasn1.OCTET_STRING) || !id.ReadASN1(&key, cbasn1.OCTET_STRING) || !id.ReadASN1Integer(&serial) {
			return false
		}
		if serial.Cmp(l.Cert.SerialNumber) == 0 {
			return bytes.Equal(name, sum(l.Issuer.RawSubject)) && bytes.Equal(key, sum(keyBits(l.Issuer)))
		}
	}
	return false
}

// keyBits is the public key as OCSP hashes it: without the algorithm.
func keyBits(cert *x509.Certificate) []byte {
	in := cryptobyte.String(cert.RawSubjectPublicKeyInfo)
	var seq cryptobyte.String
	var bits []byte
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.SkipASN1(cbasn1.SEQUENCE) || !seq.ReadASN1BitStringAsBytes(&bits) {
		return nil
	}
	return bits
}
