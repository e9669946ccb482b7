package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"martlet"
	"martlet/config"
)

func TestReport(t *testing.T) {
	fault := &martlet.Error{Code: "wrong-psk", What: "the gateway refused us", Why: "it says AUTHENTICATION_FAILED", Hint: "compare the secrets", Detail: "ours  theirs\na     b"}
	for name, tt := range map[string]struct {
		err  error
		exit int
		text string
	}{
		"done": {nil, exitDone, ""},
		"of a tunnel": {fault, exitAuthentication, `martlet: the gateway refused us
    ours  theirs
    a     b
  why:  it says AUTHENTICATION_FAILED
  hint: compare the secrets
  code: wrong-psk (martlet help errors wrong-psk)
`},
		"with another": {errors.Join(fmt.Errorf("up: %w", fault), errors.New("and more")), exitAuthentication, ""},
		"network":      {&martlet.Error{Code: "unreachable"}, exitNetwork, ""},
		"policy":       {&martlet.Error{Code: "no-proposal-chosen"}, exitPolicy, ""},
		"host":         {&martlet.Error{Code: "host"}, exitConfiguration, ""},
		"told to end":  {&martlet.Error{Code: "terminated", What: "x"}, exitInterrupted, "martlet: x\n  code: terminated (martlet help errors terminated)\n"},
		"bug":          {&martlet.Error{Code: "internal", What: "x"}, exitInternal, "martlet: x\n  code: internal (martlet help errors internal)\n"},
		"interrupted":  {fmt.Errorf("x: %w", context.Canceled), exitInterrupted, "martlet: interrupted\n"},
		"anything":     {errors.New("x"), exitInternal, "martlet: x\n  code: internal (martlet help errors internal)\n"},
		"configuration": {
			config.Errors{{File: "f", Line: 1, Column: 2, Key: "k", Reason: "r", Hint: "h"}},
			exitConfiguration,
			"f:1:2: k: r (hint: h)\nmartlet: the configuration has 1 fault\n  hint: martlet config reference lists every key\n  code: configuration (martlet help errors configuration)\n",
		},
	} {
		var b bytes.Buffer
		if got := report(&b, tt.err); got != tt.exit {
			t.Errorf("%s: exit status %d, want %d", name, got, tt.exit)
		}
		if tt.text != "" && b.String() != tt.text {
			t.Errorf("%s:\n%s\nwant:\n%s", name, b.String(), tt.text)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1000": 1000, "7B": 7, "1KiB": 1 << 10, "64MiB": 64 << 20, "64M": 64 << 20, "1GiB": 1 << 30, "2g": 2 << 30, "1TiB": 1 << 40} {
		var o octets
		if err := o.Set(text); err != nil || int64(o) != want {
			t.Errorf("%s: %d, %v; want %d", text, o, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XiB", "1.5GiB", "GiB", "9999999999999TiB", "1KKB"} {
		var o octets
		if err := o.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, o)
		}
	}
	for text, want := range map[string]string{"1G": "1GiB", "1000": "1000B", "1024": "1KiB"} {
		var o, again octets
		if err := o.Set(text); err != nil || o.String() != want || again.Set(o.String()) != nil || again != o {
			t.Errorf("%s is written %s, want %s; read again it is %d (%v)", text, o.String(), want, again, err)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 30: "1.0 GiB", 1536 << 40: "1536.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&b, zapcore.InfoLevel)
	log.Debug("not shown")
	log.Named("host").With(zap.String("conn", "office")).Warn("odd\rline\ntwo  columns\nand\x1b[0m",
		zap.String("peer", "CN=a b"), zap.Int("n", 3), zap.Stringer("at", netip.MustParseAddr("192.0.2.1")),
		zap.Duration("took", time.Second), zap.Error(errors.New("x\ninjected")), zap.String("empty", ""), zap.Skip())
	log.WithOptions(without("down")).With(zap.Int("n", 1)).Warn("down")
	text := b.String()
	_, text, _ = strings.Cut(text, " ") // the time
	want := `warn  host: odd\rline conn=office peer="CN=a b" n=3 at=192.0.2.1 took=1s error="x\ninjected" empty=""` + "\n    two  columns\n" + `    and\x1b[0m` + "\n"
	if text != want {
		t.Errorf("got  %swant %s", text, want)
	}
}

func TestFollow(t *testing.T) {
	gone := &martlet.Error{Code: "peer-dead", What: "the peer answers no more"}
	stage := martlet.Event{Kind: martlet.EventStage, Connection: "a", Stage: "IKE_AUTH", Took: 12345 * time.Microsecond}
	childUp := martlet.Event{Kind: martlet.EventChildUp, Connection: "a", Child: "net", Text: "x === y"}
	childDown := martlet.Event{Kind: martlet.EventChildDown, Connection: "a", Child: "net", Text: "why"}
	established := martlet.Event{Kind: martlet.EventEstablished, Connection: "a"}
	childFailed := martlet.Event{Kind: martlet.EventChildFailed, Connection: "a", Child: "net", Err: &martlet.Error{What: "no"}}
	dead := martlet.Event{Kind: martlet.EventDown, Connection: "a", Err: gone}
	closed := martlet.Event{Kind: martlet.EventDown, Connection: "a", Text: "the peer said so"}
	others := martlet.Event{Kind: martlet.EventDown, Connection: "b", Err: gone}
	type events []martlet.Event
	const up = "martlet: a is up: 10.77.0.2/32 by martlet0, peer gw at 192.0.2.1:4500, suite\n" +
		"  note: the peer gave no ipv6 address; traffic of that family does not go through the tunnel\n" +
		"  names below corp.example are asked of 10.1.0.53\n"
	for name, tt := range map[string]struct {
		typing  time.Duration // how long somebody is asked for a password at the start
		silence time.Duration // then
		before  events        // sent while connecting
		connect error
		after   events
		err     error
		text    string
	}{
		"until the end":    {0, 0, events{stage, childUp}, nil, nil, nil, "  IKE_AUTH         12.3ms\n  child net: x === y\n" + up},
		"does not answer":  {0, 12 * time.Second, nil, gone, nil, gone, "  no answer for 5s; asking again\n"},
		"types slowly":     {time.Hour, 0, events{stage}, nil, nil, nil, "  IKE_AUTH         12.3ms\n" + up},
		"and no answer":    {time.Hour + time.Second, 12 * time.Second, nil, gone, nil, gone, "  no answer for 5s; asking again\n"},
		"does not connect": {0, 0, events{stage, dead}, gone, nil, gone, "  IKE_AUTH         12.3ms\n"},
		"next address":     {0, 0, events{dead, stage}, nil, nil, nil, "  IKE_AUTH         12.3ms\n" + up},
		"dies":             {0, 0, events{established}, nil, events{dead, stage}, gone, up},
		"dies at once":     {0, 0, events{established, childUp, dead}, nil, nil, gone, "  child net: x === y\n"},
		"child fails":      {0, 0, events{established, childFailed}, nil, nil, nil, "  child net failed: no\n" + up},
		"is closed":        {0, 0, events{established}, nil, events{closed, stage}, nil, up + "martlet: a is down: the peer said so\n"},
		"another dies":     {0, 0, nil, nil, events{others, childDown}, nil, up + "  child net is down: why\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			ch := make(chan martlet.Event, 10)
			asks := make(chan bool)
			f := &follower{w: &b, name: "a", request: []string{"ipv4", "ipv6"}, events: ch, asks: asks, connected: make(chan error, 1)}
			go func() {
				asks <- true
				time.Sleep(tt.typing)
				asks <- false
				time.Sleep(tt.silence) // of the bubble's clock
				for _, ev := range tt.before {
					ch <- ev
				}
				f.connected <- tt.connect
				synctest.Wait()
				for _, ev := range tt.after {
					ch <- ev
				}
				close(ch)
			}()
			err := f.follow(func() martlet.Status {
				resolvers := &martlet.ResolversStatus{Servers: []netip.Addr{netip.MustParseAddr("10.1.0.53")}, Domains: []string{"corp.example"}}
				return martlet.Status{Device: "martlet0", Resolvers: resolvers, SAs: []martlet.SAStatus{
					{Connection: "b"},
					{Connection: "a", Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32")}, DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53")}, RemoteID: "gw", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4500"), Suite: "suite"},
				}}
			})
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("%s: %v, want %v", name, err, tt.err)
			}
			if b.String() != tt.text {
				t.Errorf("%s: printed\n%s\nwant\n%s", name, b.String(), tt.text)
			}
		})
	}
}

func TestPrintStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b bytes.Buffer
	s := &martlet.Status{
		Version: "1", PID: 7, Device: "martlet0", MTU: 1400,
		Listening: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:500")},
		SAs: []martlet.SAStatus{{
			Connection: "office", State: "established", SPIi: "01", SPIr: "02", Suite: "aes256gcm16-prfsha256-x25519",
			LocalAddr: netip.MustParseAddrPort("192.0.2.1:4500"), LocalID: "alice@example.com",
			RemoteAddr: netip.MustParseAddrPort("192.0.2.2:4500"), RemoteID: "vpn.example.com",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32")}, DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53")},
			Since: now.Add(-90 * time.Second), Heard: now.Add(-2 * time.Second),
			Extensions: []string{"MOBIKE_SUPPORTED"}, Conditions: []string{"nat-here"},
			Children: []martlet.ChildStatus{{Name: "net", SPIIn: "c1", SPIOut: "c2", Suite: "aes256gcm16", Local: []string{"10.77.0.2/32"}, Remote: []string{"0.0.0.0/0"}, PacketsIn: 1, BytesIn: 84, PacketsOut: 2000, BytesOut: 2 << 20}},
		}, {Connection: "slow", State: "connecting", SPIi: "03", SPIr: "00", LocalID: "%any", RemoteID: "%any", RemoteAddr: netip.MustParseAddrPort("192.0.2.3:500")}},
		Connections: []string{"office", "other", "slow"},
		Monitor:     netip.MustParseAddrPort("127.0.0.1:9586"),
		NotReady:    []string{"slow: no tunnel; one is being opened"},
		Drops:       map[string]uint64{"esp-replay": 3, "esp-bad-icv": 0, "udp-overflow": 2},
	}
	if err := json.Unmarshal([]byte(`{"forwarding": {
		"tcp": {"open": 1, "opened": 20, "from_clients": 100, "to_clients": 1048576},
		"udp": {"open": 2, "opened": 3, "from_clients": 20, "to_clients": 1048576}, "echo": {"opened": 4, "from_clients": 3},
		"refused": {"private": 5, "metadata": 6}, "no_echo6": "socket: permission denied"
	}}`), s); err != nil {
		t.Fatal(err)
	}
	printStatus(&b, s, now)
	want := `martlet 1, process 7, device martlet0, MTU 1400
listening on 0.0.0.0:500
probes and metrics at http://127.0.0.1:9586
office: established for 1m30s, aes256gcm16-prfsha256-x25519
  192.0.2.1:4500 alice@example.com
  192.0.2.2:4500 vpn.example.com
  we are behind NAT, the peer has MOBIKE
  the peer was heard 2s ago
  SPIs 01 02
  virtual addresses 10.77.0.2/32
  resolvers 10.1.0.53
  child net: 10.77.0.2/32 === 0.0.0.0/0, aes256gcm16
    in  c1 84 B, 1 packet
    out c2 2.0 MiB, 2000 packets
slow: connecting, no answer yet from 192.0.2.3:500
other: no tunnel
not ready: slow: no tunnel; one is being opened
dropped esp-replay: 3
dropped udp-overflow: 2
forwarding for peers: 1 connection, 2 UDP flows, 0 pings open; 27 in all, 123 B from peers, 2.0 MiB to them
  refused, metadata: 6
  refused, private: 5
  no ping by IPv6: socket: permission denied
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestReach(t *testing.T) {
	for _, c := range []struct {
		extensions, conditions []string
		want                   string
	}{
		{nil, []string{"encap-forced"}, "no NAT between them, the peer has no MOBIKE"},
		{[]string{"MOBIKE_SUPPORTED"}, []string{"nat-there"}, "the peer is behind NAT, the peer has MOBIKE"},
		{nil, []string{"nat-here", "nat-there"}, "both behind NAT, the peer has no MOBIKE"},
	} {
		if got := reach(martlet.SAStatus{Extensions: c.extensions, Conditions: c.conditions}); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// The bar and its figures fit a line, however narrow the terminal.
func TestProgress(t *testing.T) {
	for columns, bar := range map[int]int{120: 40, 80: 40, 60: 26, 40: 6, 20: 0} {
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			draw, _ := progress(&b, columns)
			time.Sleep(time.Second) // of the bubble's clock
			draw(1<<30-1, 1<<30)
			line := strings.TrimSuffix(strings.TrimPrefix(b.String(), "\r"), "\x1b[K")
			if len(line) >= columns && bar > 0 || strings.Index(line, "]")-1 != bar {
				t.Errorf("%d columns: %q", columns, line)
			}
		})
	}
}

// Output that gets lost is a failure, also of a command that does not look.
func TestLostOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no file that is always full: ", err)
	}
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"config", "reference"}, {"demo", "--size", "1KiB"}} {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Args[0] = "martlet" // as TestMain knows it
		cmd.Stdout = full
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != exitConfiguration || !strings.Contains(stderr.String(), "could not be written") {
			t.Errorf("%v: %v: %s", args, err, stderr.String())
		}
	}
}

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		word, file string
		want       target
	}{
		{"alice@vpn.example.com", "", target{"alice", "vpn.example.com"}},
		{"alice@corp.example@vpn.example.com", "", target{"alice@corp.example", "vpn.example.com"}},
		{"vpn.example.com", "", target{"", "vpn.example.com"}},
		{"alice@[2001:db8::1]", "", target{"alice", "2001:db8::1"}},
		{"2001:db8::1", "", target{"", "2001:db8::1"}},
		{"alice@localhost", "", target{"alice", "localhost"}},
		{"office", "", target{}},
		{"", "", target{}},
		{"alice@", "", target{}},
		{"@vpn.example.com", "", target{}},
		{"alice@vpn.example.com", "office.toml", target{}}, // a connection may be called so
	} {
		got, ok := parseTarget(test.word, test.file)
		if got != test.want || ok != (test.want != target{}) {
			t.Errorf("%q with %q: %+v, %v", test.word, test.file, got, ok)
		}
	}
}
