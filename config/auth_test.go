package config

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// credentials writes what the tests of certificates need into a folder: ca.pem, and for
// gateway, alice and old (expired) NAME.pem with NAME.key.
func credentials(t *testing.T, dir string) *pki.Authority {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("Test CA", now.Add(-48*time.Hour), 0, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.pem"), string(pki.EncodeCertificate(ca.Cert)), 0o644)
	for name, req := range map[string]pki.Request{
		"gateway":    {DNSNames: []string{"vpn.example.com"}, Now: now},
		"gateway-ed": {DNSNames: []string{"vpn.example.com"}, Now: now, Key: pki.Ed25519},
		"alice":      {Emails: []string{"alice@example.com"}, Now: now},
		"old":        {DNSNames: []string{"old.example.com"}, Now: now.Add(-24 * time.Hour), Validity: time.Hour},
	} {
		if req.Key == 0 {
			req.Key = pki.ECDSAP256 // RSA keys take long to make
		}
		cred, err := ca.Issue(req)
		if err != nil {
			t.Fatal(err)
		}
		key, err := pki.EncodePrivateKey(cred.Key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".pem"), string(pki.EncodeCertificate(cred.Cert)), 0o644)
		write(t, filepath.Join(dir, name+".key"), string(key), 0o600)
	}
	return ca
}

