package profile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// side is what a proof comes to.
type side struct {
	Auth, ID, User, Secret, Cert, CA, TLS string
	Methods                               []string
}

// view is what a connection comes to, whatever its file says to get there.
type view struct {
	Remote, Request                  []string
	Port                             uint16
	Local, Local2, Peer              side
	IKE, ESP                         []string
	LocalTS, RemoteTS, Routes        string
	LocalDyn, RemoteDyn              bool
	Rekey, ChildRekey, Liveness      config.Duration
	Keep                             config.Keep
	NoRoutes, NoMOBIKE, EAPOnly, PPK bool
	Revocation                       pki.Revocation
}

func sideOf(a config.Auth) side {
	s := side{Auth: a.Auth, ID: a.Identity.String(), User: a.User, Secret: string(a.Secret.Value), TLS: a.TLS, Methods: a.Methods}
	for _, c := range a.Credentials {
		s.Cert += fmt.Sprintf("%x", c.Cert.Raw)
	}
	for _, c := range slices.Concat(a.Verifier.Roots, a.EAPVerifier.Roots) {
		s.CA += fmt.Sprintf("%x", c.Raw)
	}
	return s
}

// viewOf shows what a completed connection comes to.
func viewOf(c *config.Connection) view {
	child := (&exporter{c: c}).only()
	v := view{
		Remote: c.Remote, Request: c.Request, Port: c.Port, Local: sideOf(c.Local), Local2: sideOf(c.Local2), Peer: sideOf(c.Peer), IKE: c.Proposals, ESP: child.Proposals,
		LocalTS: fmt.Sprint(child.LocalTS), RemoteTS: fmt.Sprint(child.RemoteTS), LocalDyn: child.LocalIsDyn, RemoteDyn: child.RemoteIsDyn, Rekey: c.Rekey, ChildRekey: child.Rekey, Liveness: c.Liveness,
		Keep: c.Keep, Routes: fmt.Sprint(c.Routes.List), NoRoutes: c.Routes.None, NoMOBIKE: c.NoMOBIKE, EAPOnly: c.EAPOnly, PPK: c.PPKs["ppk-1"] != nil, Revocation: c.Peer.Policy,
	}
	return v
}

// lose takes out of a view what the format does not carry.
var lose = map[string]func(v *view){
	"mobileconfig": func(v *view) {
		v.IKE, v.ESP = nil, nil // one of them; narrower sees that
		v.Routes, v.NoRoutes, v.RemoteTS, v.Request = "", false, "", nil
		for _, rekey := range []*config.Duration{&v.Rekey, &v.ChildRekey} {
			minutes := time.Duration(*rekey) * 5 / 4 / time.Minute // a whole number of them
			if *rekey <= 0 {
				minutes = 1440
			}
			*rekey = config.Duration(minutes * time.Minute * 4 / 5)
		}
		v.Liveness = max(v.Liveness, 0) // one of four words
		if v.Liveness != 0 {
			v.Liveness = config.Duration(time.Minute)
		}
		if v.Keep == config.KeepOnDemand {
			v.Keep = config.KeepUp
		}
		if v.Local.Auth == "eap" {
			v.Local.Auth, v.Local.Methods = "eap-mschapv2", []string{"mschapv2"}
		}
		if v.Revocation == pki.RevocationStrict {
			v.Revocation = pki.RevocationRelaxed
		}
	},
	"sswan": func(v *view) {
		loseTimes(v)
		v.Keep, v.NoMOBIKE, v.NoRoutes = config.KeepManual, false, false
		for _, s := range []*side{&v.Local, &v.Local2} {
			if s.Auth == "eap-mschapv2" {
				s.Auth, s.Methods = "eap", []string{"mschapv2", "peap", "ttls"}
			}
		}
	},
	"swanctl": func(v *view) { v.Routes, v.NoRoutes = "", false },
	"ipsec": func(v *view) {
		v.Routes, v.NoRoutes, v.Revocation, v.PPK = "", false, 0, false
		if v.Rekey > 20*v.ChildRekey {
			v.Rekey = 0 // the margin of both is the same, and Martlet wants one of a twentieth
		}
	},
	"networkmanager": func(v *view) {
		loseTimes(v)
		v.NoMOBIKE, v.Revocation, v.NoRoutes = false, 0, false
		if v.Keep == config.KeepOnDemand {
			v.Keep = config.KeepManual
		}
		if v.Local.Auth == "eap-mschapv2" {
			v.Local.Auth, v.Local.Methods = "eap", []string{"mschapv2", "peap", "ttls"}
		}
	},
	"onc": func(v *view) {
		loseTimes(v)
		v.NoMOBIKE, v.Revocation, v.Routes, v.NoRoutes, v.IKE, v.ESP, v.Local.Cert = false, 0, "", false, nil, nil, ""
		if v.Keep == config.KeepOnDemand {
			v.Keep = config.KeepManual
		}
		if v.Local.Auth == "eap-mschapv2" {
			v.Local.Auth, v.Local.Methods = "eap", []string{"mschapv2", "peap", "ttls"}
		}
	},
}

