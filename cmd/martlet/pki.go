package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/crypto/pki"
)

const day = 24 * time.Hour

func newPKI() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make and show certificates: a CA, gateways, devices, revocation lists",
		Long: `Pki keeps a small certificate authority in a folder: ca.pem and ca.key, ca.crl, which
lists what was revoked, and NAME.pem and NAME.key of each certificate. Keys are
readable by their owner only, and no file is ever overwritten but ca.crl.`,
		Example: `  martlet pki init
  martlet pki issue gateway vpn.example.com 192.0.2.1
  martlet pki issue device alice@example.com --p12
  martlet pki revoke alice@example.com`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.PersistentFlags().String("dir", "pki", "folder of the authority")
	issue := &cobra.Command{
		Use:     "issue",
		Short:   "Issue a certificate",
		Example: "  martlet pki issue gateway vpn.example.com\n  martlet pki issue device alice@example.com",
		Args:    cobra.NoArgs,
		RunE:    help,
	}
	issue.AddCommand(newPKIGateway(), newPKIDevice(), newPKIAuthority())
	cmd.AddCommand(newPKIInit(), issue, newPKIRevoke(), newPKICRL(), newPKIShow())
	return cmd
}

// failed is a failure to do something with a file or a certificate, for people.
func failed(what string, err error, hint string) error {
	why := ""
	if c, ok := errors.AsType[*pki.CertError](err); ok {
		why = c.What + ": " + c.Why
		if hint == "" {
			hint = c.Hint
		}
	} else if err != nil {
		why = strings.TrimPrefix(err.Error(), "pki: ")
	}
	return &martlet.Error{Code: "host", What: what, Why: why, Hint: hint}
}

// keyKind is a flag that names a kind of key.
type keyKind struct{ pki.KeyKind }

func (k *keyKind) Type() string { return "kind" }

// kinds are the kinds of keys by name.
func kinds() []pki.KeyKind {
	return []pki.KeyKind{pki.ECDSAP256, pki.ECDSAP384, pki.ECDSAP521, pki.Ed25519, pki.RSA2048, pki.RSA3072}
}

func (k *keyKind) Set(text string) error {
	var names []string
	for _, kind := range kinds() {
		if kind.String() == text {
			k.KeyKind = kind
			return nil
		}
		names = append(names, kind.String())
	}
	return fmt.Errorf("expected one of %s, got %q", strings.Join(names, ", "), text)
}

// folder is where an authority keeps its files.
type folder string

func folderOf(cmd *cobra.Command) folder { return folder(cmd.Flag("dir").Value.String()) }

func (d folder) path(name string) string { return filepath.Join(string(d), name) }

// fileName makes a file's name out of a certificate's.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r == '_' || r == '@' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
}

// pkiFile is a file to make.
type pkiFile struct {
	name string
	data []byte
	mode fs.FileMode
}

// write makes files, all or none, and none in the place of another.
func (d folder) write(files ...pkiFile) (err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return failed("the folder cannot be made", err, "")
	}
	var done []string
	defer func() {
		if err != nil {
			for _, path := range done {
				_ = os.Remove(path)
			}
		}
	}()
	for _, file := range files {
		path := d.path(file.name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, file.mode)
		if errors.Is(err, fs.ErrExist) {
			return failed(path+" exists already", nil, "nothing is overwritten: move it away, or choose another name")
		}
		if err != nil {
			return failed(path+" cannot be made", err, "")
		}
		done = append(done, path)
		_, err = f.Write(file.data)
		if err = errors.Join(err, f.Close()); err != nil {
			return failed(path+" cannot be written", err, "")
		}
	}
	return nil
}

// authority reads a CA with its key.
func (d folder) authority(name string) (*pki.Authority, error) {
	certs, err := readCertificates(d.path(name + ".pem"))
	if err != nil {
		return nil, err
	}
	path := d.path(name + ".key")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, failed("the CA's key cannot be read", err, "martlet pki init makes a CA; --dir names its folder")
	}
	key, err := pki.ParsePrivateKey(data, nil)
	if err != nil {
		return nil, failed(path+" cannot be read", err, "")
	}
	if !certs[0].IsCA || !pki.SameKey(key.Public(), certs[0].PublicKey) {
		return nil, failed(name+" is no CA", nil, "its certificate must be a CA's, and the key must fit it")
	}
	return &pki.Authority{Cert: certs[0], Chain: certs[1:], Key: key}, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, failed("a certificate cannot be read", err, "")
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return nil, failed(path+" cannot be read", err, "")
	}
	return certs, nil
}

