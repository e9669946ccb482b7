package level2

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"martlet"
	"martlet/config"
	"martlet/test/simnet"
)

// Where things are. The server stands behind the gateway, and is the gateway's device.
var (
	gatewayAddr  = netip.MustParseAddr("192.0.2.1")
	clientAddr   = netip.MustParseAddr("198.51.100.7")
	natAddr      = netip.MustParseAddr("203.0.113.1")
	privateAddr  = netip.MustParseAddr("192.168.1.2")
	attackerAddr = netip.MustParseAddr("203.0.113.66")
	serverAddr   = netip.MustParseAddr("10.1.0.1")
)

const psk = "a pre-shared key that nobody guesses"

// usual is a link of a fixed line.
var usual = simnet.Link{Latency: 10 * time.Millisecond}

// world is a simulated network with nodes on it, inside a bubble.
type world struct {
	*testing.T
	net *simnet.Net

	mu   sync.Mutex
	seen []simnet.Record
}

// end is a node with the host and the device that it works on, and what it logged.
type end struct {
	*martlet.Node
	w    *world
	host *simnet.Host
	bind *bind
	tun  *simnet.Tun
	logs *observer.ObservedLogs
	text *logText
}

// logText is a log as it is written, at the level debug.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) Sync() error { return nil }

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inBubble runs a test in a world of its own.
func inBubble(t *testing.T, seed uint64, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(&world{T: t, net: simnet.NewLive(seed)}) })
}

// record keeps everything that happens on the network from now on.
func (w *world) record() {
	w.net.Trace(func(r simnet.Record) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, r)
	})
}

// records are those that satisfy f.
func (w *world) records(f func(simnet.Record) bool) []simnet.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []simnet.Record
	for _, r := range w.seen {
		if f(r) {
			out = append(out, r)
		}
	}
	return out
}

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
}

// node makes a node that is not started.
func (w *world) node(host *simnet.Host, cfg *config.Config, serve bool) *end {
	w.Helper()
	if err := cfg.Complete(); err != nil {
		w.Fatal(err)
	}
	e := &end{w: w, host: host, bind: newBind(host), tun: simnet.NewTun(host.Name, 1400), text: &logText{}}
	var core zapcore.Core
	core, e.logs = observer.New(zap.DebugLevel)
	encoder := zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig())
	core = zapcore.NewTee(core, zapcore.NewCore(encoder, e.text, zap.DebugLevel))
	e.Node = &martlet.Node{Config: cfg, Serve: serve, Logger: zap.New(core), Device: e.tun, Bind: e.bind}
	return e
}

// start makes a node, starts it, and closes it with the test.
func (w *world) start(host *simnet.Host, cfg *config.Config, serve bool) *end {
	w.Helper()
	e := w.node(host, cfg, serve)
	if err := e.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { e.close() })
	return e
}

// gateway starts a gateway at gatewayAddr, client a client at clientAddr.
func (w *world) gateway(cfg *config.Config) *end {
	w.Helper()
	return w.start(w.net.Host("gateway", usual, gatewayAddr), cfg, true)
}

func (w *world) client(cfg *config.Config) *end {
	w.Helper()
	return w.start(w.net.Host("client", usual, clientAddr), cfg, false)
}

// pair is a gateway and a client that is connected to it.
func (w *world) pair() (gateway, client *end) {
	w.Helper()
	gateway, client = w.gateway(gatewayConfig()), w.client(clientConfig())
	client.connect()
	return gateway, client
}

// natted is the same with the client behind a NAT.
func (w *world) natted(c simnet.NATConfig) (gateway, client *end, nat *simnet.NAT) {
	w.Helper()
	nat = w.net.NAT(natAddr, c)
	gateway = w.gateway(gatewayConfig())
	client = w.start(w.net.Host("client", usual, privateAddr).Behind(nat), clientConfig(), false)
	client.connect()
	return gateway, client, nat
}

func (e *end) close() {
	e.w.Helper()
	if err := e.Close(); err != nil {
		e.w.Error(err)
	}
}

// crash ends a node so that its peer hears nothing of it.
func (e *end) crash() {
	e.w.Helper()
	e.host.Blackout(true)
	e.close()
	e.host.Blackout(false)
}

func (e *end) connect() {
	e.w.Helper()
	if err := e.Connect(e.w.Context(), ""); err != nil {
		e.w.Fatal(err)
	}
	synctest.Wait()
}

// sa is the only IKE SA.
func (e *end) sa() martlet.SAStatus {
	e.w.Helper()
	sas := e.Status().SAs
	if len(sas) != 1 {
		e.w.Fatalf("%s has %d IKE SAs, want one: %+v", e.host.Name, len(sas), sas)
	}
	return sas[0]
}

// address is the virtual address.
func (e *end) address() netip.Addr {
	e.w.Helper()
	sa := e.sa()
	if len(sa.Addresses) != 1 {
		e.w.Fatalf("%s has the virtual addresses %v, want one", e.host.Name, sa.Addresses)
	}
	return sa.Addresses[0].Addr()
}

// clean checks that nothing is left of any SA.
func (e *end) clean() {
	e.w.Helper()
	synctest.Wait()
	if sas := e.Status().SAs; len(sas) != 0 {
		e.w.Errorf("%s has %d IKE SAs left: %+v", e.host.Name, len(sas), sas)
	}
}

// watch collects events until the test ends.
func (e *end) watch() func() []martlet.Event {
	var mu sync.Mutex
	var all []martlet.Event
	ch := e.Watch(context.WithoutCancel(e.w.Context()))
	go func() {
		for ev := range ch {
			mu.Lock()
			all = append(all, ev)
			mu.Unlock()
		}
	}()
	return func() []martlet.Event {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return append([]martlet.Event(nil), all...)
	}
}

// warnings are the log lines that a person must see, with their fields.
func (e *end) warnings() []string {
	var out []string
	for _, entry := range e.logs.All() {
		if entry.Level >= zap.WarnLevel {
			fields, err := json.Marshal(entry.ContextMap())
			if err != nil {
				e.w.Fatal(err)
			}
			out = append(out, entry.Message+" "+string(fields))
		}
	}
	return out
}

// addressOf is the outer address of one of many hosts.
func addressOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
}
