package interop

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// everythingTOML is a gateway of a road warrior, and that one, with as many extensions as go
// together.
func everythingTOML(addr string) (gateway, client string) {
	gateway = fmt.Sprintf(`
[pool.four]
addresses = ["10.97.0.0/24"]
[connection.clients]
pool = ["four"]
dns = ["10.97.0.1"]
domains = ["corp.example"]
reauth = "4h"
[connection.clients.local]
auth = "cert"
%s[connection.clients.peer]
auth = "cert"
ca = [%q]
[connection.clients.peer2]
auth = "eap-mschapv2"
[connection.clients.child.net]
local = [%q]
proposals = ["aes256gcm16iiv", "default"]
tfc = -1
%s`, certOf("ecdsa", swanID), shared.pki.ca(), netB4, users)
	client = fmt.Sprintf(`
[connection.office]
remote = [%q]
request = ["ipv4"]
[connection.office.local]
auth = "cert"
%s[connection.office.local2]
%s[connection.office.peer]
auth = "cert"
id = %q
ca = [%q]
[connection.office.child.net]
remote = [%q]
proposals = ["aes256gcm16iiv", "default"]
`, addr, certOf("ecdsa", martletID), withPassword("eap-mschapv2"), swanID, shared.pki.ca(), netB4)
	return gateway, client
}

// TestTsharkExtensions: what Debian's strongSwan lacks or knows only in part, Martlet against
// Martlet, read by Wireshark: it knows none of the newest, but must not find any malformed.
func TestTsharkExtensions(t *testing.T) {
	start(t)
	net := direct(t, false)
	keys, file := filepath.Join(net.a.dir, "keys"), filepath.Join(net.a.dir, "outer.pcap")
	recorder := record(net.wire, net.wireName, file)
	gateway, client := everythingTOML(net.addrB)
	b := newNode(net.b, "", gateway)
	a := newNode(net.a, "key_log = "+strconv.Quote(keys), client)
	b.serve()
	a.up("office")
	before := a.awaitUp(1).SAs[0]
	if !strings.Contains(before.Children[0].Suite, "iiv") || strings.Join(before.Domains, " ") != "corp.example" {
		t.Errorf("the child has %s, the domains are %q", before.Children[0].Suite, before.Domains)
	}
	v4, _ := virtual(a.status())
	net.a.ping(v4, inB4)
	if out, err := a.martlet("rekey", "--control", filepath.Join(net.a.dir, "control.sock"), "office", "net"); err != nil {
		t.Errorf("martlet rekey: %v\n%s", err, out)
	}
	// The gateway crashes: its token and the ticket bring the client back at once.
	b.proc.stop(syscall.SIGKILL)
	b.serve()
	if _, err := net.a.try("ping", "-n", "-c", "1", "-W", "1", "-I", v4, inB4); err == nil {
		t.Log("the gateway that crashed answers already")
	}
	until(t, "the client resumed its SA", func() bool {
		s := a.status()
		return s != nil && len(s.SAs) == 1 && s.SAs[0].State == "established" && s.SAs[0].SPIi != before.SPIi && len(s.SAs[0].Children) == 1
	})
	again, _ := virtual(a.status())
	net.a.ping(again, inB4)
	a.end()
	b.end()
	recorder.stop(syscall.SIGINT)

	s := &shark{t: t, config: keys, file: file}
	for _, bad := range s.fields(`(isakmp || esp || udpencap) && (_ws.malformed || _ws.expert.message contains "ntegrity")`, "frame.number", "_ws.expert.message") {
		if !knownToBeUnread(s, bad) {
			t.Errorf("malformed: %s", bad)
		}
	}
	for _, want := range []struct {
		what, filter string
	}{
		{"REDIRECT_SUPPORTED", "isakmp.notify.msgtype == 16406"},
		{"MOBIKE_SUPPORTED", "isakmp.notify.msgtype == 16396"},
		{"AUTH_LIFETIME", "isakmp.notify.msgtype == 16403"},
		{"MULTIPLE_AUTH_SUPPORTED", "isakmp.notify.msgtype == 16404"},
		{"ANOTHER_AUTH_FOLLOWS", "isakmp.notify.msgtype == 16405"},
		{"TICKET_REQUEST", "isakmp.notify.msgtype == 16410"},
		{"TICKET_LT_OPAQUE", "isakmp.notify.msgtype == 16409"},
		{"IKE_SESSION_RESUME with TICKET_OPAQUE", "isakmp.exchangetype == 38 && isakmp.notify.msgtype == 16413"},
		{"QCD_TOKEN", "isakmp.notify.msgtype == 16419"},
		{"SUPPORTED_AUTH_METHODS", "isakmp.notify.msgtype == 16443"},
		{"EAP", "isakmp.typepayload == 48"},
		{"REKEY_SA", "isakmp.exchangetype == 36 && isakmp.notify.msgtype == 16393"},
	} {
		if len(s.fields(want.filter, "frame.number")) == 0 {
			t.Errorf("no %s was seen", want.what)
		}
	}
}

// knownToBeUnread tells whether a complaint is about an SA of which Wireshark has no keys: it
// knows one key for each, and IKE_INTERMEDIATE and what comes before it have another.
func knownToBeUnread(s *shark, line string) bool {
	frame, _, _ := strings.Cut(line, "\t")
	return len(s.fields("frame.number == "+frame+" && isakmp.exchangetype == 43", "frame.number")) == 1
}
