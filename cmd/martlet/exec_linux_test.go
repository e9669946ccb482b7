package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"martlet"
	"martlet/config"
)

// serveNames starts a gateway with a server behind it, which a resolver there knows as
// server.corp.test.
func serveNames(t *testing.T) *martlet.Node {
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
dns = ["10.77.0.1"]
local = { auth = "psk", id = "gateway.test", `+transfersAuth+` }
peer = { auth = "psk", id = "*@test" }
child.net.local = ["10.77.0.1/32"]
`), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	gateway := &martlet.Node{Config: cfg, Serve: true}
	if err := gateway.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gateway.Close(); err != nil {
			t.Error(err)
		}
	})
	web, err := gateway.Listen("tcp", "10.77.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	names, err := gateway.ListenPacket("udp", "10.77.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "hello %v", conn.RemoteAddr())
			conn.Close()
		}
	}()
	go func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := names.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := nameAnswer(buf[:n]); err == nil {
				_, _ = names.WriteTo(answer, from)
			}
		}
	}()
	return gateway
}

// nameAnswer answers a query: server.corp.test has one IPv4 address, and nothing else is there.
func nameAnswer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(err, errors.New("not one question"))
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	switch {
	case q.Name.String() != "server.corp.test.":
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr("10.77.0.1").As4()},
		}}
	}
	return m.Pack()
}

// nobodys is a folder of a user without any right, with the programs in it.
func nobodys(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to become nobody")
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "martlet-exec-") //nolint:usetesting // the folder of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"martlet", "probe"} {
		if err := os.WriteFile(filepath.Join(dir, name), binary, 0o755); err != nil { //nolint:gosec // another user shall run it
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return dir
}

// execAsNobody is martlet exec with a client of the gateway, which runs probe with args.
func execAsNobody(t *testing.T, gateway *martlet.Node, args ...string) *exec.Cmd {
	t.Helper()
	dir := nobodys(t)
	file := filepath.Join(dir, "client.toml")
	at := gateway.Addresses()[0]
	text := fmt.Sprintf(`
[connection.office]
remote = ["%s"]
port = %d
request = ["ipv4"]
local = { auth = "psk", id = "alice@test", secret = "env:OFFICE_SECRET" }
peer = { auth = "psk", id = "gateway.test" }
child.net.remote = ["10.77.0.0/24"]
[proxy.main]
listen = "127.0.0.1:1"
`, at.Addr(), at.Port())
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chown(file, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(transfersAuth, `"`)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "martlet"), append([]string{"exec", "-c", file, "office", "--", "./probe"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR=", "GOCOVERDIR=", "OFFICE_SECRET="+strings.TrimSuffix(secret, `"`), "OFFICE_COLOUR=green")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// checkEnd wants an exit status of a martlet exec, and no SA at the gateway after it.
func checkEnd(t *testing.T, gateway *martlet.Node, cmd *exec.Cmd, err error, want int) {
	t.Helper()
	said := cmd.Stderr.(*bytes.Buffer).String()
	if strings.Contains(said, "could not make user, network") {
		t.Skip(said)
	}
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != want || said != "" {
		t.Errorf("%v, want exit status %d and no word:\n%s", err, want, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for events := gateway.Watch(ctx); len(gateway.Status().SAs) > 0; {
		if _, ok := <-events; !ok {
			t.Fatal("the gateway still has the SA")
		}
	}
}

func TestExecReachesTheTunnelAndNothingElse(t *testing.T) {
	gateway := serveNames(t)
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	args := []string{"fetch", "server.corp.test:80", "dial", local.Addr().String(), "env", "OFFICE"}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var outside []net.PacketConn // on each address of this host
	for _, a := range addresses {
		p, ok := a.(*net.IPNet)
		if !ok || p.IP.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.ListenPacket("udp", net.JoinHostPort(p.IP.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		outside = append(outside, conn)
		args = append(args, "send", conn.LocalAddr().String())
	}
	args = append(args, "fetch", "10.77.0.1:80")
	cmd := execAsNobody(t, gateway, args...)
	out, err := cmd.Output()
	checkEnd(t, gateway, cmd, err, 42)
	text := string(out)
	if n := strings.Count(text, "hello 10.77.0."); n != 2 {
		t.Errorf("%d pages came through the tunnel, want 2", n)
	}
	if !strings.Contains(text, "dial "+local.Addr().String()) || !strings.Contains(text, "connection refused") {
		t.Error("this host's loopback was reached")
	}
	if !strings.Contains(text, "OFFICE_COLOUR=green") || strings.Contains(text, "OFFICE_SECRET") {
		t.Error("the environment lacks something, or has the secret")
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
	for _, conn := range outside {
		// What was sent before is read before.
		if _, err := conn.WriteTo([]byte("last"), conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if n, _, err := conn.ReadFrom(buf); string(buf[:n]) != "last" {
			t.Errorf("%v got %q, %v", conn.LocalAddr(), buf[:n], err)
		}
	}
}

func TestExecHandsSIGTERMOn(t *testing.T) {
	gateway := serveNames(t)
	cmd := execAsNobody(t, gateway, "wait", "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line == "waiting\n" {
		if n := len(gateway.Status().SAs); n != 1 {
			t.Errorf("the gateway has %d SAs", n)
		}
		// An interrupt is the program's, whom the terminal would send it too.
		if err := errors.Join(cmd.Process.Signal(syscall.SIGINT), cmd.Process.Signal(syscall.SIGTERM)); err != nil {
			t.Error(err)
		}
	}
	checkEnd(t, gateway, cmd, cmd.Wait(), 9)
}
