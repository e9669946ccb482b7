package netmon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// links lists the interfaces and all addresses, each once: package net would ask for all
// addresses again for each interface.
func links() ([]link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // by a change, of which news will come
		return nil, err
	}
	of := map[int][]netip.Addr{}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			of[a.LinkIndex] = append(of[a.LinkIndex], addr.Unmap())
		}
	}
	out := make([]link, len(all))
	for i, l := range all {
		out[i] = link{l, of[l.Index]}
	}
	return out, nil
}

// listen has the kernel tell of links, addresses and routes.
func (m *monitor) listen() (chan news, error) {
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
		var n notice
		select {
		case <-clock.C:
			if links != nil && addrs != nil && routes != nil {
				continue
			}
			m.looks.Store(true)
			n.about = aLink
		case <-m.stop:
			return
		case _, ok := <-links:
			if !ok {
				links = nil
				continue
			}
			n.about = aLink
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
				continue
			}
			n.about = anAddress
		case r, ok := <-routes:
			if !ok {
				routes = nil
				continue
			}
			if r.Table != unix.RT_TABLE_MAIN {
				continue
			}
			n = notice{about: aRoute, link: r.LinkIndex, to: destination(&r.Route)}
		}
		m.notify(out, n)
	}
}

// destination is that of a route; it is nil for default routes of some kernels.
func destination(r *netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	addr, _ := netip.AddrFromSlice(r.Dst.IP)
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addr, ones)
}
