//go:build darwin || freebsd || openbsd

package netmon

import (
	"net/netip"
	"testing"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// TestRouteMessage reads messages as golang.org/x/net/route writes them.
func TestRouteMessage(t *testing.T) {
	zero4, zero6 := &route.Inet4Addr{}, &route.Inet6Addr{}
	for name, c := range map[string]struct {
		flags     int
		dst, mask route.Addr
		want      string
	}{
		"default":      {unix.RTF_UP | unix.RTF_GATEWAY, zero4, zero4, "0.0.0.0/0"},
		"default IPv6": {unix.RTF_UP | unix.RTF_GATEWAY, zero6, zero6, "::/0"},
		"one network":  {unix.RTF_UP, &route.Inet4Addr{IP: [4]byte{192, 0, 2}}, &route.Inet4Addr{IP: [4]byte{255, 255, 255}}, "192.0.2.0/24"},
		"one host":     {unix.RTF_UP | unix.RTF_HOST, &route.Inet4Addr{IP: [4]byte{192, 0, 2, 1}}, nil, "192.0.2.1/32"},
	} {
		addrs := make([]route.Addr, unix.RTAX_MAX)
		addrs[unix.RTAX_DST] = c.dst
		if c.mask != nil {
			addrs[unix.RTAX_NETMASK] = c.mask
		}
		raw, err := (&route.RouteMessage{Type: unix.RTM_ADD, Flags: c.flags, Index: 3, Addrs: addrs}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if about, ok := subject(raw, false); !ok || about != aRoute {
			t.Errorf("%s: about %v, %v", name, about, ok)
		}
		messages, err := route.ParseRIB(route.RIBTypeRoute, raw)
		if err != nil || len(messages) != 1 {
			t.Fatalf("%s: %d messages, %v", name, len(messages), err)
		}
		m := messages[0].(*route.RouteMessage)
		if got := destination(m); got != netip.MustParsePrefix(c.want) || m.Index != 3 {
			t.Errorf("%s: to %v by %d, want %s", name, got, m.Index, c.want)
		}
	}
}
