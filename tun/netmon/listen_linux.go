package netmon

import (
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// listen has the kernel tell of links, addresses and routes.
func (m *monitor) listen() (<-chan news, error) {
	failed := func(err error) {
		select {
		case <-m.stop: // closing ends a subscription with an error
		default:
			m.log.Warn("news of the network may be lost", zap.Error(err))
		}
	}
	links := make(chan netlink.LinkUpdate)
	addrs := make(chan netlink.AddrUpdate)
	routes := make(chan netlink.RouteUpdate)
	done := make(chan struct{})
	err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		err = netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: failed})
	}
	if err == nil {
		err = netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: failed})
	}
	if err != nil {
		close(done)
		return nil, fmt.Errorf("the kernel does not tell of changes: %w", err)
	}
	out := make(chan news)
	m.tasks.Go(func() { m.forward(out, links, addrs, routes, done) })
	return out, nil
}

// forward passes on what may matter until the monitor is closed. In place of a subscription
// that breaks the clock tells to look.
func (m *monitor) forward(out chan<- news, links <-chan netlink.LinkUpdate, addrs <-chan netlink.AddrUpdate, routes <-chan netlink.RouteUpdate, done chan struct{}) {
	defer func() {
		// Each ends by closing its channel, when it has noticed.
		close(done)
		for links != nil || addrs != nil || routes != nil {
			select {
			case _, ok := <-links:
				if !ok {
					links = nil
				}
			case _, ok := <-addrs:
				if !ok {
					addrs = nil
				}
			case _, ok := <-routes:
				if !ok {
					routes = nil
				}
			}
		}
	}()
	clock := time.NewTicker(poll)
	defer clock.Stop()
	for {
		var n news
		select {
		case <-clock.C:
			if links != nil && addrs != nil && routes != nil {
				continue
			}
		case <-m.stop:
			return
		case _, ok := <-links:
			if !ok {
				links = nil
				continue
			}
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
				continue
			}
		case r, ok := <-routes:
			if !ok {
				routes = nil
				continue
			}
			if !m.leadsOut(&r.Route) {
				continue
			}
			n.sure = true
		}
		select {
		case out <- n:
		case <-m.stop:
			return
		}
	}
}

// leadsOut tells whether a route is a default route of the host's own. Other routes
// come with their addresses, or are too many.
func (m *monitor) leadsOut(r *netlink.Route) bool {
	if r.Table != unix.RT_TABLE_MAIN {
		return false
	}
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 {
			return false
		}
	}
	own, err := net.InterfaceByName(m.ignore)
	return err != nil || own.Index != r.LinkIndex
}
