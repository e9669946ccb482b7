package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet"
)

// Addresses of the world behind the gateway: public ones, and those of some private network.
const (
	publicAddr4, publicAddr6   = "185.10.20.80", "2a0e:1::80"
	privateAddr4, privateAddr6 = "10.50.0.80", "fd50::80"
	poolGateway4, poolGateway6 = "10.97.0.1", "fd97::1" // the first of each pool
	worldName                  = "www.world.test"       // which only the mapped resolvers know
	whole                      = 4 << 20                // octets, of /big
	userA, userB               = "a@martlet.test", "b@martlet.test"
	gatewayFile                = "/run/secrets/office/martlet.toml"
)

// userspace is a gateway without privilege, two clients of strongSwan, and all that is behind it. The world is
// the router between them too, so that what went beside the tunnel would arrive with another address.
type userspace struct {
	pod, world *namespace
	a, b       *client
	martlet    *container
	config     string // its file, on this host
	holds      *holds
	hidden     atomic.Int64 // datagrams that came to the pod's loopback
}

// client is a host with strongSwan, whose whole traffic goes through the tunnel.
type client struct {
	ns     *namespace
	swan   *swan
	v4, v6 string // inside
}

// holds are requests that get no answer until their client is gone.
type holds struct{ came, gone chan struct{} }

func (h *holds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	h.came <- struct{}{}
	<-r.Context().Done()
	h.gone <- struct{}{}
}

// within waits for a channel.
func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited %v in vain: %s", patience, what)
	}
}

// newUserspace makes the hosts. All that listens in the pod but Martlet is to be found by nobody.
func newUserspace(t *testing.T) *userspace {
	t.Helper()
	u := &userspace{
		pod: newNamespace(t, "pod"), world: newNamespace(t, "world"),
		holds: &holds{came: make(chan struct{}, 1), gone: make(chan struct{}, 1)},
	}
	u.world.forward()
	join(u.pod, "eth0 "+podAddr+"/24 "+podAddr6+"/64", u.world, "pod "+outerAddr+"/24 "+outerAddr6+"/64")
	u.pod.ip("route add default via " + outerAddr)
	u.pod.ip("route add default via " + outerAddr6)
	for _, addr := range []string{publicAddr4, privateAddr4} {
		u.world.ip("addr add " + addr + "/32 dev lo")
	}
	for _, addr := range []string{publicAddr6, privateAddr6} {
		u.world.ip("addr add " + addr + "/128 dev lo nodad")
	}
	u.a, u.b = u.newClient("a", 7), u.newClient("b", 8)
	pages := u.pages()
	names := &nameServer{zone: map[string][]netip.Addr{worldName: {netip.MustParseAddr(publicAddr4), netip.MustParseAddr(publicAddr6)}}}
	for _, addr := range []string{publicAddr4, publicAddr6, privateAddr4, privateAddr6} {
		u.world.serveHTTP(net.JoinHostPort(addr, "80"), pages)
		u.world.echo(net.JoinHostPort(addr, "7"))
	}
	names.serve(u.world, publicAddr4)
	names.serve(u.world, privateAddr4)
	names.serve(u.pod, "127.0.0.53")
	for _, addr := range []string{podAddr, podAddr6, "127.0.0.1", "::1"} {
		u.pod.serveHTTP(net.JoinHostPort(addr, "9000"), pages)
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		c := u.pod.packets(net.JoinHostPort(addr, "7"))
		go answerAll(c, func(b []byte) []byte {
			u.hidden.Add(1)
			return slices.Concat([]byte("echo "), b)
		})
	}
	// What every client knows are ports 500 and 4500; whoever maps them to the pod does it like this.
	u.pod.nft(`
table inet ports { chain pre { type nat hook prerouting priority dstnat;
	udp dport 500 redirect to :5500
	udp dport 4500 redirect to :5400
}
}
`)
	u.martlet = u.newGateway(t)
	return u
}

// newClient makes a host that reaches the gateway.
func (u *userspace) newClient(name string, net int) *client {
	ns := newNamespace(u.world.t, name)
	join(ns, fmt.Sprintf("eth0 192.168.%d.10/24", net), u.world, fmt.Sprintf("to-%s 192.168.%d.1/24", name, net))
	ns.ip(fmt.Sprintf("route add default via 192.168.%d.1", net))
	return &client{ns: ns}
}

func (u *userspace) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s\n", r.Host, r.RemoteAddr)
	})
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, whole)) // the client tells what it got
	})
	mux.HandleFunc("PUT /big", func(w http.ResponseWriter, r *http.Request) {
		var got bytes.Buffer
		n, err := got.ReadFrom(r.Body)
		fmt.Fprintln(w, n, err)
	})
	mux.Handle("GET /hold", u.holds)
	return mux
}

