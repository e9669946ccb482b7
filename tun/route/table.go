package route

import (
	"net/netip"
	"slices"
)

// row is one route of a system with a single routing table.
type row struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"` // none: what is there is on the link
	Device  string       `json:"device,omitempty"` // of a reject route none counts
	Reject  bool         `json:"reject,omitempty"`
	// Metric decides among rows for the same prefix, on Windows: that of the route and of its
	// interface together, and the lowest wins.
	Metric uint32 `json:"-"`
}

func (r row) same(o row) bool {
	r.Metric, o.Metric = 0, 0
	return r == o
}

func (r row) in(rows []row) bool { return slices.ContainsFunc(rows, r.same) }

// covers tells whether all of p is in the network of r.
func (r row) covers(p netip.Prefix) bool {
	return r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr())
}

// onward is the row of a table that carries all of p.
func onward(table []row, p netip.Prefix) (row, bool) {
	var best row
	found := false
	for _, r := range table {
		if r.Reject || !r.covers(p) {
			continue
		}
		closer := r.Prefix.Bits() - best.Prefix.Bits()
		if !found || closer > 0 || closer == 0 && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	return best, found
}

// halved replaces the default destination by its two halves, which are more specific than the
// system's own default route, so that this stays as it is. A half that has a purpose of its
// own keeps it.
func halved(in []destination) []destination {
	var out []destination
	for _, d := range in {
		if d.prefix.Bits() > 0 {
			out = append(out, d)
			continue
		}
		if d.purpose == outside {
			continue // that is the system's own default route
		}
		upper := netip.AddrFrom16([16]byte{0x80})
		if d.prefix.Addr().Is4() {
			upper = netip.AddrFrom4([4]byte{0x80})
		}
		for _, a := range []netip.Addr{d.prefix.Addr(), upper} {
			half := netip.PrefixFrom(a, 1)
			if !slices.ContainsFunc(in, func(o destination) bool { return o.prefix == half }) {
				out = append(out, destination{half, d.purpose})
			}
		}
	}
	return out
}

// embedded is an IPv6 address as the kernels of the BSDs write it: one that counts on one link
// only has the index of the interface in its second pair of octets.
func embedded(a netip.Addr, index int) [16]byte {
	out := a.As16()
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() {
		out[2], out[3] = byte(index>>8), byte(index)
	}
	return out
}
