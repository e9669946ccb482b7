//go:build darwin || freebsd || openbsd

package route

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/net/route"
	"golang.org/x/sys/unix"

	"martlet/tun/platform"
)

// observe finds out what the kernel has.
func (s *surroundings) observe() error {
	s.Switches = map[string]string{}
	for _, key := range []string{forwardBSD4, forwardBSD6, routerBSD6} {
		if value, err := unix.SysctlUint32(key); err == nil {
			s.Switches[key] = strconv.FormatUint(uint64(value), 10)
		}
	}
	_, s.V6 = s.Switches[forwardBSD6]
	names, err := interfaceNames()
	if err != nil {
		return err
	}
	b, err := route.FetchRIB(unix.AF_UNSPEC, route.RIBTypeRoute, 0)
	if err != nil {
		return err
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, b)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m, ok := m.(*route.RouteMessage); ok {
			if r, ok := rowOf(m, names); ok {
				s.Table = append(s.Table, r)
			}
		}
	}
	return nil
}

// rowOf reads a route. Those that the kernel makes of others, for single neighbours or, on
// macOS, for single interfaces, are none.
func rowOf(m *route.RouteMessage, names map[int]string) (row, bool) {
	if m.Flags&unix.RTF_UP == 0 || m.Flags&derived != 0 || len(m.Addrs) <= unix.RTAX_NETMASK {
		return row{}, false
	}
	to, ok := address(m.Addrs[unix.RTAX_DST], nil)
	if !ok {
		return row{}, false
	}
	bits, ok := maskBits(m.Addrs[unix.RTAX_NETMASK])
	switch {
	case m.Flags&unix.RTF_HOST != 0:
		bits = to.BitLen()
	case !ok && to.IsUnspecified():
		bits = 0
	case !ok:
		return row{}, false
	}
	r := row{Prefix: netip.PrefixFrom(to, bits).Masked()}
	if r.Reject = m.Flags&unix.RTF_REJECT != 0; r.Reject {
		return r, true
	}
	r.Device = names[m.Index]
	if m.Flags&unix.RTF_GATEWAY != 0 {
		if r.Gateway, ok = address(m.Addrs[unix.RTAX_GATEWAY], names); !ok {
			return row{}, false
		}
	}
	return r, true
}

// address reads an address, with the name of its zone if there are names.
func address(a route.Addr, names map[int]string) (netip.Addr, bool) {
	switch a := a.(type) {
	case *route.Inet4Addr:
		return netip.AddrFrom4(a.IP), true
	case *route.Inet6Addr:
		return netip.AddrFrom16(a.IP).WithZone(names[a.ZoneID]), true
	}
	return netip.Addr{}, false
}

func maskBits(a route.Addr) (int, bool) {
	mask, ok := address(a, nil)
	if !ok {
		return 0, false
	}
	bits, size := net.IPMask(mask.AsSlice()).Size()
	return bits, size > 0
}

func carryOut(steps []step, log *zap.Logger) error {
	if len(steps) == 0 {
		return nil
	}
	socket, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("route: open a routing socket: %w", err)
	}
	unix.CloseOnExec(socket)
	defer unix.Close(socket)
	_ = unix.Shutdown(socket, unix.SHUT_RD) // what others do need not be queued for us
	seq := 0
	return each(steps, log, func(s step) error {
		if !s.route.Prefix.IsValid() {
			return run(s.command())
		}
		seq++
		m, err := s.message(seq)
		if err != nil {
			return err
		}
		b, err := m.Marshal()
		if err != nil {
			return err
		}
		_, err = unix.Write(socket, b)
		if s.removes() {
			err = ignore(err, unix.ESRCH)
		}
		return err
	})
}

// message is what a routing socket is told.
func (s step) message(seq int) (*route.RouteMessage, error) {
	r := s.route
	m := &route.RouteMessage{
		Version: unix.RTM_VERSION,
		Type:    unix.RTM_ADD,
		Flags:   unix.RTF_UP | unix.RTF_STATIC,
		ID:      uintptr(os.Getpid()),
		Seq:     seq,
		Addrs:   make([]route.Addr, unix.RTAX_IFP+1),
	}
	m.Addrs[unix.RTAX_DST] = routeAddr(r.Prefix.Addr(), 0)
	if r.Prefix.IsSingleIP() {
		m.Flags |= unix.RTF_HOST
	} else {
		mask, _ := netip.AddrFromSlice(net.CIDRMask(r.Prefix.Bits(), r.Prefix.Addr().BitLen()))
		m.Addrs[unix.RTAX_NETMASK] = routeAddr(mask, 0)
	}
	var device *net.Interface
	if !r.Reject && (!s.removes() || r.Gateway.Zone() != "") {
		var err error
		if device, err = net.InterfaceByName(r.Device); err != nil {
			return nil, fmt.Errorf("interface %s: %w", r.Device, unix.ENXIO)
		}
	}
	switch {
	case r.Gateway.IsValid():
		index := 0
		if device != nil {
			index = device.Index
		}
		m.Flags |= unix.RTF_GATEWAY
		m.Addrs[unix.RTAX_GATEWAY] = routeAddr(r.Gateway, index)
	case s.removes():
	case r.Reject:
		m.Flags |= unix.RTF_GATEWAY | unix.RTF_REJECT
		m.Addrs[unix.RTAX_GATEWAY] = routeAddr(loopback(r.Prefix.Addr()), 0)
	case s.local.IsValid():
		m.Addrs[unix.RTAX_GATEWAY] = routeAddr(s.local, 0)
		m.Addrs[unix.RTAX_IFP] = &route.LinkAddr{Index: device.Index, Name: device.Name}
	default:
		m.Addrs[unix.RTAX_GATEWAY] = &route.LinkAddr{Index: device.Index, Name: device.Name}
	}
	if s.removes() {
		m.Type = unix.RTM_DELETE
	}
	return m, nil
}

// routeAddr is an address for the kernel. It has the index of a link-local one's interface
// within the address, as /sbin/route puts it there.
func routeAddr(a netip.Addr, index int) route.Addr {
	if a.Is4() {
		return &route.Inet4Addr{IP: a.As4()}
	}
	return &route.Inet6Addr{IP: embedded(a, index)}
}

func run(command []string) error {
	program := command[0]
	if found, err := exec.LookPath(filepath.Join("/sbin", program)); err == nil {
		program = found
	} else {
		program = filepath.Join("/usr/sbin", program)
	}
	_, err := platform.Run("", program, command[1:]...)
	return err
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "needs root: run with sudo or doas"
	case errors.Is(err, unix.EEXIST):
		return "another route to the same network is there, maybe of another VPN: end that, or see \"netstat -rn\""
	case errors.Is(err, unix.ENXIO):
		return "the interface is gone: open the TUN first"
	}
	return ""
}

func bootTime() (int64, error) {
	t, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return 0, err
	}
	seconds, _ := t.Unix()
	return seconds, nil
}
