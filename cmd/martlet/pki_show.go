package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/crypto/pki"
)

func newPKIShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Tell what is in a file of certificates, keys or revocation lists",
		Example: "  martlet pki show pki/vpn.example.com.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return failed("the file cannot be read", err, "")
			}
			return show(cmd.OutOrStdout(), args[0], data)
		},
	}
}

// show tells what is in a file. Of a private key it tells the public part.
func show(w io.Writer, path string, data []byte) error {
	if pki.IsPKCS12(data) {
		fmt.Fprintln(w, "a PKCS#12 file, which is locked")
		return nil
	}
	if crl, err := pki.ParseCRL(data); err == nil {
		fmt.Fprintf(w, "revocation list\n  issuer:      %s\n  revoked:     %s\n  valid until: %s\n", crl.Issuer(), count(crl.Len(), "certificate"), stamp(crl.Until()))
		return nil
	}
	certs, err := pki.ParseCertificates(data)
	if err == nil {
		for _, c := range certs {
			showCertificate(w, c)
		}
		return nil
	}
	if key, err := pki.ParsePrivateKey(data, nil); err == nil {
		showKey(w, "private key", key.Public())
		return nil
	}
	if key, err := pki.ParsePublicKey(data); err == nil {
		showKey(w, "public key", key)
		return nil
	}
	return failed(path+" cannot be read", err, "")
}

func showCertificate(w io.Writer, c *x509.Certificate) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-12s %s\n", name+":", value)
		}
	}
	kind := "certificate"
	if c.IsCA {
		kind = "CA certificate"
	}
	fmt.Fprintln(w, kind)
	line("subject", pki.DN(c.RawSubject).String())
	line("issuer", pki.DN(c.RawIssuer).String())
	line("names", strings.Join(namesOf(c), ", "))
	line("serial", fmt.Sprintf("%x", c.SerialNumber))
	line("valid", stamp(c.NotBefore)+" to "+stamp(c.NotAfter))
	line("key", keyText(c.PublicKey))
	line("signed by", c.SignatureAlgorithm.String())
	now := pki.Verifier{Now: time.Now(), Roots: []*x509.Certificate{c}}
	if !c.IsCA {
		for _, role := range []struct {
			name    string
			purpose pki.Purpose
		}{{"as gateway", pki.ServerAuth}, {"as client", pki.ClientAuth}} {
			fits := "yes"
			if err := now.Verify(c, nil, role.purpose); err != nil {
				fits = "no: " + strings.TrimPrefix(err.Error(), "pki: ")
			}
			line(role.name, fits)
		}
	}
	line("CRL", strings.Join(c.CRLDistributionPoints, " "))
	line("OCSP", strings.Join(c.OCSPServer, " "))
	line("SHA-256", fmt.Sprintf("%X", sha256.Sum256(c.Raw)))
}

// namesOf are the alternative names.
func namesOf(c *x509.Certificate) []string {
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		if text := ip.String(); !slices.Contains(names, text) {
			names = append(names, text)
		}
	}
	return names
}

func keyText(pub crypto.PublicKey) string {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", pub)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func showKey(w io.Writer, kind string, pub crypto.PublicKey) {
	fmt.Fprintf(w, "%s\n  key:         %s\n", kind, keyText(pub))
	if der, err := pki.EncodePublicKey(pub); err == nil {
		fmt.Fprintf(w, "  SHA-256:     %X\n", sha256.Sum256(der))
	}
}
