package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const radiusSample = `
[radius]
accounting = true
dae_port = 3799
[radius.server.one]
address = "10.0.0.5"
secret = "0123456789abcdef"
[radius.server.two]
address = "10.0.0.6"
port = 1645
secret = "short"
`

func TestRADIUS(t *testing.T) {
	c, err := Parse("x", []byte(radiusSample), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := c.RADIUS
	if r.Timeout != Duration(time.Second) || r.Tries != 3 || r.NASIdentifier != "martlet" || r.Interim != Duration(10*time.Minute) || r.DAEPort != 3799 {
		t.Errorf("%+v", r)
	}
	one, two := r.Servers["one"], r.Servers["two"]
	if one.Name != "one" || one.Port != 1812 || one.AccountingPort != 1813 || two.Port != 1645 {
		t.Errorf("%+v, %+v", one, two)
	}
	warned := false
	for _, w := range c.Warnings {
		warned = warned || w.Key == "radius.server.two.secret"
	}
	if !warned {
		t.Error("no warning about a short secret")
	}
}

func TestRADIUSFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[radius]\naccounting = true":                                                       "radius.accounting: needs a server",
		"[radius]\ndae_port = 3799":                                                         "radius.dae_port: needs a server",
		"[radius]\ntimeout = \"0s\"":                                                        "radius.timeout: must be more",
		"[radius]\ntries = 11":                                                              "radius.tries: expected 1 to 10",
		"[radius.server.a]\nsecret = \"0123456789abcdef\"":                                  "radius.server.a.address: is missing",
		"[radius.server.a]\naddress = \"10.0.0.5\"":                                         "radius.server.a.secret: is missing",
		"[radius.server.a]\naddress = \"0.0.0.0\"\nsecret = \"x\"":                          "0.0.0.0 is no server",
		strings.ReplaceAll(radiusSample, "10.0.0.6", "10.0.0.5"):                            "which has another secret",
		"[connection.c]\nunique = \"yes\"\n[connection.c.local]\nauth = \"psk\"":            `unknown policy "yes"`,
		"[pool.p]\naddresses = [\"10.9.0.0/24\"]\ngroups = [\"a\", \"a\"]":                  "a is listed twice",
		"[connection.c]\ngroups = [\"a\", \"a\"]\n[connection.c.child.x]\ngroups = [\"b\"]": "a is listed twice",
		change(t, "[connection.branch]", "[connection.branch]\ngroups = [\"admins\"]"):      "keeps everybody out",
	} {
		if _, err := Parse("x", []byte(text), t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant %s", text, err, want)
		}
	}
}

func TestGroupsOfNobody(t *testing.T) {
	const text = "[user.a]\npassword = \"x\"\ngroups = [\"admins\"]\n[pool.p]\naddresses = [\"10.9.0.0/24\"]\ngroups = [\"admins\", \"amdins\"]\n"
	warned := func(more string) (keys []string) {
		c, err := Parse("x", []byte(text+more), t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.Warnings {
			keys = append(keys, w.Key)
		}
		return keys
	}
	if got := warned(""); !slices.Contains(got, "pool.p.groups[1]") || slices.Contains(got, "pool.p.groups[0]") {
		t.Errorf("warnings about %v", got)
	}
	if got := warned(radiusSample); slices.Contains(got, "pool.p.groups[1]") {
		t.Errorf("RADIUS may know the group: %v", got)
	}
}
