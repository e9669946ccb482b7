package interop

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"martlet"
)

// probe runs martlet probe in the namespace.
func (ns *namespace) probe(host string, args ...string) *martlet.ProbeReport {
	ns.t.Helper()
	argv := ns.argv(append([]string{shared.martlet, "probe", host, "--json"}, args...)...)
	b, err := exec.CommandContext(ns.t.Context(), argv[0], argv[1:]...).Output()
	if err != nil {
		ns.t.Fatalf("martlet probe %s: %v\n%s", host, err, b)
	}
	report := &martlet.ProbeReport{}
	if err := json.Unmarshal(b, report); err != nil {
		ns.t.Fatalf("martlet probe --json: %v\n%s", err, b)
	}
	return report
}

// swanProbed is a gateway of strongSwan with proposals, good and weak.
func swanProbed(ns *namespace, settings swanSettings, proposals string) *swan {
	settings.lines += "\nsend_vendor_id = yes\n"
	return startSwan(ns, settings, "", fmt.Sprintf(`
connections { gw { version = 2
	proposals = %s
	local { auth = psk
		id = %s }
	remote { auth = psk }
	children { net { local_ts = %s } }
} }
secrets { ike { secret = %q } }
`, proposals, swanID, netB4, secret))
}

// TestProbeStrongSwan: all that strongSwan takes is found, and its list of SAs shows what is left there.
func TestProbeStrongSwan(t *testing.T) {
	start(t)
	n := direct(t, false)
	s := swanProbed(n.b, swanSettings{plugins: "des gmp"}, "aes256gcm16-aes128gcm16-prfsha384-ecp384-x25519-modp2048,aes128-sha1-modp1024")
	report := n.a.probe(n.addrB)
	ways := map[string]bool{}
	for _, w := range report.Ways {
		ways[w.String()] = w.Answered
	}
	if !ways["UDP 500"] || !ways["UDP 4500"] || ways["TCP 4500"] {
		t.Errorf("ways %+v", report.Ways)
	}
	g := report.Gateway
	if g.Own != "aes256gcm16-prfsha384-ecp384" && g.Own != "aes256gcm16-prfsha384-x25519" {
		t.Errorf("of our default it chose %q", g.Own)
	}
	for _, x := range []struct {
		what, want string
		got        []string
	}{
		{"groups", "ecp384 x25519 modp2048 modp1024", g.Groups},
		{"ciphers", "aes256gcm16 aes128gcm16 aes128", g.Ciphers},
		{"hashes", "sha384 sha1", g.Hashes},
		{"additional key exchanges", "", g.Additional},
	} {
		if got := strings.Join(x.got, " "); got != x.want {
			t.Errorf("%s %q, want %q", x.what, got, x.want)
		}
	}
	// Its ESP in user space has it say that it is behind a NAT.
	if len(g.Weak) != 2 || g.NAT == nil || *g.NAT != (martlet.ProbeNAT{There: true}) || len(g.Open) > 0 || g.Cookie {
		t.Errorf("%+v, NAT %+v", g, g.NAT)
	}
	if len(g.VendorIDs) != 1 || g.VendorIDs[0].Name != "strongSwan" || len(g.SignatureHashes) == 0 {
		t.Errorf("vendor IDs %+v, hashes %q", g.VendorIDs, g.SignatureHashes)
	}
	if sas := s.sas(); strings.Count(sas, "CONNECTING") != 1 {
		t.Errorf("half-open SAs:\n%s", sas)
	}
}

// TestProbeUnderNAT: both sides behind routers, a gateway that takes none of our default, and one
// that wants cookies.
func TestProbeUnderNAT(t *testing.T) {
	start(t)
	n := behindNATs(t)
	swanProbed(n.b, swanSettings{lines: "cookie_threshold = 0\n"}, "aes256-sha256-modp2048")
	g := n.a.probe(n.addrB).Gateway
	if g == nil || g.Own != "" || g.Chosen != "aes256-sha256-modp2048" || g.NAT == nil || *g.NAT != (martlet.ProbeNAT{Here: true, There: true}) {
		t.Errorf("%+v, NAT %+v", g, g.NAT)
	}
}
