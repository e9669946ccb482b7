package personas

import (
	"crypto"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
	"martlet/test/simnet"
	"martlet/tun/netmon"
)

// Where things are. Behind our gateway stands a server, behind a peer of its kind another.
var (
	gatewayAddr = netip.MustParseAddr("192.0.2.1")
	natAddr     = netip.MustParseAddr("203.0.113.1")
	privateAddr = netip.MustParseAddr("192.168.1.10")
	serverAddr  = netip.MustParseAddr("10.1.0.1")
	server6Addr = netip.MustParseAddr("fd01::1")
)

const (
	gatewayName = "vpn.example.com"
	password    = "open sesame"
	psk         = "0123456789abcdefghijklmnopqrstuvwxyz.AWS_allows_these"
)

// usual is a link of a fixed line.
var usual = simnet.Link{Latency: 10 * time.Millisecond}

// world is a simulated network inside a bubble, with the certificates of everybody.
type world struct {
	*testing.T
	net      *simnet.Net
	dir      string
	root, ca *pki.Authority
}

// inBubble runs a test in a world of its own.
func inBubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, net: simnet.NewLive(1), dir: t.TempDir()}
		var err error
		if w.root, err = pki.NewAuthority("Root", time.Now(), 0, pki.ECDSAP256); err != nil {
			t.Fatal(err)
		}
		if w.ca, err = w.root.Intermediate("Intermediate", time.Now(), 0, pki.ECDSAP256, pki.Limits{}); err != nil {
			t.Fatal(err)
		}
		w.write("root.pem", pki.EncodeCertificate(w.root.Cert))
		gateway := w.issue(pki.Request{DNSNames: []string{gatewayName}, Purpose: pki.ServerAuth})
		key, err := pki.EncodePrivateKey(gateway.Key)
		if err != nil {
			t.Fatal(err)
		}
		w.write("gateway.pem", pki.EncodeCertificate(append(gateway.Chain, gateway.Cert)...))
		w.write("gateway.key", key)
		f(w)
	})
}

// rsaKey is one key for all tests, since to make one takes long.
var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return pki.GenerateKey(pki.RSA2048) })

// issue makes a certificate below the intermediate CA, for an RSA key.
func (w *world) issue(req pki.Request) *pki.Credential {
	w.Helper()
	key, err := rsaKey()
	if err != nil {
		w.Fatal(err)
	}
	req.Public, req.Now = key.Public(), time.Now()
	cred, err := w.ca.Issue(req)
	if err != nil {
		w.Fatal(err)
	}
	cred.Key = key
	return cred
}

func (w *world) write(name string, data []byte) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.Fatal(err)
	}
}

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
}

// gateway is our Node, which the personas meet.
type gateway struct {
	*martlet.Node
	w      *world
	tun    *simnet.Tun
	logs   *observer.ObservedLogs
	events []martlet.Event
	mu     sync.Mutex
}

// devicesFile is a gateway for devices as its manual has it: what is not said is the default.
// Users log in with a password, machines by a certificate.
const devicesFile = `
[node]
listen = ["0.0.0.0"]
[pool.v4]
addresses = ["10.77.0.0/24"]
[user."carol"]
password = "` + password + `"
[user."dave"]
password = "` + password + `"
[connection.users]
pool = ["v4"]
dns = ["10.1.0.53"]
domains = ["example.com"]
#users
[connection.users.local]
auth = "cert"
cert = ["gateway.pem"]
key = ["gateway.key"]
[connection.users.peer]
auth = "eap-mschapv2"
[connection.machines]
pool = ["v4"]
dns = ["10.1.0.53"]
domains = ["example.com"]
#machines
[connection.machines.local]
auth = "cert"
cert = ["gateway.pem"]
key = ["gateway.key"]
[connection.machines.peer]
auth = "cert"
ca = ["root.pem"]
`

