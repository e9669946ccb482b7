package martlet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/config"
	"martlet/esp/udpencap"
	"martlet/ike"
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

// relay carries datagrams between clients and a gateway, once it is open.
type relay struct {
	at   *net.UDPConn
	to   netip.AddrPort
	open atomic.Bool
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	at, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{at: at}
	var tasks sync.WaitGroup
	t.Cleanup(func() { at.Close(); tasks.Wait() })
	tasks.Go(func() {
		out := map[netip.AddrPort]*net.UDPConn{}
		b := make([]byte, 65536)
		for {
			n, from, err := at.ReadFromUDPAddrPort(b)
			if err != nil {
				break
			}
			if !r.open.Load() {
				continue
			}
			if out[from] == nil {
				conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.to))
				if err != nil {
					continue
				}
				out[from] = conn
				tasks.Go(func() {
					b := make([]byte, 65536)
					for {
						n, err := conn.Read(b)
						if err != nil {
							return
						}
						at.WriteToUDPAddrPort(b[:n], from)
					}
				})
			}
			out[from].Write(b[:n])
		}
		for _, conn := range out {
			conn.Close()
		}
	})
	return r
}

// A client that fell back to TCP goes by UDP again when that passes, with MOBIKE and without: then
// it has another SA, and the stream is closed.
func TestNodesReturnToUDP(t *testing.T) {
	for name, more := range map[string]string{"with MOBIKE": "", "without MOBIKE": "no_mobike = true\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			gateway, _ := startWired(t, true, strings.Replace(gatewayText, "nat_port = 0", "nat_port = 0\ntcp_port = 4500", 1))
			tcp := gateway.Status().TCP[0]
			r := startRelay(t)
			client, _ := startWired(t, false, strings.Replace(
				fmt.Sprintf(clientText, tcp.Addr(), r.at.LocalAddr().(*net.UDPAddr).Port),
				"request =", fmt.Sprintf("%stcp = \"auto\"\ntcp_port = %d\nrequest =", more, tcp.Port()), 1))
			if err := client.Connect(ctx, ""); err != nil {
				t.Fatal(err)
			}
			before := client.Status().SAs[0]
			if before.Transport != "tcp" {
				t.Fatalf("the transport is %q", before.Transport)
			}
			r.to = gateway.Addresses()[0] // with encapsulation
			r.open.Store(true)
			client.engines.everywhere(ike.Moved{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
			waitFor(t, client, func() bool {
				sas := client.Status().SAs
				return len(sas) == 1 && sas[0].Transport == "udp" && (sas[0].SPIi == before.SPIi) == (more == "")
			})
			if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
				t.Error(err)
			}
			if client.blocked.is("office") {
				t.Error("UDP passes, and is thought to be blocked")
			}
			waitFor(t, gateway, func() bool { return len(gateway.Status().SAs) == 1 })
		})
	}
}
