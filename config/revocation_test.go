package config

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

func TestRevocationKeys(t *testing.T) {
	dir := t.TempDir()
	ca := credentials(t, dir)
	der, err := ca.IssueCRL(nil, 1, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"lists", "bad"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "lists", "ca.crl"), string(der), 0o644)
	write(t, filepath.Join(dir, "lists", "ca.pem"), string(pki.EncodeCRL(der)), 0o644)
	write(t, filepath.Join(dir, "lists", "README.md"), "no list", 0o644)
	for lines, want := range map[string]pki.Revocation{
		"":                       pki.RevocationOff,
		`revocation = "off"`:     pki.RevocationOff,
		`revocation = "relaxed"`: pki.RevocationRelaxed,
		`revocation = "strict"`:  pki.RevocationStrict,
		`crl = ["lists/ca.crl"]`: pki.RevocationRelaxed,
		`crl = ["file:lists"]`:   pki.RevocationRelaxed,
		"crl = [\"lists\"]\nrevocation = \"strict\"": pki.RevocationStrict,
	} {
		c, err := Parse("", []byte(roadWarrior+lines), dir, nil)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		peer := c.Connections["office"].Peer
		if peer.Policy != want {
			t.Errorf("%s: %v, want %v", lines, peer.Policy, want)
		}
		for _, path := range peer.CRL {
			if !filepath.IsAbs(path) {
				t.Errorf("%s is relative", path)
			}
		}
	}
	lists, err := ReadCRLs(OwnFiles{}, filepath.Join(dir, "lists"))
	if err != nil || len(lists) != 2 {
		t.Errorf("%d lists, %v", len(lists), err)
	}
	write(t, filepath.Join(dir, "bad", "bad.crl"), "no list", 0o644)
	for lines, want := range map[string]string{
		`revocation = "perhaps"`:                  "unknown policy",
		`crl = ["none.crl"]`:                      "does not exist",
		`crl = ["ca.pem"]`:                        "something else",
		`crl = ["bad"]`:                           "bad.crl",
		"crl = [\"lists\"]\nrevocation = \"off\"": "does not look at it",
	} {
		if _, err := Parse("", []byte(roadWarrior+lines), dir, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", lines, err, want)
		}
	}
	for key, want := range map[string]string{
		"revocation = \"off\"\nkey = [": "connection.office.local.revocation: has no meaning here",
		"crl = [\"lists\"]\nkey = [":    "connection.office.local.crl: has no meaning here",
	} {
		text := strings.Replace(roadWarrior, "key = [", key, 1)
		if _, err := Parse("", []byte(text), dir, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestPKCS12File(t *testing.T) {
	dir := t.TempDir()
	ca := credentials(t, dir)
	cred, err := ca.Issue(pki.Request{Emails: []string{"alice@example.com"}, Now: time.Now(), Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	p12, err := pki.EncodePKCS12(cred, []*x509.Certificate{ca.Cert}, "open sesame", false)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "alice.p12"), string(p12), 0o600)
	write(t, filepath.Join(dir, "open.p12"), string(p12), 0o644)
	write(t, filepath.Join(dir, "pass"), "open sesame\n", 0o600)
	with := func(lines string) string {
		return strings.Replace(roadWarrior, "cert = [\"alice.pem\"]\nkey = [\"file:alice.key\"]", lines, 1)
	}
	for _, lines := range []string{
		"cert = [\"alice.p12\"]\nkey_password = \"file:pass\"",
		"cert = [\"alice.p12\", \"gateway.pem\"]\nkey = [\"gateway.key\"]\nkey_password = \"open sesame\"",
	} {
		c, err := Parse("", []byte(with(lines)), dir, nil)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		if got := c.Connections["office"].Local; !got.Credentials[0].Cert.Equal(cred.Cert) || got.Identity.String() != "alice@example.com" {
			t.Errorf("%s: %v", lines, got.Identity)
		}
	}
	for lines, want := range map[string]string{
		`cert = ["alice.p12"]`:                                                        "the password is wrong (hint: key_password",
		"cert = [\"alice.p12\"]\nkey_password = \"no\"":                               "the password is wrong",
		"cert = [\"open.p12\"]\nkey_password = \"file:pass\"":                         "mode 0644",
		"cert = [\"alice.pem\"]\nkey_password = \"file:pass\"":                        "key: is missing",
		"cert = [\"none.p12\"]\nkey_password = \"open sesame\"":                       "does not exist",
		"cert = [\"alice.p12\"]\nkey = [\"alice.key\"]\nkey_password = \"file:pass\"": "does not belong",
	} {
		if _, err := Parse("", []byte(with(lines)), dir, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %s", lines, err, want)
		}
	}
	text := roadWarrior + "key_password = \"x\"\n"
	if _, err := Parse("", []byte(text), dir, nil); err == nil || !strings.Contains(err.Error(), "peer.key_password: has no meaning") {
		t.Error(err)
	}
}

const bareKeys = `
[connection.site]
remote = ["192.0.2.7"]
[connection.site.local]
auth = "cert"
id = "moon.example.com"
cert = ["moon.pub"]
key = ["alice.key"]
[connection.site.peer]
auth = "cert"
cert = ["sun.pub"]
`

func TestBareKeys(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	public := func(key, name string) {
		t.Helper()
		k, err := pki.ParsePrivateKey(read(t, dir, key), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pki.EncodePublicKeyFile(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(b), 0o644)
	}
	public("alice.key", "moon.pub")
	public("gateway.key", "sun.pub")
	public("gateway-ed.key", "next.pub")
	c, err := Parse("", []byte(bareKeys), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	site := c.Connections["site"]
	if creds := site.Local.Credentials; len(creds) != 1 || creds[0].Cert != nil || creds[0].Key == nil {
		t.Errorf("credentials %v", creds)
	}
	if v := site.Peer.Verifier; len(v.Keys) != 1 || len(v.Roots) != 0 || !site.Peer.Identity.IsZero() {
		t.Errorf("verifier %v, identity %v", v, site.Peer.Identity)
	}
	if err := c.Complete(); err != nil || len(site.Peer.Verifier.Keys) != 1 {
		t.Errorf("completed again: %v, %d keys", err, len(site.Peer.Verifier.Keys))
	}
	two := strings.Replace(bareKeys, `["sun.pub"]`, `["sun.pub", "next.pub"]`, 1)
	if c, err = Parse("", []byte(two), dir, nil); err != nil || len(c.Connections["site"].Peer.Verifier.Keys) != 2 {
		t.Errorf("two keys: %v", err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no name":         {`id = "moon.example.com"`, "", "local.id: is missing"},
		"another key":     {`"alice.key"`, `"gateway.key"`, "not the key of the public key"},
		"no key":          {`key = ["alice.key"]`, "", "key: is missing"},
		"mixed":           {`["sun.pub"]`, `["sun.pub", "gateway.pem"]`, "there is none"},
		"revocation":      {`cert = ["sun.pub"]`, "cert = [\"sun.pub\"]\nrevocation = \"strict\"", "no meaning for bare keys"},
		"one key too few": {`["moon.pub"]`, `["moon.pub", "next.pub"]`, "no private key for the public key"},
		"private key":     {`["sun.pub"]`, `["gateway.key"]`, "there is none"},
	} {
		if _, err := Parse("", []byte(strings.Replace(bareKeys, c.old, c.new, 1)), dir, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestRevocationInEAP(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	text := func(method, lines string) string {
		return `
[connection.clients]
local = { auth = "cert", cert = ["gateway.pem"], key = ["gateway.key"] }
[connection.clients.peer]
auth = "` + method + `"
` + lines + `
[user.alice]
password = "9vKc2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe"
`
	}
	c, err := Parse("", []byte(text("eap-tls", "ca = [\"ca.pem\"]\nrevocation = \"strict\"")), dir, nil)
	if err != nil || c.Connections["clients"].Peer.Policy != pki.RevocationStrict {
		t.Errorf("eap-tls: %v", err)
	}
	for method, want := range map[string]string{
		"eap-mschapv2": "certificates of peers need",
		"eap-radius":   "the RADIUS server looks",
		"psk":          "needs auth = \"cert\"",
	} {
		if _, err := Parse("", []byte(text(method, `revocation = "strict"`)), dir, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", method, err, want)
		}
	}
}

// TestEncryptedKey: a key as OpenSSL encrypts it.
func TestEncryptedKey(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	samples := filepath.Join("..", "crypto", "pki", "testdata")
	for _, name := range []string{"carol.pem", "aes256.pem", "des3.pem"} {
		write(t, filepath.Join(dir, name), string(read(t, samples, name)), 0o600)
	}
	with := func(lines string) string {
		return strings.Replace(roadWarrior, "cert = [\"alice.pem\"]\nkey = [\"file:alice.key\"]", "cert = [\"carol.pem\"]\n"+lines, 1)
	}
	c, err := Parse("", []byte(with("key = [\"aes256.pem\"]\nkey_password = \"martlet\"")), dir, nil)
	if err != nil || len(c.Connections["office"].Local.Credentials) != 1 {
		t.Error(err)
	}
	for lines, want := range map[string]string{
		"key = [\"aes256.pem\"]":                             "encrypted and no password is given",
		"key = [\"aes256.pem\"]\nkey_password = \"Martlet\"": "the password is wrong",
		"key = [\"des3.pem\"]\nkey_password = \"martlet\"":   "encrypt it again",
	} {
		if _, err := Parse("", []byte(with(lines)), dir, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", lines, err, want)
		}
	}
}

func TestRevocationHostsAreChecked(t *testing.T) {
	c := &Config{Node: Node{RevocationHosts: []string{"crl.example", "*.example", "192.0.2.1", "2001:db8::1"}}}
	if err := c.Complete(); err != nil {
		t.Error(err)
	}
	for _, host := range []string{"http://crl.example", "crl.example:80", "*", "*.", "a b", ""} {
		c := &Config{Node: Node{RevocationHosts: []string{host}}}
		if err := c.Complete(); err == nil || !strings.Contains(err.Error(), "no host") {
			t.Errorf("%q: %v", host, err)
		}
	}
	next := &Config{Node: Node{RevocationHosts: []string{"crl.example"}}}
	if keys := c.NeedsRestart(next); slices.Contains(keys, "node.revocation_hosts") {
		t.Errorf("%v need a new start", keys)
	}
}