func loseTimes(v *view) { v.Rekey, v.ChildRekey, v.Liveness = 0, 0, 0 }

// credentials are a CA and a certificate of it, once for all tests.
var credentials = sync.OnceValues(func() (map[string][]byte, error) {
	now := time.Now()
	ca, err := pki.NewAuthority("Example CA", now, 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	cred, err := ca.Issue(pki.Request{CommonName: "carol", Emails: []string{"carol@example.com"}, Now: now, Validity: time.Hour, Key: pki.ECDSAP256})
	if err != nil {
		return nil, err
	}
	key, err := pki.EncodePrivateKey(cred.Key)
	return map[string][]byte{"ca.pem": pki.EncodeCertificate(ca.Cert), "cert.pem": pki.EncodeCertificate(cred.Cert), "key.pem": key}, err
})

// parse completes a configuration beside which the credentials stand.
func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	files, err := credentials()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "martlet")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse("martlet.toml", []byte(text), dir, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return c
}

// folders are where the files of a format belong, by what they are called.
var folders = map[string]map[string]string{
	"swanctl": {"ca": "x509ca/", "cert": "x509/", "gateway": "x509/", "key": "private/"},
	"ipsec":   {"ca": "ipsec.d/cacerts/", "cert": "ipsec.d/certs/", "gateway": "ipsec.d/certs/", "key": "ipsec.d/private/"},
}

const filePassword = "open sesame, and no 'other' \"word\""

// back imports what was exported.
func back(t testing.TB, format string, e *Exported) *Imported {
	t.Helper()
	files := fstest.MapFS{}
	for name, data := range e.Files {
		at := name
		for what, folder := range folders[format] {
			if strings.Contains(name, "-"+what) {
				at = folder + name
			}
		}
		if strings.HasSuffix(name, ".secrets") {
			at = "ipsec.secrets"
		}
		files[at] = &fstest.MapFile{Data: data}
	}
	i, err := Import(e.Files[e.Main], Options{Name: e.Main, Files: files, Folder: nmFolder, Password: func(string) (string, bool) { return filePassword, true }})
	if err != nil {
		t.Fatalf("%v in\n%s", err, e.Files[e.Main])
	}
	if len(i.Connections) != 1 {
		t.Fatalf("%d connections: %v in\n%s", len(i.Connections), i.Notes, e.Files[e.Main])
	}
	return i
}

