package martlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/proxy"

	"martlet/config"
)

// fixedGateway is the text of a gateway that comes later, or comes again.
func fixedGateway(t *testing.T) string {
	return strings.Replace(gatewayText, "nat_port = 0", fmt.Sprintf("nat_port = %d", freePort(t)), 1)
}

// clientFor is the text of a client of a gateway that may not run yet.
func clientFor(t *testing.T, gateway string) string {
	t.Helper()
	cfg, err := config.Parse("gateway.toml", []byte(gateway), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(clientText, "127.0.0.1", cfg.Node.NATPort)
}

// serveInside serves a page, and the names of one zone, inside the tunnel of a gateway.
func serveInside(t *testing.T, gateway *Node) {
	t.Helper()
	l, err := gateway.Listen("tcp", "[::]:80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello, %s", r.Host) })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	names, err := gateway.ListenPacket("udp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { names.Close() })
	go answerNames(names)
}

// answerNames knows intra.test, at the gateway's inner addresses.
func answerNames(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
		switch {
		case q.Name.String() != "intra.test.":
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: [4]byte{10, 77, 0, 1}}}}
		case q.Type == dnsmessage.TypeAAAA:
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("fd77::1").As16()}}}
		}
		if b, err := m.Pack(); err == nil {
			c.WriteTo(b, from)
		}
	}
}

const doorsText = `
[proxy.main]
listen = "127.0.0.1:0"
user = "alice"
password = "wonderland and more"
[forward.web]
local = "127.0.0.1:%d:intra.test:80"
[forward.back]
remote = "8080:127.0.0.1:%d"
[dns]
listen = "127.0.0.1:0"
refuse = ["ads.test"]
`

// openWith starts a client with doors, before there is a gateway for it.
func openWith(t *testing.T, gateway, doors string) *Node {
	t.Helper()
	return startNode(t, false, clientFor(t, gateway)+doors)
}

func door(t *testing.T, n *Node, name string) string {
	t.Helper()
	for _, d := range n.Status().Doors {
		if d.Name == name {
			return d.Listen
		}
	}
	t.Fatalf("no door is called %s: %+v", name, n.Status().Doors)
	return ""
}

// page reads a page through a proxy.
func page(t *testing.T, by *url.URL, address string) string {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(by), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	return fetch(t, &http.Client{Transport: transport}, address)
}

func fetch(t *testing.T, client *http.Client, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDoorsWaitForTheTunnel asks at all doors while there is no gateway; it comes, is killed,
// and comes again, and the doors stay what they are.
func TestDoorsWaitForTheTunnel(t *testing.T) {
	ctx := testContext(t)
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gatewayText := fixedGateway(t)
	local := freePort(t)
	client := openWith(t, gatewayText, fmt.Sprintf(doorsText, local, back.Addr().(*net.TCPAddr).Port))
	at := &url.URL{Scheme: "http", Host: door(t, client, "proxy.main"), User: url.UserPassword("alice", "wonderland and more")}
	early := make(chan string, 1)
	go func() { early <- page(t, at, "http://intra.test/") }()

	// Somebody waits at the door before anybody connects, and before there is a gateway.
	for client.doors.counters.Snapshot().Open == 0 {
		if ctx.Err() != nil {
			t.Fatal("nobody came to the proxy")
		}
		runtime.Gosched()
	}
	kept := make(chan error, 1)
	go func() { kept <- client.Keep(ctx, "office") }()
	gateway := startNode(t, true, gatewayText)
	serveInside(t, gateway)
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	if got := <-early; got != "hello, intra.test" {
		t.Errorf("asked before there was a tunnel, the proxy said %q", got)
	}
	tries := func(t *testing.T) {
		for _, address := range []string{"http://intra.test/", "http://10.77.0.1/", "http://[fd77::1]/"} {
			for _, scheme := range []string{"http", "socks5h"} {
				at.Scheme = scheme
				if got := page(t, at, address); !strings.HasPrefix(got, "hello, ") {
					t.Errorf("%s by %s: %q", address, scheme, got)
				}
			}
		}
		if got := fetch(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, fmt.Sprintf("http://127.0.0.1:%d/", local)); !strings.HasPrefix(got, "hello, ") {
			t.Errorf("by the local forward: %q", got)
		}
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, door(t, client, "dns"))
		}}
		if addrs, err := resolver.LookupNetIP(ctx, "ip4", "intra.test."); err != nil || len(addrs) != 1 {
			t.Errorf("by the relay: %v, %v", addrs, err)
		}
		if _, err := resolver.LookupNetIP(ctx, "ip4", "tracker.ads.test."); err == nil {
			t.Error("the relay asked for a name that is refused")
		}
	}
	t.Run("at first", tries)
	t.Run("out of the tunnel", func(t *testing.T) {
		echoOnce(t, back)
		addr := client.Status().SAs[0].Addresses[0].Addr()
		conn, err := gateway.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		talk(t, conn)
	})
	t.Run("wrong password", func(t *testing.T) {
		dialer, err := proxy.SOCKS5("tcp", at.Host, &proxy.Auth{User: "alice", Password: "guess"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", "10.77.0.1:80"); err == nil {
			t.Error("let in")
		}
	})

	if err := gateway.Close(); err != nil {
		t.Fatal(err)
	}
	gateway = startNode(t, true, gatewayText)
	serveInside(t, gateway)
	t.Run("with another gateway in the place of the first", tries)
}

