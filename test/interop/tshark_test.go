package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestTshark: Wireshark, given our key log, reads our IKE and our ESP.
func TestTshark(t *testing.T) {
	t.Parallel()
	for name, sc := range map[string]scenario{
		"aes-gcm": {auth: "ecdsa", ike: "aes256gcm16-prfsha256-x25519", esp: "aes256gcm16"},
		"aes-cbc": {auth: "ecdsa", ike: "aes256-sha256-ecp256", esp: "aes256-sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			start(t)
			p := &pair{scenario: sc, initiate: true, net: direct(t, false)}
			keys := filepath.Join(p.net.a.dir, "keys")
			file := filepath.Join(p.net.a.dir, "outer.pcap")
			recorder := record(p.net.wire, p.net.wireName, file)
			p.m = newNode(p.net.a, "key_log = "+strconv.Quote(keys), p.toml())
			p.s = startSwan(p.net.b, sc.swan, sc.auth, p.swanctl())
			p.m.up("site")
			p.status = p.m.awaitUp(1)
			p.net.a.ping(inA4, inB4)
			p.net.b.ping(inB4, inA4)
			p.close(t)
			recorder.stop(syscall.SIGINT)

			s := &shark{t: t, config: keys, file: file}
			s.readsIKE()
			s.readsESP()
		})
	}
}

// shark is tshark with a profile of its own, in which the key tables stand.
type shark struct {
	t      *testing.T
	config string
	file   string
	esn    bool // of SAs with extended sequence numbers, whose ICV it cannot check (4.0)
}

// fields returns a line for each packet that fits a filter.
func (s *shark) fields(filter string, fields ...string) []string {
	s.t.Helper()
	args := []string{"-r", s.file, "-Y", filter, "-T", "fields", "-o", "esp.enable_encryption_decode:TRUE"}
	if !s.esn {
		args = append(args, "-o", "esp.enable_authentication_check:TRUE")
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(s.t.Context(), "tshark", args...)
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+s.config)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("tshark %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	if strings.TrimSpace(string(out)) == "" {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func (s *shark) readsIKE() {
	s.t.Helper()
	// What stands inside SK can only be seen decrypted: identities, both AUTHs, a Delete.
	if got := s.fields("isakmp.exchangetype == 35 && isakmp.auth.method", "isakmp.id.data.fqdn"); len(got) != 2 ||
		!strings.Contains(got[0], martletID) || !strings.Contains(got[1], swanID) {
		s.t.Errorf("decrypted IKE_AUTH messages with identities %q, want those of %s and %s", got, martletID, swanID)
	}
	if got := s.fields("isakmp.exchangetype == 37 && isakmp.delete.protoid", "frame.number"); len(got) == 0 {
		s.t.Error("no Delete was decrypted")
	}
	protected := s.fields("isakmp.exchangetype >= 35", "frame.number")
	wrong := s.fields(`isakmp.exchangetype >= 35 && _ws.expert.message contains "ntegrity"`, "_ws.expert.message")
	if len(protected) < 4 || len(wrong) != 0 {
		s.t.Errorf("of %d protected messages these fail the check: %q", len(protected), wrong)
	}
}

func (s *shark) readsESP() {
	s.t.Helper()
	all := s.fields("esp", "frame.number")
	good := s.fields("esp && esp.icv_good == 1", "frame.number")
	inner := s.fields("esp && (icmp || tcp) && ip.addr == "+inA4+" && ip.addr == "+inB4, "frame.number")
	requests := s.fields("esp && icmp.type == 8", "frame.number")
	if len(all) < 24 || len(good) != len(all) || len(inner) != len(all) || len(requests) < 12 {
		s.t.Errorf("of %d ESP packets %d pass the check, %d hold our traffic, %d an echo request", len(all), len(good), len(inner), len(requests))
	}
}