// newGateway starts Martlet as a pod has it.
func (u *userspace) newGateway(t *testing.T) *container {
	t.Helper()
	secrets := secretVolume(t, map[string]string{
		"martlet.toml": fmt.Sprintf(`
[node]
control = "/run/martlet/control.sock"
monitor = "127.0.0.1:9586"
ike_port = 5500
nat_port = 5400
[pool.four]
addresses = ["10.97.0.0/24"]
[pool.six]
addresses = ["fd97::/112"]
[connection.clients]
pool = ["four", "six"]
dns = ["%[1]s", "%[2]s"]
[connection.clients.local]
auth = "cert"
cert = ["cert.pem"]
key = ["key.pem"]
[connection.clients.peer]
auth = "eap-mschapv2"
[connection.clients.child.net]
local = ["0.0.0.0/0", "::/0"]
[user."%[5]s"]
password = "%[3]s"
[user."%[6]s"]
password = "%[3]s"
[userspace]
map = ["%[1]s:53=%[4]s:53", "[%[2]s]:53=127.0.0.53:53"]
`, poolGateway4, poolGateway6, password, privateAddr4, userA, userB),
		"cert.pem": readFile(t, shared.pki.cert("ecdsa", martletID)),
		"key.pem":  readFile(t, shared.pki.key("ecdsa", martletID)),
	})
	u.config = filepath.Join(secrets, "..data", "martlet.toml")
	c := newContainer(u.pod, map[string]string{"run/secrets/office": secrets})
	c.start("/martlet", "serve", "--userspace", "-c", gatewayFile)
	c.main.says("serving on")
	return c
}

// connect starts strongSwan as a client that knows nothing but the gateway's address and who it is. Its own packets
// have a mark, so as not to come back into its tunnel.
func (c *client) connect(t *testing.T, user string) {
	t.Helper()
	c.swan = startSwan(c.ns, swanSettings{plugins: eapPlugins, conf: "socket-default { fwmark = 0x42 }\n\t\tkernel-netlink { fwmark = !0x42 }"}, "ecdsa", fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	vips = 0.0.0.0, ::
	proposals = aes256gcm16-prfsha256-x25519,default
	local { auth = eap-mschapv2
		id = %s
		eap_id = %[2]s }
	remote { auth = pubkey
		id = %s }
	children { net { remote_ts = 0.0.0.0/0, ::/0
		esp_proposals = aes256gcm16 } } } }
secrets { eap-1 { id = %[2]s
	secret = "%[4]s" } }
`, podAddr, user, martletID, password))
	if out, err := c.swan.initiate("net"); err != nil {
		t.Fatalf("swanctl --initiate: %v\n%s", err, out)
	}
	for field := range strings.FieldsSeq(c.swan.sas()) {
		switch addr, _, _ := strings.Cut(field, "/"); {
		case strings.HasPrefix(addr, "10.97.0."):
			c.v4 = addr
		case strings.HasPrefix(addr, "fd97::"):
			c.v6 = addr
		}
	}
	if c.v4 == "" || c.v6 == "" {
		t.Fatalf("strongSwan got no addresses:\n%s", c.swan.sas())
	}
}

// status asks in the container.
func (u *userspace) status(t *testing.T) *martlet.Status {
	t.Helper()
	code, out := u.martlet.exec("/martlet", "status", "--json", "-c", gatewayFile)
	s := &martlet.Status{}
	if err := json.Unmarshal([]byte(out), s); code != 0 || err != nil || s.Forwarding == nil {
		t.Fatalf("martlet status --json: %d, %v\n%s", code, err, out)
	}
	return s
}

// metric is a sample of those that the pod serves to itself.
func (u *userspace) metric(t *testing.T, name string) string {
	t.Helper()
	out, err := u.pod.try(curl("http://127.0.0.1:9586/metrics")...)
	if err != nil {
		t.Fatalf("metrics: %v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// reload has Martlet read its file again, with more in the table [userspace].
func (u *userspace) reload(t *testing.T, more string) {
	t.Helper()
	before := readFile(t, u.config)
	if err := os.WriteFile(u.config, []byte(before+more), 0o440); err != nil { //nolint:gosec // so Kubernetes writes it
		t.Fatal(err)
	}
	if code, out := u.martlet.exec("/martlet", "reload", "-c", gatewayFile); code != 0 {
		t.Fatalf("martlet reload: %d\n%s", code, out)
	}
}

// TestUserspaceGateway: martlet serve --userspace in a container without any privilege gives strongSwan's clients what
// the container itself reaches, and nothing that is its own or private.
func TestUserspaceGateway(t *testing.T) {
	start(t)
	for _, tool := range []string{"curl", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: curl, bind9-dnsutils)", tool)
		}
	}
	u := newUserspace(t)
	var leaks *wiretap
	for i, step := range []struct {
		name string
		test func(*userspace, *testing.T)
	}{
		{"the process has no privilege and no device", func(u *userspace, t *testing.T) { u.martlet.restricted(t) }},
		{"strongSwan comes in by ports 500 and 4500", (*userspace).comeIn},
		{"curl, IPv4 and IPv6", (*userspace).tcp},
		{"UDP, IPv4 and IPv6", (*userspace).udp},
		{"the pool's gateway is a resolver", (*userspace).resolver},
		{"ping where the host allows none: dropped, counted, said once", (*userspace).noPing},
		{"ping where the host allows it", (*userspace).ping},
		{"a private network is refused", (*userspace).private},
		{"the gateway's own addresses are refused", (*userspace).own},
		{"what is allowed by a reload: a private network, and one own address", (*userspace).allowed},
		{"the gateway's loopback is out of reach", (*userspace).loopback},
		{"link-local addresses and metadata are refused", (*userspace).metadata},
		{"another client is refused", (*userspace).neighbour},
		{"status and metrics", (*userspace).shown},
		{"a client leaves: its connections end", (*userspace).leaves},
		{"still no privilege and no device", func(u *userspace, t *testing.T) { u.martlet.restricted(t) }},
		{"SIGTERM: the SA is deleted", (*userspace).terminate},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(u, t) }) && i < 2 {
			t.FailNow() // there is no tunnel
		}
		if i == 1 {
			leaks = tap(u.world, "to-a", outside)
		}
	}
	leaks.clean(t)
}
