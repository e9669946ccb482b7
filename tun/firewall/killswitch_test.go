package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// closed is a road warrior with a kill switch.
func closed() Rules {
	return Rules{
		Device: "martlet0", Mark: 7, KillSwitch: true, IsolateClients: true, ClampMSS: 1400,
		ProtectAddresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32")},
	}
}

const closedTable = `table inet martlet-martlet0 {
	chain protect {
		type filter hook prerouting priority raw; policy accept;
		iifname != "martlet0" ip daddr 10.9.0.5 fib saddr type != local drop
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname "lo" accept
		iifname "martlet0" accept
		socket mark 0x00000007 accept
		meta nfproto ipv4 udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
		icmpv6 type nd-router-advert accept
		icmpv6 type nd-neighbor-solicit accept
		icmpv6 type nd-neighbor-advert accept
		icmpv6 type mld-listener-query accept
		drop
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "martlet0" oifname "martlet0" drop
		iifname "martlet0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1360
		iifname "martlet0" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1340
		oifname "martlet0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1360
		oifname "martlet0" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1340
		iifname "martlet0" accept
		oifname "martlet0" accept
		drop
	}

	chain output {
		type filter hook output priority filter; policy accept;
		oifname "lo" accept
		oifname "martlet0" accept
		meta mark 0x00000007 accept
		meta nfproto ipv4 udp sport 68 udp dport 67 accept
		ip6 saddr fe80::/10 udp sport 546 udp dport 547 accept
		icmpv6 type nd-router-solicit accept
		icmpv6 type nd-neighbor-solicit accept
		icmpv6 type nd-neighbor-advert accept
		icmpv6 type mld2-listener-report accept
		icmpv6 type mld-listener-report accept
		icmpv6 type mld-listener-done accept
		drop
	}
}
`

// holed has Local networks and a hole beside.
func holed(until time.Time) Rules {
	r := closed()
	r.HoleUntil = until
	r.Local = []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd00:7::/64")}
	return r
}

// holedTable is closedTable with what these need.
var holedTable = strings.NewReplacer(
	"martlet0 {\n\tchain protect", "martlet0 {\n\tset hole {\n\t\ttype inet_proto . inet_service\n\t\tflags timeout\n\t}\n\n\tchain protect",
	"mld-listener-query accept\n", `mld-listener-query accept
		ip saddr 192.168.7.0/24 accept
		ip6 saddr fd00:7::/64 accept
		ct state established meta l4proto . th sport @hole accept
`,
	"mld-listener-done accept\n", `mld-listener-done accept
		ip daddr 192.168.7.0/24 accept
		ip6 daddr fd00:7::/64 accept
		ip saddr 10.9.0.5 drop
		meta l4proto . th dport @hole accept
`,
).Replace(closedTable)

func TestTextOfHole(t *testing.T) {
	if diff := cmp.Diff(holedTable, holed(time.Unix(1, 0)).String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	r := holed(time.Unix(1, 0))
	r.KillSwitch, r.Local = false, nil
	if text := r.String(); strings.Contains(text, "hole") {
		t.Errorf("a hole without a kill switch:\n%s", text)
	}
}

func TestTextOfKillSwitch(t *testing.T) {
	if diff := cmp.Diff(closedTable, closed().String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	r := closed()
	r.Mark = 0
	if err := r.check(); err == nil {
		t.Error("every packet without a mark would pass, and check takes it")
	}
}
