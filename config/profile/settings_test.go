package profile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsAreReadAsStrongSwanDoes(t *testing.T) {
	const text = `
a = 1 # one
b = "two # \"2\"
lines" and more   # a comment
empty =
s { x = y } t {
  deep { k = v }   k=w
}
s { z = 1 }
u : s, t { x = own
  deep { l = m } }
`
	root, err := newDraft("test", Options{}).readSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", "b": "two # \"2\"\nlines and more", "empty": ""}
	if diff := cmp.Diff(want, root.values); diff != "" {
		t.Error(diff)
	}
	u := root.section("u")
	if diff := cmp.Diff(map[string]string{"x": "own", "z": "1", "k": "w"}, u.values); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"l": "m", "k": "v"}, u.section("deep").values); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenSettingsTellTheirLineAndNoSecret(t *testing.T) {
	contains(t, fails(t, "connections {\n a {\n } } }\n", Options{Name: "swanctl.conf"}), "swanctl.conf, line 3", "brace too much")
	contains(t, fails(t, "connections {\n a {\n", Options{}), "brace is missing")
	text := fails(t, "connections { }\nsecrets { ike { secret = a}hushhush b } }", Options{})
	if strings.Contains(text, "hushhush") {
		t.Error(text)
	}
}

func TestSecretsGoToWhomTheyFitBest(t *testing.T) {
	all := []known{
		{value: []byte("any")},
		{ids: []string{"moon.example.com"}, value: []byte("moon")},
		{ids: []string{"@moon.example.com", "sun.example.com"}, value: []byte("both")},
		{ids: []string{"mars.example.com", "%any"}, value: []byte("mars")},
	}
	for _, c := range []struct {
		ids  []string
		want string
	}{
		{[]string{"moon.example.com", "sun.example.com"}, "both"},
		{[]string{"fqdn:moon.example.com", "other"}, "moon"},
		{[]string{"mars.example.com", "sun.example.com"}, "mars"},
		{[]string{"nobody", ""}, "any"},
	} {
		if got := find(all, c.ids...); string(got.value) != c.want {
			t.Errorf("%q got that of %s", c.ids, got.value)
		}
	}
	if got := find(all[1:2], "nobody"); got != nil {
		t.Errorf("nobody got that of %s", got.value)
	}
}
