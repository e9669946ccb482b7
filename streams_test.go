package martlet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/config"
	"martlet/esp/udpencap"
)

// wires is the loopback with TCP at a port that the system chooses, whose streams the test can
// break.
type wires struct {
	udpencap.UDP
	tcp udpencap.TCP

	mu    sync.Mutex
	conns []net.Conn
}

func (w *wires) ListenStream(local netip.AddrPort) (net.Listener, error) {
	return w.tcp.ListenStream(netip.AddrPortFrom(local.Addr(), 0))
}

func (w *wires) DialStream(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	conn, err := w.tcp.DialStream(ctx, local, remote)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns = append(w.conns, conn)
	}
	return conn, err
}

// cut breaks all streams that were opened, and returns how many there were so far.
func (w *wires) cut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	return len(w.conns)
}

func startWired(t *testing.T, serve bool, text string) (*Node, *wires) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	w := &wires{}
	n := &Node{Config: cfg, Serve: serve, Bind: w}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, w
}

// A client that uses TCP only, one that falls back since nobody answers by UDP, and what is left
// when streams break and when all is over.
func TestNodesTalkOverTCP(t *testing.T) {
	for _, mode := range []string{config.TCPAlways, config.TCPAuto} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			gateway, _ := startWired(t, true, strings.Replace(gatewayText, "nat_port = 0", "nat_port = 0\ntcp_port = 4500", 1))
			at := gateway.Status().TCP
			if len(at) != 2 {
				t.Fatalf("the gateway listens on %v", at)
			}
			silent, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			client, w := startWired(t, false, strings.Replace(
				fmt.Sprintf(clientText, at[0].Addr(), silent.LocalAddr().(*net.UDPAddr).Port),
				"request =", fmt.Sprintf("tcp = %q\ntcp_port = %d\nrequest =", mode, at[0].Port()), 1))
			if err := client.Connect(ctx, ""); err != nil {
				t.Fatal(err)
			}
			// What was on a stream that is cut is lost, an echo request as well as its answer.
			ping := func() {
				t.Helper()
				for {
					try, cancel := context.WithTimeout(ctx, time.Second)
					_, err := client.Ping(try, netip.MustParseAddr("10.77.0.1"))
					cancel()
					switch {
					case err == nil:
						return
					case ctx.Err() != nil:
						t.Fatal(err)
					}
				}
			}
			ping()
			before := client.Status().SAs[0]
			if before.Transport != "tcp" || gateway.Status().SAs[0].Transport != "tcp" {
				t.Errorf("the transport is %q", before.Transport)
			}
			w.cut()
			waitFor(t, client, func() bool {
				sas := client.Status().SAs
				return len(sas) == 1 && sas[0].LocalAddr != before.LocalAddr
			})
			ping()
			if after := client.Status().SAs[0]; after.SPIi != before.SPIi {
				t.Error("the SA is another one")
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			waitFor(t, gateway, func() bool { return len(gateway.Status().SAs) == 0 })
		})
	}
}
