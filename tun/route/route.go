// Package route sets up the host around a TUN interface: its address, MTU and
// state, the routes into the tunnel, the rules that keep our own outer packets
// out of it, and IP forwarding for a gateway. One small interface; the decision
// what to change is a pure function (plan.go), one file an operating system
// carries it out.
//
// On Linux the order of lookups is:
//
//	pref P       fwmark MARK -> main      our own outer packets, whatever the tunnel covers
//	pref P+10    (host routes and local networks that the user keeps outside)
//	pref P+20    not fwmark MARK -> table of the tunnel
//	pref 32766   main
//
// The tunnel's table stands before main, so that a more specific route which a
// DHCP server injects into main cannot pull traffic out of the tunnel
// (CVE-2024-3661). It holds exactly the routes of the Config; what they do not
// cover goes on to main. suppress_prefixlength is not used. Marked packets are
// excepted from the last rule too: without a route in main they are unreachable
// and do not loop.
//
// Everything set here is found again after the process was killed: rules and
// routes carry a protocol number of their own, and each Router keeps a state file
// that lists them together with the sysctls it changed and their former values.
package route

import (
	"fmt"
	"net/netip"
	"slices"
)

// What Set uses where Config leaves zero. The numbers are ours on Linux: the mark
// keeps out of the bits of Kubernetes (0x4000, 0x8000) and Tailscale (0xff0000),
// the preferences follow Tailscale's 5210 to 5270.
const (
	DefaultMark     = 0x4d000000
	DefaultTable    = 19780
	DefaultPriority = 5310
)

// Protocol is the routing protocol number on our rules and routes ("proto 77" in
// the output of ip).
const Protocol = 77

// Config is what the host shall look like around one interface.
type Config struct {
	// Device is the name of the TUN interface. It is set up.
	Device string
	// MTU in octets; 0 leaves it.
	MTU int
	// Addresses of the interface, with their prefix lengths. They bring no routes
	// of their own.
	Addresses []netip.Prefix
	// Routes are the prefixes that lead into the tunnel, both families.
	Routes []netip.Prefix
	// Sources are the preferred source addresses of those routes, at most one a
	// family, for tunnels without a virtual address; see SourceWithin. None leaves
	// the choice to the kernel, which takes an address of the interface.
	Sources []netip.Addr
	// Mark is the firewall mark (SO_MARK) on our own outer packets; 0 means
	// DefaultMark.
	Mark uint32
	// Table of the tunnel's routes; 0 means DefaultTable. Routers of one host need
	// different ones.
	Table int
	// Priority is the first of the rule preferences that are used, up to 29 above;
	// 0 means DefaultPriority.
	Priority int
	// Forward turns IP forwarding on, of the families that Addresses and Routes
	// have.
	Forward bool
}

// Router owns what it set. Its methods may be called by anybody.
type Router interface {
	// Set makes the host as c says, and takes away what an earlier Set did and c
	// no longer wants. Nothing is done for what is as it should be, unless somebody
	// else removed it: that is put back. After an error some of it may be done;
	// Set again, or Close.
	Set(c Config) error
	// Close takes everything away and restores what was changed.
	Close() error
}

// Error tells which step failed. Step is the command that does the same by hand.
type Error struct {
	Step string
	Hint string // may be empty
	Err  error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("route: %s: %v", e.Step, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// normal fills in defaults, sorts and removes duplicates, and refuses what cannot
// be meant.
func (c Config) normal() (Config, error) {
	if c.Device == "" {
		return c, fmt.Errorf("route: no device named")
	}
	if c.Mark == 0 {
		c.Mark = DefaultMark
	}
	if c.Table == 0 {
		c.Table = DefaultTable
	}
	if c.Priority == 0 {
		c.Priority = DefaultPriority
	}
	if c.Table < 256 || c.Table > 0x7fffffff {
		return c, fmt.Errorf("route: table %d, want 256 or more: those below belong to the system", c.Table)
	}
	if c.Priority < 1 || c.Priority+priorities > mainPriority {
		return c, fmt.Errorf("route: priority %d, want 1 to %d: the rules must stand between local (0) and main (%d)", c.Priority, mainPriority-priorities, mainPriority)
	}
	var err error
	if c.Addresses, err = normalPrefixes(c.Addresses, false); err != nil {
		return c, err
	}
	if c.Routes, err = normalPrefixes(c.Routes, true); err != nil {
		return c, err
	}
	families := map[bool]bool{}
	c.Sources = slices.Clone(c.Sources)
	for i, a := range c.Sources {
		a = a.Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || families[a.Is4()] {
			return c, fmt.Errorf("route: sources %v, want at most one address a family", c.Sources)
		}
		families[a.Is4()] = true
		c.Sources[i] = a
	}
	return c, nil
}

func normalPrefixes(in []netip.Prefix, masked bool) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("route: prefix %s is not valid", p)
		}
		if masked {
			p = p.Masked()
		}
		out = append(out, p)
	}
	if masked {
		slices.SortFunc(out, netip.Prefix.Compare)
	}
	seen := make(map[netip.Prefix]bool, len(out))
	return slices.DeleteFunc(out, func(p netip.Prefix) bool {
		again := seen[p]
		seen[p] = true
		return again
	}), nil
}

// source is the preferred source for a route to p; invalid when there is none.
func (c Config) source(p netip.Prefix) netip.Addr {
	for _, a := range c.Sources {
		if a.Is4() == p.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// has tells whether Routes, or anything at all, are of the family.
func (c Config) routes(v4 bool) bool {
	return slices.ContainsFunc(c.Routes, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}

func (c Config) uses(v4 bool) bool {
	return c.routes(v4) || slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}
