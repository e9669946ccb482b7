//go:build darwin || freebsd || openbsd

package route

import (
	"net/netip"
	"testing"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// What the kernel is told reads, when it tells of it, as the row that was meant.
func TestMessage(t *testing.T) {
	names, err := interfaceNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []step{
		{route: tableOf("10.20.0.0/16 dev lo0")[0]},
		{route: tableOf("203.0.113.7/32 via 192.0.2.1 dev lo0")[0]},
		{route: tableOf("0.0.0.0/1 dev lo0")[0], local: netip.MustParseAddr("10.9.0.5")},
		{route: tableOf("2001:db8::/32 via fe80::1%lo0 dev lo0")[0]},
		{route: row{Prefix: netip.MustParsePrefix("8000::/1"), Reject: true}},
	} {
		for _, v := range []verb{add, remove} {
			test.verb = v
			m, err := test.message(1)
			if err != nil {
				t.Fatalf("%s: %v", test, err)
			}
			b, err := m.Marshal()
			if err != nil {
				t.Fatalf("%s: %v", test, err)
			}
			parsed, err := route.ParseRIB(route.RIBTypeRoute, b)
			if err != nil || len(parsed) != 1 {
				t.Fatalf("%s: %d messages, %v", test, len(parsed), err)
			}
			got := parsed[0].(*route.RouteMessage)
			if v == remove {
				if got.Type != unix.RTM_DELETE {
					t.Errorf("%s: type %d", test, got.Type)
				}
				continue
			}
			if link, ok := m.Addrs[unix.RTAX_GATEWAY].(*route.LinkAddr); ok {
				got.Index = link.Index // the kernel fills it in
			} else if !test.route.Reject {
				for index, name := range names {
					if name == test.route.Device {
						got.Index = index
					}
				}
			}
			if r, ok := rowOf(got, names); !ok || !r.same(test.route) {
				t.Errorf("%s: reads as %+v, %v", test, r, ok)
			}
		}
	}
}
