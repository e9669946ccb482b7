package martlet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"martlet/config"
	"martlet/ike"
)

func TestMain(m *testing.M) {
	HelpEnclave()
	goleak.VerifyTestMain(m)
}

const testPSK = "a pre-shared key that nobody guesses"

// gatewayText is a gateway on loopback with a pool of both families.
const gatewayText = `
[node]
listen = ["127.0.0.1", "::1"]
ike_port = 0
nat_port = 0

[pool.v4]
addresses = ["10.77.0.0/24"]
[pool.v6]
addresses = ["fd77::/64"]

[connection.clients]
pool = ["v4", "v6"]
dns = ["10.77.0.1"]
local = { auth = "psk", id = "gateway.test", secret = "` + testPSK + `" }
peer = { auth = "psk", id = "*@test" }
child.net.local = ["10.77.0.1/32", "fd77::1/128"]
`

// clientText is a client of it; %s is the gateway's address, %d its port.
const clientText = `
[connection.office]
remote = ["%s"]
port = %d
request = ["ipv4", "ipv6"]
local = { auth = "psk", id = "alice@test", secret = "` + testPSK + `" }
peer = { auth = "psk", id = "gateway.test" }
child.net.remote = ["10.77.0.0/24", "fd77::/64"]
`

// startNode starts a node from a configuration text, and closes it with the test.
func startNode(t *testing.T, serve bool, text string) *Node {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Config: cfg, Serve: serve, Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func clientOf(gateway *Node, family func(netip.Addr) bool) string {
	for _, at := range gateway.Addresses() {
		if family(at.Addr()) {
			return fmt.Sprintf(clientText, at.Addr(), at.Port())
		}
	}
	return ""
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestNodesTalk(t *testing.T) {
	for _, outer := range []struct {
		name   string
		family func(netip.Addr) bool
	}{{"IPv4 outside", netip.Addr.Is4}, {"IPv6 outside", netip.Addr.Is6}} {
		t.Run(outer.name, func(t *testing.T) {
			ctx := testContext(t)
			gateway := startNode(t, true, gatewayText)
			client := startNode(t, false, clientOf(gateway, outer.family))
			if err := client.Connect(ctx, ""); err != nil {
				t.Fatal(err)
			}
			for _, inner := range []string{"10.77.0.1", "fd77::1"} {
				if _, err := client.Ping(ctx, netip.MustParseAddr(inner)); err != nil {
					t.Errorf("ping %s: %v", inner, err)
				}
				listener, err := gateway.Listen("tcp", net.JoinHostPort(inner, "80"))
				if err != nil {
					t.Fatal(err)
				}
				echoOnce(t, listener)
				conn, err := client.DialContext(ctx, "tcp", net.JoinHostPort(inner, "80"))
				if err != nil {
					t.Fatal(err)
				}
				talk(t, conn)
			}
			checkStatus(t, client.Status(), gateway.Status())

			if err := client.Connect(ctx, "office"); err != nil {
				t.Errorf("a second Connect of what is up: %v", err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			waitFor(t, gateway, func() bool { return len(gateway.Status().SAs) == 0 && gateway.peers.pools["v4"].InUse() == 0 })
		})
	}
}

// echoOnce sends back what the first connection of a listener says.
func echoOnce(t *testing.T, listener net.Listener) {
	go func() {
		defer listener.Close()
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err != nil {
			t.Error(err)
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			t.Error(err)
		}
	}()
}

func talk(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := conn.Write([]byte("over the water")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := conn.Read(buf); string(buf[:n]) != "over the water" {
		t.Fatalf("echo: %q, %v", buf[:n], err)
	}
}

func checkStatus(t *testing.T, client, gateway Status) {
	t.Helper()
	if len(client.SAs) != 1 || len(gateway.SAs) != 1 {
		t.Fatalf("%d and %d IKE SAs, want one each", len(client.SAs), len(gateway.SAs))
	}
	c, g := client.SAs[0], gateway.SAs[0]
	if c.State != "established" || c.State != g.State || c.Suite != g.Suite || c.SPIi != g.SPIi || c.SPIr != g.SPIr {
		t.Errorf("the ends disagree:\n%+v\n%+v", c, g)
	}
	if len(c.Addresses) != 2 || len(c.DNS) != 1 {
		t.Errorf("leases %v and DNS %v, want an address of each family and a resolver", c.Addresses, c.DNS)
	}
	if len(c.Children) != 1 || len(g.Children) != 1 {
		t.Fatalf("%d and %d children, want one each", len(c.Children), len(g.Children))
	}
	cc, gc := c.Children[0], g.Children[0]
	if cc.SPIIn != gc.SPIOut || cc.SPIOut != gc.SPIIn || cc.Suite != gc.Suite {
		t.Errorf("the children disagree:\n%+v\n%+v", cc, gc)
	}
	// The pictures were taken one after the other while packets went on.
	if min(cc.PacketsOut, gc.PacketsIn, gc.PacketsOut, cc.PacketsIn) == 0 {
		t.Errorf("packets: client out %d, gateway in %d; gateway out %d, client in %d", cc.PacketsOut, gc.PacketsIn, gc.PacketsOut, cc.PacketsIn)
	}
}

// waitFor waits for a condition that an event of the node may make true.
func waitFor(t *testing.T, n *Node, condition func() bool) {
	t.Helper()
	ctx := testContext(t)
	events := n.Watch(ctx)
	for !condition() {
		select {
		case <-events:
		case <-ctx.Done():
			t.Fatal("waited in vain")
		}
	}
}

// failure connects a changed client to a gateway and returns the error, which must be
// an *Error with all three lines.
func failure(t *testing.T, old, changed string) *Error {
	t.Helper()
	gateway := startNode(t, true, gatewayText)
	text := strings.Replace(clientOf(gateway, netip.Addr.Is4), old, changed, 1)
	client := startNode(t, false, text)
	err := client.Connect(testContext(t), "")
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.What == "" || e.Why == "" || e.Hint == "" {
		t.Errorf("a line is missing: %+v", e)
	}
	if len(client.Status().SAs) != 0 {
		t.Error("an SA is left over")
	}
	return e
}

func TestConnectExplainsFailures(t *testing.T) {
	for _, test := range []struct {
		name, old, changed string
		code               ike.Code
		class              Class
	}{
		{"wrong PSK", testPSK, "another key than the gateway's", ike.CodeAuthRefused, ClassAuthentication},
		{"unknown identity", "alice@test", "mallory@elsewhere", ike.CodeAuthRefused, ClassAuthentication},
		{"another gateway than expected", `id = "gateway.test"`, `id = "other.test"`, ike.CodeIdentity, ClassAuthentication},
		{"no common proposal", "port =", `proposals = ["aes128-sha1-modp1024"]` + "\nport =", ike.CodeNoProposal, ClassPolicy},
		{"selectors that do not meet", `["10.77.0.0/24", "fd77::/64"]`, `["192.168.0.0/24"]`, ike.CodeSelectors, ClassPolicy},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := failure(t, test.old, test.changed)
			if e.Code != test.code || e.Code.Class() != test.class {
				t.Errorf("got %s, class %d: %+v", e.Code, e.Code.Class(), e)
			}
		})
	}
}

func TestConnectUnknownName(t *testing.T) {
	n := startNode(t, false, "[node]\n")
	e, ok := errors.AsType[*Error](n.Connect(t.Context(), "office"))
	if !ok || e.Code != ike.CodeNoConnection {
		t.Fatalf("got %v", e)
	}
}

func TestNothingListens(t *testing.T) {
	// A socket that is bound and never answers stands for a gateway behind a firewall.
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	at := deaf.LocalAddr().(*net.UDPAddr).AddrPort()
	client := startNode(t, false, fmt.Sprintf(clientText, at.Addr(), at.Port()))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("long enough")
	events := client.Watch(ctx)
	go func() {
		<-events // resolve is done
		cancel(stop)
	}()
	if err := client.Connect(ctx, ""); !errors.Is(err, stop) {
		t.Fatalf("got %v, want the context's cause", err)
	}
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
}

func TestInitialContactReplacesTheOldSA(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	text := clientOf(gateway, netip.Addr.Is4)
	first := startNode(t, false, text)
	if err := first.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	address := first.Status().SAs[0].Addresses
	again := startNode(t, false, text)
	if err := again.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, gateway, func() bool { return len(gateway.Status().SAs) == 1 })
	if got := again.Status().SAs[0].Addresses; fmt.Sprint(got) != fmt.Sprint(address) {
		t.Errorf("the same identity got %v, had %v", got, address)
	}
}

func TestControlSocket(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	client.Config.Node.Control = filepath.Join(t.TempDir(), "c.sock")
	serving, stop := context.WithCancel(ctx)
	defer stop()
	if err := client.ServeControl(serving, stop); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(client.Config.Node.Control)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", info.Mode(), err)
	}
	if err := client.ServeControl(serving, stop); err == nil {
		t.Error("a second program took the socket of a running one")
	}
	c := NewControl(client.Config.Node.Control)
	if err := c.Up(ctx, "office", ""); err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(ctx)
	if err != nil || len(status.SAs) != 1 || status.PID != os.Getpid() {
		t.Fatalf("status %+v, %v", status, err)
	}
	if text, _ := json.Marshal(status); bytes.Contains(text, []byte(testPSK)) {
		t.Error("the status shows the secret")
	}
	e, ok := errors.AsType[*Error](c.Down(ctx, "nowhere"))
	if !ok || e.Code != ike.CodeNoConnection {
		t.Errorf("down of an unknown connection: %v", e)
	}
	if err := c.Down(ctx, "office"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
	if err := c.Down(ctx, ""); err != nil {
		t.Fatal(err)
	}
	<-serving.Done()
}

func TestControlNobodyThere(t *testing.T) {
	_, err := NewControl(filepath.Join(t.TempDir(), "none")).Status(t.Context())
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != ike.CodeHost || e.Hint == "" {
		t.Fatalf("got %v", err)
	}
}

func TestDemo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.pcap")
	var last int64
	report, err := Demo(testContext(t), DemoOptions{
		Size: 8 << 20, Pcap: file, Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
		Progress: func(done, _ int64) { last = done },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK || report.Bytes != 8<<20 || last != report.Bytes || !strings.Contains(report.Page, "no kernel was asked") {
		t.Errorf("%+v", report)
	}
	var stages []string
	for _, s := range report.Stages {
		stages = append(stages, s.Stage)
	}
	if got := strings.Join(stages, ", "); got != "resolve, IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH, child, first packet" {
		t.Errorf("stages: %s", got)
	}
	for _, name := range []string{file, filepath.Join(filepath.Dir(file), "esp_sa"), filepath.Join(filepath.Dir(file), "ikev2_decryption_table")} {
		if info, err := os.Stat(name); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
