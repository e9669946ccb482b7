package privsep

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/zap"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/outside"
	"martlet/tun/route"
)

// order is what a child of the test program is told to do.
type order struct {
	Do    string   `json:"do"`
	Paths []string `json:"paths,omitempty"`
}

// found is what a child reports.
type found map[string]string

// parentVariable makes the test program a parent that starts a child with this order.
const parentVariable = "PRIVSEP_TEST_PARENT"

func TestMain(m *testing.M) {
	client, err := Join()
	if err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
	if client != nil {
		beChild(client)
		os.Exit(0)
	}
	if os.Getenv(parentVariable) != "" {
		beParent()
	}
	os.Exit(m.Run())
}

// beParent starts a child, tells its number, and waits to be killed.
func beParent() {
	s := (&machine{}).server(Settings{})
	reports := make(chan string, 1)
	s.More["report"] = func(body json.RawMessage) (any, []*os.File, error) {
		reports <- string(body)
		return nil, nil, nil
	}
	c, err := Spawn(testUser, os.Args, os.Environ())
	if err == nil {
		err = s.Serve(c, order{Do: os.Getenv(parentVariable), Paths: []string{"/", "/", "/"}})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv(parentVariable) != "wait" {
		fmt.Println(<-reports)
		os.Exit(0)
	}
	fmt.Println(c.PID())
	select {}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give rights up")
	}
}

// testUser is nobody, as on every system.
var testUser = &Identity{"nobody", 65534, 65534}

// child runs an order in a child of the server, and returns what it reports.
func child(t *testing.T, s *Server, o order) (found, *Child) {
	t.Helper()
	needRoot(t)
	reports := make(chan found, 1)
	s.More["report"] = func(body json.RawMessage) (any, []*os.File, error) {
		var f found
		err := json.Unmarshal(body, &f)
		reports <- f
		return nil, nil, err
	}
	c, err := Spawn(testUser, os.Args[:1], os.Environ())
	if err == nil {
		err = s.Serve(c, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		<-c.Done()
	})
	select {
	case f := <-reports:
		return f, c
	case <-c.Done():
		t.Fatalf("the child ended before it reported: %v", c.cmd.ProcessState)
	}
	return nil, nil
}

// machine records what is done to a host. Its methods are the services that the tests need.
type machine struct {
	Direct

	routes route.Config
	rules  firewall.Rules
	names  dns.Config
	log    []string
}

func (m *machine) did(what string) error { m.log = append(m.log, what); return nil }

func (m *machine) Recover() error { return m.did("recovered") }

func (m *machine) OpenDevice(int, int) (tun.Device, error) { return nil, io.ErrClosedPipe }

func (m *machine) Resolvers() (dns.Host, error) { return resolversOf{m}, nil }

func (m *machine) ListenControl(string) (net.Listener, error) { return nil, io.ErrClosedPipe }

func (m *machine) Secret(name string) ([]byte, error) { return []byte(name), nil }

func (m *machine) ReplaceSecret(name string, b []byte) error { return m.did(name + "=" + string(b)) }

type routerOf struct{ *machine }

func (m routerOf) Set(c route.Config) error { m.routes = c; return m.did("routes") }
func (m routerOf) Close() error             { m.routes = route.Config{}; return m.did("no routes") }

type firewallOf struct{ *machine }

func (m firewallOf) Set(r firewall.Rules) error { m.rules = r; return m.did("rules") }
func (m firewallOf) Clear() error               { m.rules = firewall.Rules{}; return m.did("no rules") }
func (m firewallOf) Leave() error               { return m.did("rules left") }

type resolversOf struct{ *machine }

func (m resolversOf) Set(c dns.Config) error { m.names = c; return m.did("names") }
func (m resolversOf) Close() error           { m.names = dns.Config{}; return m.did("no names") }

func (m *machine) server(s Settings) *Server {
	m.Direct = Direct{Settings: s, Log: zap.NewNop()}
	return &Server{Services: m, Files: &Files{}, More: map[string]Handler{}, Log: zap.NewNop(), settings: s, router: routerOf{m}, firewall: firewallOf{m}}
}

var testSettings = Settings{Device: "martlet0", State: "/nonexistent", Way: outside.Way{Mark: 7}, Table: 300, Ports: []uint16{500}}

var (
	testRoutes = route.Config{Device: "martlet0", Mark: 7, Table: 300, Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	testRules  = firewall.Rules{Device: "martlet0", Mark: 7}
	testNames  = dns.Config{Device: "martlet0", Servers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
)

// beChild does what the parent ordered and reports.
func beChild(c *Client) {
	var o order
	f := found{}
	note := func(what string, err error) {
		f[what] = "done"
		if err != nil {
			f[what] = err.Error()
		}
	}
	if err := c.More(&o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch o.Do {
	case "look around":
		lookAround(f, note, o.Paths)
		f["user"] = c.hello.User
		f["limits"] = strings.Join(c.Limits, "; ")
	case "read":
		for _, path := range o.Paths {
			text, err := readBy(c, path)
			note(path, err)
			if err == nil {
				f[path] = text
			}
		}
	case "set":
		note("recovered", c.Recover())
		note("routes", c.Router().Set(testRoutes))
		note("rules", c.Firewall().Set(testRules))
		names, err := c.Resolvers()
		if err == nil {
			err = names.Set(testNames)
		}
		note("names", err)
		if len(o.Paths) > 0 { // and take back
			note("no names", names.Close())
			note("no routes", c.Router().Close())
			note("no rules", c.Firewall().Clear())
		}
	}
	if _, err := c.Call("report", f, nil); err != nil && o.Do != "wait" {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch {
	case o.Do == "wait" || o.Do == "set" && len(o.Paths) == 0:
		select {} // until it is killed
	case o.Do == "signals":
		for s := range c.Signals() {
			_, _ = c.Call("signal", s.String(), nil) // the parent looks
		}
	}
}

// readBy reads a file, or the names of a folder, as package config does.
func readBy(c *Client, path string) (string, error) {
	info, err := c.Stat(path)
	if err != nil {
		return "", err
	}
	file, err := c.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if info.IsDir() {
		names, err := file.Readdirnames(-1)
		return strings.Join(names, " "), err
	}
	b, err := io.ReadAll(file)
	return string(b), err
}

// run runs a program of the test's own, without what go test has it inherit.
func run(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}
