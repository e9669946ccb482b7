package netstack

import "net/netip"

// special are addresses by what they are for, from the registries of RFC 6890 §2.2 as IANA
// keeps them today. The first that fits counts.
var special = []struct {
	prefix netip.Prefix
	reason Reason
}{
	{netip.MustParsePrefix("0.0.0.0/8"), Unspecified},         // RFC 791 §3.2; Linux takes 0.0.0.0 for itself
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},          // RFC 1122 §3.2.1.3
	{netip.MustParsePrefix("169.254.169.254/32"), Metadata},   // AWS, Google, Azure and most others
	{netip.MustParsePrefix("169.254.170.2/32"), Metadata},     // AWS, of containers
	{netip.MustParsePrefix("169.254.170.23/32"), Metadata},    // AWS, of pods
	{netip.MustParsePrefix("168.63.129.16/32"), Metadata},     // Azure
	{netip.MustParsePrefix("100.100.100.200/32"), Metadata},   // Alibaba
	{netip.MustParsePrefix("192.0.0.192/32"), Metadata},       // Oracle
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},      // RFC 3927 §2.1
	{netip.MustParsePrefix("10.0.0.0/8"), Private},            // RFC 1918 §3
	{netip.MustParsePrefix("172.16.0.0/12"), Private},         // RFC 1918 §3
	{netip.MustParsePrefix("192.168.0.0/16"), Private},        // RFC 1918 §3
	{netip.MustParsePrefix("100.64.0.0/10"), Shared},          // RFC 6598 §7
	{netip.MustParsePrefix("192.0.2.0/24"), Documentation},    // RFC 5737 §3
	{netip.MustParsePrefix("198.51.100.0/24"), Documentation}, // RFC 5737 §3
	{netip.MustParsePrefix("203.0.113.0/24"), Documentation},  // RFC 5737 §3
	{netip.MustParsePrefix("192.0.0.0/24"), Reserved},         // RFC 6890 §2.1
	{netip.MustParsePrefix("192.88.99.0/24"), Reserved},       // RFC 7526 §6: relays of 6to4, no more
	{netip.MustParsePrefix("198.18.0.0/15"), Reserved},        // RFC 2544 §C.2.2: benchmarks
	{netip.MustParsePrefix("255.255.255.255/32"), Broadcast},  // RFC 919 §7
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},         // RFC 5771 §3
	{netip.MustParsePrefix("240.0.0.0/4"), Reserved},          // RFC 1112 §4
	{netip.MustParsePrefix("::/128"), Unspecified},            // RFC 4291 §2.5.2
	{netip.MustParsePrefix("::1/128"), Loopback},              // RFC 4291 §2.5.3
	{netip.MustParsePrefix("fd00:ec2::254/128"), Metadata},    // AWS
	{netip.MustParsePrefix("fd00:ec2::23/128"), Metadata},     // AWS, of pods
	{netip.MustParsePrefix("fd20:ce::254/128"), Metadata},     // Google
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},           // RFC 4291 §2.5.6
	{netip.MustParsePrefix("fec0::/10"), Private},             // RFC 3879 §4: site-local, no more
	{netip.MustParsePrefix("fc00::/7"), Private},              // RFC 4193 §3.1
	{netip.MustParsePrefix("ff00::/8"), Multicast},            // RFC 4291 §2.7
	{netip.MustParsePrefix("2001:db8::/32"), Documentation},   // RFC 3849 §2
	{netip.MustParsePrefix("3fff::/20"), Documentation},       // RFC 9637 §2
	{localNAT64, Reserved},
	{netip.MustParsePrefix("100::/64"), Reserved}, // RFC 6666 §3: discarded
	{siit, Reserved},
}

// Prefixes whose addresses have one of IPv4 inside.
var (
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380 §4
	protocols  = netip.MustParsePrefix("2001::/23")       // RFC 2928 §2: of protocols, not of hosts
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056 §2
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052 §2.1
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215 §5: of some network, also for private addresses
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 §2.1
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 §2.5.5.1
	unicast    = netip.MustParsePrefix("2000::/3")        // RFC 3587 §3: all that was ever given out
)

// embedded appends the addresses of IPv4 that a packet for the IPv6 address a can end at.
func embedded(out []netip.Addr, a netip.Addr, translators []netip.Prefix) []netip.Addr {
	b := a.As16()
	four := func(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	switch {
	case nat64.Contains(a), siit.Contains(a), compatible.Contains(a):
		out = append(out, four(b[12:]))
	case localNAT64.Contains(a):
		// As a /96, or as the whole /48, where the end is empty.
		v4 := four(b[12:])
		if v4.IsUnspecified() {
			v4, _ = translated(b, localNAT64.Bits())
		}
		out = append(out, v4)
	case sixToFour.Contains(a):
		out = append(out, four(b[2:6]))
	case teredo.Contains(a):
		// RFC 4380 §4: the server, and the client with every bit turned.
		out = append(out, four(b[4:8]), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	// RFC 5214 §6.1: the interface identifier of ISATAP, in any network.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		out = append(out, four(b[12:]))
	}
	for _, p := range translators {
		if p.Contains(a) && p.Addr().Is6() {
			if v4, ok := translated(b, p.Bits()); ok {
				out = append(out, v4)
			}
		}
	}
	return out
}

// translated is the address of IPv4 behind a prefix of a translator.
func translated(b [16]byte, bits int) (netip.Addr, bool) {
	switch bits {
	case 32, 40, 48, 56, 64, 96:
	default:
		return netip.Addr{}, false
	}
	// RFC 6052 §2.2: behind the prefix, jumping over bits 64 to 71.
	var v4 [4]byte
	at := bits / 8
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4), true
}
