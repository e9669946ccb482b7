package martlet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
	"martlet/tun/netstack"
)

// ask asks a Node's monitor without a server between.
func ask(t *testing.T, n *Node, path string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	w := httptest.NewRecorder()
	n.MonitorHandler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// wantProbes checks the status of the probes, of a Node that is alive, and for what the body of
// /readyz has in it.
func wantProbes(t *testing.T, n *Node, startup, ready int, texts ...string) {
	t.Helper()
	for path, want := range map[string]int{"/startupz": startup, "/livez": yes, "/readyz": ready} {
		got, body := ask(t, n, path)
		if got != want {
			t.Errorf("%s: status %d, want %d; it says %q", path, got, want, body)
		}
		if !strings.HasSuffix(body, "\n") || path == "/readyz" && strings.HasPrefix(body, "ready: ") != (want == 200) {
			t.Errorf("%s says %q with status %d", path, body, got)
		}
		for _, text := range texts {
			if path == "/readyz" && !strings.Contains(body, text) {
				t.Errorf("/readyz says %q, without %q", body, text)
			}
		}
	}
}

const (
	yes = http.StatusOK
	no  = http.StatusServiceUnavailable
)

func TestProbesBeforeStartAndAfterClose(t *testing.T) {
	cfg, err := config.Parse("test.toml", []byte(gatewayText), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Config: cfg, Serve: true}
	wantProbes(t, n, no, no, "not started")
	for _, path := range []string{"/metrics", "/status"} {
		if status, body := ask(t, n, path); status != no {
			t.Errorf("%s: %d %q before the Node is started", path, status, body)
		}
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantProbes(t, n, yes, yes, "it listens")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	wantProbes(t, n, yes, no, "it is ending")
	if status, _ := ask(t, n, "/metrics"); status != yes {
		t.Errorf("the last counts cannot be read: %d", status)
	}
}

func TestProbesFollowTheConnection(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	wantProbes(t, client, no, no, "no connection was brought up")

	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	wantProbes(t, client, yes, yes, "1 of 1", "office: up, and the peer was heard 0s ago\n")
	if s := client.Status(); !s.Ready || !s.Startup || s.NotReady != nil {
		t.Errorf("the status says %v, %v, %v", s.Ready, s.Startup, s.NotReady)
	}
	if err := gateway.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
	wantProbes(t, client, yes, no, "0 of 1", "office: no tunnel")
	if s := client.Status(); s.Ready || !s.Startup || len(s.NotReady) != 1 || !strings.HasPrefix(s.NotReady[0], "office: no tunnel") {
		t.Errorf("the status says %v, %v, %v", s.Ready, s.Startup, s.NotReady)
	}

	// Nobody wants it any more.
	client.Disconnect("")
	wantProbes(t, client, yes, no, "no connection was brought up")
}

// TestReadinessSaysWhy: what of the last try failed stands there while the next one is awaited.
func TestReadinessSaysWhy(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, strings.Replace(clientOf(gateway, netip.Addr.Is4), testPSK, "another key than the gateway's", 1))
	ctx, cancel := context.WithCancel(testContext(t))
	events := client.Watch(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Keep(ctx, "office") }()
	var retry Event
	for ev := range events {
		if ev.Kind == EventRetry {
			retry = ev
			break
		}
	}
	wantProbes(t, client, no, no, "0 of 1", "office: no tunnel: "+retry.Err.What)
	if _, body := ask(t, client, "/startupz"); !strings.Contains(body, retry.Err.What) {
		t.Errorf("/startupz says %q, not why", body)
	}
	cancel()
	<-ended
	client.Disconnect("office")

	// One that failed and that nobody tries again is not awaited, but told of.
	if err := client.Connect(testContext(t), "office"); err == nil {
		t.Fatal("connected with a wrong key")
	}
	wantProbes(t, client, no, no, "no connection was brought up: "+retry.Err.What)
}

// TestProbesWithoutChild: a connection that is opened without a child is up without one.
func TestProbesWithoutChild(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	text := strings.Replace(clientOf(gateway, netip.Addr.Is4), "[connection.office]\n", "[connection.office]\nchildless = \"force\"\n", 1)
	client := startNode(t, false, text+"child.net.keep = \"manual\"\n")
	if err := client.Connect(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	if children := client.Status().SAs[0].Children; len(children) != 0 {
		t.Fatalf("it has %v", children)
	}
	wantProbes(t, client, yes, yes, "office: up")
}

func TestLivenessOfAnEngineThatIsStuck(t *testing.T) {
	n := startNode(t, true, gatewayText)
	stuck, release := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.engines.shards[0].call(func(*ike.Engine) { close(stuck); <-release })
	}()
	<-stuck
	// A client that does not wait stands for the second that the Node waits.
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if ok, text := n.Alive(impatient); ok || !strings.Contains(text, "engine 1 of ") {
			t.Fatalf("alive: %v, %q", ok, text)
		}
	}
	if _, err := n.metrics(impatient); err == nil {
		t.Error("metrics without those of an engine")
	}
	close(release)
	<-ended
	wantProbes(t, n, yes, yes)
}

