package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// office are the variables of a whole configuration.
func office(more ...string) []string {
	return append([]string{
		"HOME=/root", "MARTLET_CONNECTION_OFFICE_REMOTE=vpn.example.com",
		"MARTLET_CONNECTION_OFFICE_LOCAL_AUTH=psk", "MARTLET_CONNECTION_OFFICE_LOCAL_SECRET=" + psk,
		"MARTLET_CONNECTION_OFFICE_PEER_AUTH=psk",
	}, more...)
}

func mustLoad(t *testing.T, s *Source) *Config {
	t.Helper()
	c, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "martlet.toml")
	write(t, path, text, 0o600)
	return path
}

// TestEnvironmentAloneIsEnough: no file is needed.
func TestEnvironmentAloneIsEnough(t *testing.T) {
	c := mustLoad(t, &Source{Env: office("MARTLET_NODE_MODE=userspace", "MARTLET_PROXY_MAIN_LISTEN=127.0.0.1:1080",
		"MARTLET_CONNECTION_OFFICE_CHILD_NET_REMOTE=10.1.0.0/16, 10.2.0.0/16")})
	conn := c.Connections["office"]
	if conn == nil || conn.Remote[0] != "vpn.example.com" || string(conn.Peer.Secret.Value) != psk || len(conn.Children["net"].RemoteTS) != 2 {
		t.Errorf("connection: %+v", conn)
	}
	if conn.Local.Secret.Source != "env:MARTLET_CONNECTION_OFFICE_LOCAL_SECRET" {
		t.Errorf("the secret comes from %q", conn.Local.Secret.Source)
	}
	if c.Node.Mode != ModeUserspace || c.Proxies["main"] == nil || c.Proxies["main"].Listen != "127.0.0.1:1080" || len(c.Warnings) != 0 {
		t.Errorf("%+v %+v %v", c.Node, c.Proxies, c.Warnings)
	}
}

// TestFlagCountsMoreThanVariableAndVariableMoreThanFile has a key of each kind.
func TestFlagCountsMoreThanVariableAndVariableMoreThanFile(t *testing.T) {
	dir := t.TempDir()
	for name, secret := range map[string]string{"one": "1" + psk, "two": "2" + psk, "three": "3" + psk} {
		write(t, filepath.Join(dir, name), secret, 0o600)
	}
	secretFile := func(name string) string { return "file:" + filepath.Join(dir, name) }
	prefixes := func(list ...string) string { return fmt.Sprint(list) }
	for _, k := range []struct {
		key, file, env, flag string // file with quotes
		get                  func(*Config) any
		want                 [3]any
	}{
		{"node.device", `"a"`, "b", "c", func(c *Config) any { return c.Node.Device }, [3]any{"a", "b", "c"}},
		{"node.mtu", "1300", "1_400", "0x5dc", func(c *Config) any { return c.Node.MTU }, [3]any{1300, 1400, 1500}},
		{"node.tcp_port", "1", "2", "3", func(c *Config) any { return c.Node.TCPPort }, [3]any{uint16(1), uint16(2), uint16(3)}},
		{"node.mark", "1", "2", "3", func(c *Config) any { return c.Node.Mark }, [3]any{uint32(1), uint32(2), uint32(3)}},
		{"node.drain", `"1s"`, "2s", "3s", func(c *Config) any { return time.Duration(c.Node.Drain) }, [3]any{time.Second, 2 * time.Second, 3 * time.Second}},
		{
			"node.listen", `["192.0.2.1", "192.0.2.11"]`, "192.0.2.2,::2", `["192.0.2.3"]`, func(c *Config) any { return fmt.Sprint(c.Node.Listen) },
			[3]any{"[192.0.2.1 192.0.2.11]", "[192.0.2.2 ::2]", "[192.0.2.3]"},
		},
		{"connection.branch.masquerade", "true", "false", "true", func(c *Config) any { return c.Connections["branch"].Masquerade }, [3]any{true, false, true}},
		{"connection.branch.keep", `"up"`, "manual", "on-demand", func(c *Config) any { return c.Connections["branch"].Keep }, [3]any{KeepUp, KeepManual, KeepOnDemand}},
		{
			"connection.branch.routes", `["10.1.0.0/16"]`, "10.2.0.0/16,10.22.0.1", "none", func(c *Config) any {
				return fmt.Sprint(c.Connections["branch"].Routes.List, c.Connections["branch"].Routes.None)
			}, [3]any{prefixes("10.1.0.0/16") + " false", prefixes("10.2.0.0/16", "10.22.0.1/32") + " false", prefixes() + " true"},
		},
		{"connection.branch.child.lan.rekey_bytes", "100000", "200000", "300000", func(c *Config) any {
			return c.Connections["branch"].Children["lan"].RekeyBytes
		}, [3]any{uint64(100000), uint64(200000), uint64(300000)}},
		{
			"connection.branch.ppk.k.secret", `"` + secretFile("one") + `"`, secretFile("two"), secretFile("three"), func(c *Config) any {
				return string(c.Connections["branch"].PPKs["k"].Secret.Value[:1])
			}, [3]any{"1", "2", "3"},
		},
		{"radius.server.a.address", `"192.0.2.1"`, "192.0.2.2", "192.0.2.3", func(c *Config) any { return c.RADIUS.Servers["a"].Address }, [3]any{
			netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"),
		}},
	} {
		rest := ""
		if strings.HasPrefix(k.key, "radius") {
			rest = "radius.server.a.secret = \"" + psk + "\"\n"
		}
		path := file(t, k.key+" = "+k.file+"\n"+rest+inline)
		env := []string{"MARTLET_" + inCapitals(k.key) + "=" + k.env}
		set := []string{k.key + "=" + k.flag}
		for i, s := range []*Source{{File: path}, {File: path, Env: env}, {File: path, Env: env, Set: set}} {
			if got := k.get(mustLoad(t, s)); got != k.want[i] {
				t.Errorf("%s from %d places: %v, want %v", k.key, i+1, got, k.want[i])
			}
		}
		// Without the file in between, and of several flags the last.
		if got := k.get(mustLoad(t, &Source{File: path, Set: []string{k.key + "=" + k.env, set[0]}})); got != k.want[2] {
			t.Errorf("%s from two flags: %v, want %v", k.key, got, k.want[2])
		}
	}
}

