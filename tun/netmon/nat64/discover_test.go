package nat64

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// answer is a resolver with one answer.
type answer struct {
	addrs []netip.Addr
	err   error
	asked *string
}

func (a answer) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	*a.asked = network + " " + host
	return a.addrs, a.err
}

func addrs(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestDiscover(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"no translator":     {"", ""},
		"the well-known":    {"64:ff9b::192.0.0.170 64:ff9b::192.0.0.171", "64:ff9b::/96"},
		"one address of it": {"64:ff9b::192.0.0.171", "64:ff9b::/96"},
		"/32":               {"2001:db8:c000:aa:: 2001:db8:c000:ab::", "2001:db8::/32"},
		"/40":               {"2001:db8:1c0:0:aa:: 2001:db8:1c0:0:ab::", "2001:db8:100::/40"},
		"/48":               {"2001:db8:122:c000:0:aa00:: 2001:db8:122:c000:0:ab00::", "2001:db8:122::/48"},
		"/56":               {"2001:db8:122:3c0:0:aa:: 2001:db8:122:3c0:0:ab::", "2001:db8:122:300::/56"},
		"/64":               {"2001:db8:122:344:c0:0:aa00:: 2001:db8:122:344:c0:0:ab00::", "2001:db8:122:344::/64"},
		"/96":               {"2001:db8:122:344::192.0.0.170 2001:db8:122:344::192.0.0.171", "2001:db8:122:344::/96"},
		"unique local":      {"fd00:64::192.0.0.170 fd00:64::192.0.0.171", "fd00:64::/96"},
		"for private use":   {"64:ff9b:1:c000:0:aa00:: 64:ff9b:1:c000:0:ab00::", "64:ff9b:1::/48"},
		"several, in their order": {
			"64:ff9b::192.0.0.170 2001:db8:c000:aa:: 2001:db8:c000:ab:: 64:ff9b::192.0.0.171", "64:ff9b::/96 2001:db8::/32",
		},
		"two lengths in one network": {
			"2001:db8:c000:aa:: 2001:db8:c000:ab:: 2001:db8:1::192.0.0.170 2001:db8:1::192.0.0.171", "2001:db8::/32 2001:db8:1::/96",
		},
		// The prefix holds a known address itself (RFC 7050 §3).
		"the prefix holds .170": {
			"2001:db8:c000:aa::192.0.0.170 2001:db8:c000:aa::192.0.0.171", "2001:db8:c000:aa::/96",
		},
		"the prefix holds .171": {
			"2001:db8:c000:ab::192.0.0.170 2001:db8:c000:ab::192.0.0.171", "2001:db8:c000:ab::/96",
		},
		"it does, and only one came":                    {"2001:db8:c000:aa::192.0.0.170", ""},
		"it does elsewhere, and only one came":          {"2001:dbc0:0:aa00::192.0.0.170", ""},
		"it does around the u octet, and only one came": {"2001:db8:1c0:0:aa:0:c000:ab", ""},
		// What an answer must not bring about.
		"other addresses":     {"2001:db8::1 64:ff9b::192.0.2.1 64:ff9b::192.0.0.172", ""},
		"IPv4":                {"192.0.0.170 192.0.0.171", ""},
		"IPv4-mapped":         {"::ffff:192.0.0.170 ::ffff:192.0.0.171", ""},
		"IPv4-compatible":     {"::192.0.0.170 ::192.0.0.171", ""},
		"in loopback's /32":   {"0:0:c000:aa:: 0:0:c000:ab::", ""},
		"link-local":          {"fe80::192.0.0.170 fe80::192.0.0.171", ""},
		"with a zone":         {"fd00:64::c000:aa%eth0 fd00:64::c000:ab%eth0", ""},
		"a group":             {"ff0e::192.0.0.170 ff0e::192.0.0.171", ""},
		"ones in the u octet": {"2001:db8:c000:aa:100:: 2001:db8:122:344:1c0:0:aa00::", ""},
		"other places":        {"2001:dbc0:0:aa00:: 2001:db8::c000:aa:0", ""},
		"good after bad":      {"::ffff:192.0.0.170 ff0e::192.0.0.170 64:ff9b::192.0.0.170", "64:ff9b::/96"},
	} {
		var asked string
		got, err := Discover(t.Context(), answer{addrs(c.answer), nil, &asked})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := strings.Trim(fmt.Sprint(got), "[]"); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
		if asked != "ip6 ipv4only.arpa." {
			t.Errorf("%s: asked for %q", name, asked)
		}
	}
}

// TestBounds: an answer without end is not followed.
func TestBounds(t *testing.T) {
	var many []netip.Addr
	for i := range 2 * maxAnswers {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::192.0.0.170", i)))
	}
	if got := find(many); len(got) != maxPrefixes || got[0] != mustPrefix(t, "2001:db8::/96") {
		t.Errorf("%d prefixes: %v", len(got), got)
	}
	late := slices.Concat(slices.Repeat(addrs("2001:db8::1"), maxAnswers), addrs("64:ff9b::192.0.0.170"))
	if got := find(late); len(got) != 0 {
		t.Errorf("behind the bound: %v", got)
	}
}

func TestDiscoverFails(t *testing.T) {
	var asked string
	got, err := Discover(t.Context(), answer{nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}, &asked})
	if err != nil || got != nil {
		t.Errorf("a name without addresses: %v, %v", got, err)
	}
	refused := &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	if got, err := Discover(t.Context(), answer{addrs("64:ff9b::192.0.0.170"), refused, &asked}); !errors.Is(err, error(refused)) || got != nil {
		t.Errorf("a resolver that fails: %v, %v", got, err)
	}
}

// FuzzFind: whatever is answered, what is found is a prefix of an answer behind which a known
// address stands.
func FuzzFind(f *testing.F) {
	for _, list := range []string{
		"64:ff9b::192.0.0.170 64:ff9b::192.0.0.171", "2001:db8:c000:aa::192.0.0.170", "::ffff:192.0.0.170 2001:db8:1c0:0:aa::",
	} {
		var raw []byte
		for _, a := range addrs(list) {
			raw = append(raw, a.AsSlice()...)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var answers []netip.Addr
		for ; len(raw) >= 16; raw = raw[16:] {
			answers = append(answers, netip.AddrFrom16([16]byte(raw)))
		}
		found := find(answers)
		if len(found) > maxPrefixes {
			t.Errorf("%d prefixes", len(found))
		}
		for _, p := range found {
			if !slices.ContainsFunc(answers, func(a netip.Addr) bool {
				v4, ok := p.Extract(a)
				return ok && slices.Contains(known[:], v4.As4())
			}) {
				t.Errorf("no answer is of %v: %v", p, answers)
			}
		}
	})
}
