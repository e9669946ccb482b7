package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// hybridTOML is a connection of Martlet's with everything against quantum computers: ML-KEM
// (RFC 9370) and a pre-shared key (RFC 8784), both required.
func hybridTOML(remote, own, peer, local, far string) string {
	if remote != "" {
		remote = fmt.Sprintf("remote = [%q]\n", remote)
	}
	return fmt.Sprintf(`[connection.site]
%spost_quantum = "require"
ppk_required = true
[connection.site.local]
auth = "psk"
id = %q
secret = %q
[connection.site.peer]
auth = "psk"
id = %q
[connection.site.ppk.k1]
secret = "a post-quantum key of 32 octets!"
[connection.site.child.net]
local = [%q]
remote = [%q]
`, remote, own, secret, peer, local, far)
}

// TestTsharkHybrid: what Debian's strongSwan lacks, Martlet against Martlet, read by
// Wireshark: ML-KEM in IKE_INTERMEDIATE and, when the SAs are replaced, in IKE_FOLLOWUP_KE.
func TestTsharkHybrid(t *testing.T) {
	start(t)
	net := direct(t, false)
	keys, file := filepath.Join(net.a.dir, "keys"), filepath.Join(net.a.dir, "outer.pcap")
	recorder := record(net.wire, net.wireName, file)
	a := newNode(net.a, "key_log = "+strconv.Quote(keys), hybridTOML(net.addrB, martletID, swanID, netA4, netB4))
	b := newNode(net.b, "", hybridTOML("", swanID, martletID, netB4, netA4))
	b.serve()
	a.up("site")
	status := a.awaitUp(1)
	if got := status.SAs[0].Suite; !strings.HasSuffix(got, "-ke1_mlkem768") {
		t.Errorf("the SA has %s", got)
	}
	if got := strings.Join(status.SAs[0].Conditions, " "); !strings.Contains(got, "ppk") {
		t.Errorf("conditions are %q", got)
	}
	for _, what := range [][]string{{"site", "net"}, {"site"}} {
		before := a.now().SAs[0]
		args := append([]string{"rekey", "--control", filepath.Join(net.a.dir, "control.sock")}, what...)
		if out, err := a.martlet(args...); err != nil {
			t.Fatalf("martlet rekey %s: %v\n%s", what, err, out)
		}
		until(t, "the replacement of "+strings.Join(what, " "), func() bool {
			s := a.status()
			if s == nil || len(s.SAs) != 1 || len(s.SAs[0].Children) != 1 {
				return false
			}
			return s.SAs[0].SPIi != before.SPIi || s.SAs[0].Children[0].SPIIn != before.Children[0].SPIIn
		})
		net.a.ping(inA4, inB4)
	}
	if got := a.now().SAs[0]; !strings.HasSuffix(got.Suite, "-ke1_mlkem768") || !strings.HasSuffix(got.Children[0].Suite, "-ke1_mlkem768") {
		t.Errorf("the new SAs have %s and %s", got.Suite, got.Children[0].Suite)
	}
	a.end()
	b.end()
	recorder.stop(syscall.SIGINT)

	// Wireshark knows one key for an SA, the last one; IKE_INTERMEDIATE has the first.
	const table = "ikev2_decryption_table"
	first := filepath.Join(net.a.dir, "first")
	if err := os.Mkdir(first, 0o700); err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(readFile(t, keys, table), "\n")
	if err := os.WriteFile(filepath.Join(first, table), []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		profile, filter string
		least           int
		fields, want    string
	}{
		{first, "isakmp.exchangetype == 34", 2, "isakmp.notify.msgtype", "16438"},
		{first, "isakmp.exchangetype == 34", 2, "isakmp.notify.msgtype", "16435"},
		{first, "isakmp.exchangetype == 34", 2, "isakmp.tf.type", "6"},
		{first, "isakmp.exchangetype == 43 && isakmp.typepayload == 34", 2, "isakmp.key_exchange.dh_group", "36"},
		{keys, "isakmp.exchangetype == 35", 2, "isakmp.notify.msgtype", "16436"},
		{keys, "isakmp.exchangetype == 36 && isakmp.flag_r == 1", 2, "isakmp.notify.msgtype", "16441"},
		{keys, "isakmp.exchangetype == 44 && isakmp.typepayload == 34", 4, "isakmp.key_exchange.dh_group", "36"},
	} {
		s := &shark{t: t, config: c.profile, file: file}
		got := s.fields(c.filter, c.fields)
		if len(got) < c.least {
			t.Errorf("%s: %d packets, want %d", c.filter, len(got), c.least)
		}
		for _, values := range got {
			if !strings.Contains(","+values+",", ","+c.want+",") {
				t.Errorf("%s: %s is %q, want %s among them", c.filter, c.fields, values, c.want)
			}
		}
		bare, _, _ := strings.Cut(c.filter, " &&")
		for _, wrong := range s.fields(bare+` && (_ws.malformed || _ws.expert.message contains "ntegrity")`, "frame.number", "_ws.expert.message") {
			t.Errorf("%s: malformed: %s", bare, wrong)
		}
	}
}
