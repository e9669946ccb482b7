package route

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// New makes a Router. It keeps its state file in the folder stateDir, which it
// creates; log may be nil. The Router acts on the network namespace that the
// calling thread is in at Set and Close.
func New(stateDir string, log *zap.Logger) Router {
	if log == nil {
		log = zap.NewNop()
	}
	return &router{dir: stateDir, log: log}
}

type router struct {
	dir string
	log *zap.Logger

	mu   sync.Mutex
	have state
	file *stateFile // nil until the first Set
}

func (r *router) Set(c Config) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apply(c)
}

func (r *router) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.apply(Config{})
}

// apply comes to c, the zero Config being nothing at all. The state file is
// written before the host is touched, with all that was and all that will be.
func (r *router) apply(c Config) error {
	if r.file == nil {
		file, err := createStateFile(r.dir, c.Device)
		if err != nil {
			return err
		}
		r.file = file
	}
	others, err := livingOthers(r.dir, r.file)
	if err != nil {
		return err
	}
	device := c.Device
	if device == "" {
		device = r.have.Config.Device
	}
	f := gather(device, others)
	ops, next := plan(r.have, c, f)
	if c.Device != "" {
		if err := r.file.write(union(r.have, next)); err != nil {
			return err
		}
	}
	if err := carryOut(ops, r.log); err != nil {
		r.have = union(r.have, next)
		return err
	}
	r.have = next
	if c.Device == "" {
		err := r.file.remove()
		r.file = nil
		return err
	}
	return r.file.write(next)
}

// union is what may be in force while a host goes from a to b.
func union(a, b state) state {
	out := b
	if b.Config.Device == "" {
		return a
	}
	out.Config.Addresses, _ = normalPrefixes(append(a.Config.Addresses[:len(a.Config.Addresses):len(a.Config.Addresses)], b.Config.Addresses...), false)
	out.Config.Routes, _ = normalPrefixes(append(a.Config.Routes[:len(a.Config.Routes):len(a.Config.Routes)], b.Config.Routes...), true)
	for _, s := range a.Settings {
		if !inGroup(b.Settings, s.Group) {
			out.Settings = append(out.Settings[:len(out.Settings):len(out.Settings)], s)
		}
	}
	return out
}

// sysctlKeys are those whose values plan wants among its facts.
func sysctlKeys(device string, interfaces []string) []string {
	keys := []string{validMark, forward4, redirects4, forward6, generation(device)}
	for _, name := range interfaces {
		keys = append(keys, "net/ipv4/conf/"+name+"/forwarding", "net/ipv6/conf/"+name+"/forwarding", "net/ipv6/conf/"+name+"/accept_ra")
	}
	return keys
}

// gather finds out what plan must know.
func gather(device string, others []setting) facts {
	f := facts{Sysctl: map[string]string{}, Others: others}
	if entries, err := os.ReadDir(procSys + "net/ipv4/conf"); err == nil {
		for _, e := range entries {
			if e.Name() != "all" && e.Name() != "default" {
				f.Interfaces = append(f.Interfaces, e.Name())
			}
		}
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

func carryOut(ops []operation, log *zap.Logger) error {
	var failed []error
	for _, op := range ops {
		err := op.carryOut()
		if err == nil {
			log.Debug("route", zap.Stringer("step", op))
			continue
		}
		wrapped := &Error{Step: op.String(), Hint: hint(err), Err: err}
		if op.verb == add {
			return errors.Join(append(failed, wrapped)...)
		}
		failed = append(failed, wrapped) // take away the rest all the same
	}
	return errors.Join(failed...)
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

func (o operation) carryOut() error {
	switch {
	case o.sysctl.Key != "":
		if o.verb == remove {
			return ignore(writeSysctl(o.sysctl.Key, o.sysctl.Was), fs.ErrNotExist)
		}
		return writeSysctl(o.sysctl.Key, o.sysctl.Want)
	case o.up, o.mtu != 0, o.address.IsValid():
		return o.onDevice()
	case o.route.prefix.IsValid():
		return o.route.carryOut(o.verb)
	default:
		return o.rule.carryOut(o.verb)
	}
}

func (o operation) onDevice() error {
	link, err := linkByName(o.device)
	if err != nil {
		if o.verb == remove {
			return ignore(err, unix.ENODEV)
		}
		return err
	}
	switch {
	case o.up:
		return netlink.LinkSetUp(link)
	case o.mtu != 0:
		if link.Attrs().MTU == o.mtu {
			return nil
		}
		return netlink.LinkSetMTU(link, o.mtu)
	}
	a := &netlink.Addr{IPNet: ipNet(o.address)}
	if o.verb == remove {
		return ignore(netlink.AddrDel(link, a), unix.EADDRNOTAVAIL)
	}
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	if o.address.Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD
	}
	return netlink.AddrReplace(link, a)
}

func (e routeEntry) carryOut(v verb) error {
	link, err := linkByName(e.device)
	if err != nil {
		if v == remove {
			return ignore(err, unix.ENODEV)
		}
		return err
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(e.prefix),
		Table:     e.table,
		Protocol:  Protocol,
		Scope:     netlink.SCOPE_LINK,
	}
	if e.prefix.Addr().Is6() {
		route.Scope = netlink.SCOPE_UNIVERSE
	}
	if e.source.IsValid() {
		route.Src = net.IP(e.source.AsSlice())
	}
	if v == remove {
		route.Src = nil
		return ignore(netlink.RouteDel(route), unix.ESRCH, unix.ENOENT)
	}
	return netlink.RouteReplace(route)
}

func (e ruleEntry) carryOut(v verb) error {
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
		return ignore(netlink.RuleDel(rule), unix.ENOENT)
	}
	return ignore(netlink.RuleAdd(rule), unix.EEXIST)
}

func linkByName(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%s: %w", name, unix.ENODEV)
	}
	return link, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func ignore(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
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