// inline is siteToSite in dotted keys, so that keys of any table may stand before it.
const inline = `
connection.branch.remote = ["192.0.2.2"]
connection.branch.local = { auth = "psk", id = "hq.example.com", secret = "` + psk + `" }
connection.branch.peer = { auth = "psk", id = "branch.example.com" }
connection.branch.child.lan.local = ["10.1.0.0/16"]
connection.branch.child.lan.remote = ["10.2.0.0/16"]
`

// TestSecretOfAVariable: in place, encoded, by file: and env:, and by _FILE.
func TestSecretOfAVariable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "psk")
	write(t, path, psk+"\n", 0o600)
	for _, v := range []struct{ name, val, source string }{
		{"SECRET", psk, "env:MARTLET_CONNECTION_OFFICE_LOCAL_SECRET"},
		{"SECRET", "0x" + fmt.Sprintf("%x", psk), "env:MARTLET_CONNECTION_OFFICE_LOCAL_SECRET"},
		{"SECRET", "file:" + path, "file:" + path},
		{"SECRET", "env:OTHER", "env:OTHER"},
		{"SECRET_FILE", path, "file:" + path},
	} {
		env := append(office()[:3], "OTHER="+psk, "MARTLET_CONNECTION_OFFICE_PEER_AUTH=psk", "MARTLET_CONNECTION_OFFICE_LOCAL_"+v.name+"="+v.val)
		// An empty one does not count beside the other.
		for _, other := range []string{"SECRET", "SECRET_FILE"} {
			if other != v.name {
				env = append(env, "MARTLET_CONNECTION_OFFICE_LOCAL_"+other+"=")
			}
		}
		if got := mustLoad(t, &Source{Env: env}).Connections["office"].Local.Secret; string(got.Value) != psk || got.Source != v.source {
			t.Errorf("%s: %d octets from %q, want %q", v.name, len(got.Value), got.Source, v.source)
		}
	}
}

// TestLoadAsksTheProcess: without an environment of its own a Source has no variables for keys, and
// env:NAME is the process's.
func TestLoadAsksTheProcess(t *testing.T) {
	t.Setenv("BRANCH_PSK", psk)
	t.Setenv("MARTLET_NODE_MTU", "1400")
	c, err := Load(file(t, change(t, psk, "env:BRANCH_PSK")))
	if err != nil || string(c.Connections["branch"].Local.Secret.Value) != psk || c.Node.MTU != 0 {
		t.Errorf("%v", err)
	}
	if _, ok := os.LookupEnv("BRANCH_PSK"); !ok {
		t.Error("Load took a variable out of the environment")
	}
}

