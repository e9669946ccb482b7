package martlet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
	"martlet/tun/netstack"
)

func deviceOfOurs(t *testing.T) tun.Device {
	t.Helper()
	device, err := netstack.New(1400, netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return device
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A Node whose packets end elsewhere makes no connection of its own, which would be outside of the
// tunnel: not even to a server that this host reaches.
func TestNothingIsDialledPastATunnelThatEndsElsewhere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	at := server.Listener.Addr().String()

	withDevice := &Node{Config: parsed(t, ""), Device: deviceOfOurs(t)}
	if err := withDevice.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer withDevice.Close()
	enclosed := &Node{Config: parsed(t, ""), Enclave: &Enclave{}, device: withDevice.device}
	for what, n := range map[string]*Node{
		"at the Device":  withDevice,
		"in the Enclave": enclosed,
		"has no tunnel":  {Config: parsed(t, "")},
	} {
		refused := func(call string, err error) {
			t.Helper()
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code != ike.CodeHost || !strings.Contains(e.What, what) || e.Why == "" || e.Hint == "" {
				t.Errorf("%s, the tunnel %s: %v", call, what, err)
			}
		}
		_, err := n.DialContext(t.Context(), "tcp", at)
		refused("DialContext", err)
		_, err = n.Listen("tcp", "127.0.0.1:0")
		refused("Listen", err)
		_, err = n.ListenPacket("udp", "127.0.0.1:0")
		refused("ListenPacket", err)
		resp, err := n.HTTPClient().Get(server.URL)
		refused("HTTPClient", err)
		if err == nil {
			resp.Body.Close()
		}
		_, err = n.Ping(t.Context(), netip.MustParseAddr("127.0.0.1"))
		refused("Ping", err)
		_, err = n.PingHost(t.Context(), "name.test")
		refused("PingHost", err)
		refused("Pipe", n.Pipe(t.Context(), at, new(bytes.Buffer), io.Discard))
		if _, err := n.Resolver().LookupHost(t.Context(), "name.test."); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("Resolver, the tunnel %s: %v", what, err)
		}
	}
}

// Where the tunnel is the host's, so are connections.
func TestAHostsNetworkIsTheTunnels(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	n, _ := hostNode(t)
	resp, err := n.HTTPClient().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := n.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n.Resolver() != net.DefaultResolver {
		t.Error("names are not those of the host")
	}
	if _, err := n.Ping(t.Context(), netip.MustParseAddr("127.0.0.1")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("ping: %v", err)
	}
	if err := n.Pipe(t.Context(), "127.0.0.1:1", new(bytes.Buffer), io.Discard); !errors.Is(err, errOfHost) {
		t.Errorf("pipe: %v", err)
	}
}

// Doors lead to a tunnel that ends in this process. What is to be done where it does not depends on
// where it ends.
func TestDoorsNeedATunnelThatEndsHere(t *testing.T) {
	const door = "[proxy.main]\nlisten = \"127.0.0.1:0\"\n"
	withDevice := (&Node{Config: parsed(t, door), Device: deviceOfOurs(t)}).Start(t.Context())
	n, _ := hostNode(t)
	n.ctx, n.Config = t.Context(), parsed(t, door)
	for hint, err := range map[string]error{"Node.Device": withDevice, "--userspace": n.openDoors()} {
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != ike.CodeHost || !strings.Contains(e.What, "proxy.main") || !strings.Contains(e.Hint, hint) {
			t.Errorf("want a hint at %s: %v", hint, err)
		}
	}
	n.doors.close()
}
