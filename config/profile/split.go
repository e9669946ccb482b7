package profile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxRoutes bounds the prefixes that one exclusion may leave.
const maxRoutes = 2000

// without lists the prefixes that cover subnets but not excluded; no subnets are all addresses of
// both families. Each is a prefix, an address or a range of addresses.
func without(subnets, excluded []string) ([]netip.Prefix, error) {
	if len(subnets) > maxRoutes || len(excluded) > maxRoutes {
		return nil, errors.New("there are too many subnets")
	}
	if len(subnets) == 0 {
		subnets = []string{"0.0.0.0/0", "::/0"}
	}
	var in []netip.Prefix
	for _, text := range subnets {
		list, err := prefixes(text)
		if err != nil {
			return nil, err
		}
		in = append(in, list...)
	}
	for _, text := range excluded {
		list, err := prefixes(text)
		if err != nil {
			return nil, err
		}
		for _, out := range list {
			var left []netip.Prefix
			for _, p := range in {
				left = append(left, cut(p, out)...)
			}
			if in = left; len(in) > maxRoutes {
				return nil, errors.New("too many prefixes would be left")
			}
		}
	}
	slices.SortFunc(in, netip.Prefix.Compare)
	return slices.Compact(in), nil
}

// cut takes out of p what out covers.
func cut(p, out netip.Prefix) []netip.Prefix {
	switch {
	case !p.Overlaps(out):
		return []netip.Prefix{p}
	case out.Bits() <= p.Bits():
		return nil
	}
	low, high := halves(p)
	return append(cut(low, out), cut(high, out)...)
}

func halves(p netip.Prefix) (low, high netip.Prefix) {
	octets := p.Addr().AsSlice()
	octets[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(octets)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}

// prefixes reads a prefix, an address, or a range as the prefixes that make it up.
func prefixes(text string) ([]netip.Prefix, error) {
	wrong := fmt.Errorf("%s is no subnet", quoted(text))
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			return []netip.Prefix{netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, nil
		}
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, wrong
		}
		return []netip.Prefix{p.Masked()}, nil
	}
	from, err1 := netip.ParseAddr(strings.TrimSpace(first))
	to, err2 := netip.ParseAddr(strings.TrimSpace(last))
	if err1 != nil || err2 != nil || from.Is4() != to.Is4() || to.Less(from) || from.Zone()+to.Zone() != "" || from.Is4In6() || to.Is4In6() {
		return nil, wrong
	}
	var out []netip.Prefix
	for at := from; ; {
		// The largest prefix that begins here and ends in time.
		bits := at.BitLen()
		for bits > 0 {
			wider := netip.PrefixFrom(at, bits-1)
			if wider.Masked().Addr() != at || to.Less(end(wider)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(at, bits)
		out = append(out, p)
		if end(p) == to {
			return out, nil
		}
		at = end(p).Next()
	}
}

// end is the last address of a prefix.
func end(p netip.Prefix) netip.Addr {
	octets := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(octets)*8; bit++ {
		octets[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(octets)
	return a
}
