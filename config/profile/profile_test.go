package profile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"martlet/config"
)

var update = flag.Bool("update", false, "write the golden files")

// golden is what a sample must become, beside it.
const golden = "want.toml"

// importFile imports the one file of a sample's folder that is not golden, or the named one.
func importFile(t testing.TB, folder, name string) (*Imported, error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return Import(data, Options{Name: name, Files: os.DirFS(folder), Folder: "/etc"})
}

// profileOf is the profile in a sample's folder: what it includes stands in folders, or does not
// have the name of the sample's kind.
func profileOf(t testing.TB, folder string) string {
	t.Helper()
	for _, pattern := range []string{"*.mobileconfig", "*.sswan", "swanctl.conf", "ipsec.conf", "*.nmconnection", "*.onc", "*.pbk", "*.xml"} {
		if found, err := filepath.Glob(filepath.Join(folder, pattern)); err == nil && len(found) == 1 {
			return filepath.Base(found[0])
		}
	}
	t.Fatalf("%s has no profile", folder)
	return ""
}

// load writes what was imported into a folder and has config read it.
func load(t testing.TB, i *Imported) (*config.Config, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "martlet")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range i.Files {
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
			t.Fatalf("a file is called %q", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := i.TOML()
	if err != nil {
		t.Fatal(err)
	}
	return config.Parse("martlet.toml", text, dir, nil)
}

func needed(i *Imported) bool {
	for _, n := range i.Notes {
		if n.Needed {
			return true
		}
	}
	return false
}

func TestSamplesBecomeConfigurationsThatLoad(t *testing.T) {
	folders, err := filepath.Glob("testdata/*-*")
	if err != nil || len(folders) < 3 {
		t.Fatal(folders, err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			i, err := importFile(t, folder, profileOf(t, folder))
			if err != nil {
				t.Fatal(err)
			}
			text, err := i.TOML()
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(filepath.Join(folder, golden), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(filepath.Join(folder, golden))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)); diff != "" {
				t.Error(diff)
			}
			loads(t, i)
			noSecrets(t, i, text)
		})
	}
}

// loads sees that config takes what was imported, but for what a note says is missing.
func loads(t testing.TB, i *Imported) {
	t.Helper()
	_, err := load(t, i)
	if err == nil {
		return
	}
	faults, ok := errors.AsType[config.Errors](err)
	if !ok || !needed(i) {
		t.Fatal(err)
	}
	for _, f := range faults {
		if !strings.Contains(f.Reason, "does not exist") && !strings.Contains(f.Reason, "the password is wrong") && !isMissing(f.Reason) {
			t.Error(f)
		}
	}
}

// noSecrets sees that no secret stands anywhere but in the files.
func noSecrets(t testing.TB, i *Imported, text []byte) {
	t.Helper()
	for name, data := range i.Files {
		if secret := bytes.TrimSpace(data); len(secret) > 3 && bytes.Contains(text, secret) {
			t.Errorf("what is in %s stands in the text, too", name)
		}
	}
}

func TestContentsTellTheFormat(t *testing.T) {
	folders, err := filepath.Glob("testdata/*-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		data, err := os.ReadFile(filepath.Join(folder, profileOf(t, folder)))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range formats() {
			if f.is(data) {
				names = append(names, f.name)
			}
		}
		if len(names) != 1 {
			t.Errorf("%s could be %q", folder, names)
		}
	}
}

func TestAPasswordThatSomebodyKnowsOpensTheCertificate(t *testing.T) {
	for _, folder := range []string{"testdata/sswan-eap-tls", "testdata/apple-eap-tls"} {
		name := profileOf(t, folder)
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		asked := ""
		i, err := Import(data, Options{Name: name, Password: func(what string) (string, bool) {
			asked += what + "\n"
			return "hush", true
		}})
		if err != nil {
			t.Fatal(err)
		}
		if c := i.Connections[0]; !strings.Contains(asked, "certificate") || len(c.Local.Key) != 1 || c.Local.KeyPassword.Source != "" {
			t.Errorf("asked for %q, the key is in %q", asked, c.Local.Key)
		}
	}
}

