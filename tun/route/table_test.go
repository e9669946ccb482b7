package route

import (
	"net/netip"
	"testing"
)

func TestOnward(t *testing.T) {
	table := tableOf("0.0.0.0/0 via 192.0.2.1 dev en0", "10.0.0.0/8 via 192.0.2.2 dev en0", "10.1.0.0/16 dev en1", "::/0 via fe80::1%en0 dev en0")
	cheap := row{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Device: "en2", Metric: 25}
	dear := row{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Device: "en3", Metric: 50}
	refused := row{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Reject: true}
	for _, test := range []struct {
		table  []row
		prefix string
		want   string // the device, or none
	}{
		{table, "198.51.100.0/24", "en0"},
		{table, "10.1.2.0/24", "en1"},
		{table, "10.0.0.0/12", "en0"}, // a part of it lies behind en1: that stays so
		{table, "0.0.0.0/0", "en0"},
		{table, "2001:db8::/32", "en0"},
		{append(table[:3:3], refused), "10.1.2.3/32", "en1"},
		{table[1:3], "192.0.2.0/24", ""},
		{[]row{dear, cheap}, "192.0.2.0/24", "en2"},
		{[]row{cheap, dear}, "192.0.2.0/24", "en2"},
	} {
		got, ok := onward(test.table, netip.MustParsePrefix(test.prefix))
		if got.Device != test.want || ok != (test.want != "") {
			t.Errorf("%s: by %q, %v, want %q", test.prefix, got.Device, ok, test.want)
		}
	}
}

func TestEmbedded(t *testing.T) {
	for _, test := range []struct {
		address string
		index   int
		want    string
	}{
		{"fe80::1", 0x105, "fe80:105::1"},
		{"fe80::1%en0", 4, "fe80:4::1"},
		{"ff02::1", 4, "ff02:4::1"},
		{"2001:db8::1", 4, "2001:db8::1"},
		{"ff0e::1", 4, "ff0e::1"},
	} {
		if got := netip.AddrFrom16(embedded(netip.MustParseAddr(test.address), test.index)); got.String() != test.want {
			t.Errorf("%s on %d: got %s, want %s", test.address, test.index, got, test.want)
		}
	}
}

func TestSameBootTime(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"1700000000", "1700000000", true},
		{"1700000000", "1700000059", true},
		{"1700000059", "1700000000", true},
		{"1700000000", "1700000060", false},
		{"1700000060", "1700000000", false},
		{"", "1700000000", false},
		{"soon", "soon", false},
	} {
		if got := sameBootTime(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: got %v", test.a, test.b, got)
		}
	}
}
