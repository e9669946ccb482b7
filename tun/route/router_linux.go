package route

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// prepare decides how to come from have to want, in the network namespace of the calling
// thread, and returns the state after it and what does it.
func prepare(have state, want Config, others []setting) (state, func(*zap.Logger) error, error) {
	device := want.Device
	if device == "" {
		device = have.Config.Device
	}
	f := gather(device, others, want.Forward)
	ops, next := plan(have, want, f)
	return next, func(log *zap.Logger) error {
		if err := carryOut(ops, log); err != nil {
			return err
		}
		for _, a := range want.Addresses {
			if a.Addr().Is6() && f.V6 {
				AwaitLocal(a.Addr())
			}
		}
		return nil
	}, nil
}

// sysctlKeys are those whose values plan wants among its facts. The interfaces matter
// for forwarding only.
func sysctlKeys(device string, interfaces []string) []string {
	keys := []string{validMark, forward4, redirects4, forward6, generation(device)}
	for _, name := range interfaces {
		keys = append(keys, "net/ipv4/conf/"+name+"/forwarding", "net/ipv6/conf/"+name+"/forwarding", "net/ipv6/conf/"+name+"/accept_ra")
	}
	return keys
}

// gather finds out what plan must know for a Config, or, not forwarding, for none.
func gather(device string, others []setting, forward bool) facts {
	f := facts{Sysctl: map[string]string{}, Others: others}
	if forward {
		f.Interfaces = interfaces()
	}
	for _, key := range sysctlKeys(device, f.Interfaces) {
		if value, err := readSysctl(key); err == nil {
			f.Sysctl[key] = value
		}
	}
	_, f.V6 = f.Sysctl[forward6]
	if value, err := readSysctl("net/ipv6/conf/all/disable_ipv6"); err != nil || value == "1" {
		f.V6 = false
	}
	return f
}

func interfaces() []string {
	entries, err := os.ReadDir(procSys + "net/ipv4/conf")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Name() != "all" && e.Name() != "default" {
			out = append(out, e.Name())
		}
	}
	return out
}

// kernel is one socket for several requests, and the interfaces that they were about.
type kernel struct {
	*netlink.Handle
	links map[string]netlink.Link
}

func carryOut(ops []operation, log *zap.Logger) error {
	if len(ops) == 0 {
		return nil
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("route: open netlink: %w", err)
	}
	defer handle.Close()
	k := kernel{handle, map[string]netlink.Link{}}
	return each(ops, log, func(op operation) error { return op.carryOut(k) })
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return "needs CAP_NET_ADMIN and a writable /proc/sys: run as root, outside a restricted container"
	case errors.Is(err, unix.ENODEV):
		return "the interface is gone: open the TUN first"
	}
	return ""
}

func (o operation) carryOut(k kernel) error {
	switch {
	case o.sysctl.Key != "":
		if o.verb == remove {
			return ignore(writeSysctl(o.sysctl.Key, o.sysctl.Was), fs.ErrNotExist)
		}
		return writeSysctl(o.sysctl.Key, o.sysctl.Want)
	case o.up, o.mtu != 0, o.address.IsValid():
		return o.onDevice(k)
	case o.route.prefix.IsValid():
		return o.route.carryOut(k, o.verb)
	default:
		return o.rule.carryOut(k, o.verb)
	}
}

func (o operation) onDevice(k kernel) error {
	link, err := k.link(o.device)
	if err != nil {
		if o.verb == remove {
			return ignore(err, unix.ENODEV)
		}
		return err
	}
	switch {
	case o.up:
		return k.LinkSetUp(link)
	case o.mtu != 0:
		if link.Attrs().MTU == o.mtu {
			return nil
		}
		return k.LinkSetMTU(link, o.mtu)
	}
	a := &netlink.Addr{IPNet: ipNet(o.address)}
	if o.verb == remove {
		return ignore(k.AddrDel(link, a), unix.EADDRNOTAVAIL)
	}
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	if o.address.Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD
	}
	return k.AddrReplace(link, a)
}

func (e routeEntry) carryOut(k kernel, v verb) error {
	route := &netlink.Route{
		Dst:      ipNet(e.prefix),
		Table:    e.table,
		Protocol: Protocol,
		Scope:    netlink.SCOPE_UNIVERSE,
	}
	switch e.purpose {
	case into:
		link, err := k.link(e.device)
		if err != nil {
			if v == remove {
				return ignore(err, unix.ENODEV)
			}
			return err
		}
		route.LinkIndex = link.Attrs().Index
		if e.prefix.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
	case outside:
		route.Type = unix.RTN_THROW
	case nowhere:
		route.Type = unix.RTN_UNREACHABLE
	}
	if v == remove {
		return ignore(k.RouteDel(route), unix.ESRCH, unix.ENOENT)
	}
	if e.source.IsValid() {
		route.Src = net.IP(e.source.AsSlice())
	}
	return k.RouteReplace(route)
}

func (e ruleEntry) carryOut(k kernel, v verb) error {
	rule := netlink.NewRule()
	rule.Family = netlink.FAMILY_V6
	if e.v4 {
		rule.Family = netlink.FAMILY_V4
	}
	rule.Priority = e.priority
	rule.Mark = e.mark
	rule.Invert = e.invert
	rule.Table = e.table
	rule.Protocol = Protocol
	if v == remove {
		return ignore(k.RuleDel(rule), unix.ENOENT)
	}
	return ignore(k.RuleAdd(rule), unix.EEXIST)
}

// link finds an interface; its MTU is that of before the first request.
func (k kernel) link(name string) (netlink.Link, error) {
	if link, ok := k.links[name]; ok {
		return link, nil
	}
	link, err := k.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%s: %w", name, unix.ENODEV)
	}
	if err == nil {
		k.links[name] = link
	}
	return link, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// SourceWithin finds an address of the host that lies within one of prefixes, the
// first of them that has one: the source to use in a tunnel without a virtual
// address, whose selectors the kernel does not know. The zero Addr means that
// there is none.
func SourceWithin(prefixes []netip.Prefix) (netip.Addr, error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("route: list addresses: %w", err)
	}
	for _, p := range prefixes {
		for _, a := range addresses {
			addr, ok := netip.AddrFromSlice(a.IP)
			addr = addr.Unmap()
			if ok && p.Contains(addr) && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, nil
}
