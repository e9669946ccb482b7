package config

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"martlet/crypto/pki"
)

// loaded is a certificate and the place of its file in the list of the key.
type loaded struct {
	*x509.Certificate
	file int
}

func (f *faults) certificates(files []string, path string) []loaded {
	var all []loaded
	for i, name := range files {
		if f.has(index(path, i)) {
			continue
		}
		data, err := f.origin.reader().named(strings.TrimPrefix(name, "file:"), f.origin.folder(index(path, i)))
		if err != nil {
			f.fault(index(path, i), err)
			continue
		}
		all = append(all, f.parseCertificates(data, path, i)...)
	}
	return all
}

func (f *faults) parseCertificates(data []byte, path string, file int) []loaded {
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		f.fault(index(path, file), err)
	}
	all := make([]loaded, len(certs))
	for i, c := range certs {
		all[i] = loaded{c, file}
	}
	return all
}

// validity warns of a certificate that is not valid now: the clock may be wrong, and one
// such must not keep all other connections down.
func (f *faults) validity(cert *x509.Certificate, path string, now time.Time, so string) {
	switch {
	case now.After(cert.NotAfter):
		f.warn(path, fmt.Sprintf("the certificate %q expired on %s; %s", cert.Subject, cert.NotAfter.Format(time.DateOnly), so))
	case now.Before(cert.NotBefore):
		f.warn(path, fmt.Sprintf("the certificate %q is valid from %s only; is the clock right?", cert.Subject, cert.NotBefore.Format(time.DateOnly)))
	}
}
