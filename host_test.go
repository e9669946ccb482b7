package martlet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/firewall"
	"martlet/tun/netstack"
	"martlet/tun/route"
)

// machine records what a host was made to be.
type machine struct {
	routes route.Config
	rules  firewall.Rules
}

func (m *machine) Close() error { m.routes = route.Config{}; return nil }
func (m *machine) Clear() error { m.rules = firewall.Rules{}; return nil }

type router struct{ *machine }

func (r router) Set(c route.Config) error { r.routes = c; return nil }

type filter struct{ *machine }

func (f filter) Set(r firewall.Rules) error { f.rules = r; return nil }

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
	device, err := netstack.New(1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	m := &machine{}
	return &Node{Config: cfg, log: zap.NewNop(), device: device, host: &host{
		config: cfg, log: zap.NewNop(), device: device, router: router{m}, firewall: filter{m},
		leases: map[ike.SAID][]netip.Prefix{}, children: map[ike.ChildID]hostChild{},
	}}, m
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
	if err := n.host.restore(); err != nil {
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

// What to do depends on why the host could not be set up.
func TestHostErrorHints(t *testing.T) {
	c := &config.Config{}
	c.Node.State = "/run/martlet"
	for name, tt := range map[string]struct {
		err  error
		hint string
	}{
		"state folder":  {&fs.PathError{Op: "mkdir", Path: "/run/martlet", Err: syscall.EACCES}, "node.state"},
		"device taken":  {fmt.Errorf("tun: %w", syscall.EBUSY), "node.device"},
		"no privilege":  {fmt.Errorf("route: %w", syscall.EPERM), "root"},
		"anything else": {syscall.EOPNOTSUPP, "/dev/net/tun"},
	} {
		e, ok := errors.AsType[*Error](hostError(c, "x", tt.err))
		if !ok || e.Code != ike.CodeHost || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
