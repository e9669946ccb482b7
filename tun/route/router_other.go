//go:build darwin || freebsd || openbsd || windows

package route

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"

	"go.uber.org/zap"
)

// prepare decides how to come from have to want, and returns the state after it and what does
// it.
func prepare(have state, want Config, others []setting) (state, func(*zap.Logger) error, error) {
	s := surroundings{System: system(runtime.GOOS), Others: others, Addresses: map[string][]netip.Prefix{}}
	for _, device := range []string{have.Config.Device, want.Device} {
		s.Addresses[device] = addressesOf(device)
	}
	if err := s.observe(); err != nil {
		return state{}, nil, fmt.Errorf("route: look at the host's routes: %w", err)
	}
	steps, next, err := planTable(have, want, s)
	return next, func(log *zap.Logger) error { return carryOut(steps, log) }, err
}

// addressesOf are none for a device that is not there.
func addressesOf(device string) []netip.Prefix {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil
	}
	addresses, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, single(p.Addr().Unmap()))
		}
	}
	return out
}

// interfaceNames are those of all interfaces, by index.
func interfaceNames() (map[int]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := make(map[int]string, len(all))
	for _, i := range all {
		out[i.Index] = i.Name
	}
	return out, nil
}

// boot is the time at which the system was started: there is no other name for this run of
// it that all of them have.
func boot() (string, error) {
	seconds, err := bootTime()
	if err != nil {
		return "", fmt.Errorf("route: when the system was started: %w", err)
	}
	return strconv.FormatInt(seconds, 10), nil
}

func sameBoot(a, b string) bool { return sameBootTime(a, b) }

// namespace is the same for all: there is one.
func namespace() (uint64, error) { return 0, nil }

// SourceWithin finds an address of the host that lies within one of prefixes, the
// first of them that has one. The zero Addr means that there is none.
func SourceWithin(prefixes []netip.Prefix) (netip.Addr, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("route: list addresses: %w", err)
	}
	for _, p := range prefixes {
		for _, a := range addresses {
			own, err := netip.ParsePrefix(a.String())
			addr := own.Addr().Unmap()
			if err == nil && p.Contains(addr) && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, nil
}
