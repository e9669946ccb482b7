package config

import (
	"strings"
	"testing"

	"martlet/crypto/suite"
)

func TestLegacy(t *testing.T) {
	const text = `
[pool.v4]
addresses = ["10.0.0.0/24"]
[connection.devices]
pool = ["v4"]
proposals = ["default", "aes128-sha1-modp1024"]
LEGACY
[connection.devices.local]
auth = "psk"
id = "gateway.example.com"
secret = "0sZVJ2ZXJ5Ym9keSBrbm93cyB0aGlzIG9uZSBieSBub3chISE="
[connection.devices.peer]
auth = "psk"
`
	parse := func(line string) *Config {
		t.Helper()
		c, err := Parse("", []byte(strings.Replace(text, "LEGACY", line, 1)), t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	has := func(all []suite.Proposal, protocol suite.Protocol, text string) bool {
		p, err := suite.ParseProposal(protocol, text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = suite.Select([]suite.Proposal{p}, all, false)
		return err == nil
	}
	for _, test := range []struct {
		line           string
		ike, esp, loud bool
	}{
		{"", false, false, false},
		{`legacy = "windows-default"`, true, true, true},
		{`legacy = "old-cloud"`, true, true, true},
	} {
		c := parse(test.line)
		conn := c.Connections["devices"]
		if got := has(conn.IKE, suite.ProtocolIKE, "aes256-sha256-modp1024"); got != test.ike {
			t.Errorf("%q: modp1024 is accepted: %v", test.line, got)
		}
		if got := has(conn.Children["net"].ESP, suite.ProtocolESP, "aes256-sha1"); got != test.esp {
			t.Errorf("%q: SHA-1 is accepted in ESP: %v", test.line, got)
		}
		loud := false
		for _, w := range c.Warnings {
			loud = loud || w.Key == "connection.devices.legacy" && strings.Contains(w.Text, "modp1024")
		}
		if loud != test.loud {
			t.Errorf("%q: warned: %v", test.line, loud)
		}
		before := len(conn.IKE)
		if err := c.Complete(); err != nil || len(conn.IKE) != before {
			t.Errorf("%q: a second Complete makes %d proposals of %d: %v", test.line, len(conn.IKE), before, err)
		}
	}
}
