package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"howett.net/plist"

	"martlet/config"
)

var update = flag.Bool("update", false, "write golden files and words.txt anew")

// The services of the golden files.
var (
	gateway = unit{program: "/usr/local/bin/martlet", args: []string{"serve", "-c", "/etc/martlet/gateway.toml"}, control: "/run/martlet/control.sock"}
	office  = unit{name: "hq-2.office", program: "/usr/local/bin/martlet", args: []string{"up", "-c", "/etc/martlet/office.toml", "hq-2.office"}}
)

var systems = []string{"linux", "darwin", "windows", "freebsd", "openbsd"}

// TestSteps: what is done on each system, to install over nothing and over something else, and to
// remove it, is what stands in testdata/service.
func TestSteps(t *testing.T) {
	windows := office
	windows.program, windows.args = `C:\Program Files\martlet\martlet.exe`, []string{"up", "-c", `C:\ProgramData\martlet\our office.toml`, "office"}
	for _, system := range systems {
		m, err := managerOf(system)
		if err != nil {
			t.Fatal(err)
		}
		for name, u := range map[string]unit{"gateway": gateway, "office": office} {
			if system == "windows" && name == "office" {
				u = windows
			}
			var b bytes.Buffer
			for _, had := range []struct {
				title string
				presence
			}{{"install", absent}, {"again", same}, {"changed", other}} {
				steps := m.install(u, had.presence)
				if had.presence != absent && steps[0].write != "" {
					steps = steps[1:] // the file is that of install
				}
				b.WriteString("== " + had.title + "\n")
				printSteps(&b, steps)
			}
			b.WriteString("== remove\n")
			printSteps(&b, m.remove(u))
			b.WriteString("== status\n" + commandLine(m.status(u)) + "\n")
			path := filepath.Join("testdata", "service", system+"-"+name+".txt")
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
		}
	}
	if _, err := managerOf("plan9"); err == nil {
		t.Error("plan9 has a service manager")
	}
}

// TestUnitsOfSystemd: both units are of one mind, and start again what a person need not look at.
func TestUnitsOfSystemd(t *testing.T) {
	about := func(text string) (settings []string) {
		_, text, _ = strings.Cut(text, "[Service]\n")
		for line := range strings.Lines(text) {
			key, _, _ := strings.Cut(line, "=")
			if !slices.Contains([]string{"ExecStart", "ExecReload", "EnvironmentFile"}, key) && !strings.HasPrefix(line, "#") {
				settings = append(settings, line)
			}
		}
		return settings
	}
	ofGateway, ofConnection := about(gatewayUnit), about(connectionUnit)
	// Only a client sets the resolvers of this host.
	ofConnection = slices.DeleteFunc(ofConnection, func(s string) bool { return s == "ReadWritePaths=/etc\n" || s == "ReadWritePaths=-/run/resolvconf\n" })
	if diff := cmp.Diff(ofGateway, ofConnection); diff != "" {
		t.Error(diff)
	}
	var never []int
	for _, line := range ofGateway {
		if list, ok := strings.CutPrefix(line, "RestartPreventExitStatus="); ok {
			for word := range strings.FieldsSeq(list) {
				n, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				never = append(never, n)
			}
		}
	}
	if diff := cmp.Diff(needPerson, never); diff != "" {
		t.Errorf("statuses that need a person: %s", diff)
	}
	for _, line := range []string{"SuccessExitStatus=" + strconv.Itoa(exitInterrupted) + "\n", "Environment=GOTRACEBACK=crash\n", "LimitCORE=0\n"} {
		if !slices.Contains(ofGateway, line) {
			t.Errorf("the units lack %s", line)
		}
	}
}