// same exports a connection, imports it, and sees that it is the same; false if the format refuses
// it with a hint.
func same(t *testing.T, format string, c *config.Config, name string) bool {
	t.Helper()
	e, err := Export(c, format, ExportOptions{Name: name, Password: filePassword, WithSecrets: true})
	if err != nil {
		if _, ok := err.(*Error); !ok || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%s: %v", format, err)
		}
		return false
	}
	i := back(t, format, e)
	if format == "onc" && c.Connections[name].Local.Auth == "cert" {
		files, _ := credentials()
		i.Files[i.Connections[0].Local.Cert[0]], i.Files[i.Connections[0].Local.Key[0]] = files["cert.pem"], files["key.pem"]
	}
	again, err := load(t, i)
	if err != nil && needed(i) {
		loads(t, i)
		return true // the notes say what is missing
	}
	if err != nil {
		t.Fatalf("%s: %v in\n%s", format, err, e.Files[e.Main])
	}
	var conn *config.Connection
	for _, conn = range again.Connections {
	}
	want, got := viewOf(c.Connections[name]), viewOf(conn)
	narrower(t, c.Connections[name].IKE, conn.IKE)
	narrower(t, (&exporter{c: c.Connections[name]}).only().ESP, (&exporter{c: conn}).only().ESP)
	lose[format](&want)
	lose[format](&got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s\nof\n%s", format, diff, e.Files[e.Main])
	}
	return true
}

// narrower sees that nothing is offered that was not before, where one suite is.
func narrower(t *testing.T, before, after []suite.Proposal) {
	t.Helper()
	if len(after) != 1 {
		return
	}
	s, err := after[0].Without(suite.TypeESN).Suite()
	if err == nil && !slices.ContainsFunc(before, s.Narrows) {
		t.Errorf("%v is not in %v", after, before)
	}
}

// random makes the text of a connection that config takes.
func random(r *rand.Rand) string {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	hostile := []string{`carol`, `CORP\carol`, `o'hara "the" <first> & $(id) ` + "`id`", `carol@example.com`, `é#{}=;,%`, `a ‘b’`, `x]]>&#10;`, `-rf`, `${IFS}`}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	kind := pick("psk", "psk", "cert", "eap", "eap", "eap-mschapv2", "eap-tls")
	line("[connection.office]\nremote = [%q]", pick("vpn.example.com", "192.0.2.7", "2001:db8::7"))
	line("proposals = [%q]", pick("default", "aes256gcm16-prfsha256-ecp256", "aes256-sha256-modp2048", "aes128gcm16-prfsha384-ecp384", "chacha20poly1305-prfsha256-x25519"))
	line("keep = %q", pick("up", "manual", "on-demand"))
	line("liveness = %q", pick("30s", "1m", "10m", "0s"))
	line("rekey = %q", pick("4h", "8h", "48m"))
	line("no_mobike = %v", r.IntN(2) == 0)
	if r.IntN(4) == 0 {
		line("port = 4600")
	}
	virtual := r.IntN(5) > 0
	if virtual {
		line("request = [\"ipv4\", \"ipv6\"]")
		if r.IntN(3) == 0 {
			line("routes = [\"10.0.0.0/8\", \"fd00::/8\"]")
		}
	}
	line("[connection.office.local]\nauth = %q", kind)
	if strings.HasPrefix(kind, "eap") && kind != "eap-tls" {
		line("user = %s", quote(pick(hostile...)))
		line("id = %q", pick("carol", "device-7@example.com"))
		line("secret = %s", quote(pick(append(hostile, "two\nlines", "tab\there", "plain")...)))
	}
	if kind == "psk" {
		line("id = %q", pick("carol@example.com", "moon.example.com", "192.0.2.99"))
		line("secret = %s", quote(pick(hostile...)+" long enough for a key of 2026, Ar3etTnp"))
	}
	if kind == "cert" || kind == "eap-tls" {
		line("id = \"carol@example.com\"\ncert = [\"cert.pem\"]\nkey = [\"key.pem\"]")
	}
	line("[connection.office.peer]\nid = \"gw.example.com\"")
	if kind == "psk" {
		line("auth = \"psk\"")
	} else {
		line("auth = \"cert\"\nca = [\"ca.pem\"]\nrevocation = %q", pick("off", "relaxed", "strict"))
	}
	line("[connection.office.child.net]\nproposals = [%q]\nrekey = %q", pick("default", "aes256gcm16-ecp256", "aes256-sha256", "aes128-sha256-modp2048"), pick("1h", "8h", "48m"))
	if !virtual {
		line("local = [\"10.1.0.0/16\", \"fd00:1::/64\"]\nremote = [\"10.2.0.0/16\", \"fd00:2::/64\"]")
	}
	return b.String()
}

