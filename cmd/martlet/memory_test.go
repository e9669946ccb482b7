package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet"
	"martlet/config"
)

const (
	// transfers is how many connections there are at a time, and each moves so many octets.
	transfers = 200
	moved     = 1 << 20
	// ceiling is what the README promises of them in this process: MiB.
	ceiling = 80
	// stuck is the time without room after which a writer gives up.
	stuck = 2 * time.Second
)

// The ports of the server behind the gateway.
const (
	portSource = 80 + iota // sends
	portSink               // takes
	portFlood              // sends as long as there is room
	portDeaf               // takes nothing
	portFull               // ends when all of portFlood have no room any more
)

// TestSmallTransfers: a client without privilege whose profile is small moves data by many
// connections at once, and has those whose other end does not read. It is a process of its own.
func TestSmallTransfers(t *testing.T) {
	if raceEnabled {
		// The race detector multiplies memory.
		cmd := exec.CommandContext(t.Context(), "go", "test", "-race=false", "-vet=off", "-pgo=off", "-count", "1", "-v", "-run", "^"+t.Name()+"$", "martlet/cmd/martlet")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if t.Logf("without the race detector:\n%s", out); err != nil {
			t.Error(err)
		}
		return
	}
	peak := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not tell what a process has in memory")
	}
	cmd := exec.CommandContext(t.Context(), "transfers", transfersConfig(t, serveTransfers(t)))
	cmd.Env = append(os.Environ(), "GOGC=", "GOMEMLIMIT=")
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Fatal(err)
	}
	for _, match := range peak.FindAllSubmatch(out, -1) {
		if kib, err := strconv.Atoi(string(match[1])); err != nil || kib > ceiling<<10 {
			t.Errorf("%s: want at most %d MiB, %v", match[0], ceiling, err)
		}
	}
	if n := bytes.Count(out, []byte("VmHWM:")); n != 5 {
		t.Errorf("%d figures, want 5", n)
	}
}

const transfersAuth = `secret = "a pre-shared key that nobody guesses"`

// transfersConfig writes the client's configuration and returns its path.
func transfersConfig(t *testing.T, gateway netip.AddrPort) string {
	dir := t.TempDir()
	file := filepath.Join(dir, "client.toml")
	text := fmt.Sprintf(`
[node]
control = "control.sock"
profile = "small"
[connection.office]
remote = ["%s"]
port = %d
request = ["ipv4"]
local = { auth = "psk", id = "alice@test", %s }
peer = { auth = "psk", id = "gateway.test" }
child.net.remote = ["10.77.0.0/24"]
`, gateway.Addr(), gateway.Port(), transfersAuth)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serveTransfers starts a gateway and the server behind it, and returns where it listens.
func serveTransfers(t *testing.T) netip.AddrPort {
	t.Helper()
	cfg, err := config.Parse("gateway.toml", []byte(`
[node]
listen = ["127.0.0.1"]
ike_port = 0
nat_port = 0
[pool.v4]
addresses = ["10.77.0.0/24"]
[connection.clients]
pool = ["v4"]
local = { auth = "psk", id = "gateway.test", `+transfersAuth+` }
peer = { auth = "psk", id = "*@test" }
child.net.local = ["10.77.0.1/32"]
`), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	gateway := &martlet.Node{Config: cfg, Serve: true}
	if err := gateway.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var conns, flooded sync.WaitGroup
	t.Cleanup(func() {
		if err := gateway.Close(); err != nil {
			t.Error(err)
		}
		conns.Wait()
	})
	flooded.Add(transfers)
	for port, handle := range map[int]func(net.Conn){
		portSource: func(c net.Conn) { _, _ = io.CopyN(c, zeros{}, moved) }, // the client counts
		portSink:   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		portFlood:  func(c net.Conn) { flood(c); flooded.Done(); _, _ = io.Copy(io.Discard, c) },
		portDeaf:   func(net.Conn) { <-t.Context().Done() },
		portFull:   func(net.Conn) { flooded.Wait() },
	} {
		l, err := gateway.Listen("tcp", fmt.Sprintf("10.77.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		conns.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					defer c.Close()
					handle(c)
				})
			}
		})
	}
	return gateway.Addresses()[0]
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// flood writes until there was no room for some time, or nobody there.
func flood(c net.Conn) {
	b := make([]byte, 32<<10)
	for err := error(nil); err == nil; {
		if err = c.SetWriteDeadline(time.Now().Add(stuck)); err == nil {
			_, err = c.Write(b)
		}
	}
}

// clientOfTransfers is the client's process.
func clientOfTransfers() {
	c, err := config.Load(os.Args[1])
	if err == nil {
		node := &martlet.Node{Config: c}
		err = runNode(context.Background(), node, func() {}, func(ctx context.Context) error { return transferAll(ctx, node) })
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func transferAll(ctx context.Context, node *martlet.Node) error {
	if err := node.Connect(ctx, ""); err != nil {
		return err
	}
	if err := tell("idle"); err != nil {
		return err
	}
	return errors.Join(
		transfer(ctx, node, "downloads", portSource, func(c net.Conn) error {
			n, err := io.Copy(io.Discard, c)
			if err == nil && n != moved {
				err = fmt.Errorf("%d octets came", n)
			}
			return err
		}),
		transfer(ctx, node, "uploads", portSink, func(c net.Conn) error {
			if _, err := io.CopyN(c, zeros{}, moved); err != nil {
				return err
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, c)
			return err
		}),
		transfer(ctx, node, "downloads that nobody reads", portFlood, func(net.Conn) error {
			full, err := node.DialContext(ctx, "tcp", fmt.Sprintf("10.77.0.1:%d", portFull))
			if err != nil {
				return err
			}
			defer full.Close()
			_, err = io.Copy(io.Discard, full)
			return err
		}),
		transfer(ctx, node, "uploads that nobody reads", portDeaf, func(c net.Conn) error {
			flood(c)
			return nil
		}))
}

// transfer does something with many connections at once, and tells what memory it took.
func transfer(ctx context.Context, node *martlet.Node, what string, port int, do func(net.Conn) error) error {
	var all sync.WaitGroup
	failed := make(chan error, transfers)
	began := time.Now()
	for range transfers {
		all.Go(func() {
			c, err := node.DialContext(ctx, "tcp", fmt.Sprintf("10.77.0.1:%d", port))
			if err == nil {
				defer c.Close()
				err = do(c)
			}
			failed <- err
		})
	}
	all.Wait()
	for range transfers {
		if err := <-failed; err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return tell(fmt.Sprintf("%d %s in %v", transfers, what, time.Since(began).Round(time.Millisecond)))
}

// tell prints what this process has in memory, and had at most.
func tell(after string) error {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	fmt.Println(after)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM:") || strings.HasPrefix(line, "VmRSS:") {
			fmt.Print(line)
		}
	}
	return nil
}
