package profile

import (
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

// Preset is what a provider's gateways want of a client. It has no credentials, no list of
// gateways, and no certificate: the user brings these.
type Preset struct {
	// Name is that of its file without ".toml".
	Name string
	// Title is the provider's name.
	Title string
	// VerifiedOn is the day, as 2006-01-02, on which it was known to be right, and VerifiedBy by
	// what.
	VerifiedOn, VerifiedBy string
	// Host is the name of the gateways; "*." at its start stands for one or more labels. FindHost
	// tells where to find one.
	Host, FindHost string
	// RemoteID is the identity that the gateway must have, in which {host} is the gateway's name.
	RemoteID string
	// Auth is how one logs in, in config's words, and Login says which account that is.
	Auth, Login string
	// Proposals and ChildProposals are those that are known to work, in strongSwan's keywords; none
	// are Martlet's own.
	Proposals, ChildProposals []string
	// Request are the families of the addresses that the gateways have: "ipv4", "ipv6".
	Request []string
	// Notes are what else to know.
	Notes []string
	// CA is the certificate authority of the gateways. Without a hash it is one that the system
	// trusts.
	CA CA
}

// CA tells which certificate a preset trusts, and where to get it.
type CA struct {
	Subject string
	SHA256  string // of the certificate in DER, in hexadecimal, in capital letters
	URLs    []string
}

//go:embed presets/*.toml
var presetFiles embed.FS

// Presets are those that Martlet has, sorted by name, and behind them those in the files *.toml of
// more, which may be nil. One of the same name is an error: a file of somebody else cannot take the
// place of a preset of ours. The error is an *Error.
func Presets(more fs.FS) ([]Preset, error) {
	own, err := fs.Sub(presetFiles, "presets")
	if err != nil {
		return nil, &Error{What: "the presets are missing", Why: err.Error()}
	}
	out, err := readPresets(own)
	if err != nil || more == nil {
		return out, err
	}
	theirs, err := readPresets(more)
	if err != nil {
		return nil, err
	}
	for _, p := range theirs {
		if slices.ContainsFunc(out, func(q Preset) bool { return q.Name == p.Name }) {
			return nil, &Error{"preset " + quoted(p.Name+".toml") + " cannot be added", "Martlet has one of this name, which it cannot replace", "call the file otherwise"}
		}
	}
	return append(out, theirs...), nil
}

// LookupPreset returns the preset with a name.
func LookupPreset(name string, more fs.FS) (Preset, error) {
	all, err := Presets(more)
	if err != nil {
		return Preset{}, err
	}
	var names []string
	for _, p := range all {
		if strings.EqualFold(p.Name, name) {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, &Error{"there is no preset " + quoted(name), "", "known are: " + strings.Join(names, ", ")}
}

// maxPresets bounds the files of a folder, and maxPreset the octets of one.
const (
	maxPresets = 200
	maxPreset  = 64 << 10
)

func readPresets(files fs.FS) ([]Preset, error) {
	names, err := fs.Glob(files, "*.toml")
	if err == nil && len(names) > maxPresets {
		err = fmt.Errorf("there are more than %d", maxPresets)
	}
	if err != nil {
		return nil, &Error{"the presets cannot be read", shown(err.Error()), ""}
	}
	slices.Sort(names)
	var out []Preset
	for _, name := range names {
		info, err := fs.Stat(files, name)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPreset) {
			err = fmt.Errorf("it is no regular file of at most %d octets", maxPreset)
		}
		var data []byte
		if err == nil {
			data, err = fs.ReadFile(files, name)
		}
		if err != nil {
			return nil, &Error{"preset " + quoted(name) + " cannot be read", plainError(err).Error(), ""}
		}
		p, err := ParsePreset(name, data)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Connection makes a connection to one gateway: host is its name, user that of the account, who
// may be empty, and ca the file of the CA in PEM or DER, which must be the pinned one. A preset
// without a pin takes none. The password is asked for, or set by secret in the configuration. The
// error is an *Error.
func (p Preset) Connection(host, user string, ca []byte) (*Imported, error) {
	host = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(host), "."))
	if !p.fits(host) {
		hint := p.FindHost
		if hint == "" {
			hint = "ask the provider for the name of a gateway"
		}
		return nil, &Error{"the gateway " + quoted(host) + " is none of " + p.Title, "its gateways are called " + p.Host, hint}
	}
	d := newDraft("the preset for "+p.Title+", verified on "+p.VerifiedOn, Options{Name: path.Base(p.Name)})
	c := d.connection(p.Name)
	if c.Remote = d.hosts("remote", host); len(c.Remote) == 0 {
		return nil, &Error{"the gateway " + quoted(host) + " is no host name", "", p.FindHost}
	}
	c.Request = slices.Clone(p.Request)
	c.Proposals = slices.Clone(p.Proposals)
	c.Children["net"] = &config.Child{Proposals: slices.Clone(p.ChildProposals)}
	c.Local = config.Auth{Auth: p.Auth, User: strings.TrimSpace(user)}
	c.Peer = config.Auth{Auth: "cert", ID: strings.ReplaceAll(p.RemoteID, "{host}", host)}
	cert, err := p.authority(ca)
	if err != nil {
		return nil, err
	}
	c.Peer.CA = []string{system}
	if cert != nil {
		c.Peer.CA = []string{d.file("ca.pem", pki.EncodeCertificate(cert))}
	}
	d.note("", "verified on %s by %s", p.VerifiedOn, p.VerifiedBy)
	if p.Login != "" {
		d.note("local", "user and password are %s; Martlet asks for what is left out", p.Login)
	}
	for _, n := range p.Notes {
		d.note("", "%s", n)
	}
	d.keep(c)
	return d.finish()
}

// fits tells whether a host is one of the provider's.
func (p Preset) fits(host string) bool {
	if suffix, ok := strings.CutPrefix(p.Host, "*"); ok {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return host == p.Host
}

// authority finds the pinned CA in a file.
func (p Preset) authority(file []byte) (*x509.Certificate, error) {
	get := "get it from " + strings.Join(p.CA.URLs, " or ") + ", for martlet import --ca FILE"
	switch {
	case p.CA.SHA256 == "" && len(file) == 0:
		return nil, nil
	case p.CA.SHA256 == "":
		return nil, &Error{p.Title + " needs no certificate of a CA", "its gateways' are below one that the system trusts", "leave it out"}
	case len(file) == 0:
		return nil, &Error{"the certificate of the CA of " + p.Title + " is missing", "Martlet has its hash only", get}
	case len(file) > maxSize:
		return nil, &Error{"the certificate of the CA is too large", fmt.Sprintf("the file has %d octets", len(file)), get}
	}
	certs, err := pki.ParseCertificates(file)
	if err != nil {
		return nil, &Error{"the certificate of the CA cannot be read", bare(err), get}
	}
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		if strings.EqualFold(hex.EncodeToString(sum[:]), p.CA.SHA256) {
			return c, nil
		}
	}
	sum := sha256.Sum256(certs[0].Raw)
	return nil, &Error{
		"the certificate is not the one of the CA of " + p.Title,
		fmt.Sprintf("it is that of %s, with the SHA-256 %X, and %s was expected", quoted(certs[0].Subject.String()), sum, p.CA.SHA256),
		get + "; if that is where it comes from, the provider has a new one, or somebody is in between: do not use it before the provider says so",
	}
}