// devices starts a gateway for devices. Lines go into both of its connections.
func (w *world) devices(lines ...string) *gateway {
	w.Helper()
	more := strings.Join(lines, "\n")
	text := strings.NewReplacer("#users", more, "#machines", more).Replace(devicesFile)
	return w.start(text)
}

// start starts a gateway with a configuration file.
func (w *world) start(text string) *gateway {
	w.Helper()
	cfg, err := config.Parse("martlet.toml", []byte(text), w.dir, nil)
	if err != nil {
		w.Fatal(err)
	}
	cfg.Node.Control, cfg.Node.State = "", "" // of the machine that runs the test
	host := w.net.Host("gateway", usual, gatewayAddr)
	g := &gateway{w: w, tun: simnet.NewTun("gateway", 1400)}
	core, logs := observer.New(zap.DebugLevel)
	g.logs = logs
	g.Node = &martlet.Node{Config: cfg, Serve: true, Logger: zap.New(core), Device: g.tun, Bind: &bind{Host: host, changes: make(chan netmon.Change)}}
	if err := g.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := g.Close(); err != nil {
			w.Error(err)
		}
	})
	events := g.Watch(w.Context())
	go func() {
		for e := range events {
			g.mu.Lock()
			g.events = append(g.events, e)
			g.mu.Unlock()
		}
	}()
	return g
}

// count counts the events of a kind that the gateway reported.
func (g *gateway) count(kind martlet.EventKind) int {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, e := range g.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// failures are the errors that the gateway reported.
func (g *gateway) failures() []*martlet.Error {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*martlet.Error
	for _, e := range g.events {
		if e.Err != nil {
			out = append(out, e.Err)
		}
	}
	return out
}

// hint is the first reason and hint of a failure with the text in it, in the events or in the log.
func (g *gateway) hint(text string) string {
	for _, err := range g.failures() {
		if strings.Contains(err.Hint, text) || strings.Contains(err.Why, text) {
			return err.Why + " " + err.Hint
		}
	}
	for _, entry := range g.logs.All() {
		if line := fmt.Sprint(entry.ContextMap()); strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// sa is the gateway's only IKE SA.
func (g *gateway) sa() martlet.SAStatus {
	g.w.Helper()
	synctest.Wait()
	sas := g.Status().SAs
	if len(sas) != 1 {
		g.w.Fatalf("the gateway has %d IKE SAs, want one: %+v", len(sas), sas)
	}
	return sas[0]
}

// empty checks that the gateway has no SA left.
func (g *gateway) empty() {
	g.w.Helper()
	synctest.Wait()
	if sas := g.Status().SAs; len(sas) != 0 {
		g.w.Errorf("the gateway has %d IKE SAs left: %+v", len(sas), sas)
	}
}

// bind is the gateway's sockets and network.
type bind struct {
	*simnet.Host
	changes chan netmon.Change
	closing sync.Once
}

// Source is the gateway's address.
func (b *bind) Source(remote netip.Addr) (netip.Addr, error) {
	for _, a := range b.Addresses() {
		if a.Is4() == remote.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, syscall.ENETUNREACH
}

// Network is what a node asks for.
func (b *bind) Network() netmon.Monitor { return b }

// Changes implements netmon.Monitor.
func (b *bind) Changes() <-chan netmon.Change { return b.changes }

// Close implements netmon.Monitor.
func (b *bind) Close() error {
	b.closing.Do(func() { close(b.changes) })
	return nil
}

// packet is an inner packet with UDP in it, which its number tells from others.
func packet(src, dst netip.Addr, n int) []byte {
	payload := fmt.Appendf(nil, "packet %d", n)
	udp := binary.BigEndian.AppendUint16([]byte{0x13, 0x88, 0x13, 0x89}, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	if src.Is6() {
		b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(udp)))
		b = append(b, 17, 64)
		return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), udp...)
	}
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(udp)))
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	return append(b, udp...)
}
