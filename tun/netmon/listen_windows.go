package netmon

import (
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// listen has the IP Helper tell of links, addresses and routes. It does not tell of the metrics
// that decide between two default routes but as of a change of the interface: so the default
// routes are looked at too.
func (m *monitor) listen() (chan news, error) {
	out := make(chan news)
	var registered []interface{ Unregister() error }
	unregister := func() error {
		var failed []error
		for _, r := range registered {
			failed = append(failed, r.Unregister())
		}
		return errors.Join(failed...)
	}
	links, err := winipcfg.RegisterInterfaceChangeCallback(func(winipcfg.MibNotificationType, *winipcfg.MibIPInterfaceRow) {
		m.notify(out, notice{about: aLink})
	})
	if err != nil {
		return nil, fmt.Errorf("listen for changes of interfaces: %w", err)
	}
	registered = append(registered, links)
	addrs, err := winipcfg.RegisterUnicastAddressChangeCallback(func(winipcfg.MibNotificationType, *winipcfg.MibUnicastIPAddressRow) {
		m.notify(out, notice{about: anAddress})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for changes of addresses: %w", err), unregister())
	}
	registered = append(registered, addrs)
	routes, err := winipcfg.RegisterRouteChangeCallback(func(_ winipcfg.MibNotificationType, r *winipcfg.MibIPforwardRow2) {
		m.notify(out, notice{about: aRoute, link: int(r.InterfaceIndex), to: destination(r)})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for changes of routes: %w", err), unregister())
	}
	registered = append(registered, routes)
	m.looks.Store(true)
	m.tasks.Go(func() {
		<-m.stop
		// It waits for the callbacks that run, which end since the monitor is closed.
		if err := unregister(); err != nil {
			m.log.Warn("the system goes on to tell of changes of its network, which nobody reads", zap.Error(err))
		}
	})
	return out, nil
}

// destination is where a route leads.
func destination(r *winipcfg.MibIPforwardRow2) netip.Prefix { return r.DestinationPrefix.Prefix() }
