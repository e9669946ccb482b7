package martlet

import (
	"net"
	"net/netip"
	"slices"
)

// private are the networks that anybody may use and nobody has on the Internet (RFC 1918, 4193).
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
}

// onLink is what never leaves a link: what a host without DHCP has, and multicast and broadcast to all
// of the link (RFC 3927, 4291, 5771).
var onLink = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/24"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16"),
}

// lan is the local networks of this host now, the tunnel's device left out.
func lan(device string) []netip.Prefix {
	return append(privateOf(attached(device)), onLink...)
}

// attached are the networks of the interfaces that are up, but for loopback and one device.
func attached(device string) []netip.Prefix {
	var out []netip.Prefix
	all, _ := net.Interfaces() // none is as good as an error: the local network stays in the tunnel
	for _, i := range all {
		if i.Name == device || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// privateOf are those networks to which a host is attached that a user means by the local one. A network
// tells by DHCP which it is, and one that claims a public prefix, or a very wide one, wants what is
// for the tunnel (CVE-2023-36672).
func privateOf(attached []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(attached, func(p netip.Prefix) bool {
		widest := 16
		if p.Addr().Is6() {
			widest = 48
		}
		return p.Bits() < widest || !slices.ContainsFunc(private, func(whole netip.Prefix) bool { return within(p, whole) })
	})
}
