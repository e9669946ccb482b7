package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// RevokedCert is an entry of a list of revoked certificates.
type RevokedCert struct {
	Serial *big.Int
	At     time.Time
	Reason int // RFC 5280 §5.3.1; 0 says nothing
}

// IssueCRL signs a list of everything that was revoked, in DER. The number has to rise
// from list to list, and the next one must come until then.
func (a *Authority) IssueCRL(list []RevokedCert, number int64, now, next time.Time) ([]byte, error) {
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: next}
	for _, r := range list {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: r.At, ReasonCode: r.Reason})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Cert, a.Key)
	if err != nil {
		return nil, fmt.Errorf("pki: issue revocation list: %w", err)
	}
	return der, nil
}

// ReissueCRL signs a list again, with more on it: everything of the old one, which may be nil
// for the first, in DER or PEM. What is on it already keeps its date.
func (a *Authority) ReissueCRL(old []byte, more []RevokedCert, now, next time.Time) ([]byte, error) {
	var list []RevokedCert
	number := int64(1)
	if old != nil {
		if block, _ := pem.Decode(old); block != nil {
			old = block.Bytes
		}
		last, err := x509.ParseRevocationList(old)
		if err != nil {
			return nil, fmt.Errorf("pki: revocation list: %w", err)
		}
		if err := last.CheckSignatureFrom(a.Cert); err != nil {
			return nil, fmt.Errorf("pki: the revocation list is not of this CA: %w", err)
		}
		if last.Number != nil && last.Number.IsInt64() {
			number = last.Number.Int64() + 1
		}
		for _, e := range last.RevokedCertificateEntries {
			list = append(list, RevokedCert{e.SerialNumber, e.RevocationTime, e.ReasonCode})
		}
	}
	for _, r := range more {
		if !slices.ContainsFunc(list, func(x RevokedCert) bool { return x.Serial.Cmp(r.Serial) == 0 }) {
			list = append(list, r)
		}
	}
	return a.IssueCRL(list, number, now, next)
}