const roadWarrior = `
[connection.office]
remote = ["vpn.example.com"]
request = ["ipv4"]
[connection.office.local]
auth = "cert"
cert = ["alice.pem"]
key = ["file:alice.key"]
[connection.office.peer]
auth = "cert"
ca = ["ca.pem"]
`

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	ca := credentials(t, dir)
	c, err := Parse("", []byte(roadWarrior), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.Connections["office"]
	if got := conn.Local.Identity.String(); got != "alice@example.com" {
		t.Errorf("our identity %s is not the certificate's", got)
	}
	if got := conn.Peer.Identity.String(); got != "vpn.example.com" {
		t.Errorf("the peer's identity %s is not the remote's", got)
	}
	if len(conn.Local.Credentials) != 1 || len(conn.Local.Credentials[0].Chain) != 0 {
		t.Errorf("credentials %v", conn.Local.Credentials)
	}
	if v := conn.Peer.Verifier; len(v.Roots) != 1 || !v.Roots[0].Equal(ca.Cert) || v.SystemRoots {
		t.Errorf("verifier %v", v)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings %v", c.Warnings)
	}

	// The key may stand in the file of the certificate, and several pairs in any order.
	both := slices.Concat(read(t, dir, "gateway.pem"), read(t, dir, "gateway.key"))
	write(t, filepath.Join(dir, "both.pem"), string(both), 0o600)
	for list, want := range map[string]int{
		"cert = [\"both.pem\"]\nkey = [\"both.pem\"]":                                                           1,
		"cert = [\"gateway.pem\", \"gateway-ed.pem\", \"ca.pem\"]\nkey = [\"gateway-ed.key\", \"gateway.key\"]": 2,
	} {
		text := strings.Replace(roadWarrior, "cert = [\"alice.pem\"]\nkey = [\"file:alice.key\"]", list, 1)
		c, err := Parse("", []byte(text), dir, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := c.Connections["office"].Local.Credentials; len(got) != want {
			t.Errorf("%s: %d credentials, want %d", list, len(got), want)
		}
	}
}

// TestCertificateFaults covers security.md row 48 as well: each credential absent or
// unreadable.
func TestCertificateFaults(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	write(t, filepath.Join(dir, "open.key"), string(read(t, dir, "alice.key")), 0o644)
	write(t, filepath.Join(dir, "empty.pem"), "", 0o600)
	for name, tt := range map[string]struct{ old, with, key, reason string }{
		"cert is missing":      {`cert = ["alice.pem"]`, "", "connection.office.local.cert", "is missing"},
		"key is missing":       {`key = ["file:alice.key"]`, "", "connection.office.local.key", "is missing"},
		"ca is missing":        {`ca = ["ca.pem"]`, "", "connection.office.peer.ca", "is missing"},
		"cert not there":       {"alice.pem", "none.pem", "connection.office.local.cert[0]", "does not exist"},
		"key not there":        {"alice.key", "none.key", "connection.office.local.key[0]", "does not exist"},
		"ca not there":         {"ca.pem", "none.pem", "connection.office.peer.ca[0]", "does not exist"},
		"cert is empty":        {"alice.pem", "empty.pem", "connection.office.local.cert[0]", "neither PEM nor DER"},
		"key is empty":         {"alice.key", "empty.pem", "connection.office.local.key[0]", "key"},
		"ca is empty":          {`["ca.pem"]`, `["empty.pem"]`, "connection.office.peer.ca[0]", "neither PEM nor DER"},
		"key open to all":      {"alice.key", "open.key", "connection.office.local.key[0]", "chmod 600"},
		"key of another":       {"alice.key", "gateway.key", "connection.office.local.key[0]", "does not belong to certificate"},
		"key twice":            {`"file:alice.key"`, `"alice.key", "alice.key"`, "connection.office.local.key[1]", "same certificate"},
		"cert without key":     {`"alice.pem"`, `"alice.pem", "gateway.pem"`, "connection.office.local.cert[1]", "there is no key"},
		"files swapped":        {`cert = ["alice.pem"]`, `cert = ["alice.key"]`, "connection.office.local.cert[0]", "private key"},
		"ca is no CA":          {`ca = ["ca.pem"]`, `ca = ["gateway.pem"]`, "connection.office.peer.ca[0]", "not the certificate of a CA"},
		"system and files":     {`ca = ["ca.pem"]`, `ca = ["system", "ca.pem"]`, "connection.office.peer.ca", "stand alone"},
		"ca and cert":          {`ca = ["ca.pem"]`, `ca = ["ca.pem"]` + "\n" + `cert = ["gateway.pem"]`, "connection.office.peer.cert", "excludes ca"},
		"several peers":        {`ca = ["ca.pem"]`, `cert = ["gateway.pem", "old.pem"]`, "connection.office.peer.cert", "the peer has one"},
		"ca on our side":       {`key = [`, "ca = [\"ca.pem\"]\nkey = [", "connection.office.local.ca", "no meaning here"},
		"key on peer's side":   {`ca = [`, "key = [\"x\"]\nca = [", "connection.office.peer.key", "no meaning here"},
		"secret with cert":     {`key = [`, "secret = \"" + psk + "\"\nkey = [", "connection.office.local.secret", "needs auth"},
		"several remotes":      {`["vpn.example.com"]`, `["a.example.com", "b.example.com"]`, "connection.office.peer.id", "several remotes"},
		"anybody of public CA": {"remote = [\"vpn.example.com\"]\nrequest = [\"ipv4\"]", "", "connection.office.peer.id", "everybody can get a certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(roadWarrior, tt.old, tt.with, 1)
			if text == roadWarrior {
				t.Fatalf("no %q in it", tt.old)
			}
			if name == "anybody of public CA" {
				text = strings.Replace(text, `"ca.pem"`, `"system"`, 1)
			}
			_, err := Parse("test.toml", []byte(text), dir, nil)
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("no fault found: %v", err)
			}
			if e := all[0]; e.Key != tt.key || !strings.Contains(e.Error(), tt.reason) || e.Line == 0 || len(all) > 1 {
				t.Errorf("got:  %v\nwant: %s: … %s", err, tt.key, tt.reason)
			}
		})
	}
}

