package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kept is a road warrior whose peer gave an IPv4 address only. The network 198.51.100.0/24 is
// kept outside, but for a part of it that is the tunnel's.
func kept() Config {
	return Config{
		Device: "martlet0", MTU: 1400, Forward: true,
		Addresses:   prefixes("10.9.0.5/32"),
		Routes:      prefixes("0.0.0.0/0", "198.51.100.64/26"),
		Outside:     prefixes("198.51.100.0/24", "2001:db8:1:1::/64"),
		Unreachable: prefixes("::/0", "198.18.0.0/15"),
	}
}

// The longest prefix of the Config decides, and none that others put into main does.
func TestLongestPrefixOfTheConfig(t *testing.T) {
	host, peer := network(t)
	peer.IP("address add 2001:db8:1:1::1/128 dev eth0 nodad")
	peer.IP("address add 198.18.0.1/32 dev eth0")
	peer.IP("address add fe80::1/64 dev eth0 nodad")
	host.IP("address add fe80::2/64 dev eth0 nodad")
	before := host.snapshot()
	// What a DHCP server and router advertisements may say (CVE-2024-3661).
	injected := []string{
		"route add 203.0.113.0/25 via 192.0.2.1", "route add 198.51.100.65 via 192.0.2.1", "route add 198.18.0.1 via 192.0.2.1",
		"-6 route add 2001:db8:1::1 via 2001:db8::1",
	}
	for _, r := range injected {
		host.IP(r)
	}
	device := host.open()
	router := New(t.TempDir(), nil)
	host.Do(func() error { return router.Set(kept()) })

	plain := host.socket("[::]:0", 0)
	marked := host.socket("[::]:0", DefaultMark)
	for _, test := range []struct {
		from *net.UDPConn
		to   string
	}{
		{plain, "198.51.100.1:7000"},      // outside
		{plain, "[2001:db8:1:1::1]:7000"}, // outside, within a family that has no way
		{marked, "198.51.100.1:4500"},     // our own, outside
		{marked, "192.0.2.1:4500"},        // our own, covered by the tunnel
		{marked, "[2001:db8:1::1]:4500"},  // our own, of a family that has no way
		{marked, "198.18.0.1:4500"},       // our own, to a network that has no way
	} {
		go reflect(peer.socket(test.to, 0))
		if err := exchange(test.from, test.to); err != nil {
			t.Errorf("to %s: %v", test.to, err)
		}
	}
	for _, to := range []string{
		"203.0.113.9:9",   // injected
		"198.51.100.65:9", // injected, and more specific than what is kept outside
		"192.0.2.1:9",     // on the link, but nobody keeps it outside
	} {
		if _, err := plain.WriteToUDPAddrPort([]byte("in"), netip.MustParseAddrPort(to)); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
		if err := expectFromHost(device, netip.MustParseAddr("10.9.0.5"), netip.MustParseAddrPort(to).Addr()); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
	for _, to := range []string{"[2001:db8:1::1]:9", "[2001:db8::1]:9", "198.18.0.1:9"} {
		if _, err := plain.WriteToUDPAddrPort([]byte("lost"), netip.MustParseAddrPort(to)); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("to %s: got %v, want that there is no way", to, err)
		}
	}
	go reflect(peer.socket("[::]:7001", 0))
	if err := exchange(plain, fmt.Sprintf("[fe80::1%%%d]:7001", host.index("eth0"))); err != nil {
		t.Errorf("to a neighbour: %v", err)
	}

	for _, r := range injected {
		host.IP(strings.Replace(r, "add", "del", 1))
	}
	host.Do(router.Close)
	device.Close()
	if diff := cmp.Diff(before, host.snapshot()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func (n *testNamespace) index(device string) (index int) {
	n.t.Helper()
	n.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	return index
}
