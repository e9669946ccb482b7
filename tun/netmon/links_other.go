//go:build !linux

package netmon

import (
	"net"
	"net/netip"
)

// links lists the interfaces with their addresses.
func links() ([]link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := make([]link, 0, len(all))
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		l := link{Interface: i}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				l.addrs = append(l.addrs, prefix.Addr().Unmap())
			}
		}
		out = append(out, l)
	}
	return out, nil
}
