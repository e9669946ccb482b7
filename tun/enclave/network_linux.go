package enclave

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/tun/route"
)

// setLoopback brings lo up and lets the user ping, which needs no capability then.
func setLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return at("bring lo up", err)
	}
	// Where /proc/sys may not be written there is no ping, which is no reason to stop.
	_ = writeSysctl("ipv4/ping_group_range", fmt.Sprintf("%d %d", os.Getegid(), os.Getegid()))
	return nil
}

// writeSysctl sets a value of this network namespace.
func writeSysctl(key, value string) error {
	return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
}

// setNetwork makes these the device's addresses and routes all of their families into it. What
// stays is not touched, so that connections live on.
func setNetwork(device string, addresses []netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return at("find the device "+device, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		// Else the kernel would have an address of its own, and ask for routers in the tunnel.
		_ = writeSysctl("ipv6/conf/"+device+"/addr_gen_mode", "1")
		if err := netlink.LinkSetUp(link); err != nil {
			return at("bring the device "+device+" up", err)
		}
	}
	had, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return at("list addresses", err)
	}
	var present []netip.Addr
	for _, a := range had {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.Unmap().IsLinkLocalUnicast() {
			present = append(present, addr.Unmap())
		}
	}
	var wanted []netip.Addr
	for _, a := range addresses {
		if a.Is4() || hasIPv6() {
			wanted = append(wanted, a)
		}
	}
	for _, a := range wanted {
		if slices.Contains(present, a) {
			continue
		}
		if err := netlink.AddrAdd(link, hostAddress(a)); err != nil && !errors.Is(err, unix.EEXIST) {
			return at(fmt.Sprintf("give %s the address %v", device, a), err)
		}
		if a.Is6() {
			route.AwaitLocal(a)
		}
	}
	for _, a := range present {
		if slices.Contains(wanted, a) {
			continue
		}
		if err := netlink.AddrDel(link, hostAddress(a)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return at(fmt.Sprintf("take the address %v from %s", a, device), err)
		}
	}
	for _, v4 := range []bool{true, false} {
		if err := setDefault(link, v4, slices.ContainsFunc(wanted, func(a netip.Addr) bool { return a.Is4() == v4 })); err != nil {
			return at("route everything into "+device, err)
		}
	}
	return nil
}

func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func hostAddress(a netip.Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		out.Flags = unix.IFA_F_NODAD // nobody else is on this link
	}
	return out
}

// setDefault sets or takes away the default route of a family. Without one what the program sends
// fails at once.
func setDefault(link netlink.Link, v4, wanted bool) error {
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_UNIVERSE, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	if v4 {
		route.Scope, route.Dst = netlink.SCOPE_LINK, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	if wanted {
		return netlink.RouteReplace(route)
	}
	err := netlink.RouteDel(route)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || !v4 && !hasIPv6() {
		return nil
	}
	return err
}
