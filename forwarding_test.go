package martlet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"martlet/config"
	"martlet/tun/netstack"
)

// forwardingGateway starts a gateway that gives clients what this process can reach.
func forwardingGateway(t *testing.T, more string) *Node {
	t.Helper()
	text := strings.Replace(gatewayText, `child.net.local = ["10.77.0.1/32", "fd77::1/128"]`, `child.net.local = ["0.0.0.0/0", "::/0"]`, 1) + more
	cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Config: cfg, Serve: true, Forward: true, Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
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

func TestClientsOfAForwardingGateway(t *testing.T) {
	ctx := testContext(t)
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := host.Addr().(*net.TCPAddr).AddrPort()
	gateway := forwardingGateway(t, fmt.Sprintf("[userspace]\nmap = [\"198.51.100.7:80=%s\"]\n", at))
	text := strings.Replace(clientOf(gateway, netip.Addr.Is4), `["10.77.0.0/24", "fd77::/64"]`, `["0.0.0.0/0", "::/0"]`, 1)
	client := startNode(t, false, text)
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	echoOnce(t, host)
	conn, err := client.DialContext(ctx, "tcp", "198.51.100.7:80")
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
	for what, address := range map[string]string{"a private network": "10.0.0.1:80", "a metadata service": "169.254.169.254:80", "another client": "10.77.0.9:80"} {
		if _, err := client.DialContext(ctx, "tcp", address); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := gateway.Status().Forwarding; s == nil || s.TCP.Opened != 1 || s.TCP.Refused == 0 || s.Refused[netstack.Metadata] == 0 {
		t.Errorf("status %+v, want 1 opened and some refused", s)
	}
	if s := client.Status().Forwarding; s != nil {
		t.Errorf("a client forwards: %+v", s)
	}

	// What the client has open ends with its SA.
	echo, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	conn, err = client.DialContext(ctx, "tcp", "198.51.100.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	served, err := echo.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := served.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a client that has left goes on")
	}
}

func TestReloadChangesWhereClientsMayGo(t *testing.T) {
	gateway := forwardingGateway(t, "")
	own := netip.MustParseAddr("10.1.2.3")
	next := *gateway.Config
	next.Userspace.Allow = []netip.Prefix{netip.PrefixFrom(own, 32)}
	if err := gateway.Reload(&next); err != nil {
		t.Fatal(err)
	}
	if got := gateway.destinations(); len(got.Allow) != 1 || got.Allow[0].Addr() != own || len(got.Pools) == 0 {
		t.Errorf("destinations %+v", got)
	}
}

func TestForwardIsForPacketsThatEndHere(t *testing.T) {
	for name, n := range map[string]*Node{
		"a client":  {Config: &config.Config{}, Forward: true},
		"a host":    {Config: &config.Config{}, Forward: true, Serve: true, Host: true},
		"a program": {Config: &config.Config{}, Forward: true, Serve: true, Enclave: &Enclave{}},
	} {
		if err := n.Start(t.Context()); err == nil {
			t.Errorf("%s started", name)
		}
	}
}
