package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet"
)

// TestNotifySocket: the socket may have a path or an abstract name; the variables are gone from the
// environment afterwards, for programs that we start.
func TestNotifySocket(t *testing.T) {
	for name, address := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@martlet-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			t.Setenv("NOTIFY_SOCKET", address)
			t.Setenv("WATCHDOG_USEC", "3000000")
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			n, err := newNotifier()
			if err != nil {
				t.Fatal(err)
			}
			defer n.conn.Close()
			if err := n.send("READY=1", "STATUS=fine"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			size, err := l.Read(b)
			if err != nil || string(b[:size]) != "READY=1\nSTATUS=fine" {
				t.Errorf("%q, %v", b[:size], err)
			}
			if n.watchdog != 3*time.Second {
				t.Errorf("the watchdog waits %v", n.watchdog)
			}
			for _, variable := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
				if v, ok := os.LookupEnv(variable); ok {
					t.Errorf("%s=%s is left for other programs", variable, v)
				}
			}
		})
	}
	if n, err := newNotifier(); n != nil || err != nil {
		t.Errorf("without a socket: %v, %v", n, err)
	}
	for _, address := range []string{"notify", "vsock:2:1", "/does/not/exist"} {
		t.Setenv("NOTIFY_SOCKET", address)
		if n, err := newNotifier(); n != nil || err == nil {
			t.Errorf("%s: %v, %v", address, n, err)
		}
	}
}

func TestWatchdog(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		limit, pid string
		want       time.Duration
	}{
		{"30000000", "", 30 * time.Second},
		{"30000000", self, 30 * time.Second},
		{"30000000", self + "0", 0}, // of who started us
		{"", "", 0},
		{"0", self, 0},
		{"-1", "", 0},
		{"soon", "", 0},
		{"18446744073709551615", "", 24 * time.Hour},
	} {
		if got := watchdogOf(tt.limit, tt.pid); got != tt.want {
			t.Errorf("%q for %q: %v, want %v", tt.limit, tt.pid, got, tt.want)
		}
	}
}

// TestSummary: one line, whatever a peer calls itself, and of bounded length.
func TestSummary(t *testing.T) {
	sa := func(name, state, id string, addresses ...string) martlet.SAStatus {
		s := martlet.SAStatus{Connection: name, State: state, RemoteID: id}
		for _, a := range addresses {
			s.Addresses = append(s.Addresses, netip.MustParsePrefix(a))
		}
		return s
	}
	away := martlet.WaitingStatus{Connection: "home", Text: "long", Err: &martlet.Error{What: "no answer"}}
	for name, tt := range map[string]struct {
		status martlet.Status
		serve  bool
		want   string
	}{
		"nothing":    {martlet.Status{}, false, "no tunnel"},
		"up":         {martlet.Status{SAs: []martlet.SAStatus{sa("office", "established", "vpn.example.com", "10.0.0.5/32")}}, false, "office: up, 10.0.0.5, vpn.example.com"},
		"connecting": {martlet.Status{SAs: []martlet.SAStatus{sa("office", "connecting", "")}}, false, "office: connecting"},
		"rekeyed": {
			martlet.Status{SAs: []martlet.SAStatus{sa("office", "rekeyed", "x"), sa("office", "established", "x", "10.0.0.5/32", "2001:db8::5/128")}},
			false,
			"office: up, 10.0.0.5, 2001:db8::5, x",
		},
		"down": {martlet.Status{Waiting: []martlet.WaitingStatus{away}, SAs: []martlet.SAStatus{sa("home", "connecting", "")}}, false, "home: down, no answer"},
		"many": {
			martlet.Status{SAs: []martlet.SAStatus{sa("a", "established", "A"), sa("b", "established", "B"), sa("c", "established", "C"), sa("d", "established", "D"), sa("e", "established", "E"), sa("f", "established", "F")}},
			false,
			"a: up, A; b: up, B; c: up, C; d: up, D; and 2 more",
		},
		"hostile name": {martlet.Status{SAs: []martlet.SAStatus{sa("office", "established", "x\nMAINPID=1")}}, false, `office: up, x\nMAINPID=1`},
		"long name": {
			martlet.Status{SAs: []martlet.SAStatus{sa("office", "established", strings.Repeat("ä", 1000))}},
			false,
			"office: up, " + strings.Repeat("ä", (maxSummary-len("office: up, "))/2),
		},
		"gateway": {
			martlet.Status{Listening: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:500")}, SAs: []martlet.SAStatus{sa("c", "established", "x"), sa("c", "established", "y"), sa("c", "connecting", "")}},
			true,
			"listening on 192.0.2.1:500, 2 peers up",
		},
	} {
		if got := summary(&tt.status, tt.serve); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
