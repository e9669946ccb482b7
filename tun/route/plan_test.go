package route

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func normal(t *testing.T, c Config) Config {
	t.Helper()
	if c.Device == "" {
		return c
	}
	c, err := c.normal()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// host is one with IPv6, whose sysctls are as the kernel sets them.
func host() facts {
	return facts{
		V6:         true,
		Interfaces: []string{"eth0", "eth1"},
		Sysctl: map[string]string{
			validMark: "0", forward4: "0", redirects4: "1", forward6: "0",
			"net/ipv6/conf/martlet0/addr_gen_mode": "0",
			"net/ipv4/conf/eth0/forwarding":        "0",
			"net/ipv4/conf/eth1/forwarding":        "1",
			"net/ipv6/conf/eth0/forwarding":        "0",
			"net/ipv6/conf/eth1/forwarding":        "0",
			"net/ipv6/conf/eth0/accept_ra":         "1",
			"net/ipv6/conf/eth1/accept_ra":         "0",
		},
	}
}

func warrior() Config {
	return Config{
		Device: "martlet0", MTU: 1400,
		Addresses: prefixes("10.9.0.5/32", "fd00:9::5/128"),
		Routes:    prefixes("0.0.0.0/0", "::/0"),
	}
}

func gateway() Config {
	return Config{
		Device: "martlet0", Forward: true,
		Addresses: prefixes("10.9.0.1/24", "fd00:9::1/64"),
		Routes:    prefixes("10.9.0.0/24", "fd00:9::/64"),
	}
}

// after is the state and the facts once want has been set on the host of f.
func after(t *testing.T, want Config, f facts) (state, facts) {
	t.Helper()
	ops, s := plan(state{}, normal(t, want), f)
	changed := map[string]string{}
	for k, v := range f.Sysctl {
		changed[k] = v
	}
	for _, op := range ops {
		if op.sysctl.Key == "" {
			continue
		}
		changed[op.sysctl.Key] = op.sysctl.Want
		// What the kernel does to the others.
		if op.sysctl.Key == forward4 {
			changed[redirects4] = "0"
			changed["net/ipv4/conf/eth0/forwarding"] = "1"
			changed["net/ipv4/conf/eth1/forwarding"] = "1"
		}
		if op.sysctl.Key == forward6 {
			changed["net/ipv6/conf/eth0/forwarding"] = "1"
			changed["net/ipv6/conf/eth1/forwarding"] = "1"
		}
	}
	f.Sysctl = changed
	return s, f
}

// The rules of one family.
const (
	addRules4 = `ip -4 rule add pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -4 rule add pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
`
	addRules6 = `ip -6 rule add pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -6 rule add pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
`
)

func TestPlan(t *testing.T) {
	v4only := host()
	v4only.V6 = false
	forwarding := host()
	forwarding.Sysctl[forward4] = "1"

	split := warrior()
	split.Routes = prefixes("10.20.0.0/16")
	roamed := warrior()
	roamed.Addresses = prefixes("10.9.0.6/32", "fd00:9::5/128")
	site := Config{Device: "martlet0", Routes: prefixes("10.20.0.0/16", "10.10.7.9/16"), Sources: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Mark: 5, Table: 300, Priority: 100}
	// The peer gave an IPv4 address only, and the user keeps networks outside, of which one
	// lies around a network of the tunnel.
	kept := warrior()
	kept.Addresses = prefixes("10.9.0.5/32")
	kept.Routes = prefixes("0.0.0.0/0", "10.20.0.0/16")
	kept.Outside = prefixes("192.168.1.0/24", "10.0.0.0/8", "fd00:1::/48")
	kept.Unreachable = prefixes("::/0")
	moved := site
	moved.Sources = []netip.Addr{netip.MustParseAddr("10.1.0.2")}

	for _, test := range []struct {
		name  string
		from  Config
		to    Config
		facts facts
		want  string
	}{
		{"road warrior", Config{}, warrior(), host(), `
sysctl -w net/ipv4/conf/all/src_valid_mark=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=1
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip address add fd00:9::5/128 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route replace ::/0 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"road warrior on a host without IPv6", Config{}, warrior(), v4only, `
sysctl -w net/ipv4/conf/all/src_valid_mark=1
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip link set martlet0 up
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
` + addRules4},
		{"same again puts back what may be missing", warrior(), warrior(), host(), `
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip address add fd00:9::5/128 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route replace ::/0 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"full to split tunnel", warrior(), split, host(), `
ip -6 rule del pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -6 rule del pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
ip route del 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route del ::/0 dev martlet0 table 19780 proto 77
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip address add fd00:9::5/128 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 10.20.0.0/16 dev martlet0 table 19780 proto 77
` + addRules4},
		{"networks kept outside, and IPv6 without a way", Config{}, kept, host(), `
sysctl -w net/ipv4/conf/all/src_valid_mark=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=1
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip link set martlet0 up
ip route replace throw 10.0.0.0/8 table 19780 proto 77
ip route replace throw 192.168.1.0/24 table 19780 proto 77
ip route replace throw fd00:1::/48 table 19780 proto 77
ip route replace unreachable ::/0 table 19780 proto 77
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route replace 10.20.0.0/16 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"a route that leads elsewhere from now on leaves no gap", warrior(), kept, host(), `
ip address del fd00:9::5/128 dev martlet0
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip link set martlet0 up
ip route replace throw 10.0.0.0/8 table 19780 proto 77
ip route replace throw 192.168.1.0/24 table 19780 proto 77
ip route replace throw fd00:1::/48 table 19780 proto 77
ip route replace unreachable ::/0 table 19780 proto 77
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route replace 10.20.0.0/16 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"networks kept outside no more", kept, split, host(), `
ip -6 rule del pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -6 rule del pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
ip route del throw 10.0.0.0/8 table 19780 proto 77
ip route del throw 192.168.1.0/24 table 19780 proto 77
ip route del throw fd00:1::/48 table 19780 proto 77
ip route del unreachable ::/0 table 19780 proto 77
ip route del 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip link set martlet0 mtu 1400
ip address add 10.9.0.5/32 dev martlet0 noprefixroute
ip address add fd00:9::5/128 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 10.20.0.0/16 dev martlet0 table 19780 proto 77
` + addRules4},
		{"another virtual address", warrior(), roamed, host(), `
ip address del 10.9.0.5/32 dev martlet0
ip link set martlet0 mtu 1400
ip address add 10.9.0.6/32 dev martlet0 noprefixroute
ip address add fd00:9::5/128 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 0.0.0.0/0 dev martlet0 table 19780 proto 77
ip route replace ::/0 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"site to site, source within the selectors", Config{}, site, host(), `
sysctl -w net/ipv4/conf/all/src_valid_mark=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=1
ip link set martlet0 up
ip route replace 10.10.0.0/16 dev martlet0 table 300 proto 77 src 10.1.0.1
ip route replace 10.20.0.0/16 dev martlet0 table 300 proto 77 src 10.1.0.1
ip -4 rule add pref 100 fwmark 0x5 lookup main proto 77
ip -4 rule add pref 120 not fwmark 0x5 lookup 300 proto 77
`},
		{"another source leaves no gap", site, moved, host(), `
ip link set martlet0 up
ip route replace 10.10.0.0/16 dev martlet0 table 300 proto 77 src 10.1.0.2
ip route replace 10.20.0.0/16 dev martlet0 table 300 proto 77 src 10.1.0.2
ip -4 rule add pref 100 fwmark 0x5 lookup main proto 77
ip -4 rule add pref 120 not fwmark 0x5 lookup 300 proto 77
`},
		{"gateway", Config{}, gateway(), host(), `
sysctl -w net/ipv4/conf/all/src_valid_mark=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=1
sysctl -w net/ipv4/ip_forward=1
sysctl -w net/ipv6/conf/eth0/accept_ra=2
sysctl -w net/ipv6/conf/all/forwarding=1
ip address add 10.9.0.1/24 dev martlet0 noprefixroute
ip address add fd00:9::1/64 dev martlet0 nodad noprefixroute
ip link set martlet0 up
ip route replace 10.9.0.0/24 dev martlet0 table 19780 proto 77
ip route replace fd00:9::/64 dev martlet0 table 19780 proto 77
` + addRules4 + addRules6},
		{"gateway goes", gateway(), Config{}, host(), `
ip -4 rule del pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -4 rule del pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
ip -6 rule del pref 5310 fwmark 0x4d000000 lookup main proto 77
ip -6 rule del pref 5330 not fwmark 0x4d000000 lookup 19780 proto 77
ip route del 10.9.0.0/24 dev martlet0 table 19780 proto 77
ip route del fd00:9::/64 dev martlet0 table 19780 proto 77
ip address del 10.9.0.1/24 dev martlet0
ip address del fd00:9::1/64 dev martlet0
sysctl -w net/ipv6/conf/all/forwarding=0
sysctl -w net/ipv6/conf/eth0/accept_ra=1
sysctl -w net/ipv4/ip_forward=0
sysctl -w net/ipv4/conf/all/accept_redirects=1
sysctl -w net/ipv4/conf/eth1/forwarding=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=0
sysctl -w net/ipv4/conf/all/src_valid_mark=0
`},
		{"host that forwards already is left forwarding", Config{Device: "martlet0", Forward: true, Addresses: prefixes("10.9.0.1/24")}, Config{}, forwarding, `
ip address del 10.9.0.1/24 dev martlet0
sysctl -w net/ipv4/ip_forward=1
sysctl -w net/ipv6/conf/martlet0/addr_gen_mode=0
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var have state
			f := test.facts
			if test.from.Device != "" {
				have, f = after(t, test.from, f)
			}
			ops, _ := plan(have, normal(t, test.to), f)
			var got strings.Builder
			got.WriteByte('\n')
			for _, op := range ops {
				got.WriteString(op.String() + "\n")
			}
			if diff := cmp.Diff(test.want, got.String()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// Of two Routers that want the same sysctl, the last to go restores it, and
// restores the value from before the first.
func TestPlanSharedSettings(t *testing.T) {
	other := gateway()
	other.Device, other.Table, other.Priority = "martlet1", 400, 6000
	first, f := after(t, gateway(), host())
	f.Others = first.Settings
	second, f := after(t, other, f)

	f.Others = second.Settings
	ops, _ := plan(first, Config{}, f)
	for _, op := range ops {
		if op.sysctl.Key != "" && !strings.Contains(op.sysctl.Key, "addr_gen_mode") {
			t.Errorf("first to go: %s", op)
		}
	}

	f.Others = nil
	ops, _ = plan(second, Config{}, f)
	got := map[string]bool{}
	for _, op := range ops {
		if op.sysctl.Key != "" {
			got[op.String()] = true
		}
	}
	want := map[string]bool{
		"sysctl -w net/ipv4/conf/all/src_valid_mark=0":   true,
		"sysctl -w net/ipv4/ip_forward=0":                true,
		"sysctl -w net/ipv4/conf/all/accept_redirects=1": true,
		"sysctl -w net/ipv4/conf/eth1/forwarding=1":      true,
		"sysctl -w net/ipv6/conf/all/forwarding=0":       true,
		"sysctl -w net/ipv6/conf/eth0/accept_ra=1":       true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("last to go (-want +got):\n%s", diff)
	}
}

// The sysctls that are recorded at the first Set stay as recorded.
func TestPlanRemembersFirstValues(t *testing.T) {
	first, f := after(t, gateway(), host())
	changed := gateway()
	changed.MTU = 1300
	_, second := plan(first, normal(t, changed), f)
	if diff := cmp.Diff(first.Settings, second.Settings); diff != "" {
		t.Errorf("settings (-first +second):\n%s", diff)
	}
}

func TestNormal(t *testing.T) {
	good := warrior()
	got := normal(t, good)
	want := good
	want.Mark, want.Table, want.Priority = DefaultMark, DefaultTable, DefaultPriority
	same := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	double := warrior()
	double.Routes = prefixes("10.0.0.1/8", "10.0.0.0/8", "10.2.3.4/8")
	if diff := cmp.Diff(prefixes("10.0.0.0/8"), normal(t, double).Routes, same); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}

	// Of equal prefixes the user's wish counts most, and no way least.
	equal := Config{
		Device: "martlet0", Outside: prefixes("10.0.0.0/8"), Routes: prefixes("10.0.0.0/8", "10.1.0.0/16", "::/0"),
		Unreachable: prefixes("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "::/0"),
	}
	got = normal(t, equal)
	if diff := cmp.Diff([][]netip.Prefix{prefixes("10.0.0.0/8"), prefixes("10.1.0.0/16", "::/0"), prefixes("10.2.0.0/16")}, [][]netip.Prefix{got.Outside, got.Routes, got.Unreachable}, same); diff != "" {
		t.Errorf("equal prefixes (-want +got):\n%s", diff)
	}

	for want, change := range map[string]func(*Config){
		"no device": func(c *Config) { c.Device = "" },
		"table":     func(c *Config) { c.Table = 254 },
		"priority":  func(c *Config) { c.Priority = 32766 },
		"prefix":    func(c *Config) { c.Routes = []netip.Prefix{{}} },
		"prefix :":  func(c *Config) { c.Addresses = prefixes("::ffff:10.0.0.1/128") },
		"sources": func(c *Config) {
			c.Sources = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
		},
	} {
		c := warrior()
		change(&c)
		_, err := c.normal()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
