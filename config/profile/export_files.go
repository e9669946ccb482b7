package profile

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"martlet/crypto/pki"
)

// authorityFiles are files with one CA each, as strongSwan reads them, for a folder of it.
func (x *exporter) authorityFiles(folder string) []string {
	var names []string
	for i, ca := range x.authorities() {
		names = append(names, x.file(numbered("ca", i, ".pem"), pki.EncodeCertificate(ca)))
		x.note("", "%s belongs in %s", names[i], folder)
	}
	if len(names) == 0 && !(isEAP(x.c.Peer.Auth) && x.c.Local.Auth == "eap") {
		x.need("peer.ca", "strongSwan does not trust the system's CAs: put the certificate of the CA above the gateway's in %s", folder)
	}
	return names
}

// credentialFiles are files with our certificate and its encrypted key.
func (x *exporter) credentialFiles(certs, keys string) (cert, key string, err error) {
	data, cred, err := x.encryptedKey()
	if err != nil {
		return "", "", err
	}
	cert = x.file("cert.pem", pki.EncodeCertificate(cred.Cert))
	key = x.file("key.pem", data)
	x.note("local.cert", "%s belongs in %s, and %s in %s", cert, certs, key, keys)
	x.chain(cred.Chain, certs)
	return cert, key, nil
}

// chain are files with the CAs between ours and the root, which strongSwan sends if it has them.
func (x *exporter) chain(cas []*x509.Certificate, certs string) {
	for i, ca := range cas {
		name := x.file(numbered("chain", i, ".pem"), pki.EncodeCertificate(ca))
		x.note("", "%s, a CA above our certificate, belongs in the folder of CAs beside %s", name, certs)
	}
}

// lists are the revocation lists of the connection.
func (x *exporter) lists(folder string) {
	x.carry("peer.crl")
	for i, path := range x.c.Peer.CRL {
		var data []byte
		if x.o.ReadFile != nil {
			data, _ = x.o.ReadFile(path) // what is not read is no list
		}
		if _, err := pki.ParseCRL(data); err != nil {
			x.note("", "the revocation list %s is not carried over: it cannot be read, or is a folder; copy what is there to %s", quoted(lastElement(path)), folder)
			continue
		}
		if block, _ := pem.Decode(data); block == nil {
			data = pki.EncodeCRL(data)
		}
		x.note("", "%s belongs in %s, and again when there is a new one", x.file(numbered("crl", i, ".pem"), data), folder)
	}
}

// numbered is "ca.pem", then "ca-2.pem".
func numbered(name string, i int, extension string) string {
	if i > 0 {
		name = fmt.Sprintf("%s-%d", name, i+1)
	}
	return name + extension
}