func TestSecretsAreTheSameAfterwards(t *testing.T) {
	for _, secret := range []string{"plain", "0x-no-hex", "0s!", " blank", "blank ", "two\nlines", "é", "quote\"d\\", "tab\t"} {
		d := newDraft("test", Options{})
		d.now = "c"
		s := d.secret("psk.txt", []byte(secret))
		dir := filepath.Join(t.TempDir(), "own")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "c-psk.txt"), d.Files["c-psk.txt"], 0o600); err != nil {
			t.Fatal(err)
		}
		back, err := config.ParseSecret(s.Source, dir, nil)
		if err != nil || string(back.Value) != secret {
			t.Errorf("%q became %q: %v", secret, string(back.Value), err)
		}
	}
}

func TestAConnectionThatConfigRefusesIsLeftOutWithANote(t *testing.T) {
	const text = `connections {
		one { remote_addrs = vpn.example.com
			local { auth = psk }
			remote { auth = psk } }
		two { remote_addrs = vpn.example.com
			local { auth = psk }
			remote { auth = psk } }
	}
	secrets { ike { secret = "a key that both of them know since 2026" } }`
	i, err := Import([]byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Connections) != 1 || i.Connections[0].Name != "one" {
		t.Errorf("%d connections", len(i.Connections))
	}
	last := i.Notes[len(i.Notes)-1]
	contains(t, last.String(), "connection.two", "left out", "same peers")
	loads(t, i)
}

// TestWhatAllTunnelsHaveIsNotedOnce: AWS gives two tunnels, which differ by address and key alone.
func TestWhatAllTunnelsHaveIsNotedOnce(t *testing.T) {
	folder := filepath.Join("testdata", "aws-vpn")
	i, err := importFile(t, folder, profileOf(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, n := range i.Notes {
		if before, ok := seen[n.Text]; ok && !strings.HasPrefix(n.Text, "the tunnel takes everything") {
			t.Errorf("of %s and of %s: %s", before, n.Place, n.Text)
		}
		seen[n.Text] = n.Place
	}
	if len(i.Connections) != 2 || len(seen) < 5 {
		t.Errorf("%d connections, %d notes", len(i.Connections), len(seen))
	}
}

// TestAConnWithoutAPeerIsNoGatewayInSilence: it is left out where it is to call, and else there is a note.
func TestAConnWithoutAPeerIsNoGatewayInSilence(t *testing.T) {
	const psk = " leftauth=psk\n rightauth=psk\n leftid=@a.example\n rightid=@b.example\n"
	for _, c := range []struct {
		conn, note string
		left       bool // out
	}{
		{" auto=start\n" + psk, "auto=start", true},
		{" auto=add\n leftsourceip=%config\n" + psk, "leftsourceip=%config", true},
		{" auto=add\n leftauth=eap-mschapv2\n rightauth=pubkey\n", "leftauth=eap-mschapv2", true},
		{" auto=add\n" + psk, "waits for any", false},
		{" auto=add\n right=%any\n" + psk, "", false},
	} {
		i, err := Import([]byte("conn home\n left=%defaultroute\n"+c.conn), Options{Files: fstest.MapFS{
			"ipsec.secrets": {Data: []byte(": PSK \"a key that both of them know since 2026\"\n")},
		}})
		if c.left != (err != nil || len(i.Connections) == 0) {
			t.Errorf("%s: %v", c.conn, err)
			continue
		}
		said := fmt.Sprint(err)
		if i != nil {
			said += fmt.Sprint(i.Notes)
		}
		if !strings.Contains(said, c.note) || c.note == "" && strings.Contains(said, "names no peer") {
			t.Errorf("%s: %s; want %q", c.conn, said, c.note)
		}
	}
}

func TestNamesThatDifferByCaseGetFilesOfTheirOwn(t *testing.T) {
	d := newDraft("test", Options{})
	names := map[string]bool{}
	for _, name := range []string{"Office", "office", "office-2", "OFFICE"} {
		c := d.connection(name)
		s := d.secret("psk.txt", []byte("secret of "+c.Name))
		if low := strings.ToLower(s.Source); names[low] {
			t.Errorf("%s is there twice", s.Source)
		} else {
			names[low] = true
		}
	}
}
