package netmon

import (
	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// defaultRoutes are those of the system. The metric that decides is that of the route and that
// of its interface together.
func defaultRoutes(v4 bool) ([]defaultRoute, error) {
	family := winipcfg.AddressFamily(windows.AF_INET6)
	if v4 {
		family = windows.AF_INET
	}
	table, err := winipcfg.GetIPForwardTable2(family)
	if err != nil {
		return nil, err
	}
	var out []defaultRoute
	for i := range table {
		r := &table[i]
		if destination(r).Bits() != 0 {
			continue
		}
		link, err := r.InterfaceLUID.IPInterface(family)
		if err != nil || !link.Connected {
			continue
		}
		out = append(out, defaultRoute{link: int(r.InterfaceIndex), metric: int(r.Metric) + int(link.Metric)})
	}
	return out, nil
}