// TestRelativePathsOfVariablesStartAtTheCurrentFolder, those of the file at its own.
func TestRelativePathsOfVariablesStartAtTheCurrentFolder(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	t.Chdir(here)
	write(t, filepath.Join(here, "psk"), "here"+psk, 0o600)
	write(t, filepath.Join(there, "psk"), "there"+psk, 0o600)
	path := filepath.Join(there, "martlet.toml")
	write(t, path, strings.Replace(siteToSite, psk, "file:psk", 1)+"[node]\ncontrol = \"a.sock\"\n", 0o600)
	for _, c := range []struct {
		s       Source
		secret  string
		control string
	}{
		{Source{}, "there", filepath.Join(there, "a.sock")},
		{Source{Env: []string{"MARTLET_CONNECTION_BRANCH_LOCAL_SECRET_FILE=psk", "MARTLET_NODE_CONTROL=b.sock"}}, "here", filepath.Join(here, "b.sock")},
		{Source{Set: []string{"connection.branch.local.secret=file:psk", "node.control=c.sock"}}, "here", filepath.Join(here, "c.sock")},
	} {
		c.s.File = path
		got := mustLoad(t, &c.s)
		if secret := string(got.Connections["branch"].Local.Secret.Value); secret != c.secret+psk || got.Node.Control != c.control {
			t.Errorf("%v: not the secret of %s, or control %s, want %s", c.s, c.secret, got.Node.Control, c.control)
		}
		// Paths that are used later stay when the Config is completed again.
		if err := got.Complete(); err != nil || got.Node.Control != c.control {
			t.Errorf("%v: once more: %v, control %s, want %s", c.s, err, got.Node.Control, c.control)
		}
	}
	// Files that are named by keys which hold no secret, too.
	credentials(t, here)
	c := mustLoad(t, &Source{File: filepath.Join(there, "martlet.toml"), Env: []string{
		"MARTLET_CONNECTION_BRANCH_PEER_AUTH=cert", "MARTLET_CONNECTION_BRANCH_PEER_CA=ca.pem",
	}})
	if len(c.Connections["branch"].Peer.Verifier.Roots) != 1 {
		t.Error("the CA that a variable names is not loaded")
	}
}

// TestSecretsLeaveTheEnvironment: what NewSource keeps, programs that are started do not get.
func TestSecretsLeaveTheEnvironment(t *testing.T) {
	path := file(t, change(t, `"`+psk+`"`, `"env:BRANCH_PSK"`)+"[user.bob]\npassword = \"0x00\"\n")
	secret := map[string]bool{
		"MARTLET_CONNECTION_OFFICE_LOCAL_SECRET": true, "MARTLET_USER_BOB_PASSWORD": true, "BRANCH_PSK": true,
		"MARTLET_CONNECTION_OFFICE_REMOTE": false, "MARTLET_PROXY_A_PASSWORD_FILE": false, "HOMEPAGE": false,
	}
	for name := range secret {
		t.Setenv(name, "x"+psk)
	}
	t.Setenv("MARTLET_PROXY_A_PASSWORD_FILE", "")
	t.Setenv("MARTLET_CONNECTION_OFFICE_REMOTE", "")
	t.Setenv("MARTLET_CONNECTION_OFFICE_LOCAL_SECRET", "")
	s := NewSource(path, nil)
	if _, ok := os.LookupEnv("BRANCH_PSK"); !ok {
		t.Error("a variable is gone though nothing says that it is ours")
	}
	for range 2 {
		c := mustLoad(t, s)
		if string(c.Connections["branch"].Local.Secret.Value) != "x"+psk || string(c.Users["bob"].Password.Value) != "x"+psk {
			t.Error("a secret is not what the variable held")
		}
	}
	for name, gone := range secret {
		if _, ok := os.LookupEnv(name); ok == gone {
			t.Errorf("%s is in the environment: %v", name, ok)
		}
	}
	js, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", s, *s, *s, s) + string(js); strings.Contains(shown, psk) {
		t.Errorf("a Source shows secrets: %s", shown)
	}
}

