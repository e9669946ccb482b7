package proxy

import (
	"strings"
	"testing"
)

func TestParseForward(t *testing.T) {
	for s, want := range map[string]Forward{
		"8080:web.test:80":            {"tcp", "", 8080, "web.test", 80},
		"tcp:8080:web.test:80":        {"tcp", "", 8080, "web.test", 80},
		"udp:53:10.9.0.1:53":          {"udp", "", 53, "10.9.0.1", 53},
		"127.0.0.2:8080:web.test:80":  {"tcp", "127.0.0.2", 8080, "web.test", 80},
		"localhost:8080:web.test:80":  {"tcp", "127.0.0.1", 8080, "web.test", 80},
		"*:8080:web.test:80":          {"tcp", "*", 8080, "web.test", 80},
		"[::1]:8080:[fd00::1]:80":     {"tcp", "::1", 8080, "fd00::1", 80},
		"udp:[::]:53:[fd00:0::1]:53":  {"udp", "::", 53, "fd00::1", 53},
		"8080:[::ffff:10.9.0.1]:80":   {"tcp", "", 8080, "10.9.0.1", 80},
		"9:[fe80::1%eth0]:80":         {"tcp", "", 9, "fe80::1%eth0", 80},
		"udp:udp:53":                  {},
		"8080:localhost:80":           {"tcp", "", 8080, "localhost", 80},
		"":                            {},
		"8080":                        {},
		"8080:web.test":               {},
		"8080:web.test:80:9:9":        {},
		":8080:web.test:80":           {},
		"0:web.test:80":               {},
		"8080:web.test:0":             {},
		"65536:web.test:80":           {},
		"-1:web.test:80":              {},
		"+1:web.test:80":              {},
		"http:web.test:80":            {},
		"sctp:8080:web.test:80":       {},
		"8080::80":                    {},
		"8080:we b.test:80":           {},
		"8080:bücher.test:80":         {},
		"8080:fd00::1:80":             {},
		"8080:[fd00::1:80":            {},
		"8080:[fd00::1]80":            {},
		"8080:[web.test]:80":          {},
		"example.com:8080:web.test:1": {},
	} {
		got, err := ParseForward(s)
		if (err == nil) != (want.Network != "") || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "forward \""+s) {
			t.Errorf("%q: the error does not name it: %v", s, err)
		}
		if err == nil {
			if again, err := ParseForward(got.String()); err != nil || again != got {
				t.Errorf("%q is written %q, which is %+v, %v", s, got, again, err)
			}
		}
	}
	for s, hint := range map[string]string{
		"8080:fd00::1:80": "brackets", ":8080:web.test:80": "* for all", "example.com:8080:web.test:1": "literal",
		"http:web.test:80": "1 to 65535", "8080": "[udp:][bind:]port:host:port",
	} {
		if _, err := ParseForward(s); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: no word of %q: %v", s, hint, err)
		}
	}
	if f, _ := ParseForward("*:80:a:1"); f.ListenAddress() != "*:80" || f.Inside() != "[::]:80" {
		t.Errorf("%q, %q", f.ListenAddress(), f.Inside())
	}
}

func FuzzForward(f *testing.F) {
	for _, s := range []string{"8080:web.test:80", "udp:[::1]:53:[fd00::1]:53", "*:1:a:2", "localhost:1:a:2", "1:[fe80::1%a]:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseForward(s)
		if err != nil {
			return
		}
		if got.Port == 0 || got.TargetPort == 0 || got.Target == "" || got.Network != "tcp" && got.Network != "udp" {
			t.Fatalf("%q: %+v", s, got)
		}
		again, err := ParseForward(got.String())
		if err != nil || again != got {
			t.Fatalf("%q: %+v is written %q, which is %+v, %v", s, got, got, again, err)
		}
	})
}
