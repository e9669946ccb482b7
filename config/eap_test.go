package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const eapClient = `
[connection.office]
remote = ["vpn.example.com"]
request = ["ipv4"]
[connection.office.local]
auth = "eap"
user = "alice"
secret = "open sesame"
[connection.office.peer]
auth = "cert"
ca = ["ca.pem"]
`

const eapGateway = `
[user.alice]
password = "open sesame"
[pool.v4]
addresses = ["10.9.0.0/24"]
[connection.office]
pool = ["v4"]
[connection.office.local]
auth = "cert"
cert = ["gateway.pem"]
key = ["gateway.key"]
[connection.office.peer]
auth = "eap"
`

func parseEAP(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	credentials(t, dir)
	return Parse("test.toml", []byte(text), dir, nil)
}

// TestEAPMethods: what each word stands for.
func TestEAPMethods(t *testing.T) {
	cert := "cert = [\"alice.pem\"]\nkey = [\"alice.key\"]\n"
	for _, c := range []struct {
		name, text    string
		local, remote []string
	}{
		{"client", eapClient, []string{"mschapv2", "peap", "ttls"}, nil},
		{"client, one method", strings.Replace(eapClient, `"eap"`, `"eap-gtc"`, 1), []string{"gtc"}, nil},
		{"client, certificate", strings.Replace(strings.Replace(eapClient, "user = \"alice\"\n", cert, 1), "secret = \"open sesame\"\n", "", 1), []string{"tls"}, nil},
		{"client, both", strings.Replace(eapClient, "user = \"alice\"\n", "user = \"alice\"\n"+cert, 1), []string{"tls", "mschapv2", "peap", "ttls"}, nil},
		{"client of a gateway with a PSK", strings.Replace(eapClient, "auth = \"cert\"\nca = [\"ca.pem\"]", "auth = \"psk\"\nsecret = \""+psk+"\"", 1), []string{"mschapv2", "peap", "ttls"}, nil},
		{"gateway with a PSK", strings.Replace(eapGateway, "auth = \"cert\"\ncert = [\"gateway.pem\"]\nkey = [\"gateway.key\"]", "auth = \"psk\"\nsecret = \""+psk+"\"", 1), nil, []string{"mschapv2"}},
		{"gateway", eapGateway, nil, []string{"mschapv2", "peap", "ttls"}},
		{"gateway with a CA", eapGateway + "ca = [\"ca.pem\"]\n", nil, []string{"mschapv2", "peap", "ttls", "tls"}},
		{"gateway, one method", strings.Replace(eapGateway, `"eap"`, `"eap-md5"`, 1), nil, []string{"md5"}},
		{"gateway, RADIUS", strings.Replace(eapGateway, `"eap"`, `"eap-radius"`, 1) + "[radius.server.a]\naddress = \"10.0.0.5\"\nsecret = \"sixteen octets of it\"\n", nil, nil},
		{"gateway, EAP alone", strings.NewReplacer(`auth = "cert"`, `auth = "eap"`, `pool = ["v4"]`, "pool = [\"v4\"]\neap_only = true").Replace(eapGateway), nil, []string{"peap", "ttls"}},
	} {
		got, err := parseEAP(t, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		conn := got.Connections["office"]
		if !slices.Equal(conn.Local.Methods, c.local) || !slices.Equal(conn.Peer.Methods, c.remote) {
			t.Errorf("%s: %v and %v", c.name, conn.Local.Methods, conn.Peer.Methods)
		}
	}
}

func TestEAPTwoRounds(t *testing.T) {
	second := "[connection.office.local2]\nauth = \"eap-mschapv2\"\nuser = \"alice\"\n"
	c, err := parseEAP(t, roadWarrior+second)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Connections["office"].Local2; !l.IsSet() || l.User != "alice" || !slices.Equal(l.Methods, []string{"mschapv2"}) {
		t.Errorf("%+v", l)
	}
	if c.Connections["office"].Peer2.IsSet() {
		t.Error("a second round of the peer appeared")
	}
}

func TestEAPFaults(t *testing.T) {
	client := func(old, with string) string { return strings.Replace(eapClient, old, with, 1) }
	gateway := func(old, with string) string { return strings.Replace(eapGateway, old, with, 1) }
	for name, tt := range map[string]struct{ text, key, reason string }{
		"unknown method":          {client(`"eap"`, `"eap-sim"`), "connection.office.local.auth", `unknown method "eap-sim"`},
		"RADIUS as our own":       {client(`"eap"`, `"eap-radius"`), "connection.office.local.auth", "unknown method"},
		"no remote":               {client(`remote = ["vpn.example.com"]`+"\n"+`request = ["ipv4"]`, ""), "connection.office.local.auth", "EAP is for who begins"},
		"tls without certificate": {client(`"eap"`, "\"eap-tls\"\nkey = [\"alice.key\"]"), "connection.office.local.cert", "is missing"},
		"user of a certificate":   {strings.Replace(roadWarrior, `auth = "cert"`, "auth = \"cert\"\nuser = \"x\"", 1), "connection.office.local.user", "it needs auth"},
		"user of a peer":          {gateway(`auth = "eap"`, "auth = \"eap\"\nuser = \"x\""), "connection.office.peer.user", "belongs in the local table"},
		"strip_domain here":       {client(`user = "alice"`, "user = \"alice\"\nstrip_domain = true"), "connection.office.local.strip_domain", "belongs in the peer table"},
		"inner method":            {client(`user = "alice"`, "user = \"alice\"\ninner = [\"tls\"]"), "connection.office.local.inner[0]", "unknown method"},
		"TLS version":             {client(`user = "alice"`, "user = \"alice\"\ntls = \"1.1\""), "connection.office.local.tls", "unknown version"},
		"EAP server's name":       {client(`user = "alice"`, "user = \"alice\"\neap_server = \"asn1dn:#zz\""), "connection.office.local.eap_server", ""},
		"no RADIUS server":        {gateway(`"eap"`, `"eap-radius"`), "connection.office.peer.auth", "no server"},
		"no users":                {gateway("[user.alice]\npassword = \"open sesame\"\n", ""), "connection.office", "there are no users"},
		"user without password":   {gateway("password = \"open sesame\"\n", ""), "user.alice.password", "is missing"},
		"secret of a peer":        {gateway(`auth = "eap"`, "auth = \"eap\"\nsecret = \"x\""), "connection.office.peer.secret", "stand in [user.NAME]"},
		"tls, no CA":              {gateway(`"eap"`, `"eap-tls"`), "connection.office.peer.ca", "is missing"},
		"tls, public CA":          {gateway(`"eap"`, "\"eap-tls\"\nca = [\"system\"]"), "connection.office.peer.id", "everybody can get a certificate"},
		"EAP alone, not allowed":  {client("auth = \"cert\"\nca = [\"ca.pem\"]", "auth = \"eap\"\nid = \"vpn.example.com\""), "connection.office.peer.auth", "set eap_only = true"},
		"second key":              {roadWarrior + "[connection.office.local2]\nauth = \"psk\"\n", "connection.office.local2.secret", "is missing"},
		"second method":           {roadWarrior + "[connection.office.local2]\nuser = \"x\"\n", "connection.office.local2.auth", "is missing"},
	} {
		_, err := parseEAP(t, tt.text)
		if err == nil {
			t.Errorf("%s: no fault", name)
			continue
		}
		var all Errors
		if !errors.As(err, &all) || len(all) != 1 || all[0].Key != tt.key || !strings.Contains(all[0].Error(), tt.reason) {
			t.Errorf("%s: %v\nwant %s: … %s", name, err, tt.key, tt.reason)
		}
	}
}

func TestUserAddresses(t *testing.T) {
	const two = "[user.a]\naddress = [\"10.9.0.5\"]\n[user.b]\npassword = \"x\"\naddress = [%s]\n[pool.p]\naddresses = [\"10.9.0.0/24\"]\n"
	for address, want := range map[string]string{
		`"10.9.0.5"`:                "belongs to user a",
		`"10.9.0.6", "10.9.0.7"`:    "a second one of its family",
		`"0.0.0.0"`:                 "no address of a host",
		`"10.9.0.1"`:                "the gateway's own in pool p",
		`"fd00::1", "10.9.0.6"`:     "",
		`"10.9.0.6", "2001:db8::1"`: "",
	} {
		_, err := Parse("x", []byte(fmt.Sprintf(two, address)), t.TempDir(), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s gives %v, want %q", address, err, want)
		}
	}
	if _, err := Parse("x", []byte("[user.a]\n"), t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "user.a.password: is missing") {
		t.Errorf("a user with nothing: %v", err)
	}
}
