//go:build darwin || freebsd || openbsd

package netmon

import (
	"runtime"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// ifScope is RTF_IFSCOPE of macOS. The bit means something else on other systems.
const ifScope = 0x1000000

// defaultRoutes are those of the routing table of this process, in the kernel's order, which has
// the best first.
func defaultRoutes(v4 bool) ([]defaultRoute, error) {
	family := unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	table, err := route.FetchRIB(family, route.RIBTypeRoute, 0)
	if err != nil {
		return nil, err
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, table)
	if err != nil {
		return nil, err
	}
	var out []defaultRoute
	for _, r := range messages {
		r, ok := r.(*route.RouteMessage)
		if !ok || destination(r).Bits() != 0 || r.Flags&unix.RTF_UP == 0 || r.Flags&(unix.RTF_REJECT|unix.RTF_BLACKHOLE) != 0 {
			continue
		}
		out = append(out, defaultRoute{link: r.Index, scoped: runtime.GOOS == "darwin" && r.Flags&ifScope != 0})
	}
	return out, nil
}
