package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// FuzzImport: whatever comes in, nothing panics, and what comes out loads, unless a note says that
// something is missing.
func FuzzImport(f *testing.F) {
	folders, err := filepath.Glob("testdata/*-*")
	if err != nil {
		f.Fatal(err)
	}
	for _, folder := range folders {
		data, err := os.ReadFile(filepath.Join(folder, profileOf(f, folder)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Import(data, Options{Name: "fuzz", Password: func(string) (string, bool) { return "hush", true }})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		loads(t, i)
	})
}

// FuzzShallow: what is passed on to the library that recurses is nested no deeper than it says.
func FuzzShallow(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x02, 0x01, 0x01, 0, 0})
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 && isShallow(data) && isSigned(data) {
			// Its error is its own; a panic would be ours.
			_, _ = newDraft("fuzz", Options{}).unwrap(data)
		}
	})
}

// FuzzSecrets: no file of secrets and no included file breaks a reader, and no secret leaves it by a
// note.
func FuzzSecrets(f *testing.F) {
	f.Add([]byte("carol : EAP \"it is # secret\"\n@a @b : PSK 0sAAAA\n: RSA key.pem \"x\"\n"))
	f.Add([]byte("include *\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := fstest.MapFS{
			"ipsec.secrets":           {Data: append(data, "\n@moon @sun : PSK \"a7f3-the-key\"\n"...)},
			"ipsec.d/private/key.pem": {Data: data}, "more.conf": {Data: data},
		}
		for _, text := range []string{
			"conn a\n left=192.0.2.1\n right=192.0.2.2\n leftid=@moon\n rightid=@sun\n authby=secret\n auto=add\ninclude more.conf\n",
			"connections { a { remote_addrs = 192.0.2.2\n local { auth = psk\n id = moon }\n remote { auth = psk\n id = sun } } }\nsecrets { ike { secret = a7f3-the-key\n } }\ninclude more.conf\n",
		} {
			i, err := Import([]byte(text), Options{Name: "fuzz", Files: files})
			if err != nil {
				continue
			}
			loads(t, i)
			if out, err := i.TOML(); err != nil || strings.Contains(string(out), "a7f3-the-key") {
				t.Error("the secret is in the text", err)
			}
		}
	})
}
