package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"martlet/config"
	"martlet/ike"
)

// openEnclave is an Enclave with cat in it, or skips the test where the system forbids them.
func openEnclave(t *testing.T, n *Node) (stdin, stdout *os.File) {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); stdout.Close() })
	n.Enclave, err = OpenEnclave(n.Config, Program{Args: []string{"cat", "/etc/resolv.conf", "-"}, Stdin: in, Stdout: out})
	in.Close()
	out.Close()
	if e, ok := errors.AsType[*Error](err); ok && strings.Contains(e.What, "could not make user") {
		t.Skipf("%v: %s", err, e.Why)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stdin, stdout
}

func has(e *Enclave) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprint(e.set)
}

// The program in an Enclave keeps its address while the tunnel is away, and gets what the next one
// brings.
func TestEnclaveOutlivesTheTunnel(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	cfg, err := config.Parse("test.toml", []byte(clientOf(gateway, netip.Addr.Is4)), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &Node{Config: cfg}
	stdin, stdout := openEnclave(t, client)
	defer func() {
		if err := errors.Join(client.Close(), client.Enclave.Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*Error](client.Enclave.Start()); !ok || e.Code != ike.CodeAddress {
		t.Errorf("a program started without an address: %v", e)
	}
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if err := client.Enclave.Start(); err != nil {
		t.Fatal(err)
	}
	had := has(client.Enclave)
	if had != "{[10.77.0.2 fd77::2] [10.77.0.1]}" {
		t.Errorf("inside are %s", had)
	}
	if _, err := client.DialContext(ctx, "tcp", "10.77.0.1:80"); err == nil {
		t.Error("this process dialled")
	}
	client.Disconnect("")
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
	if got := has(client.Enclave); got != had {
		t.Errorf("without a tunnel inside are %s", got)
	}
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if got := has(client.Enclave); got != had {
		t.Errorf("with the next tunnel inside are %s", got)
	}
	// A gateway that gives another address: as the engine says it.
	given := ike.Lease{Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.9.9/32")}, DNS: []netip.Addr{netip.MustParseAddr("10.77.0.7")}}
	client.expect(1) // the others' numbers are random and long
	if err := client.configure(ike.Configure{SA: 1, Lease: given}); err != nil {
		t.Fatal(err)
	}
	if got := has(client.Enclave); got != "{[10.77.0.2 10.77.9.9 fd77::2] [10.77.0.7 10.77.0.1]}" {
		t.Errorf("with two SAs inside are %s", got)
	}
	client.saDown(ike.Down{SA: 1})
	if got := has(client.Enclave); got != had {
		t.Errorf("with one SA less inside are %s", got)
	}
	stdin.Close()
	if status, err := client.Enclave.Wait(); status != 0 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	text := make([]byte, 1000)
	if n, err := stdout.Read(text); !strings.Contains(string(text[:n]), "nameserver 10.77.0.1\n") {
		t.Errorf("resolv.conf: %q, %v", text[:n], err)
	}
}

// siteText is a gateway, and clientSite a peer of it, that give each other no address: the selectors
// name one on each side.
const (
	siteText = `
[node]
listen = ["127.0.0.1"]
ike_port = 0
nat_port = 0
[connection.sites]
local = { auth = "psk", id = "gateway.test", secret = "` + testPSK + `" }
peer = { auth = "psk", id = "alice@test" }
child.net.local = ["10.77.0.1/32"]
child.net.remote = ["10.99.0.1/32"]
`
	clientSite = `
[connection.office]
remote = ["127.0.0.1"]
port = %d
local = { auth = "psk", id = "alice@test", secret = "` + testPSK + `" }
peer = { auth = "psk", id = "gateway.test" }
child.net.local = ["10.99.0.1/32"]
child.net.remote = ["10.77.0.1/32"]
`
)

// Where the peer gives no address, the one that the selectors name is that of the program in an
// Enclave, and of a stack.
func TestAddressOfTheSelectors(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, siteText)
	text := fmt.Sprintf(clientSite, gateway.Addresses()[0].Port())
	t.Run("in a stack", func(t *testing.T) {
		client := startNode(t, false, text)
		if err := client.Connect(ctx, ""); err != nil {
			t.Fatal(err)
		}
		listener, err := gateway.Listen("tcp", ":7")
		if err != nil {
			t.Fatal(err)
		}
		echoOnce(t, listener)
		conn, err := client.DialContext(ctx, "tcp", "10.77.0.1:7")
		if err != nil {
			t.Fatal(err)
		}
		talk(t, conn)
		client.Disconnect("")
		waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
		if got := client.InnerAddresses(); len(got) != 0 {
			t.Errorf("without a tunnel inside are %v", got)
		}
	})
	t.Run("in an Enclave", func(t *testing.T) {
		cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		client := &Node{Config: cfg}
		openEnclave(t, client)
		defer func() {
			if err := errors.Join(client.Close(), client.Enclave.Close()); err != nil {
				t.Error(err)
			}
		}()
		if err := client.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := client.Connect(ctx, ""); err != nil {
			t.Fatal(err)
		}
		if err := client.Enclave.Start(); err != nil {
			t.Fatal(err)
		}
		if got := has(client.Enclave); got != "{[10.99.0.1] []}" {
			t.Errorf("inside are %s", got)
		}
	})
}