func TestWhatNoTunnelLeadsToFailsAtOnce(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if _, err := client.DialContext(t.Context(), "tcp", "10.77.0.1:80"); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("before Connect: %v", err)
	}
	if err := client.Connect(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"192.0.2.1:80", "127.0.0.1:80", "[::1]:80", "[2001:db8::1]:80"} {
		if _, err := client.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestAnAddressIsOpenedOnDemand dials while its connection waits for packets.
func TestAnAddressIsOpenedOnDemand(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	serveInside(t, gateway)
	text := strings.Replace(clientOf(gateway, netip.Addr.Is4), "request =", "keep = \"on-demand\"\nrequest =", 1)
	client := startNode(t, false, text)
	client.arm(client.conf().Connections["office"])
	if got := fetch(t, client.HTTPClient(), "http://10.77.0.1/"); got != "hello, 10.77.0.1" {
		t.Errorf("got %q", got)
	}
}

func TestADoorThatCannotOpenEndsTheStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, "[proxy.main]\nlisten = %q\n", taken.Addr()), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := errors.AsType[*Error]((&Node{Config: cfg}).Start(t.Context()))
	if !ok || !strings.Contains(e.What, taken.Addr().String()) || !strings.Contains(e.Hint, "another program") {
		t.Errorf("got %+v", e)
	}
}

func TestPipeAndPingThroughTheControlSocket(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	socket := filepath.Join(t.TempDir(), "control.sock")
	client := startNode(t, false, fmt.Sprintf("[node]\ncontrol = %q\n", socket)+clientOf(gateway, netip.Addr.Is4))
	if err := client.ServeControl(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	l, err := gateway.Listen("tcp", "10.77.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	echoOnce(t, l)
	control := NewControl(socket)
	var out bytes.Buffer
	if err := control.Pipe(ctx, "10.77.0.1:7", strings.NewReader("there and back"), &out); err != nil || out.String() != "there and back" {
		t.Errorf("pipe: %q, %v", out.String(), err)
	}
	e, ok := errors.AsType[*Error](control.Pipe(ctx, "10.77.0.1:9", strings.NewReader(""), io.Discard))
	if !ok || e.Code.Class() != ClassNetwork || !strings.Contains(e.Why, "refused") {
		t.Errorf("a closed port: %+v", e)
	}
	if p, err := control.Ping(ctx, "fd77::1"); err != nil || p.RTT <= 0 || p.Address != netip.MustParseAddr("fd77::1") {
		t.Errorf("ping: %+v, %v", p, err)
	}
	if _, err := control.Ping(ctx, "192.0.2.1"); err == nil {
		t.Error("an echo came from where no tunnel leads")
	}
}

func TestResolversOfAHost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# by hand\nsearch example\nnameserver 192.0.2.53\nnameserver ::1 # local\nnameserver nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := hostResolvers(file, "127.0.0.1:53"); err != nil || fmt.Sprint(got) != "[192.0.2.53:53 [::1]:53]" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := hostResolvers(file, "[::1]:53"); err != nil || fmt.Sprint(got) != "[192.0.2.53:53]" {
		t.Errorf("with our own relay among them: got %v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("search example\nnameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := hostResolvers(file, "127.0.0.1:53"); err == nil {
		t.Errorf("got %v of a file with our own relay alone", got)
	}
}

// TestGatewayNamesAreAskedForOutside: the relay is this host's resolver, perhaps the only one, and
// the tunnel is down when the gateway's name is needed.
func TestGatewayNamesAreAskedForOutside(t *testing.T) {
	outside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	go answerNames(outside) // it knows intra.test
	text := strings.Replace(fmt.Sprintf(clientText, "127.0.0.1", 9), `remote = ["127.0.0.1"]`, `remote = ["intra.test"]`, 1)
	client := startNode(t, false, text+fmt.Sprintf("[dns]\nlisten = \"127.0.0.1:0\"\nhost_servers = [%q]\n", outside.LocalAddr()))
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, door(t, client, "dns"))
	}}
	addrs, err := resolver.LookupNetIP(testContext(t), "ip4", "intra.test.")
	if err != nil || len(addrs) != 1 || addrs[0].Unmap() != netip.MustParseAddr("10.77.0.1") {
		t.Errorf("got %v, %v", addrs, err)
	}
}
