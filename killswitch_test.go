package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/firewall"
	"martlet/tun/netstack"
)

func TestKillSwitchNeedsTheHost(t *testing.T) {
	cfg, err := config.Parse("test.toml", []byte("[node]\nkill_switch = true\n"+fmt.Sprintf(clientText, "192.0.2.1", 4500)), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	device, err := netstack.New(1400, netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for name, n := range map[string]*Node{
		"in this process": {Config: cfg}, "a device of one's own": {Config: cfg, Host: true, Device: device},
	} {
		err := n.Start(t.Context())
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != ike.CodeHost || e.Code.Class() != ClassConfiguration || !strings.Contains(e.Why, "node.kill_switch") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each table of the host has the kill switch, and only who was asked to end takes it away.
func TestKillSwitchStaysUnlessTheEndWasAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*Node) error
		open bool
	}{
		"closed":       {(*Node).Close, true},
		"failed":       {(*Node).Abandon, false},
		"disconnected": {func(n *Node) error { n.Disconnect(""); return n.Abandon() }, true},
		"failed after it was connected": {func(n *Node) error {
			n.Disconnect("")
			return errors.Join(n.Connect(n.ctx, ""), n.Abandon())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := startNode(t, true, gatewayText)
			m := &machine{}
			n := startOn(t, m, clientOf(gateway, netip.Addr.Is4))
			cfg := *n.host.config
			cfg.Node.KillSwitch = true
			n.host.config = &cfg
			n.current.Store(&cfg)
			n.host.begin()
			if !m.rules.KillSwitch {
				t.Fatalf("the table is %+v", m.rules)
			}
			if err := tt.end(n); err != nil {
				t.Fatal(err)
			}
			if open := cmp.Equal(m.rules, firewall.Rules{}); open != tt.open || slices.Contains(m.sets, "left") == tt.open {
				t.Errorf("the host is open: %v; %v", open, m.sets)
			}
		})
	}
}

// A kill switch comes before its device, and is set once more when that is there: Windows has no rule
// for a device before.
func TestKillSwitchIsSetForItsDevice(t *testing.T) {
	n, m := hostNode(t)
	n.host.config.Node.KillSwitch = true
	if err := block(n.host.config, n.host.firewall); err != nil {
		t.Fatal(err)
	}
	n.host.begin()
	if want := []string{"rules", "rules", "routes"}; !slices.Equal(m.sets, want) || m.rules.Device != n.device.Name() {
		t.Errorf("set %v, for %q", m.sets, m.rules.Device)
	}
}
