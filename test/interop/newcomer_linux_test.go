package interop

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// What a newcomer was told, and what is behind the gateway.
const (
	newcomerTarget = "alice@vpn.example.com"
	resolverInside = "10.98.2.53"
	newcomerPage   = "intranet.example.com"
)

// newcomer is somebody at a host on which nothing of Martlet is but the program: no file, no variable,
// an empty home. The gateway has a certificate below a CA that the host trusts, and knows alice.
type newcomer struct {
	*roads
	run       string // what is /run there
	home      string
	resolvers string // what the host had
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	n := &newcomer{roads: newRoads(t), resolvers: "nameserver " + homeRouter + "\n"}
	n.enter(homeAddr)
	n.warrior.resolvers(n.resolvers)
	(&nameServer{zone: map[string][]netip.Addr{"vpn.example.com": {netip.MustParseAddr(officeAddr)}}}).serve(n.router, homeRouter)
	n.gateway.ip("addr add " + resolverInside + "/32 dev lo")
	(&nameServer{zone: map[string][]netip.Addr{newcomerPage: {netip.MustParseAddr(inB4)}}}).serve(n.gateway, resolverInside)
	n.gateway.serveHTTP(inB4+":80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "welcome")
	}))
	n.startGateway(t)

	n.run, n.home = filepath.Join(n.warrior.dir, "run"), filepath.Join(n.warrior.dir, "run", "home")
	session := filepath.Join(n.run, "user", fmt.Sprint(nobody))
	for _, dir := range []string{n.run, filepath.Join(n.run, "bin"), n.home, session} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(session, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(shared.martlet, filepath.Join(n.run, "bin", "martlet")); err != nil {
		t.Fatal(err)
	}
	return n
}

