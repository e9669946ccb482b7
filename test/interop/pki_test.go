package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"martlet/crypto/pki"
)

// radiusID is the RADIUS server's name in EAP, userID is somebody with a certificate.
const martletID, swanID, radiusID, userID = "martlet.test", "swan.test", "radius.test", "carol.test"

// identities are certificates of one CA for both sides, in each kind of key, as files
// DIR/KIND-NAME.pem and .key, and ca.pem.
type identities struct {
	dir string
}

func (i *identities) ca() string                  { return filepath.Join(i.dir, "ca.pem") }
func (i *identities) cert(kind, id string) string { return filepath.Join(i.dir, kind+"-"+id+".pem") }

func (i *identities) key(kind, id string) string { return filepath.Join(i.dir, kind+"-"+id+".key") }

func issueIdentities(dir string) (*identities, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	i := &identities{dir}
	now := time.Now()
	ca, err := pki.NewAuthority("Interop CA", now, 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(i.ca(), pki.EncodeCertificate(ca.Cert), 0o600); err != nil {
		return nil, err
	}
	for name, kind := range map[string]pki.KeyKind{"rsa": pki.RSA3072, "ecdsa": pki.ECDSAP256, "ed25519": pki.Ed25519} {
		for _, id := range []string{martletID, swanID, radiusID, userID} {
			if name != "ecdsa" && id != martletID && id != swanID {
				continue
			}
			c, err := ca.Issue(pki.Request{DNSNames: []string{id}, Now: now, Key: kind})
			if err != nil {
				return nil, fmt.Errorf("certificate %s of %s: %w", name, id, err)
			}
			key, err := pki.EncodePrivateKey(c.Key)
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(i.cert(name, id), pki.EncodeCertificate(c.Cert), 0o600); err != nil {
				return nil, err
			}
			if err := os.WriteFile(i.key(name, id), key, 0o600); err != nil {
				return nil, err
			}
		}
	}
	return i, nil
}
