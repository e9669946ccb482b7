package main

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"martlet/crypto/pki"
)

func newPKIDevice() *cobra.Command {
	var f issuing
	var p12, legacy bool
	cmd := &cobra.Command{
		Use:   "device NAME",
		Short: "Issue a certificate for a person's device",
		Long: `Device issues a certificate for a client, named by an e-mail address or a host name. With
--p12 it is written in one file with its key and the CA, as phones and computers import
it, and the new password of that file is printed.`,
		Example: "  martlet pki issue device alice@example.com --p12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := folderOf(cmd)
			ca, err := f.authority(d)
			if err != nil {
				return err
			}
			r, err := request(args)
			if err != nil {
				return err
			}
			r.Purpose, r.Key = pki.ClientAuth, f.kind.KeyKind
			r.Now, r.Validity = time.Now(), time.Duration(f.days)*day
			cred, err := ca.Issue(r)
			if err != nil {
				return failed("the certificate cannot be issued", err, "")
			}
			name := fileName(args[0])
			files, err := credentialFiles(name, cred)
			if err != nil {
				return err
			}
			if !p12 && !legacy {
				return d.writeAndTell(cmd, files)
			}
			root, err := readCertificates(d.path("ca.pem"))
			if err != nil {
				return err
			}
			password := rand.Text()
			data, err := pki.EncodePKCS12(cred, []*x509.Certificate{root[0]}, password, legacy)
			if err != nil {
				return failed("the certificate cannot be issued", err, "")
			}
			// The key is in the one file only, which goes to the device.
			if err := d.writeAndTell(cmd, []pkiFile{files[1], {name + ".p12", data, 0o600}}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "password: %s\n", password)
			return nil
		},
	}
	f.flags(cmd, 825)
	cmd.Flags().BoolVar(&p12, "p12", false, "write a PKCS#12 file")
	cmd.Flags().BoolVar(&legacy, "legacy-p12", false, "write one that old systems read, whose password can be tried fast")
	return cmd
}