func TestPeerCertificateOnly(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	c, err := Parse("", []byte(strings.Replace(roadWarrior, `ca = ["ca.pem"]`, `cert = ["gateway.pem", "ca.pem"]`, 1)), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := c.Connections["office"].Peer
	certs, err := pki.ParseCertificates(read(t, dir, "gateway.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if len(peer.Verifier.Roots) != 1 || !peer.Verifier.Roots[0].Equal(certs[0]) || peer.Identity.String() != "vpn.example.com" {
		t.Errorf("peer %v with %d roots", peer.Identity, len(peer.Verifier.Roots))
	}
}

func TestCertificateWarnings(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	for name, tt := range map[string]struct{ old, with, key, says string }{
		"expired":          {"cert = [\"alice.pem\"]\nkey = [\"file:alice.key\"]", "cert = [\"old.pem\"]\nkey = [\"old.key\"]", "connection.office.local.cert", "expired on"},
		"id of another":    {"key = [", "id = \"bob@example.com\"\nkey = [", "connection.office.local.id", "does not prove"},
		"expired and only": {`ca = ["ca.pem"]`, `cert = ["old.pem"]`, "connection.office.peer.cert", "expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("", []byte(strings.Replace(roadWarrior, tt.old, tt.with, 1)), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Warnings) != 1 || c.Warnings[0].Key != tt.key || !strings.Contains(c.Warnings[0].Text, tt.says) {
				t.Errorf("warnings %v, want one of %s that says %q", c.Warnings, tt.key, tt.says)
			}
		})
	}
}

// TestComplete builds by hand what a library's user would, and completes it twice.
func TestComplete(t *testing.T) {
	dir := t.TempDir()
	ca := credentials(t, dir)
	cred, err := ca.Issue(pki.Request{DNSNames: []string{"vpn.example.com"}, Now: time.Now(), Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{
		Node:  Node{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Pools: map[string]*Pool{"clients": {Addresses: []string{"10.77.0.0/24"}}},
		Connections: map[string]*Connection{
			"clients": {
				Pool:  []string{"clients"},
				Local: Auth{Auth: "cert", Credentials: []*pki.Credential{cred}},
				Peer:  Auth{Auth: "cert", Verifier: pki.Verifier{Roots: []*x509.Certificate{ca.Cert}}},
			},
			"files": {
				Remote: []string{"192.0.2.1"},
				Local:  Auth{Auth: "cert", Cert: []string{filepath.Join(dir, "alice.pem")}, Key: []string{filepath.Join(dir, "alice.key")}},
				Peer:   Auth{Auth: "psk", Secret: Secret{Value: []byte(psk)}},
			},
		},
	}
	for range 2 {
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
		clients := c.Connections["clients"]
		if clients.Name != "clients" || clients.Local.Identity.String() != "vpn.example.com" || !clients.Peer.Identity.IsZero() ||
			!clients.Children["net"].RemoteIsDyn || len(clients.IKE) == 0 || !clients.Routes.Selectors || clients.Liveness == 0 {
			t.Errorf("connection: %+v", clients)
		}
		if !c.Pools["clients"].Gateway.IsValid() || len(c.Pools["clients"].Ranges) != 1 {
			t.Errorf("pool: %+v", c.Pools["clients"])
		}
		if n := c.Node; n.IKEPort != 0 || n.NATPort != 0 || n.Control != "" || n.State != "" || n.Mark == 0 || n.Device == "" {
			t.Errorf("node: %+v", n)
		}
		if got := c.Connections["files"].Local.Credentials; len(got) != 1 {
			t.Errorf("%d credentials from files", len(got))
		}
	}
	c.Connections["clients"].Pool = []string{"none"}
	c.Connections["nil"] = nil
	c.Pools["nil"] = nil
	c.Connections["files"].Children = map[string]*Child{"nil": nil}
	err = c.Complete()
	var all Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("%v, want four faults", err)
	}
	if !strings.HasPrefix(all[0].Error(), "config: ") {
		t.Errorf("without a file: %v", all[0])
	}
}

// TestCompleteAfterLoad: paths still start at the folder of the file.
func TestCompleteAfterLoad(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	path := filepath.Join(dir, "martlet.toml")
	write(t, path, roadWarrior, 0o644)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Connections["office"].Local.Credentials = nil
	if err := c.Complete(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
