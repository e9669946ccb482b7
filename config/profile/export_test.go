package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const eapText = `[connection.office]
remote = ["vpn.example.com"]
request = ["ipv4", "ipv6"]
[connection.office.local]
auth = "eap-mschapv2"
user = %q
secret = %q
[connection.office.peer]
auth = "cert"
ca = ["ca.pem"]
`

const certText = `[connection.office]
remote = ["vpn.example.com"]
request = ["ipv4", "ipv6"]
routes = ["10.0.0.0/8", "::/0"]
proposals = ["aes256-sha256-modp2048"]
keep = "manual"
[connection.office.local]
auth = "cert"
cert = ["cert.pem"]
key = ["key.pem"]
[connection.office.peer]
auth = "cert"
ca = ["ca.pem"]
[connection.office.child.net]
proposals = ["aes256-sha256"]
`

const siteText = `[connection.office]
remote = ["192.0.2.7"]
[connection.office.local]
auth = "psk"
secret = "a key that both of them know since 2026"
id = "moon.example.com"
[connection.office.peer]
auth = "psk"
id = "sun.example.com"
[connection.office.child.a]
local = ["10.1.0.0/16"]
remote = ["10.2.0.0/16"]
[connection.office.child.b]
local = ["10.3.0.0/16"]
remote = ["10.4.0.0/16"]
`

func export(t testing.TB, text, format string, o ExportOptions) (*Exported, error) {
	t.Helper()
	o.Name = "office"
	return Export(parse(t, text), format, o)
}