func newPKIInit() *cobra.Command {
	kind := keyKind{pki.ECDSAP256}
	var name string
	var years int
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make a certificate authority",
		Example: "  martlet pki init --name \"Example CA\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive("years", years); err != nil {
				return err
			}
			now := time.Now()
			ca, err := pki.NewAuthority(name, now, time.Duration(years)*365*day, kind.KeyKind)
			if err != nil {
				return failed("the CA cannot be made", err, "")
			}
			crl, err := ca.IssueCRL(nil, 1, now, now.Add(crlDays*day))
			if err != nil {
				return failed("the CA cannot be made", err, "")
			}
			key, err := pki.EncodePrivateKey(ca.Key)
			if err != nil {
				return failed("the CA cannot be made", err, "")
			}
			d := folderOf(cmd)
			if err := d.write(pkiFile{"ca.key", key, 0o600}, pkiFile{"ca.pem", pki.EncodeCertificate(ca.Cert), 0o644}, pkiFile{"ca.crl", pki.EncodeCRL(crl), 0o644}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: the CA, to be trusted by gateways and devices\n%s: its key, to be kept safe\n%s: what it revoked: nothing\n",
				d.path("ca.pem"), d.path("ca.key"), d.path("ca.crl"))
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "Martlet CA", "common name of the CA")
	cmd.Flags().IntVar(&years, "years", 10, "years of validity")
	cmd.Flags().Var(&kind, "key", "kind of key")
	return cmd
}

// issuing are the flags of all commands that issue.
type issuing struct {
	kind      keyKind
	ca        string
	days      int
	crl, ocsp []string
}

func (f *issuing) flags(cmd *cobra.Command, days int) {
	f.kind = keyKind{pki.ECDSAP256}
	cmd.Flags().Var(&f.kind, "key", "kind of key")
	cmd.Flags().StringVar(&f.ca, "ca", "ca", "the CA that issues it")
	cmd.Flags().IntVar(&f.days, "days", days, "days of validity")
	cmd.Flags().StringSliceVar(&f.crl, "crl-url", nil, "where the CA's revocation list is published")
	cmd.Flags().StringSliceVar(&f.ocsp, "ocsp-url", nil, "the CA's OCSP responder")
}

// positive refuses times that are over before they begin.
func positive(flag string, n int) error {
	if n > 0 {
		return nil
	}
	return failed(fmt.Sprintf("--%s %d: nothing can be made for a time that is over", flag, n), nil, "give a number from 1 on")
}

// authority is the CA that issues.
func (f *issuing) authority(d folder) (*pki.Authority, error) {
	if err := positive("days", f.days); err != nil {
		return nil, err
	}
	ca, err := d.authority(f.ca)
	if err != nil {
		return nil, err
	}
	ca.CRL, ca.OCSP = f.crl, f.ocsp
	return ca, nil
}

// files are those of a credential: its certificate with the chain, and its key.
func credentialFiles(name string, c *pki.Credential) ([]pkiFile, error) {
	key, err := pki.EncodePrivateKey(c.Key)
	if err != nil {
		return nil, failed("the certificate cannot be issued", err, "")
	}
	return []pkiFile{
		{name + ".key", key, 0o600},
		{name + ".pem", pki.EncodeCertificate(append([]*x509.Certificate{c.Cert}, c.Chain...)...), 0o644},
	}, nil
}

