package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ourFile = `# martlet lo file 0640 5e9945aac51602f5
# The resolvers of the tunnel on this device. When it ends, what was here before comes back:
# it stands below, behind #| on each line.
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example
#| nameserver 192.168.1.1
#| search lan
#| 
`

func TestOurFileHoldsTheFormerOne(t *testing.T) {
	before := former{"file", "nameserver 192.168.1.1\nsearch lan\n", 0o640}
	c := everything()
	got := ours{"lo", before}.text(c.Servers, c.Search)
	if diff := cmp.Diff(ourFile, got); diff != "" {
		t.Error(diff)
	}
	if c := parseConf(got); c.Owner != ownerMartlet || !reflect.DeepEqual(c.Servers, addrs("10.1.0.53", "fd00:1::53")) {
		t.Errorf("a resolver reads %+v", c)
	}
}

func TestWhatWasBeforeComesBack(t *testing.T) {
	for _, before := range []former{
		{Kind: "none"},
		{Kind: "link", Content: "../run/systemd/resolve/stub-resolv.conf"},
		{Kind: "file", Mode: 0o644},
		{Kind: "file", Content: "\n", Mode: 0o600},
		{Kind: "file", Content: "no end of line", Mode: 0o644},
		{Kind: "file", Content: "# martlet lo none 0000 0000000000000000\r\n#| kept\x00\n\n", Mode: 0o755},
	} {
		o := ours{"martlet0", before}
		got, ok := parseOurs(o.text(addrs("10.1.0.53"), nil))
		if !ok || got != o {
			t.Errorf("%+v came back as %+v, %v", o, got, ok)
		}
	}
}

func TestAnEditedFileIsNotOurs(t *testing.T) {
	for what, text := range map[string]string{
		"another server": strings.Replace(ourFile, "10.1.0.53", "10.1.0.54", 1),
		"one more line":  ourFile + "nameserver 192.0.2.1\n",
		"a cut":          ourFile[:len(ourFile)-5],
		"no head":        ourFile[strings.IndexByte(ourFile, '\n')+1:],
		"another":        stubConf,
		"nothing":        "",
	} {
		if _, mine := parseOurs(text); mine {
			t.Errorf("%s: taken for ours", what)
		}
	}
	if _, mine := parseOurs(ourFile); !mine {
		t.Error("not ours as it was written")
	}
}

func FuzzConf(f *testing.F) {
	for _, s := range []string{stubConf, nmConf, debConf, openConf, hostConf, ourFile, "nameserver", "nameserver fe80::1%eth0 # x\n;\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := parseConf(s)
		for _, a := range c.Servers {
			if !a.IsValid() {
				t.Fatal("an invalid server")
			}
		}
		// What is written is read again.
		again := parseConf(resolvConfText(c.Servers, nil))
		if len(again.Servers) != len(c.Servers) {
			t.Fatalf("%v became %v", c.Servers, again.Servers)
		}
		// Whatever is there can be put back.
		o := ours{"martlet0", former{"file", s, 0o644}}
		if got, mine := parseOurs(o.text(addrs("10.1.0.53"), nil)); !mine || got != o {
			t.Fatalf("%+v came back as %+v, %v", o, got, mine)
		}
		if o, mine := parseOurs(s); mine && checkDevice(o.Device) != nil {
			t.Fatalf("device %q", o.Device)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"manner":"file","device":"martlet0","record":"tun.martlet0"}`))
	f.Add([]byte(`{"manner":"","device":"../x","record":""} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNote(b)
		if err != nil {
			return
		}
		for _, s := range []string{n.Device, n.Record} {
			if s == "" || strings.ContainsAny(s, "/ \n\x00") || s[0] == '-' {
				t.Fatalf("%+v", n)
			}
		}
	})
}

// TestWhoWasAskedBefore: of a file of others, of ours, and of ours in the place of a link.
func TestWhoWasAskedBefore(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inside := []netip.Addr{netip.MustParseAddr("10.77.0.53")}
	write("run.conf", "nameserver 192.0.2.55\n")
	write("plain", "nameserver 192.0.2.53\nsearch test\nnameserver 2001:db8::53 # of the router\nnameserver x\n")
	write("ours", ours{"martlet0", former{"file", "nameserver 192.0.2.54\n", 0o644}}.text(inside, nil))
	write("link", ours{"martlet0", former{"link", "run.conf", 0o777}}.text(inside, nil))
	write("none", ours{"martlet0", former{"none", "", 0}}.text(inside, nil))
	for name, want := range map[string]string{"plain": "[192.0.2.53 2001:db8::53]", "ours": "[192.0.2.54]", "link": "[192.0.2.55]", "none": "[]"} {
		if got, err := Before(filepath.Join(dir, name)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, want)
		}
	}
	if _, err := Before(filepath.Join(dir, "away")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
}