// slowToClose is a device that takes its time to close.
type slowToClose struct {
	tun.Device
	closing, release chan struct{}
}

func (s *slowToClose) Close() error {
	close(s.closing)
	<-s.release
	return s.Device.Close()
}

// monitored is a gateway with a monitor at a port that the system chose, and a device that waits in
// Close.
func monitored(t *testing.T) (*Node, *slowToClose) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(strings.Replace(gatewayText, "[node]\n", "[node]\nmonitor = \"localhost:0\"\n", 1)), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	stack, err := netstack.New(1400, netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	device := &slowToClose{stack, make(chan struct{}), make(chan struct{})}
	n := &Node{Config: cfg, Serve: true, Device: device}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n, device
}

// answered makes a request of a server; the status is 0 if nobody answers.
func answered(t *testing.T, method, url string) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

func TestMonitorServesUntilTheVeryEnd(t *testing.T) {
	n, device := monitored(t)
	at := "http://" + n.Status().Monitor.String()
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/readyz", 200},
		{"HEAD", "/readyz", 200},
		{"GET", "/metrics", 200},
		{"GET", "/status", 200},
		{"POST", "/readyz", 405},
		{"DELETE", "/status", 405},
		{"GET", "/", 404},
		{"GET", "/v1/status", 404},
	} {
		status, header, body := answered(t, c.method, at+c.path)
		if status != c.want {
			t.Errorf("%s %s: %d %q, want %d", c.method, c.path, status, body, c.want)
		}
		if (c.method == "HEAD") != (body == "") || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %v %q", c.method, c.path, header, body)
		}
	}

	ended := make(chan error, 1)
	go func() { ended <- n.Close() }()
	<-device.closing
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/startupz": 200, "/metrics": 200, "/status": 503} {
		if status, _, body := answered(t, "GET", at+path); status != want {
			t.Errorf("%s while the Node closes: %d %q, want %d", path, status, body, want)
		}
	}
	close(device.release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if status, _, body := answered(t, "GET", at+"/livez"); status != 0 {
		t.Errorf("somebody answers after Close: %d %q", status, body)
	}
}

func TestMonitorPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg, err := config.Parse("test.toml", []byte(fmt.Sprintf("[node]\nmonitor = %q\n", taken.Addr())), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Config: cfg}
	e, ok := errors.AsType[*Error](n.Start(t.Context()))
	if !ok || e.Code != ike.CodeHost || !strings.Contains(e.What, taken.Addr().String()) || e.Why == "" || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
}