// TestWhatIsExportedIsImportedAsTheSame: an error tells what to change, and what is written comes
// back as it was.
func TestWhatIsExportedIsImportedAsTheSame(t *testing.T) {
	formats := slices.Sorted(maps.Keys(lose))
	done := map[string]int{}
	for seed := range uint64(40) {
		text := random(rand.New(rand.NewPCG(seed, 7)))
		c := parse(t, text)
		for _, format := range formats {
			if same(t, format, c, "office") {
				done[format]++
			}
			if t.Failed() {
				t.Fatalf("seed %d, %s:\n%s", seed, format, text)
			}
		}
	}
	for _, format := range formats {
		if done[format] < 4 {
			t.Errorf("%s was written %d times", format, done[format])
		}
	}
}

// TestEAPAloneComesBack has a gateway that proves itself by EAP-TLS alone (RFC 5998).
func TestEAPAloneComesBack(t *testing.T) {
	c := parse(t, `[connection.office]
remote = ["vpn.example.com"]
request = ["ipv4", "ipv6"]
proposals = ["aes256-sha256-modp2048"]
eap_only = true
[connection.office.local]
auth = "eap-tls"
cert = ["cert.pem"]
key = ["key.pem"]
eap_ca = ["ca.pem"]
[connection.office.peer]
auth = "eap"
id = "gw.example.com"
`)
	for _, format := range []string{"mobileconfig", "swanctl", "ipsec"} {
		if !same(t, format, c, "office") {
			t.Errorf("%s refuses it", format)
		}
	}
}

// TestSamplesAreExportedAndImportedAsTheSame takes the connections of other programs' files.
func TestSamplesAreExportedAndImportedAsTheSame(t *testing.T) {
	all, err := filepath.Glob("testdata/*-*")
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, folder := range all {
		i, err := importFile(t, folder, profileOf(t, folder))
		if err != nil {
			t.Fatal(err)
		}
		c, err := load(t, i)
		if err != nil {
			continue // a note says what is missing
		}
		for name, conn := range c.Connections {
			if len(conn.Children) != 1 {
				continue // an importer of one child would have lost the others
			}
			for _, format := range []string{"swanctl", "ipsec", "mobileconfig"} {
				t.Run(filepath.Base(folder)+"/"+name+"/"+format, func(t *testing.T) {
					if same(t, format, c, name) {
						done++
					}
				})
			}
		}
	}
	if done < 10 {
		t.Errorf("%d were written", done)
	}
}

// FuzzExport: whatever a name and a password are, they come back as they were, or an error tells
// what is wrong with them.
func FuzzExport(f *testing.F) {
	f.Add("carol", "Ar3etTnp")
	f.Add("x\" }'</string>", "y\n}\n[ipv4]\nroute1=0.0.0.0/0\n: PSK \"z\"")
	files, err := credentials()
	if err != nil {
		f.Fatal(err)
	}
	cas, err := pki.ParseCertificates(files["ca.pem"])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user, password string) {
		c := &config.Config{Connections: map[string]*config.Connection{"office": {
			Remote: []string{"vpn.example.com"}, Request: []string{"ipv4", "ipv6"},
			Local: config.Auth{Auth: "eap", ID: "device-7", User: user, Secret: config.Secret{Value: []byte(password), Source: "in place"}},
			Peer:  config.Auth{Auth: "cert", Verifier: pki.Verifier{Roots: cas}},
		}}}
		if user == "" || password == "" || c.Complete() != nil {
			return
		}
		for _, format := range ExportFormats() {
			e, err := Export(c, format, ExportOptions{Name: "office", WithSecrets: true})
			if err != nil || format == "powershell" {
				continue
			}
			if got := back(t, format, e).Connections[0].Local; got.User != user || string(got.Secret.Value) != password {
				t.Errorf("%s: %q and %q came back as %q and %q", format, user, password, got.User, string(got.Secret.Value))
			}
		}
	})
}
