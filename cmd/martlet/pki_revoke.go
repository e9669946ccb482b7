package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/crypto/pki"
)

// crlDays is how long a revocation list holds.
const crlDays = 90

func newPKIRevoke() *cobra.Command {
	var ca string
	var days, reason int
	cmd := &cobra.Command{
		Use:   "revoke NAME|FILE",
		Short: "Revoke a certificate: put it on the CA's list",
		Long: `Revoke writes a new list, ca.crl, with the certificate on it. Gateways whose connections have
crl = ["ca.crl"] read it again within seconds; elsewhere it must be published.`,
		Example: "  martlet pki revoke alice@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := folderOf(cmd)
			path := args[0]
			if !strings.ContainsRune(path, filepath.Separator) && filepath.Ext(path) != ".pem" {
				path = d.path(fileName(path) + ".pem")
			}
			certs, err := readCertificates(path)
			if err != nil {
				return err
			}
			authority, err := d.authority(ca)
			if err != nil {
				return err
			}
			if err := certs[0].CheckSignatureFrom(authority.Cert); err != nil {
				return failed(path+" was issued by another CA", err, "--ca names the CA that issued it")
			}
			entry := pki.RevokedCert{Serial: certs[0].SerialNumber, At: time.Now(), Reason: reason}
			return d.reissue(cmd, authority, ca, days, entry)
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "ca", "the CA that issued it")
	cmd.Flags().IntVar(&days, "days", crlDays, "days of validity of the new list")
	cmd.Flags().IntVar(&reason, "reason", 0, "1 key compromise, 3 affiliation changed, 4 superseded, 5 no longer used")
	return cmd
}

func newPKICRL() *cobra.Command {
	var ca string
	var days int
	cmd := &cobra.Command{
		Use:     "crl",
		Short:   "Write the CA's revocation list again, before it expires",
		Example: "  martlet pki crl --days 30",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := folderOf(cmd)
			authority, err := d.authority(ca)
			if err != nil {
				return err
			}
			return d.reissue(cmd, authority, ca, days)
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "ca", "the CA")
	cmd.Flags().IntVar(&days, "days", crlDays, "days of validity")
	return cmd
}

// reissue puts a new list in the place of the old one, which is never missing or half
// written.
func (d folder) reissue(cmd *cobra.Command, ca *pki.Authority, name string, days int, more ...pki.RevokedCert) error {
	if err := positive("days", days); err != nil {
		return err
	}
	path := d.path(name + ".crl")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("the revocation list cannot be read", err, "")
	}
	now := time.Now()
	der, err := ca.ReissueCRL(old, more, now, now.Add(time.Duration(days)*day))
	if err != nil {
		return failed("the revocation list cannot be written", err, "")
	}
	next := path + ".new"
	_ = os.Remove(next) // of a run that was killed
	if err := d.write(pkiFile{name + ".crl.new", pki.EncodeCRL(der), 0o644}); err != nil {
		return err
	}
	err = os.Rename(next, path)
	if err != nil {
		return failed("the revocation list cannot be written", err, "")
	}
	list, err := pki.ParseCRL(der)
	if err != nil {
		return failed("the revocation list cannot be written", err, "")
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, good until %s\n", path, count(list.Len(), "certificate"), list.Until().Format(time.DateOnly))
	return nil
}
