package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestExposure(t *testing.T) {
	for _, c := range []struct {
		address, want string // "": refused as exposed; "!": no address
		why           Exposure
	}{
		{":1080", "127.0.0.1:1080", Exposure{}},
		{"localhost:1080", "127.0.0.1:1080", Exposure{}},
		{"127.0.0.2:1080", "127.0.0.2:1080", Exposure{}},
		{"[::1]:0", "[::1]:0", Exposure{}},
		{"[::ffff:127.0.0.1]:1080", "[::ffff:127.0.0.1]:1080", Exposure{}},
		{"*:1080", "", Exposure{}},
		{"0.0.0.0:1080", "", Exposure{}},
		{"[::]:1080", "", Exposure{}},
		{"10.0.0.1:1080", "", Exposure{}},
		{"[fe80::1%eth0]:1080", "", Exposure{}},
		{"*:1080", ":1080", Exposure{Open: true}},
		{"*:1080", ":1080", Exposure{Password: true}},
		{"10.0.0.1:1080", "10.0.0.1:1080", Exposure{Password: true}},
		{"example.com:1080", "!", Exposure{Open: true}},
		{"1080", "!", Exposure{}},
		{"127.0.0.1:http", "!", Exposure{}},
		{"127.0.0.1:65536", "!", Exposure{}},
		{"", "!", Exposure{}},
	} {
		got, err := hostAddress(c.address, c.why)
		switch {
		case c.want == "" || c.want == "!":
			if errors.Is(err, ErrExposed) != (c.want == "") || err == nil {
				t.Errorf("%q: %q, %v", c.address, got, err)
			}
		case err != nil || got != c.want:
			t.Errorf("%q: %q, %v; want %q", c.address, got, err, c.want)
		}
		if (Check(c.address, c.why) == nil) != (err == nil) {
			t.Errorf("%q: Check says something else", c.address)
		}
	}
	_, err := Listen(t.Context(), "*:0", Exposure{})
	if !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "set a user and password") {
		t.Errorf("no hint: %v", err)
	}
	if _, err := ListenPacket(t.Context(), "*:0", Exposure{}); !errors.Is(err, ErrExposed) {
		t.Errorf("UDP: %v", err)
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	s := Server{Users: []User{{"alice", "hunter2"}}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(format, s.Users); strings.Contains(out, "hunter2") || !strings.Contains(out, "alice") {
			t.Errorf("%s: %s", format, out)
		}
	}
}

func TestFailureNames(t *testing.T) {
	seen := map[string]bool{}
	for f := range failures {
		if s := f.String(); s == "" || seen[s] {
			t.Errorf("kind %d is called %q", f, s)
		} else {
			seen[s] = true
		}
		if f.status() < 400 {
			t.Errorf("%v has status %d", f, f.status())
		}
	}
	if got := Failure(99).String(); got != "other" {
		t.Errorf("unknown kind: %q", got)
	}
}
