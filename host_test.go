package martlet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/netstack"
	"martlet/tun/privsep"
	"martlet/tun/route"
)

// machine records what a host was made to be.
type machine struct {
	routes route.Config
	rules  firewall.Rules
	sets   []string
	before func(what string) error // called before each Set; nil: it is done

	names    []dns.Config // that were set, a zero one where it was closed
	nameless error        // what comes of setting them
}

func (m *machine) set(what string) error {
	m.sets = append(m.sets, what)
	if m.before == nil {
		return nil
	}
	return m.before(what)
}

func (m *machine) Close() error { m.routes = route.Config{}; return nil }
func (m *machine) Leave() error { m.sets = append(m.sets, "left"); return nil }
func (m *machine) Clear() error { m.rules = firewall.Rules{}; return nil }

type router struct{ *machine }

func (r router) Set(c route.Config) error { r.routes = c; return r.set("routes") }

type filter struct{ *machine }

func (f filter) Set(r firewall.Rules) error { f.rules = r; return f.set("rules") }

// resolvers are those of a host that is this machine.
func (m *machine) resolvers() *resolvers {
	return newResolvers(func() (dns.Host, error) { return namesOf{m}, nil }, zap.NewNop())
}

type namesOf struct{ *machine }

func (n namesOf) Set(c dns.Config) error { n.names = append(n.names, c); return n.nameless }
func (n namesOf) Close() error           { n.names = append(n.names, dns.Config{}); return nil }

// hostNode is a client's Node on a machine that only records.
func hostNode(t *testing.T) (*Node, *machine) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(`[connection.office]
remote = ["192.0.2.1"]
request = ["ipv4"]
local = { auth = "psk", id = "alice@test", secret = "`+testPSK+`" }
peer = { auth = "psk", id = "gateway.test" }
child.net.remote = ["10.77.0.0/24"]
`), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	device, err := netstack.New(1400, netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	m := &machine{}
	return &Node{Config: cfg, log: zap.NewNop(), device: device, host: m.host(cfg, device), services: &privsep.Direct{}}, m
}

// host is a client's host that is this machine.
func (m *machine) host(cfg *config.Config, device tun.Device) *host {
	return &host{
		config: cfg, log: zap.NewNop(), device: device, services: &privsep.Direct{}, router: router{m}, firewall: filter{m},
		leases: map[ike.SAID]ike.Lease{}, resolvers: m.resolvers(), children: map[ike.ChildID]hostChild{}, failed: make(chan struct{}),
	}
}

