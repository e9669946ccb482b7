package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

const psk = "w7XUo0mLfE9kq2ZrT4VhYd8sBnCj5AgP"

// siteToSite is a whole file without other files.
const siteToSite = `
[connection.branch]
remote = ["192.0.2.2"]
[connection.branch.local]
auth = "psk"
id = "hq.example.com"
secret = "` + psk + `"
[connection.branch.peer]
auth = "psk"
id = "branch.example.com"
[connection.branch.child.lan]
local = ["10.1.0.0/16"]
remote = ["10.2.0.0/16"]
`

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.toml", []byte(text), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := mustParse(t, siteToSite)
	want := Node{
		Device: "martlet0", Listen: []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()},
		IKEPort: 500, NATPort: 4500, Mark: 0x4d610000, Table: 19809,
		Control: "/run/martlet/control.sock", Drain: Duration(5 * time.Second), State: "/run/martlet",
		HalfOpen: 10000, HalfOpenSource: 1000, Cookies: 100, CookiesSource: 3, Puzzles: 5000, PuzzlesSource: 500, LogLevel: "info",
	}
	if diff := cmp.Diff(want, c.Node, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error("node (-want +got):\n" + diff)
	}
	conn := c.Connections["branch"]
	if conn.Name != "branch" || conn.Liveness != Duration(30*time.Second) || conn.Keepalive != Duration(20*time.Second) || !conn.Routes.Selectors {
		t.Errorf("connection: %+v", conn)
	}
	if got, want := len(conn.IKE), len(suite.DefaultIKE(suite.RolePeer, suite.PostQuantumPrefer)); got != want {
		t.Errorf("%d IKE proposals, want the %d of a peer", got, want)
	}
	child := conn.Children["lan"]
	if child.Name != "lan" || child.ReplayWindow != 4096 || len(child.ESP) == 0 || child.LocalIsDyn || child.RemoteIsDyn {
		t.Errorf("child: %+v", child)
	}
	remote := Selector{EndPort: 65535, From: netip.MustParseAddr("10.2.0.0"), To: netip.MustParseAddr("10.2.255.255")}
	if len(child.RemoteTS) != 1 || child.RemoteTS[0] != remote {
		t.Errorf("remote selectors %v, want %v", child.RemoteTS, remote)
	}
	if (conn.Peer.Identity != pki.Identity{Type: pki.IDFQDN, Data: "branch.example.com"}) {
		t.Errorf("peer identity %v", conn.Peer.Identity)
	}
	if string(conn.Local.Secret.Value) != psk || string(conn.Peer.Secret.Value) != psk {
		t.Error("the secret is not on both sides")
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// TestEveryKey reads a file in which every key differs from its default.
func TestEveryKey(t *testing.T) {
	c := mustParse(t, `
[node]
device = "vpn1"
mtu = 1_400
listen = ["192.0.2.1", "2001:db8::1"]
ike_port = 0
nat_port = 4501
mark = 7
table = 100
control = "c.sock"
state = "/var/lib/martlet"
key_log = "/var/keys"
log_level = "debug"
profile = "small"

[connection.c]
remote = ["vpn.example.com", "192.0.2.7"]
from = ["192.0.2.0/24", "2001:db8::7"]
port = 4501
local_port = 4502
proposals = ["aes128gcm16-prfsha256-ecp256", "default"]
request = ["ipv6"]
routes = ["10.0.0.0/8", "192.0.2.9"]
masquerade = true
peer_to_peer = true
liveness = "0s"
keepalive = "1m"
fragment_size = -1
strict = true
local.auth = "psk"
peer.auth = "psk"
peer.secret = "0s`+"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="+`"

[connection.c.child.one]
proposals = ["chacha20poly1305"]
local = ["dynamic"]
remote = ["10.1.0.0/16[tcp/443]", "fd00::1-fd00::9"]
replay_window = 64
keep = "manual"

[connection.gate]
pool = ["v4"]
dns = ["10.9.0.1"]
routes = "none"
local = { auth = "psk", secret = "`+psk+`" }
peer.auth = "psk"

[pool.v4]
addresses = ["10.9.0.0/24", "10.10.0.5-10.10.0.9"]
`)
	n := c.Node
	if n.MTU != 1400 || n.IKEPort != 0 || n.NATPort != 4501 || n.Mark != 7 || n.Table != 100 || n.LogLevel != "debug" || n.Profile != ProfileSmall || len(n.Listen) != 2 {
		t.Errorf("node: %+v", n)
	}
	if !filepath.IsAbs(n.Control) || filepath.Base(n.Control) != "c.sock" {
		t.Errorf("control %q does not start at the folder of the file", n.Control)
	}
	conn := c.Connections["c"]
	if conn.Port != 4501 || conn.LocalPort != 4502 || conn.Liveness != Never || conn.Keepalive != Duration(time.Minute) ||
		conn.FragmentSize != -1 || !conn.Strict || !conn.Masquerade || !conn.PeerToPeer {
		t.Errorf("connection: %+v", conn)
	}
	if got := conn.IKE[0].String(); got != "aes128gcm16-prfsha256-ecp256" || len(conn.IKE) < 2 {
		t.Errorf("IKE proposals %v", conn.IKE)
	}
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.9/32")}
	if diff := cmp.Diff(prefixes, conn.Routes.List, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || conn.Routes.Selectors || conn.Routes.None {
		t.Errorf("routes %+v", conn.Routes)
	}
	child := conn.Children["one"]
	if !child.LocalIsDyn || len(child.LocalTS) != 0 || len(child.RemoteTS) != 2 || child.RemoteTS[0].Protocol != 6 || child.RemoteTS[0].StartPort != 443 || child.Keep != KeepManual || child.ReplayWindow != 64 {
		t.Errorf("child: %+v", child)
	}
	gate := c.Connections["gate"]
	if !gate.Routes.None || len(gate.DNS) != 1 {
		t.Errorf("gateway: %+v", gate)
	}
	// A gateway lets its clients reach everything of the pools' families.
	net := gate.Children["net"]
	if net == nil || len(net.LocalTS) != 1 || !net.LocalTS[0].isEverything() || !net.RemoteIsDyn {
		t.Errorf("the gateway's default child: %+v", net)
	}
	if got, want := len(gate.IKE), len(suite.DefaultIKE(suite.RoleDeviceGateway, suite.PostQuantumPrefer)); got != want {
		t.Errorf("%d IKE proposals, want the %d of a gateway for devices", got, want)
	}
	p := c.Pools["v4"]
	if p.Gateway != netip.MustParseAddr("10.9.0.1") || len(p.Ranges) != 2 || p.Ranges[0].From != netip.MustParseAddr("10.9.0.2") || p.Ranges[0].To != netip.MustParseAddr("10.9.0.254") {
		t.Errorf("pool: %+v", p)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].Key != "node.key_log" || c.Warnings[0].Line == 0 {
		t.Errorf("warnings %v, want one of the key log with its line", c.Warnings)
	}
}

func TestRoadWarriorDefaultChild(t *testing.T) {
	for request, want := range map[string]string{
		`["ipv4"]`:         "0.0.0.0/0",
		`["ipv6"]`:         "::/0",
		`["ipv4", "ipv6"]`: "0.0.0.0/0 ::/0",
	} {
		c := mustParse(t, strings.Replace(siteToSite[:strings.Index(siteToSite, "[connection.branch.child")], "remote =", "request = "+request+"\nremote =", 1))
		child := c.Connections["branch"].Children["net"]
		if got := strings.Join(child.Remote, " "); got != want || !child.LocalIsDyn {
			t.Errorf("request = %s: remote %s, want %s; local is dynamic: %v", request, got, want, child.LocalIsDyn)
		}
	}
}

// TestAllFaultsAtOnce compares a file with faults of every stage to what is said of it.
func TestAllFaultsAtOnce(t *testing.T) {
	text := `[node]
devise = "x"
mtu = "1400"
mark = 0
[connection.office]
remote = "vpn.example.com"
liveness = 30
proposals = ["aes256gcm16-prfsha265-x25519"]
pool = ["v5"]
[connection.office.local]
auth = "pubkey"
[connection.office.peer]
auth = "psk"
[connection.office.peer]
[connection.office.child.net]
   remote = ["10.2.0.0/16", "10.1.0.5/16"]
[pool.v4]
addresses = ["10.9.0.0/24", "fd00::/64"]
`
	_, err := Parse("office.toml", []byte(text), t.TempDir(), nil)
	want := `office.toml:2:1: node.devise: unknown key (hint: did you mean device?)
office.toml:3:1: node.mtu: expected an integer, got a string (hint: write the number without quotes)
office.toml:4:1: node.mark: expected 1 to 0xffffffff, got 0
office.toml:6:1: connection.office.remote: expected a list, got a string (hint: put brackets around it)
office.toml:7:1: connection.office.liveness: expected a string, got an integer (hint: write it as "30s", "5m" or "1h30m")
office.toml:8:14: connection.office.proposals[0]: IKE proposal "aes256gcm16-prfsha265-x25519": unknown keyword "prfsha265", did you mean "prfsha256"?
office.toml:9:9: connection.office.pool[0]: there is no pool "v5" (hint: did you mean "v4"?)
office.toml:10:2: connection.office.local.secret: is missing (hint: secret = "file:psk.txt"; see "openssl rand -base64 32")
office.toml:11:1: connection.office.local.auth: unknown method "pubkey" (hint: it is called "cert" here)
office.toml:14:2: connection.office.peer: is given twice, first on line 12 (hint: join the two or rename one)
office.toml:16:29: connection.office.child.net.remote[1]: "10.1.0.5/16" has bits behind the prefix length (hint: write 10.1.0.0/16, or 10.1.0.5 for the one address)
office.toml:18:29: pool.v4.addresses[1]: a pool has addresses of one family (hint: make a second pool and name both in the connection)`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error("(-want +got):\n" + diff)
	}
	first, ok := errors.AsType[*Error](err)
	if !ok || first.Line != 2 || first.Key != "node.devise" {
		t.Errorf("the first fault as *Error: %+v", first)
	}
}

func TestLoadFromDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "martlet.toml")
	write(t, path, siteToSite, 0o600)
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
	if _, err := Load(filepath.Join(dir, "none.toml")); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	write(t, path, strings.Repeat("# long\n", maxSize/7+1), 0o600)
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "octets") {
		t.Errorf("a huge file: %v", err)
	}
	// In place, a secret makes the file itself secret.
	write(t, path, siteToSite, 0o644)
	_, err := Load(path)
	if e, ok := errors.AsType[*Error](err); !ok || e.Key != "connection.branch.local.secret" || e.Line != 7 {
		t.Errorf("a file with a secret that all may read: %v", err)
	}
	write(t, path, strings.Replace(siteToSite, psk, "file:psk", 1), 0o644)
	write(t, filepath.Join(dir, "psk"), psk+"\n", 0o600)
	if c, err := Load(path); err != nil {
		t.Error(err)
	} else if s := c.Connections["branch"].Peer.Secret; string(s.Value) != psk || s.Source != "file:psk" {
		t.Errorf("secret from %s has %d octets, want %d", s.Source, len(s.Value), len(psk))
	}
}

