package netmon

import (
	"cmp"
	"net"
	"slices"
)

// defaultRoute is a default route of one family of addresses, in the same words whatever the
// system.
type defaultRoute struct {
	link   int  // the index of its interface
	metric int  // the lowest is taken, and the first of several
	scoped bool // of macOS: only for sockets that are bound to the interface
}

// DefaultInterface is the interface by which packets leave this host for the Internet, by IPv4
// or else IPv6. It is for systems where a socket stays out of the tunnel by being bound to it.
// The system is asked at each call. The interface tunnel is passed over, and others only if they
// are down; another program's tunnel, which has the default route, counts.
func DefaultInterface(v4 bool, tunnel string) (name string, index int, ok bool) {
	routes, err := defaultRoutes(v4)
	if err != nil {
		return "", 0, false
	}
	links, err := net.Interfaces()
	if err != nil {
		return "", 0, false
	}
	out, ok := choose(routes, links, tunnel)
	return out.Name, out.Index, ok
}

// choose finds the interface that leads out.
func choose(routes []defaultRoute, links []net.Interface, tunnel string) (_ net.Interface, ok bool) {
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b defaultRoute) int {
		if a.scoped != b.scoped {
			if b.scoped {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.metric, b.metric)
	})
	for _, r := range routes {
		i := slices.IndexFunc(links, func(l net.Interface) bool { return l.Index == r.link })
		if i < 0 {
			continue
		}
		l := links[i]
		switch {
		case l.Name == tunnel, l.Flags&net.FlagUp == 0, l.Flags&net.FlagLoopback != 0:
		case r.scoped && l.Flags&net.FlagPointToPoint != 0:
			// macOS has such routes into tunnels of its own, which lead nowhere for others.
		default:
			return l, true
		}
	}
	return net.Interface{}, false
}
