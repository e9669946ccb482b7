package config

import (
	"errors"
	"strings"
	"testing"
)

func TestKillSwitchNeedsADeviceAndAPeerToCall(t *testing.T) {
	const door = "[dns]\nlisten = \"127.0.0.1:53\"\n"
	gateway := strings.Replace(siteToSite, `remote = ["192.0.2.2"]`, "", 1)
	for name, tt := range map[string]struct{ text, reason string }{
		"tun":                   {"[node]\nkill_switch = true\nmode = \"tun\"\n" + siteToSite, ""},
		"no mode":               {"[node]\nkill_switch = true\n" + siteToSite, ""},
		"off":                   {"[node]\nkill_switch = false\nmode = \"userspace\"\n" + door + gateway, ""},
		"userspace":             {"[node]\nkill_switch = true\nmode = \"userspace\"\n" + siteToSite, "nothing of this host goes through the tunnel"},
		"userspace with a door": {"[node]\nkill_switch = true\nmode = \"userspace\"\n" + door + siteToSite, "nothing of this host goes through the tunnel"},
		"a family outside":      {"[node]\nkill_switch = true\n" + strings.Replace(siteToSite, "[connection.branch]", "[connection.branch]\nexclude = [\"::/0\"]", 1), "a whole family"},
		"auto":                  {"[node]\nkill_switch = true\nmode = \"auto\"\n" + siteToSite, `set mode = "tun"`},
		"a door without mode":   {"[node]\nkill_switch = true\n" + door + siteToSite, "dns needs packets to end in this process"},
		"gateway":               {"[node]\nkill_switch = true\n" + gateway, "connection branch has no remote"},
		"nothing":               {"[node]\nkill_switch = true\n", "there is no connection"},
	} {
		_, err := Parse("test.toml", []byte(tt.text), t.TempDir(), nil)
		faults, _ := errors.AsType[Errors](err)
		switch {
		case tt.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.reason != "" && (len(faults) != 1 || faults[0].Key != "node.kill_switch" || !strings.Contains(faults[0].Error(), tt.reason)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKillSwitchIsNotReloaded(t *testing.T) {
	before, after := mustParse(t, siteToSite), mustParse(t, "[node]\nkill_switch = true\n"+siteToSite)
	if keys := before.NeedsRestart(after); len(keys) != 1 || keys[0] != "node.kill_switch" {
		t.Errorf("%v need a restart", keys)
	}
}