// TestMonitorIsGivenBackByANodeThatFails: a Node that does not start for another reason keeps no port.
func TestMonitorIsGivenBackByANodeThatFails(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("test.toml", []byte(fmt.Sprintf("[node]\nmonitor = %q\nkey_log = \"/dev/null/there is no such folder\"\n", at)), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Node{Config: cfg}).Start(t.Context()); err == nil {
		t.Fatal("started with a key log that cannot be written")
	}
	again, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestMonitorHeadersAreBounded: who sends more than a small request is not read to its end.
func TestMonitorHeadersAreBounded(t *testing.T) {
	n, device := monitored(t)
	close(device.release)
	defer n.Close()
	conn, err := net.Dial("tcp", n.Status().Monitor.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*monitorHeader)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	got, err := io.ReadAtLeast(conn, answer, 12)
	if err != nil || !bytes.HasPrefix(answer[:got], []byte("HTTP/1.1 431")) {
		t.Errorf("got %q, %v", answer[:got], err)
	}
}

func TestStatusIsForThisHostOnly(t *testing.T) {
	n := startNode(t, true, gatewayText)
	for _, c := range []struct {
		remote, host string
		want         int
	}{
		{"127.0.0.1:1", "localhost", 200},
		{"127.0.0.1:1", "LOCALHOST:9586", 200},
		{"127.3.2.1:1", "127.0.0.1:9586", 200},
		{"127.0.0.1:1", "127.0.0.1", 200},
		{"[::1]:1", "[::1]:9586", 200},
		{"[::1]:1", "[::1]", 200},
		{"[::ffff:127.0.0.1]:1", "127.0.0.1:9586", 200},
		{"192.0.2.1:1", "localhost", 403},
		{"192.0.2.1:1", "127.0.0.1", 403},
		{"[2001:db8::1]:1", "[::1]", 403},
		{"[::ffff:192.0.2.1]:1", "localhost", 403},
		{"", "localhost", 403},
		{"@", "localhost", 403}, // a unix socket of somebody's server
		// Pages on the web that have their name resolved to this host.
		{"127.0.0.1:1", "evil.example", 403},
		{"127.0.0.1:1", "localhost.evil.example:9586", 403},
		{"127.0.0.1:1", "127.0.0.1.evil.example", 403},
		{"127.0.0.1:1", "192.0.2.1:9586", 403},
		{"127.0.0.1:1", "0.0.0.0:9586", 403},
		{"127.0.0.1:1", "", 403},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status", nil)
		r.RemoteAddr, r.Host = c.remote, c.host
		w := httptest.NewRecorder()
		n.MonitorHandler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.remote, c.host, w.Code, c.want)
		}
		var s Status
		err := json.Unmarshal(w.Body.Bytes(), &s)
		if c.want == 200 && (err != nil || s.PID != os.Getpid()) || c.want == 403 && !strings.Contains(w.Body.String(), "only a client on this host") {
			t.Errorf("from %q to %q: %q, %v", c.remote, c.host, w.Body, err)
		}
	}
}

// FuzzFromHere: whatever a client says, who is let in has named this host.
func FuzzFromHere(f *testing.F) {
	for _, seed := range []string{"localhost:1", "[::1]", "::1", "127.0.0.1:x", "[[::1]]:1", "[127.0.0.1", "::1%lo", "", ":", "localhost:evil.example"} {
		f.Add("127.0.0.1:1", seed)
	}
	f.Fuzz(func(t *testing.T, remote, host string) {
		if !fromHere(&http.Request{RemoteAddr: remote, Host: host}) {
			return
		}
		from, err := netip.ParseAddrPort(remote)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			t.Errorf("%q is let in", remote)
		}
		if rest := strings.TrimLeft(strings.ToLower(host), "["); !strings.HasPrefix(rest, "localhost") && !strings.HasPrefix(rest, "127.") && !strings.Contains(rest, ":") {
			t.Errorf("%q is this host", host)
		}
	})
}

func TestStatusTellsWhenThePeerWasHeard(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	before := client.Status().SAs[0]
	if before.Heard.IsZero() || before.Heard.Before(before.Since) || before.Rekey.Before(before.Since) || before.Ends.Before(before.Rekey) {
		t.Errorf("since %v, heard %v, rekeyed %v, ends %v", before.Since, before.Heard, before.Rekey, before.Ends)
	}
	if c := before.Children[0]; c.Since.IsZero() || !c.Heard.IsZero() || !c.Rekey.After(c.Since) || !c.Ends.After(c.Rekey) {
		t.Errorf("a child that carried nothing: %+v", c)
	}
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Fatal(err)
	}
	after := client.Status().SAs[0]
	if esp := after.Children[0].Heard; !after.Heard.After(before.Heard) || esp.IsZero() || after.Heard.Before(esp) {
		t.Errorf("ESP was heard at %v, of the SA it says %v, before %v", esp, after.Heard, before.Heard)
	}
}
