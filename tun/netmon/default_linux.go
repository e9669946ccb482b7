package netmon

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// defaultRoutes are those of the main table.
func defaultRoutes(v4 bool) ([]defaultRoute, error) {
	family := unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	// Without a destination the filter takes default routes only.
	all, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	var out []defaultRoute
	for _, r := range all {
		if len(r.MultiPath) > 0 {
			r.LinkIndex = r.MultiPath[0].LinkIndex
		}
		out = append(out, defaultRoute{link: r.LinkIndex, metric: r.Priority})
	}
	return out, nil
}
