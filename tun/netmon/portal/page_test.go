package portal

import (
	"net/url"
	"strings"
	"testing"
)

const asked = "http://probe.example/generate_204"

// TestClean: what a Location field may say, and what a person is shown of it.
func TestClean(t *testing.T) {
	for location, want := range map[string]string{
		"http://login.example/":                    "http://login.example/",
		"https://login.example:8443/a?b=c&d=%20#e": "https://login.example:8443/a?b=c&d=%20#e",
		"HTTPS://Login.Example/x":                  "https://Login.Example/x",
		"http://192.168.1.1:1000/fgtauth?0a":       "http://192.168.1.1:1000/fgtauth?0a",
		"http://[fd00::1]/login":                   "http://[fd00::1]/login",
		"/login":                                   "http://probe.example/login",
		"//login.example/x":                        "http://login.example/x",
		"":                                         "http://probe.example/generate_204",
		// What would hide where it leads.
		"http://bank.example@login.example/":    "http://login.example/",
		"http://u:p@login.example/":             "http://login.example/",
		"http://login.example/\u202egnp.exe":    "http://login.example/%E2%80%AEgnp.exe",
		"http://login.example/?\u202eq":         "http://login.example/?%E2%80%AEq",
		"http://login.example/?a='\"`|<>\\^{} ": "http://login.example/?a=%27%22%60%7C%3C%3E%5C%5E%7B%7D%20",
		"http://login.example/\xff?\xfe":        "http://login.example/%FF?%FE",
		"http://xn--lgin-5qa.example/":          "http://xn--lgin-5qa.example/",
	} {
		if got, ok := clean(asked, location); !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", location, got, ok, want)
		}
	}
	for name, location := range map[string]string{
		"a script":              "javascript:alert(1)",
		"a script with a host":  "javascript://login.example/%0aalert(1)",
		"data":                  "data:text/html,x",
		"a file":                "file:///etc/passwd",
		"a file of a share":     "file://login.example/share",
		"a call":                "tel:112",
		"a scheme of a program": "ms-settings:network",
		"opaque":                "http:login.example",
		"no host":               "http:///login",
		"a port alone":          "http://:80/",
		"not a port":            "http://login.example:x/",
		"a control character":   "http://login.example/\x1b]0;x\a",
		"a line break":          "http://login.example/\r\nX: y",
		"NUL":                   "http://login.example/\x00",
		"a name beyond ASCII":   "http://l\u043egin.example/",
		"a name with a space":   "http://login.example%20.evil.example/",
		"a name with a quote":   "http://login'.example/",
		"this host":             "http://127.0.0.1:631/",
		"this host, IPv6":       "http://[::1]/",
		"this host, mapped":     "http://[::ffff:127.0.0.1]/",
		"this host, short":      "http://127.1/",
		"this host, hex":        "http://0x7f000001/",
		"this host, a number":   "http://2130706433/",
		"this host, octal":      "http://0177.0.0.01/",
		"this host, a name":     "http://LocalHost./",
		"this host, below":      "http://x.localhost/",
		"any host":              "http://0.0.0.0/",
		"a group":               "http://[ff02::1]/",
		"a zone":                "http://[fe80::1%25eth0]/",
		"too long":              "http://login.example/" + strings.Repeat("a", maxPage),
		"too long when written": "http://login.example/" + strings.Repeat("\u202e", maxPage/4),
		"not a URL":             "http://[::1",
		"percent":               "http://login.example/%zz",
	} {
		if got, ok := clean(asked, location); ok {
			t.Errorf("%s: %q is shown as %q", name, location, got)
		}
	}
}

// FuzzClean: what is shown is short, of ASCII that one can see, and leads where it seems to.
func FuzzClean(f *testing.F) {
	for _, s := range []string{
		"http://login.example/", "https://u:p@[fd00::1]:8443/a?b#c", "//x/\u202e", "javascript:alert(1)", "http://0x7f.1/", "?'", "http://a%2eb/", "..",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, location string) {
		page, ok := clean(asked, location)
		if !ok {
			return
		}
		if len(page) > maxPage || strings.ContainsFunc(page, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("'\"`\\<>", r) }) {
			t.Fatalf("%q is shown as %q", location, page)
		}
		u, err := url.Parse(page)
		if err != nil {
			t.Fatalf("%q is shown as %q, which is no URL: %v", location, page, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || !shows(u.Hostname()) {
			t.Fatalf("%q is shown as %q", location, page)
		}
	})
}
