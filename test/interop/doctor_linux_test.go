package interop

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"martlet"
)

// doctor runs martlet doctor in the namespace, and returns what it found, a line each, and its exit
// status.
func (ns *namespace) doctor(args ...string) (string, int) {
	ns.t.Helper()
	argv := ns.argv(append([]string{shared.martlet, "doctor", "--json"}, args...)...)
	cmd := exec.CommandContext(ns.t.Context(), argv[0], argv[1:]...)
	b, _ := cmd.Output() // the status tells
	var found []martlet.Finding
	if err := json.Unmarshal(b, &found); err != nil {
		ns.t.Fatalf("martlet doctor --json: %v\n%s", err, b)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, string(f.Result)+" "+f.Check+": "+f.Text)
	}
	return strings.Join(lines, "\n"), cmd.ProcessState.ExitCode()
}

// TestDoctor: faults that are made in a namespace are found there, and told whose they are.
func TestDoctor(t *testing.T) {
	start(t)
	n := direct(t, false)
	n.a.ip("route add default via " + n.addrB)
	swanProbed(n.b, swanSettings{}, "aes256gcm16-prfsha256-x25519")
	check := func(name string, status int, want ...string) {
		t.Helper()
		got, exit := n.a.doctor(n.addrB)
		for _, line := range want {
			if !strings.Contains(got, line) {
				t.Errorf("%s: %q is missing in\n%s", name, line, got)
			}
		}
		if exit != status {
			t.Errorf("%s: exit status %d, want %d\n%s", name, exit, status, got)
		}
	}
	check("no fault", 0, "ok routes: ", "ok other VPNs: none", "ok left behind: nothing", "ok packet filter: nftables is there",
		"ok gateway: "+n.addrB+" answers on UDP 500, UDP 4500", "ok proposals: ", "ok MTU: packets of 1500 octets")

	n.a.ip("link set eth0 mtu 1420")
	n.a.ip("rule add priority 5270 table 52")
	n.a.ip("route add default dev eth0 table 52")
	n.a.nft("table inet strict { chain out { type filter hook output priority 0; policy drop; accept; }\n}")
	check("what is no failure", 0, "warn MTU: packets of 1400 octets reach the gateway whole, those of 1460 are not answered: the interface",
		"warn other VPNs: rule 5270 sends all traffic by table 52 (Tailscale)", "warn packet filter: others drop, unless a rule of theirs allows it, what this host sends: chain out of table strict")

	n.b.nft("table inet shut { chain in { type filter hook input priority 0; udp dport 4500 drop; }\n}")
	check("UDP 4500 is blocked", 0, "warn gateway: UDP 500 is answered and UDP 4500 is not")
	n.b.nft("table inet shut { chain in { type filter hook input priority 0; udp dport 500 drop; }\n}")
	check("UDP is blocked", 3, "fail gateway: "+n.addrB+" answers on none of UDP 500, UDP 4500, TCP 4500")

	n.a.nft("table inet martlet-gone { }")
	check("a kill switch is left too", 6, "fail left behind: by a martlet that was killed: table martlet-gone")
}