// TestReloadReadsTheFileAgainAndKeepsTheRest.
func TestReloadReadsTheFileAgainAndKeepsTheRest(t *testing.T) {
	path := file(t, siteToSite+"[node]\ndevice = \"a\"\nlog_level = \"debug\"\n")
	s := &Source{File: path, Env: []string{"MARTLET_NODE_MTU=1400", "MARTLET_NODE_DEVICE=b"}, Set: []string{"node.table=7"}}
	before := mustLoad(t, s)
	write(t, path, siteToSite+"[node]\ndevice = \"c\"\nlog_level = \"warn\"\nmtu = 1300\ntable = 8\n", 0o600)
	after := mustLoad(t, s)
	for _, c := range []struct {
		c     *Config
		level string
	}{{before, "debug"}, {after, "warn"}} {
		if n := c.c.Node; n.MTU != 1400 || n.Device != "b" || n.Table != 7 || n.LogLevel != c.level {
			t.Errorf("%+v, want level %s and the rest as it was set", n, c.level)
		}
	}
	if keys := before.NeedsRestart(after); len(keys) != 0 {
		t.Errorf("%v need a restart, but nothing of them has changed", keys)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a file that is gone: %v", err)
	}
}

// TestFaultsNameTheirSource: each fault says whether it is of the file, a variable or a flag.
func TestFaultsNameTheirSource(t *testing.T) {
	path := file(t, "[node]\ndevise = \"x\"\nmtu = 1400\n[connection.a]\nremote = [\"192.0.2.1\"]\nproposals = [\"x\"]\n[connection.a.local]\nauth = \"psk\"\n[connection.a.peer]\nauth = \"psk\"\n[pool]\nx = 1\n")
	_, err := (&Source{
		File: path,
		Env: []string{
			"MARTLET_NODE_MTU=big", "MARTLET_NODE_TABLE=7", "MARTLET_CONNECTION_A_PROPOSALS=aes256gcm16-prfsha265-x25519,default",
			"MARTLET_CONNECTION_B_REMOTE=b.example", "MARTLET_CONNECTION_A_LOCAL_SECRET=" + psk + " ",
			"MARTLET_CONNECTION_A_PEER_SECRET=" + psk, "MARTLET_CONNECTION_A_PEER_SECRET_FILE=psk", "MARTLET_NODE_MARKS=3",
			"MARTLET_POOL_X_ADDRESSES=10.0.0.0/24",
		},
		Set: []string{"node.table=254", "connection.a.request=ipv4,ipv5", "node.mark", "connection.a.peer.key_password=" + psk},
	}).Load()
	want := path + `:2:1: node.devise: unknown key (hint: did you mean device?)
` + path + `:12:1: pool.x: expected a table with a name, got an integer (hint: begin with [pool.NAME])
environment: connection.b.local.auth: is missing (hint: auth = "psk", auth = "cert" or auth = "eap")
environment: connection.b.peer.auth: is missing (hint: auth = "psk", auth = "cert" or auth = "eap")
environment MARTLET_CONNECTION_A_LOCAL_SECRET: connection.a.local.secret: the secret begins or ends with white space (hint: remove it; if it belongs to the secret, write the secret as base64 with 0s before it)
environment MARTLET_CONNECTION_A_PEER_SECRET_FILE: connection.a.peer.secret: is given twice, by MARTLET_CONNECTION_A_PEER_SECRET too (hint: unset one of them)
environment MARTLET_CONNECTION_A_PROPOSALS: connection.a.proposals[0]: IKE proposal "aes256gcm16-prfsha265-x25519": unknown keyword "prfsha265", did you mean "prfsha256"?
environment MARTLET_NODE_MARKS: node.marks: unknown key (hint: did you mean mark?)
environment MARTLET_NODE_MTU: node.mtu: expected an integer, got "big"
--set node.mark: is not KEY=VALUE (hint: node.mtu=1400 for example; the KEY is dotted, as headers and keys of the file are)
--set node.table: expected 1 to 252 or 256 to 0x7fffffff, got 254
--set connection.a.peer.key_password: everybody who lists the processes of this host sees the secret (hint: write file:PATH or env:NAME behind the =)
--set connection.a.request[1]: unknown family "ipv5" (hint: "ipv4" or "ipv6")`
	if err == nil {
		t.Fatal("no fault found")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error("(-want +got):\n" + diff)
	}
}

// TestWarningsNameTheirSource, and the file's come first.
func TestWarningsNameTheirSource(t *testing.T) {
	path := file(t, siteToSite+"[pool.p]\naddresses = [\"10.9.0.0/24\"]\n")
	c := mustLoad(t, &Source{File: path, Env: []string{"MARTLET_CONNECTION_BRANCH_LOCAL_SECRET=hunter2"}, Set: []string{"node.key_log=/k"}})
	var got []string
	for _, w := range c.Warnings {
		at, _, _ := strings.Cut(w.String(), ": warning: ")
		got = append(got, at+" "+w.Key)
	}
	want := []string{path + ":14 pool.p", "environment MARTLET_CONNECTION_BRANCH_LOCAL_SECRET connection.branch.local.secret", "--set node.key_log"}
	if !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
}

