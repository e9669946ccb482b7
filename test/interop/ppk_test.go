package interop

import (
	"fmt"
	"slices"
	"testing"
)

// ppkOf is the sections of both files with a post-quantum pre-shared key; b is the name by which
// strongSwan knows it, empty if it does not.
func ppkOf(sc scenario, b string) scenario {
	const key = "a post-quantum key of 32 octets!"
	sc.alsoA = fmt.Sprintf("[connection.site.ppk.%q]\nsecret = %q\n", "ppk1@site", key)
	if b != "" {
		// As a gateway with ppk_id strongSwan takes no other one, not even as optional.
		sc.initiatorMoreB = fmt.Sprintf("ppk_id = %s\n", b)
		sc.alsoB = fmt.Sprintf("secrets { ppk-1 { id = %s\n secret = %q } }\n", b, key)
	}
	return sc
}

// TestPPK: RFC 8784 with strongSwan (rw-cert-ppk, rw-psk-ppk).
func TestPPK(t *testing.T) {
	t.Parallel()
	used := func(want bool) func(*testing.T, *pair) {
		return func(t *testing.T, p *pair) {
			if got := slices.Contains(p.status.SAs[0].Conditions, "ppk"); got != want {
				t.Errorf("conditions %v, want ppk: %v", p.status.SAs[0].Conditions, want)
			}
			p.traffic(t, inA4, inB4)
		}
	}
	const required = "ppk_required = true\n"
	for _, sc := range []scenario{
		ppkOf(scenario{name: "psk", auth: "psk", moreA: required, moreB: "ppk_required = yes\n", check: used(true)}, "ppk1@site"),
		ppkOf(scenario{name: "certificates-optional", auth: "ecdsa", check: used(true)}, "ppk1@site"),
		ppkOf(scenario{name: "unknown-optional", auth: "rsa", check: used(false)}, "ppk2@site"),
		ppkOf(scenario{name: "peer-has-none", auth: "psk", check: used(false)}, ""),
		ppkOf(scenario{
			name: "unknown-required", auth: "psk", moreA: required,
			fails: &failure{says: "code: auth-refused", status: 4, logs: "code=ppk", swanSays: "AUTHENTICATION_FAILED"},
		}, "ppk2@site"),
		ppkOf(scenario{
			name: "peer-has-none-required", auth: "psk", moreA: required,
			fails: &failure{says: "code: ppk", status: 4, logs: "code=ppk", swanSays: "AUTHENTICATION_FAILED"},
		}, ""),
	} {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				sc.play(t, role == "initiator")
			})
		}
	}
}
