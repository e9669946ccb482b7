package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedact(t *testing.T) {
	const text = `# secret = "old"
# Imported; set secret = "file:PATH" in the local table
[connection.office] # password="older"
remote = ["vpn.example.com"] # stays
local = { auth = "psk", secret = "k9Xw2mTqZ7bR" }
"secret" = '''
several
lines''' # misplaced
peer.auth = "psk"
psk = "misnamed"
sec\u0072et = 1
list = [ "a", [ "b", { c = "d" } ], # secret = "x"
]
[connection.office.local]
key_password = "file:key.txt"
"s\u0065cret" = """escaped"""
[user.carol]
password = "env:CAROL"
groups = ["staff"]
`
	want := `# [redacted]
# Imported; set secret = "file:PATH" in the local table
[connection.office] # [redacted]
remote = ["vpn.example.com"] # stays
local = { auth = "psk", secret = "[redacted]" }
"secret" = "[redacted]" # misplaced
peer.auth = "psk"
psk = "[redacted]"
list = [ "[redacted]", [ "[redacted]", { c = "[redacted]" } ], # [redacted]
]
[connection.office.local]
key_password = "file:key.txt"
"s\u0065cret" = "[redacted]"
[user.carol]
password = "env:CAROL"
groups = ["staff"]
`
	got, err := Redact([]byte(strings.Replace(text, "sec\\u0072et = 1\n", "", 1)))
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	// What is no TOML is not shown at all: a bare key has no escapes.
	if got, err := Redact([]byte(text)); err == nil || got != nil {
		t.Errorf("became %q", got)
	}
	deep := "a = " + strings.Repeat("[", 40) + strings.Repeat("]", 40)
	if _, err := Redact([]byte(deep)); err == nil {
		t.Error("lists in lists without end are read")
	}
}

func TestNamedFiles(t *testing.T) {
	const text = `[connection.office.local]
cert = ["pki/alice.pem", "file:./chain.pem"]
key = ["/etc/ssl/alice.key"]
key_password = "file:pki/password"
secret = "in place"
[connection.office.peer]
ca = ["system"]
crl = ["../ca.crl"]
eap_ca = ["chain.pem"]
id = "file:nothing"
[user.carol]
password = "env:CAROL"
`
	got, err := NamedFiles([]byte(text))
	if diff := cmp.Diff([]string{"pki/alice.pem", "chain.pem", "pki/password", "../ca.crl"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// FuzzRedact: no value of a key that holds a secret is left, whatever is around it.
func FuzzRedact(f *testing.F) {
	f.Add("[connection.office.local]\n", "secret", "# end")
	f.Add("[user.a]\n# b\n", "password", "x = { y = [1] }")
	f.Fuzz(func(t *testing.T, before, key, after string) {
		const secret = "k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe"
		if strings.Contains(before+key+after, secret) {
			return
		}
		got, err := Redact([]byte(before + "\n" + key + " = \"" + secret + "\"\n" + after))
		if err == nil && (key == "secret" || key == "password") && strings.Contains(string(got), secret) {
			// In a string over several lines and in a comment it is no value.
			if !strings.Contains(before, `"""`) && !strings.Contains(before, "'''") {
				t.Errorf("left: %s", got)
			}
		}
	})
}