// TestPlist: the property list is one, and has each word of the command for itself.
func TestPlist(t *testing.T) {
	for _, u := range []unit{gateway, office, {name: "a--b", program: "/p", args: []string{"up", "a--b"}}} {
		var got struct {
			Label            string
			ProgramArguments []string
			RunAtLoad        bool
			KeepAlive        map[string]bool
		}
		if _, err := plist.Unmarshal([]byte(launchd{}.text(u)), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]string{u.program}, u.args...), got.ProgramArguments); diff != "" {
			t.Error(diff)
		}
		if got.Label != (launchd{}).label(u) || !got.RunAtLoad || got.KeepAlive["SuccessfulExit"] {
			t.Errorf("%+v", got)
		}
	}
}

// TestScriptsOfRC: a shell takes them.
func TestScriptsOfRC(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs a shell")
	}
	for name, pattern := range map[string]string{"freebsd": freebsdPattern, "openbsd": openbsdPattern} {
		for _, u := range []unit{gateway, office} {
			text := rcText(pattern, u)
			cmd := exec.Command(shell, "-n")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			if strings.Contains(strings.ReplaceAll(text, `"$@"`, ""), "@") {
				t.Errorf("%s: something is not filled in:\n%s", name, text)
			}
		}
	}
}

func TestWordsOfServices(t *testing.T) {
	for _, tt := range []struct {
		word, system string
		ok           bool
	}{
		{"/etc/martlet/office.toml", "linux", true},
		{"alice@vpn.example.com", "freebsd", true},
		{"/etc/my office.toml", "linux", false},
		{"/etc/100%.toml", "linux", false},
		{"/etc/$HOME.toml", "openbsd", false},
		{"/etc/a;b.toml", "freebsd", false},
		{"/etc/<b>.toml", "darwin", false},
		{"/etc/a'b.toml", "linux", false},
		{"/etc/ä.toml", "linux", false},
		{"/etc/a\nb.toml", "linux", false},
		{`C:\Program Files\martlet\office.toml`, "windows", true},
		{`C:\a"b.toml`, "windows", false},
		{"C:\\a\nb.toml", "windows", false},
	} {
		for place, u := range map[string]unit{
			"name": {name: tt.word}, "program": {program: tt.word}, "argument": {args: []string{"up", "-c", tt.word}}, "control": {control: tt.word},
		} {
			if err := u.fits(tt.system); (err == nil) != tt.ok {
				t.Errorf("%s %q on %s: %v", place, tt.word, tt.system, err)
			}
		}
	}
}

// TestAskNobody: a person would be asked for what EAP with a password lacks, and for nothing else.
func TestAskNobody(t *testing.T) {
	secret := config.Secret{Value: []byte("open sesame")}
	login := func(user string, secret config.Secret, methods ...string) *config.Connection {
		return &config.Connection{Keep: config.KeepUp, Local: config.Auth{User: user, Secret: secret, Methods: methods}}
	}
	second := login("alice", secret, "mschapv2")
	second.Local2 = config.Auth{Methods: []string{"gtc"}}
	manual := login("", config.Secret{}, "mschapv2")
	manual.Keep = config.KeepManual
	for name, tt := range map[string]struct {
		conn  *config.Connection
		asks  bool // for a client
		serve bool // for a gateway
	}{
		"complete":        {login("alice", secret, "mschapv2"), false, false},
		"no password":     {login("alice", config.Secret{}, "mschapv2"), true, true},
		"no name":         {login("", secret, "ttls", "peap"), true, true},
		"TLS":             {login("", config.Secret{}, "tls"), false, false},
		"TLS or password": {login("", config.Secret{}, "tls", "mschapv2"), true, true},
		"no EAP":          {login("", config.Secret{}), false, false},
		"second proof":    {second, true, true},
		"not kept up":     {manual, true, false},
	} {
		tt.conn.Name = "office"
		c := &config.Config{Connections: map[string]*config.Connection{"office": tt.conn}}
		if err := askNobody(c, "office"); (err != nil) != tt.asks {
			t.Errorf("%s: for a client: %v", name, err)
		}
		if err := askNobody(c, ""); (err != nil) != tt.serve {
			t.Errorf("%s: for a gateway: %v", name, err)
		}
		if err := askNobody(c, "another"); err != nil {
			t.Errorf("%s: of another: %v", name, err)
		}
	}
}