// startGateway starts strongSwan with a certificate of a CA that becomes one of the system's.
func (n *newcomer) startGateway(t *testing.T) {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("Public CA", now, time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := ca.Issue(pki.Request{DNSNames: []string{"vpn.example.com"}, Now: now, Validity: time.Hour, Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.EncodePrivateKey(cred.Key)
	if err != nil {
		t.Fatal(err)
	}
	n.warrior.trusts(string(pki.EncodeCertificate(ca.Cert)))
	n.gateway.write("x509/vpn.pem", string(pki.EncodeCertificate(cred.Cert)))
	n.gateway.write("private/vpn.pem", string(key))
	startSwan(n.gateway, swanSettings{plugins: eapPlugins}, "", fmt.Sprintf(`
connections { c { version = 2
	pools = four
	local { auth = pubkey
		id = vpn.example.com
		certs = vpn.pem }
	remote { auth = eap-mschapv2
		eap_id = %%any }
	children { net { local_ts = 0.0.0.0/0 } } } }
pools { four { addrs = 10.97.0.0/24
	dns = %s } }
secrets { eap-1 { id = alice
	secret = "%s" } }
`, resolverInside, password))
}

// types is a command line of the newcomer's, who is root or, without any right, nobody. Nothing of the
// test's own environment is there, and only what is below /run may be written to.
func (n *newcomer) types(root bool, args ...string) []string {
	shell := []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /run && exec "$@"`, n.run}
	if !root {
		shell = append(shell, "setpriv", fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups", "--no-new-privs", "--bounding-set=-all")
	}
	session := fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", nobody)
	return append(append(shell, "env", "-i", "PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home", "TERM=xterm", session), args...)
}

// up starts martlet up at a terminal.
func (n *newcomer) up(root bool, more ...string) *terminal {
	command := append([]string{"martlet", "up", newcomerTarget}, more...)
	return n.warrior.onTerminal("martlet up", nil, n.types(root, command...)...)
}

// asAtHome fails the test if the host or the home is not what it was.
func (n *newcomer) asAtHome(t *testing.T) {
	t.Helper()
	(&node{ns: n.warrior}).undone()
	if now := readFile(t, n.warrior.resolvConf); now != n.resolvers {
		t.Errorf("the resolvers are not what they were: %q", now)
	}
	if left, err := os.ReadDir(n.home); err != nil || len(left) > 0 {
		t.Errorf("the home has %v, %v", left, err)
	}
}

// said waits for the end, and fails the test unless the exit status and what was said are as they should be.
// What somebody typed is not on the screen.
func (p *terminal) said(t *testing.T, status int, want ...string) {
	t.Helper()
	got := p.wait()
	out := p.out.String()
	if got != status {
		t.Errorf("it ended with %d, want %d:\n%s", got, status, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
	for _, bad := range []string{password, wrongPassword, "panic", "DATA RACE"} {
		if strings.Contains(out, bad) {
			t.Errorf("it says %q:\n%s", bad, out)
		}
	}
}

const (
	asksAlice     = "Password of alice for vpn.example.com: "
	wrongPassword = "close sesame"
)

// TestNewcomer: a new user types one command and one password.
func TestNewcomer(t *testing.T) {
	start(t)
	all := newNewcomer(t)
	for _, step := range []struct {
		name string
		do   func(n *newcomer, t *testing.T)
	}{
		{"one command, one password, the first ping", (*newcomer).firstPing},
		{"a wrong password", (*newcomer).wrongPassword},
		{"in the background", (*newcomer).background},
		{"without privilege", (*newcomer).refused},
		{"without privilege, in userspace", (*newcomer).userspace},
	} {
		t.Run(step.name, func(t *testing.T) {
			n := *all
			w := all.warrior.as(t)
			w.resolvConf = all.warrior.resolvConf
			n.roads = &roads{warrior: w, router: all.router, gateway: all.gateway}
			step.do(&n, t)
			n.asAtHome(t)
		})
	}
}

// reached has the newcomer ping, once, a name that only the gateway's resolver knows.
func (n *newcomer) reached(t *testing.T) {
	t.Helper()
	if out, err := n.warrior.try("ping", "-c", "1", "-W", "20", newcomerPage); err != nil || !strings.Contains(out, inB4) {
		t.Errorf("the first ping: %v\n%s", err, out)
	}
	if now := readFile(t, n.warrior.resolvConf); !strings.Contains(now, "\nnameserver "+resolverInside+"\n") || strings.Contains(now, "\nnameserver "+homeRouter) {
		t.Errorf("the resolvers are not those that the gateway gave: %q", now)
	}
}

func (n *newcomer) firstPing(t *testing.T) {
	up := n.up(true)
	up.answers(asksAlice, password)
	up.says("names are asked of " + resolverInside)
	n.reached(t)
	up.types(interrupt)
	up.said(t, 0, "martlet: vpn.example.com is up: 10.97.0.")
}

func (n *newcomer) wrongPassword(t *testing.T) {
	up := n.up(true)
	up.answers(asksAlice, wrongPassword)
	up.said(t, 4, "password", "\n  hint: ", "code: eap-wrong-password")
}

func (n *newcomer) background(t *testing.T) {
	up := n.up(true, "-d", "--wait", "30s")
	up.answers(asksAlice, password)
	up.said(t, 0, "martlet: vpn.example.com is up: 10.97.0.")
	n.reached(t)
	if out, err := n.warrior.try(n.types(true, "martlet", "status")...); err != nil || !strings.Contains(out, "vpn.example.com: established for ") {
		t.Errorf("martlet status: %v\n%s", err, out)
	}
	if out, err := n.warrior.try(n.types(true, "martlet", "down")...); err != nil {
		t.Fatalf("martlet down: %v\n%s", err, out)
	}
}

// refused is at a host that is no container, whatever the tests run in: those have another default.
func (n *newcomer) refused(t *testing.T) {
	n.up(false, "--set", "node.mode=tun").said(t, 6, "CAP_NET_ADMIN", "--userspace")
}

func (n *newcomer) userspace(t *testing.T) {
	up := n.up(false, "--userspace", "--proxy", "127.0.0.1:1080")
	up.answers(asksAlice, password)
	up.says("martlet: vpn.example.com is up: 10.97.0.")
	if out, err := n.warrior.try(curl("-x", "socks5h://127.0.0.1:1080", "http://"+newcomerPage+"/")...); err != nil || out != "welcome\n" {
		t.Errorf("curl: %v\n%s", err, out)
	}
	if out, err := n.warrior.try(n.types(false, "martlet", "status")...); err != nil || !strings.Contains(out, "vpn.example.com: established for ") {
		t.Errorf("martlet status: %v\n%s", err, out)
	}
	up.types(interrupt)
	up.said(t, 0)
}
