package profile

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"martlet/crypto/pki"
)

// presetText is a preset that trusts the CA with a hash.
func presetText(hash string) string {
	return `title = "Example"
verified_on = "2026-12-01"
verified_by = "this test"
host = "*.vpn.example.com"
remote_id = "{host}"
auth = "eap-mschapv2"
proposals = ["aes256-sha256-modp2048"]
child_proposals = ["aes256-sha256"]
request = ["ipv4"]
[ca]
sha256 = "` + hash + `"
urls = ["https://example.com/ca.pem"]
`
}

// caWithHash is a CA's file and its hash.
func caWithHash(t testing.TB) ([]byte, string) {
	t.Helper()
	files, err := credentials()
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates(files["ca.pem"])
	if err != nil {
		t.Fatal(err)
	}
	return files["ca.pem"], fmt.Sprintf("%x", sha256.Sum256(certs[0].Raw))
}

func TestPresetsOfOursAreThereAndSayWhenTheyWereVerified(t *testing.T) {
	all, err := Presets(nil)
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	p, err := LookupPreset("NordVPN", nil)
	if err != nil || p.VerifiedOn == "" || !strings.Contains(p.VerifiedBy, "not with a paid account") {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = LookupPreset("nordwpn", nil)
	contains(t, err.Error(), "nordwpn", "known are: nordvpn")
	_, err = p.Connection("ch217.nordvpn.com", "carol", nil)
	contains(t, err.Error(), "missing", "https://downloads.nordcdn.com/certificates/root.der")
}

func TestAPresetMakesAConnectionThatLoads(t *testing.T) {
	ca, hash := caWithHash(t)
	p, err := ParsePreset("example.toml", []byte(presetText(hash)))
	if err != nil {
		t.Fatal(err)
	}
	i, err := p.Connection("Ch1.VPN.example.com.", "carol", ca)
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(t, i)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.Connections["example"]
	if conn.Remote[0] != "ch1.vpn.example.com" || conn.Peer.Identity.Data != "ch1.vpn.example.com" || conn.Local.User != "carol" || len(conn.Peer.Verifier.Roots) != 1 || conn.Children["net"].ESP[0].String() != "aes256-sha256" {
		t.Errorf("%+v", conn)
	}
	text, err := i.TOML()
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(text), "verified on 2026-12-01 by this test")
}

func TestAnotherCAThanThePinnedOneIsRefused(t *testing.T) {
	ca, hash := caWithHash(t)
	wrong := strings.Repeat("ab", 32)
	p, err := ParsePreset("example.toml", []byte(presetText(wrong)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Connection("a.vpn.example.com", "", ca)
	contains(t, err.Error(), "Example CA", strings.ToUpper(hash), strings.ToUpper(wrong), "https://example.com/ca.pem")
	_, err = p.Connection("a.vpn.example.com", "", []byte("no certificate"))
	contains(t, err.Error(), "cannot be read", "https://example.com/ca.pem")
	p.CA = CA{}
	_, err = p.Connection("a.vpn.example.com", "", ca)
	contains(t, err.Error(), "needs no certificate")
}

func TestHostsOfOthersAreRefused(t *testing.T) {
	ca, hash := caWithHash(t)
	p, err := ParsePreset("example.toml", []byte(presetText(hash)))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"", "vpn.example.com", ".vpn.example.com", "evilvpn.example.com", "a.vpn.example.com.evil.test", "192.0.2.1", "a b.vpn.example.com", "a\n.vpn.example.com"} {
		if i, err := p.Connection(host, "", ca); err == nil {
			t.Errorf("%q: %v", host, i)
		}
	}
}

func TestPresetsOfOthersAddAndReplaceNothing(t *testing.T) {
	_, hash := caWithHash(t)
	all, err := Presets(fstest.MapFS{"example.toml": {Data: []byte(presetText(hash))}, "README": {Data: []byte("no preset")}})
	if err != nil || all[len(all)-1].Name != "example" {
		t.Errorf("%v, %v", all, err)
	}
	_, err = Presets(fstest.MapFS{"nordvpn.toml": {Data: []byte(presetText(hash))}})
	contains(t, err.Error(), "nordvpn", "cannot replace")
	_, err = Presets(fstest.MapFS{"example.toml": {Data: []byte(strings.Repeat("#\n", maxPreset))}})
	contains(t, err.Error(), "example.toml", "65536")
}

func TestFaultsOfPresetsNameFileAndKey(t *testing.T) {
	good := presetText(strings.Repeat("ab", 32))
	for _, test := range []struct {
		old, new string
		want     []string
	}{
		{"title", "titel", []string{"title", "missing"}},
		{"request", "extra = 1\nrequest", []string{"extra", "not known", "verified_on"}},
		{"sha256 =", "sha265 = \"x\"\nsha256 =", []string{"ca.sha265", "not known"}},
		{`"2026-12-01"`, "2026-12-01", []string{"verified_on", "no text"}},
		{"2026-12-01", "12/2026", []string{"verified_on", "no day"}},
		{"*.vpn.example.com", "*", []string{"host"}},
		{"*.vpn.example.com", "*.com", []string{"host"}},
		{"{host}", "{host}:", []string{"remote_id"}},
		{"eap-mschapv2", "psk", []string{"auth", "eap-mschapv2"}},
		{"modp2048", "modp2084", []string{"proposals", "modp2084"}},
		{"ipv4", "ipv5", []string{"request"}},
		{`["ipv4"]`, `"ipv4"`, []string{"request", "no list"}},
		{"abab", "ab", []string{"ca.sha256", "hexadecimal"}},
		{"https://", "http://", []string{"ca.urls", "https"}},
		{"[ca]", "[[ca]]", []string{"ca", "no table"}},
		{"this test", `a\nb`, []string{"verified_by", "line"}},
		{"title =", "title", []string{"line 1"}},
	} {
		_, err := ParsePreset("example.toml", []byte(strings.Replace(good, test.old, test.new, 1)))
		if err == nil {
			t.Errorf("%s for %s is taken", test.new, test.old)
			continue
		}
		contains(t, err.Error(), append(test.want, "example.toml", "hint: ")...)
	}
	for _, name := range []string{"../x.toml", ".toml", "a b.toml", "example"} {
		if _, err := ParsePreset(name, []byte(good)); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

// FuzzPreset: what is read makes a connection that loads, whatever the file says.
func FuzzPreset(f *testing.F) {
	ca, hash := caWithHash(f)
	f.Add([]byte(presetText(hash)), "a.vpn.example.com", "carol")
	if own, err := presetFiles.ReadFile("presets/nordvpn.toml"); err == nil {
		f.Add(own, "ch217.nordvpn.com", "")
	}
	f.Fuzz(func(t *testing.T, data []byte, host, user string) {
		p, err := ParsePreset("fuzz.toml", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		file := ca
		if p.CA.SHA256 == "" {
			file = nil
		}
		i, err := p.Connection(host, user, file)
		if err == nil {
			loads(t, i)
		}
	})
}