// request sorts names into those of hosts, addresses and e-mail addresses.
func request(names []string) (r pki.Request, err error) {
	for _, name := range names {
		id, err := pki.ParseIdentity(name)
		addr, parseErr := netip.ParseAddr(name)
		switch {
		case parseErr == nil && addr.Zone() == "":
			r.Addresses = append(r.Addresses, addr)
		case err != nil:
			return r, failed(fmt.Sprintf("%q is no name", name), err, "")
		case id.Type == pki.IDRFC822Addr:
			r.Emails = append(r.Emails, id.Data)
		case id.Type == pki.IDFQDN && !strings.ContainsAny(id.Data, " /:=\""):
			r.DNSNames = append(r.DNSNames, id.Data)
		default:
			return r, failed(fmt.Sprintf("%q is no name", name), nil, "a host name, an address or an e-mail address")
		}
	}
	r.CommonName = names[0]
	return r, nil
}

func newPKIAuthority() *cobra.Command {
	var f issuing
	var limits []string
	cmd := &cobra.Command{
		Use:     "ca NAME",
		Short:   "Issue a CA below the CA, which issues for others with --ca NAME",
		Example: "  martlet pki issue ca branch --limit branch.example.com --limit 10.2.0.0/16\n  martlet pki issue gateway vpn.branch.example.com --ca branch",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := folderOf(cmd)
			above, err := f.authority(d)
			if err != nil {
				return err
			}
			var allowed pki.Limits
			for _, text := range limits {
				if p, err := netip.ParsePrefix(text); err == nil {
					allowed.Prefixes = append(allowed.Prefixes, p)
					continue
				}
				allowed.DNSNames = append(allowed.DNSNames, text)
				allowed.Emails = append(allowed.Emails, text)
			}
			now := time.Now()
			ca, err := above.Intermediate(args[0], now, time.Duration(f.days)*day, f.kind.KeyKind, allowed)
			if err != nil {
				return failed("the CA cannot be made", err, "")
			}
			crl, err := ca.IssueCRL(nil, 1, now, now.Add(crlDays*day))
			if err != nil {
				return failed("the CA cannot be made", err, "")
			}
			name := fileName(args[0])
			files, err := credentialFiles(name, &pki.Credential{Cert: ca.Cert, Chain: ca.Chain, Key: ca.Key})
			if err != nil {
				return err
			}
			if err := d.write(append(files, pkiFile{name + ".crl", pki.EncodeCRL(crl), 0o644})...); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n%s\n", d.path(name+".pem"), d.path(name+".key"), d.path(name+".crl"))
			return nil
		},
	}
	f.flags(cmd, 5*365)
	cmd.Flags().StringSliceVar(&limits, "limit", nil, "domain or prefix of addresses for which it may issue")
	return cmd
}

func newPKIGateway() *cobra.Command {
	var f issuing
	var both bool
	cmd := &cobra.Command{
		Use:   "gateway NAME...",
		Short: "Issue a gateway's certificate for host names and addresses",
		Long: `Gateway issues a certificate that the VPN clients of all systems take: each name and
address that a client may have been given must be there. Some clients want RSA (iOS set up by
hand, Android's own): --both issues one of each kind, and a gateway chooses.`,
		Example: "  martlet pki issue gateway vpn.example.com 192.0.2.1 --both",
		Args:    cobra.MinimumNArgs(1),
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
			r.Purpose, r.IKEIntermediate = pki.ServerAuth, true
			r.Now, r.Validity = time.Now(), time.Duration(f.days)*day
			made := map[string]pki.KeyKind{"": f.kind.KeyKind}
			if both {
				made["-rsa"] = pki.RSA3072
			}
			var files []pkiFile
			for suffix, kind := range made {
				r.Key = kind
				cred, err := ca.Issue(r)
				if err != nil {
					return failed("the certificate cannot be issued", err, "")
				}
				more, err := credentialFiles(fileName(args[0])+suffix, cred)
				if err != nil {
					return err
				}
				files = append(files, more...)
			}
			return d.writeAndTell(cmd, files)
		},
	}
	f.flags(cmd, 825)
	cmd.Flags().BoolVar(&both, "both", false, "issue one with RSA, too")
	return cmd
}

func (d folder) writeAndTell(cmd *cobra.Command, files []pkiFile) error {
	sort.Slice(files, func(i, j int) bool { return files[i].name < files[j].name })
	if err := d.write(files...); err != nil {
		return err
	}
	for _, file := range files {
		fmt.Fprintln(cmd.OutOrStdout(), d.path(file.name))
	}
	return nil
}