func TestEmptyFile(t *testing.T) {
	c := mustParse(t, "# nothing\n")
	if len(c.Warnings) != 1 {
		t.Errorf("warnings %v, want that there is nothing to do", c.Warnings)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestPostQuantum(t *testing.T) {
	for word, want := range map[string]suite.PostQuantum{
		`post_quantum = "prefer"`:  suite.PostQuantumPrefer,
		`post_quantum = "require"`: suite.PostQuantumRequire,
		`post_quantum = "off"`:     suite.PostQuantumOff,
		"":                         suite.PostQuantumPrefer,
	} {
		conn := mustParse(t, strings.Replace(siteToSite, "remote = [", word+"\nremote = [", 1)).Connections["branch"]
		if diff := cmp.Diff(suite.DefaultIKE(suite.RolePeer, want), conn.IKE); diff != "" {
			t.Errorf("%s: IKE (-want +got):\n%s", word, diff)
		}
		if diff := cmp.Diff(suite.DefaultESP(suite.RolePeer, want), conn.Children["lan"].ESP); diff != "" {
			t.Errorf("%s: ESP (-want +got):\n%s", word, diff)
		}
	}
}

func TestPPK(t *testing.T) {
	conn := mustParse(t, strings.Replace(siteToSite, "remote = [", "ppk_required = true\nremote = [", 1)+
		"[connection.branch.ppk.\"ppk1@golden\"]\nsecret = \""+psk+"\"\n").Connections["branch"]
	p := conn.PPKs["ppk1@golden"]
	if !conn.PPKRequired || p == nil || p.Name != "ppk1@golden" || string(p.Secret.Value) != psk {
		t.Errorf("%v, %+v", conn.PPKRequired, p)
	}
}
