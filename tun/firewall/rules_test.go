package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// gateway has every part of a table.
func gateway() Rules {
	return Rules{
		Device:           "martlet0",
		Mark:             0x4d000000,
		RestoreMark:      true,
		Ports:            []uint16{500, 4500},
		OuterAddresses:   []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ProtectAddresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:9::1/64")},
		IsolateClients:   true,
		Masquerade:       []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd00:9::/64")},
		ClampMSS:         1400,
	}
}

const gatewayTable = `table inet martlet-martlet0 {
	chain protect {
		type filter hook prerouting priority raw; policy accept;
		iifname != "martlet0" ip daddr 10.9.0.1 fib saddr type != local drop
		iifname != "martlet0" ip6 daddr fd00:9::1 fib saddr type != local drop
		iifname "martlet0" ip saddr 192.0.2.1 drop
		iifname "martlet0" ip daddr 192.0.2.1 drop
		iifname "martlet0" udp dport 500 fib daddr type local drop
		iifname "martlet0" udp dport 4500 fib daddr type local drop
	}

	chain restore {
		type filter hook prerouting priority mangle; policy accept;
		iifname != "martlet0" ct mark 0x4d000000 meta mark set 0x4d000000
		iifname != "martlet0" udp dport 500 fib daddr type local meta mark set 0x4d000000
		iifname != "martlet0" udp dport 4500 fib daddr type local meta mark set 0x4d000000
	}

	chain save {
		type filter hook postrouting priority mangle; policy accept;
		meta mark 0x4d000000 ct mark set 0x4d000000
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "martlet0" oifname "martlet0" drop
		iifname "martlet0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1360
		iifname "martlet0" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1340
		oifname "martlet0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1360
		oifname "martlet0" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1340
	}

	chain masquerade {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "martlet0" oifname != "martlet0" ip saddr 10.9.0.0/24 masquerade fully-random
		iifname "martlet0" oifname != "martlet0" ip6 saddr fd00:9::/64 masquerade fully-random
	}

	chain guard {
		type filter hook postrouting priority srcnat + 10; policy accept;
		iifname "martlet0" udp sport 500 fib saddr type local drop
		iifname "martlet0" udp sport 4500 fib saddr type local drop
	}
}
table arp martlet-martlet0 {
	chain restore {
		type filter hook input priority filter; policy accept;
		iifname != "martlet0" meta mark set 0x4d000000
	}
}
`

func TestText(t *testing.T) {
	for _, test := range []struct {
		name  string
		rules Rules
		want  string
	}{
		{"gateway", gateway(), gatewayTable},
		{"nothing", Rules{Device: "tun7"}, "table inet martlet-tun7 {\n}\n"},
		{
			"road warrior",
			Rules{
				Device: "martlet0", Mark: 7, RestoreMark: true,
				ProtectAddresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32")},
			},
			`table inet martlet-martlet0 {
	chain protect {
		type filter hook prerouting priority raw; policy accept;
		iifname != "martlet0" ip daddr 10.9.0.5 fib saddr type != local drop
	}

	chain restore {
		type filter hook prerouting priority mangle; policy accept;
		iifname != "martlet0" ct mark 0x00000007 meta mark set 0x00000007
	}

	chain save {
		type filter hook postrouting priority mangle; policy accept;
		meta mark 0x00000007 ct mark set 0x00000007
	}
}
table arp martlet-martlet0 {
	chain restore {
		type filter hook input priority filter; policy accept;
		iifname != "martlet0" meta mark set 0x00000007
	}
}
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.rules.String()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	if err := gateway().check(); err != nil {
		t.Errorf("gateway: %v", err)
	}
	for name, change := range map[string]func(*Rules){
		"interface":    func(r *Rules) { r.Device = "" },
		"interface ":   func(r *Rules) { r.Device = "a/b" },
		"interface  ":  func(r *Rules) { r.Device = "sixteen-letters-" },
		"must not be":  func(r *Rules) { r.Mark = 0 },
		"mtu":          func(r *Rules) { r.ClampMSS = 60 },
		"prefix":       func(r *Rules) { r.Masquerade = []netip.Prefix{{}} },
		"not a host":   func(r *Rules) { r.Local = []netip.Prefix{netip.MustParsePrefix("192.168.7.1/24")} },
		"not all":      func(r *Rules) { r.Local = []netip.Prefix{netip.MustParsePrefix("::/0")} },
		"not a host ":  func(r *Rules) { r.Local = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"is not valid": func(r *Rules) { r.Local = []netip.Prefix{{}} },
		"hole":         func(r *Rules) { r.HoleUntil = time.Now().Add(MaxHole + time.Hour) },
		"address":      func(r *Rules) { r.OuterAddresses = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} },
	} {
		r := gateway()
		change(&r)
		err := r.check()
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
