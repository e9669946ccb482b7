package interop

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"text/template"
	"time"

	"github.com/smallstep/pkcs7"

	"martlet/crypto/pki"
)

const otherSecret = "another key of sixteen and more"

// profileFields are what the profiles in testdata/profiles leave open.
type profileFields struct {
	Gateway, Own        string // the gateway's name, and our address
	User, Password      string
	Holder              string // of the certificate, and of the pre-shared key
	Secret, OtherSecret string

	CAFile, CertFile, KeyFile string // in PEM
	CA                        string // in base64, as all below
	PKCS12, OpenPKCS12        string // encrypted by KeyPassword, and by none
	KeyPassword               string
}

func newProfileFields(t *testing.T) profileFields {
	t.Helper()
	f := profileFields{
		Gateway: swanID, Own: homeAddr, User: user, Password: password, Holder: userID, Secret: secret, OtherSecret: otherSecret,
		CAFile: readFile(t, shared.pki.ca()), CertFile: readFile(t, shared.pki.cert("ecdsa", userID)), KeyFile: readFile(t, shared.pki.key("ecdsa", userID)),
		KeyPassword: "mercury and venus",
	}
	certs := func(text string) []*x509.Certificate {
		all, err := pki.ParseCertificates([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	cas := certs(f.CAFile)
	key, err := pki.ParsePrivateKey([]byte(f.KeyFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewCredential(certs(f.CertFile), key)
	if err != nil {
		t.Fatal(err)
	}
	box := func(password string) string {
		data, err := pki.EncodePKCS12(own, cas, password, false)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(data)
	}
	f.CA = base64.StdEncoding.EncodeToString(cas[0].Raw)
	f.PKCS12, f.OpenPKCS12 = box(f.KeyPassword), box("")
	return f
}

// write fills in the files of a folder in testdata/profiles, and returns where they are.
func (f profileFields) write(t *testing.T, name string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	from := os.DirFS(filepath.Join("testdata", "profiles", name))
	err := fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(folder, path), 0o700))
		}
		text, err := template.ParseFS(from, path)
		if err != nil {
			return err
		}
		to, err := os.OpenFile(filepath.Join(folder, path), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(text.Execute(to, f), to.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// sign makes a signed message of a file, as who gives profiles to Apple's devices does.
func sign(t *testing.T, file string) {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("Profiles", now, time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.Issue(pki.Request{CommonName: "Signer", Now: now, Validity: time.Hour, Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	message, err := pkcs7.NewSignedData([]byte(readFile(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	message.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := message.AddSigner(signer.Cert, signer.Key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	data, err := message.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// trusts makes certificates those that programs of the namespace trust.
func (ns *namespace) trusts(pem string) {
	ns.t.Helper()
	certs := filepath.Join("/etc/netns", ns.name, "ssl", "certs")
	err := os.MkdirAll(certs, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(certs, "ca-certificates.crt"), []byte(pem), 0o644) //nolint:gosec // as on every host
	}
	if err != nil {
		ns.t.Fatal(err)
	}
}