// TestSettingFaults: what --set does not take.
func TestSettingFaults(t *testing.T) {
	for setting, want := range map[string]string{
		"":                                     "--set: is not KEY=VALUE",
		"=x":                                   "--set: is not KEY=VALUE",
		"[node]\nmtu=1400":                     "--set: is not KEY=VALUE",
		"node mtu=1400":                        "--set node: is not KEY=VALUE",
		"hunter2":                              "--set: is not KEY=VALUE",
		"user.bob.password:hunter2":            "--set user.bob.password: is not KEY=VALUE",
		strings.Repeat("a.", 20) + "a=1":       "--set: is not KEY=VALUE",
		"node=1":                               "--set node: is a table",
		"connection.branch=1":                  "--set connection.branch: is a table",
		"connection=1":                         "--set connection: is a table",
		"node.mtu.x=1":                         "--set node.mtu: has no keys within it",
		"node.mtu=":                            `--set node.mtu: expected an integer, got ""`,
		"node.mtu=01400":                       `--set node.mtu: expected an integer, got "01400"`,
		"node.mtu=1400\n[node]":                `--set node.mtu: expected an integer, got "1400\n[node]"`,
		"node.mtu=" + strings.Repeat("9 ", 99): `--set node.mtu: expected an integer, got "` + strings.Repeat("9 ", 30) + `…"`,
		strings.Repeat("=", 99):                "--set: is not KEY=VALUE",
		"node.mtu=\"1400\"":                    "--set node.mtu: expected an integer, got a string",
		"node.device=":                         "--set node.device: the text is empty",
		"node.device=\xff":                     "--set node.device: the text is not UTF-8",
		"connection.branch.strict=1":           "--set connection.branch.strict: expected true or false, got an integer",
		"connection.branch.strict=yes":         `--set connection.branch.strict: expected true or false, got "yes"`,
		"connection.branch.remote=[a]":         `--set connection.branch.remote: expected a list, got "[a]"`,
		"connection.branch.remote=[1]":         "--set connection.branch.remote[0]: expected a string, got an integer",
		"connection.branch.remote=[]":          "--set connection.branch.remote: the list is empty",
		"connection.branch.remote=a,":          "--set connection.branch.remote[1]: the text is empty",
		"connection.branch.routes=all":         "--set connection.branch.routes: expected \"selectors\", \"none\"",
		"connection.branch.routes=10.0.0.x":    "--set connection.branch.routes[0]: expected a prefix",
		"connection.branch.psk=x":              "--set connection.branch.psk: unknown key",
		"conection.branch.port=1":              "--set conection: unknown key (hint: did you mean connection?)",
		`connection."a b".remote=x.example`:    `--set connection."a b": "a b" is no name`,
		"connection.branch.local.secret=":      "--set connection.branch.local.secret: the secret is empty",
	} {
		_, err := (&Source{File: file(t, siteToSite), Set: []string{setting}}).Load()
		var all Errors
		if !errors.As(err, &all) || !strings.HasPrefix(all[0].Error(), want) {
			t.Errorf("%q: %v, want %s", setting, err, want)
		}
	}
	// Where the file is at fault that is told, not hidden.
	if _, err := (&Source{File: file(t, "connection = 1\n"), Set: []string{"connection.a.port=1"}}).Load(); err == nil || !strings.Contains(err.Error(), "expected tables with names, got an integer") {
		t.Errorf("a file with connection = 1: %v", err)
	}
}

// TestSettingsOfQuotedNames: as TOML quotes, also with an equals sign in the name.
func TestSettingsOfQuotedNames(t *testing.T) {
	c := mustLoad(t, &Source{File: file(t, siteToSite), Set: []string{
		`connection.branch.ppk."k=1@x".secret=env:K`, "connection . 'branch'.port = 4500",
	}, Env: []string{"K=" + psk}})
	if p := c.Connections["branch"].PPKs["k=1@x"]; p == nil || string(p.Secret.Value) != psk || c.Connections["branch"].Port != 4500 {
		t.Errorf("%v %d", c.Connections["branch"].PPKs, c.Connections["branch"].Port)
	}
}