// TestPowerShell compares the scripts with golden ones, but for the hashes of certificates.
func TestPowerShell(t *testing.T) {
	hash := regexp.MustCompile(`'[0-9A-F]{64}'`)
	for name, text := range map[string]string{
		"mschapv2": fmt.Sprintf(eapText, "carol", "Ar3etTnp"), "certificate": certText,
		"tls": strings.Replace(strings.Replace(certText, `auth = "cert"`, `auth = "eap-tls"`, 1), `routes = ["10.0.0.0/8", "::/0"]`, "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			e, err := export(t, text, "powershell", ExportOptions{Password: "it's"})
			if err != nil {
				t.Fatal(err)
			}
			got := hash.ReplaceAll(e.Files["office.ps1"], []byte("'HASH'"))
			got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
			path := filepath.Join("testdata", "powershell", name+".ps1")
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPowerShellTakesNoTextForCode: PowerShell ends a string at any of these quotes, and expands
// nothing within.
func TestPowerShellTakesNoTextForCode(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "'plain'", "it's": "'it''s'", "$(calc) `n \"$env:X\"": "'$(calc) `n \"$env:X\"'",
		"a\u2019; calc; \u2018b": "'a\u2019\u2019; calc; \u2018\u2018b'", "\u201a\u201b": "'\u201a\u201a\u201b\u201b'",
	} {
		if got := quotePS(text); got != want {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// TestHostileTextsStayTexts: no text of a connection begins a line, an element or a command.
func TestHostileTextsStayTexts(t *testing.T) {
	const user, password = `x" }</string><key>k</key>'; calc; $(calc) #`, "y\"\n}\n[ipv4]\nroute1=0.0.0.0/0\n: PSK \"z\"\n"
	text := fmt.Sprintf(eapText, user, "0s")
	text = strings.Replace(text, `secret = "0s"`, "secret = "+quote("a"+password+"a"), 1)
	for _, format := range ExportFormats() {
		e, err := export(t, text, format, ExportOptions{WithSecrets: true})
		if err != nil {
			if format != "ipsec" {
				t.Errorf("%s: %v", format, err)
			}
			contains(t, err.Error(), "hint")
			continue
		}
		if format == "powershell" {
			continue // neither is in it
		}
		i := back(t, format, e)
		c := i.Connections[0]
		if got := c.Local; got.User != user || string(got.Secret.Value) != "a"+password+"a" {
			t.Errorf("%s: %q and %q came back", format, got.User, string(got.Secret.Value))
		}
		if c.Routes.None || len(c.Routes.List) > 0 || len(c.Remote) != 1 {
			t.Errorf("%s: the text became more than a text", format)
		}
	}
}

func TestPlistsAreXML(t *testing.T) {
	e, err := export(t, fmt.Sprintf(eapText, "<&>'\"", "a\r\n\tb"), "mobileconfig", ExportOptions{WithSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(bytes.NewReader(e.Files[e.Main]))
	for err == nil {
		_, err = dec.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, err := escapeXML("a\x01b"); err == nil {
		t.Error("XML has no way to write U+0001")
	}
}

// TestExportsAreReproducible: the same connection gives the same files but for what is encrypted,
// and another password or CA the same identifiers.
func TestExportsAreReproducible(t *testing.T) {
	one, other := fmt.Sprintf(eapText, "carol", "Ar3etTnp"), fmt.Sprintf(eapText, "carol", "other")
	uuid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	for _, format := range ExportFormats() {
		a, err1 := export(t, one, format, ExportOptions{WithSecrets: true})
		b, err2 := export(t, one, format, ExportOptions{WithSecrets: true})
		c, err3 := export(t, other, format, ExportOptions{WithSecrets: true})
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		if diff := cmp.Diff(uuid.FindAllString(string(a.Files[a.Main]), -1), uuid.FindAllString(string(c.Files[c.Main]), -1)); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
	}
}

// TestSecretsGoIntoFilesOnlyIfAsked looks for them in all that comes out.
func TestSecretsGoIntoFilesOnlyIfAsked(t *testing.T) {
	const password, filePassword = "Ar3etTnp-of-carol", "to open the file"
	for _, text := range []string{fmt.Sprintf(eapText, "carol", password), certText, strings.Replace(siteText, "a key that both of them know since 2026", password, 1)} {
		for _, format := range ExportFormats() {
			for _, with := range []bool{false, true} {
				o := ExportOptions{Password: filePassword, WithSecrets: with}
				e, err := export(t, text, format, o)
				if err != nil {
					continue
				}
				said := false
				for _, n := range e.Notes {
					said = said || strings.Contains(n.Text, "is in the file: whoever reads it can connect")
					if strings.Contains(n.String(), password) || strings.Contains(n.String(), filePassword) {
						t.Errorf("%s: a note has a secret: %s", format, n)
					}
				}
				found := false
				for name, data := range e.Files {
					for _, secret := range []string{password, filePassword} {
						found = found || bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte(strings.TrimPrefix(base64Secret([]byte(secret)), "0s")))
					}
					if key := bytes.Contains(data, []byte("BEGIN PRIVATE KEY")); key {
						t.Errorf("%s: %s has a key that is not encrypted", format, name)
					}
				}
				if found != said || found && !with {
					t.Errorf("%s, with secrets %v: a secret is in a file: %v, and a note says so: %v", format, with, found, said)
				}
				for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%#v", o), fmt.Sprintf("%+v", *e)} {
					if strings.Contains(text, password) || strings.Contains(text, filePassword) {
						t.Errorf("printing shows a secret: %s", text)
					}
				}
			}
		}
	}
}

// TestWhatCannotWorkIsAnErrorWithAHint has one connection for each limit.
func TestWhatCannotWorkIsAnErrorWithAHint(t *testing.T) {
	eap := fmt.Sprintf(eapText, "carol", "Ar3etTnp")
	top := func(line string) string { return strings.Replace(eap, "request", line+"\nrequest", 1) }
	for _, test := range []struct {
		text, formats string // of those that refuse
		want          []string
	}{
		{top("port = 4600"), "mobileconfig powershell onc", []string{"port", "500 and 4500"}},
		{top(`tcp = "always"`), strings.Join(ExportFormats(), " "), []string{"tcp", "UDP"}},
		{top(`post_quantum = "require"`), "mobileconfig powershell onc", []string{"ML-KEM", "prefer"}},
		{top(`proposals = ["chacha20poly1305-prfsha512-x25519"]`), "powershell", []string{"proposals", "ecp384"}},
		{siteText, "mobileconfig sswan powershell onc networkmanager", []string{"one child"}},
		{strings.Replace(eap, "eap-mschapv2", "eap-gtc", 1), "mobileconfig powershell onc", []string{"local.auth", "eap-gtc"}},
		{strings.Replace(eap, "eap-mschapv2", "eap-ttls", 1), "mobileconfig powershell onc sswan", []string{"eap-ttls"}},
		{strings.Replace(eap, `request = ["ipv4", "ipv6"]`, "", 1), "mobileconfig sswan powershell onc", []string{"virtual address"}},
		{certText, strings.Join(ExportFormats(), " "), []string{"private key", "password"}}, // and none is given
		{eap + "[connection.office.local2]\nauth = \"eap\"\nuser = \"x\"\n", "mobileconfig sswan powershell onc networkmanager", []string{"one proof"}},
		{strings.Replace(top("ppk_required = true"), "[connection.office.local]", "[connection.office.ppk.p]\nsecret = \"a key that both of them know since 2026\"\n[connection.office.local]", 1), "sswan ipsec networkmanager powershell onc", []string{"ppk_required"}},
		{strings.Replace(eap, "ca = [", "cert = [", 1), "mobileconfig powershell onc", []string{"CA"}},
	} {
		for _, format := range ExportFormats() {
			_, err := export(t, test.text, format, ExportOptions{})
			refused := strings.Contains(" "+test.formats+" ", " "+format+" ")
			if (err != nil) != refused {
				t.Errorf("%s: %v for\n%s", format, err, test.text)
			}
			if err != nil && refused && format != "ipsec" && format != "sswan" {
				contains(t, err.Error(), append(test.want, "hint")...)
			}
		}
	}
	_, err := Export(parse(t, eap), "word", ExportOptions{Name: "office"})
	contains(t, err.Error(), "no format", "mobileconfig")
	_, err = Export(parse(t, eap), "onc", ExportOptions{Name: "home"})
	contains(t, err.Error(), "no connection")
}

// TestNothingIsDroppedSilently sets keys that no other program has, and finds a note for each.
func TestNothingIsDroppedSilently(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(eapText, "carol", "Ar3etTnp"), "request", "tickets = \"2h\"\nignore_redirects = true\ntrust_anchors_for = [\"corp.example\"]\nstrict = true\nrequest", 1) +
		"[connection.office.child.net]\nparallel = 4\nkeep_mss = true\n"
	for _, format := range ExportFormats() {
		e, err := export(t, text, format, ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"tickets", "ignore_redirects", "trust_anchors_for", "strict", "child.net.parallel", "child.net.keep_mss"} {
			if format == "mobileconfig" && key == "ignore_redirects" {
				continue // it is carried
			}
			found := false
			for _, n := range e.Notes {
				found = found || n.Place == "connection.office."+key
			}
			if !found {
				t.Errorf("%s: nothing is said about %s: %v", format, key, e.Notes)
			}
		}
	}
}