var officeLease = ike.Configure{SA: 7, Connection: "office", Lease: ike.Lease{Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32")}}}

// The host is set up beside the engine: the SA may be down before it is begun.
func TestHostOfAnSAThatWentDown(t *testing.T) {
	n, m := hostNode(t)
	n.expect(officeLease.SA)
	if err := n.configure(officeLease); err != nil || len(m.routes.Addresses) != 1 {
		t.Fatalf("addresses %v, %v", m.routes.Addresses, err)
	}
	n.saDown(ike.Down{SA: officeLease.SA})
	if err := n.configure(officeLease); err == nil {
		t.Error("the host was set up for an SA that is down")
	}
	if len(m.routes.Addresses) != 0 || len(m.rules.ProtectAddresses) != 0 {
		t.Errorf("left behind: %v, %v", m.routes.Addresses, m.rules.ProtectAddresses)
	}
}

// What is still under way when the Node ends does not undo that the host was restored.
func TestHostIsRestoredLast(t *testing.T) {
	n, m := hostNode(t)
	n.expect(officeLease.SA)
	if err := n.host.restore(false); err != nil {
		t.Fatal(err)
	}
	if err := n.configure(officeLease); err == nil {
		t.Error("a host was set up that had been restored")
	}
	n.childUp(ike.ChildInfo{ID: 1, SA: 7, Connection: "office"})
	n.childDown(1)
	n.saDown(ike.Down{SA: 7})
	if m.routes.Device != "" || m.rules.Device != "" {
		t.Errorf("left behind: %+v, %+v", m.routes, m.rules)
	}
}

// loopback has sockets of the system, and is its own peer.
type loopback struct{ *udpencap.UDP }

func (loopback) Source(remote netip.Addr) (netip.Addr, error) { return remote, nil }

// startOn starts a client of a gateway on a machine.
func startOn(t *testing.T, m *machine, text string) *Node {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(text), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Config: cfg, Bind: loopback{&udpencap.UDP{}}}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.host = m.host(cfg, n.device)
	t.Cleanup(func() { n.Close() })
	return n
}

// No message to a peer waits for a client's host, which is completed once, before
// the child carries anything.
func TestHostIsSetUpBesideIKE(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	answered := make(chan struct{})
	var n *Node
	m := &machine{}
	m.before = func(string) error {
		select {
		case <-answered:
		case <-ctx.Done():
			return errors.New("the first exchange waits for the host")
		}
		if len(n.plane.Stats().Children) > 0 {
			return errors.New("the child was there before the host")
		}
		return nil
	}
	n = startOn(t, m, clientOf(gateway, netip.Addr.Is4))
	events := n.Watch(ctx)
	n.tasks.Go(n.host.begin)
	go func() {
		for ev := range events {
			if ev.Kind == EventStage && ev.Stage == string(ike.StageInit) {
				close(answered)
				return
			}
		}
	}()
	if err := n.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	// Once before the SA and once for it; or once for both, where the SA was faster.
	once := []string{"rules", "routes"}
	if !slices.Equal(m.sets, once) && !slices.Equal(m.sets, slices.Concat(once, once)) {
		t.Errorf("set %v", m.sets)
	}
	if len(m.routes.Addresses) != 2 || len(m.routes.Routes) != 2 || len(m.rules.ProtectAddresses) != 2 || m.rules.ClampMSS != n.device.MTU() {
		t.Errorf("the host is %+v, %+v", m.routes, m.rules)
	}
}

// Who connects hears at once that the host cannot be set up, whether a peer answers or not.
func TestHostThatCannotBeSetUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gateway := startNode(t, true, gatewayText)
	for name, at := range map[string]netip.AddrPort{
		"a gateway": gateway.Addresses()[0], "silence": silent.LocalAddr().(*net.UDPAddr).AddrPort(),
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{before: func(string) error { return syscall.EPERM }}
			n := startOn(t, m, fmt.Sprintf(clientText, "127.0.0.1", at.Port()))
			n.tasks.Go(n.host.begin)
			err := n.Connect(testContext(t), "")
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code != ike.CodeHost || e.What != "the host could not be set up" || !strings.Contains(e.Hint, "root") {
				t.Errorf("got %+v", err)
			}
			if again := n.Connect(testContext(t), ""); !errors.Is(again, err) {
				t.Errorf("the second time: %v", again)
			}
		})
	}
}

// Rules and routes of which an error may have left a part are set again, though they are wanted as before.
func TestHostIsSetAgainAfterAnError(t *testing.T) {
	for _, failing := range []string{"rules", "routes"} {
		n, m := hostNode(t)
		n.host.begin()
		n.expect(officeLease.SA)
		m.before = func(what string) error {
			if what == failing {
				return syscall.EIO
			}
			return nil
		}
		if err := n.configure(officeLease); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		m.before, m.sets = nil, nil
		n.saDown(ike.Down{SA: officeLease.SA})
		if !slices.Contains(m.sets, failing) {
			t.Errorf("%s failed, and then only these were set: %v", failing, m.sets)
		}
	}
}

// An SA that is faster than what comes before it has all set up at once.
func TestHostIsNotBegunAfterAnSA(t *testing.T) {
	n, m := hostNode(t)
	n.expect(officeLease.SA)
	if err := n.configure(officeLease); err != nil {
		t.Fatal(err)
	}
	n.host.begin()
	if len(m.sets) != 2 || len(m.routes.Addresses) != 1 {
		t.Errorf("%v, addresses %v", m.sets, m.routes.Addresses)
	}
}

// A gateway has one route for the clients of a pool, however many they are.
func TestGatewayRoutesPoolsOnce(t *testing.T) {
	n, m := hostNode(t)
	pool := config.Pool{Name: "v4", Addresses: []string{"10.88.0.0/24"}}
	n.host.serve, n.host.config.Pools = true, map[string]*config.Pool{"v4": &pool}
	remotes := []string{"10.88.0.7/32", "10.88.1.7/32", "10.0.0.0/8"}
	for i, remote := range remotes {
		n.host.childUp(ike.ChildInfo{ID: ike.ChildID(i + 1), SA: 7, Connection: "office", Remote: []message.Selector{message.SelectorOf(netip.MustParsePrefix(remote))}})
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.88.0.0/24"), netip.MustParsePrefix("10.88.1.7/32")}
	if !slices.Equal(m.routes.Routes, want) {
		t.Errorf("routes %v, want %v", m.routes.Routes, want)
	}
}
