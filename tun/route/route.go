// Package route sets up the host around a TUN interface: its address, MTU and
// state, the routes into the tunnel, what keeps our own outer packets and some networks
// out of it, and IP forwarding for a gateway. One small interface; the decision
// what to change is a pure function, one file an operating system carries it out.
//
// # Destinations
//
// A Config tells of three kinds of prefixes: Routes lead into the tunnel, Outside stay
// out of it, Unreachable have no way. The longest prefix that covers an address decides, on
// all systems: so a network of the tunnel may lie within one that is kept outside, and the
// other way round; it is the rule by which anybody reads a routing table; and where there is
// one table only there can be no other, so that a Config means the same everywhere. Of equal
// prefixes Outside counts before Routes, since the user names it and the peer may name the
// other, and Unreachable counts least.
//
// # Linux
//
// The order of lookups (plan.go) is:
//
//	pref P       fwmark MARK -> main      our own outer packets, whatever the tunnel covers
//	pref P+20    not fwmark MARK -> table of the tunnel
//	pref 32766   main
//
// The tunnel's table stands before main, so that a more specific route which a
// DHCP server injects into main cannot pull traffic out of the tunnel
// (CVE-2024-3661). It holds exactly the destinations of the Config; what they do not
// cover goes on to main. Outside are throw routes, which end the lookup in this table and
// have it go on with main; Unreachable are unreachable routes. Rules that send prefixes to
// main before P+20 would do for few, but the kernel tries rules one after the other for each
// packet, and would not let a longer prefix of the tunnel win. suppress_prefixlength is not
// used. Marked packets are excepted from the last rule too: without a route in main they are
// unreachable and do not loop.
//
// # macOS, FreeBSD, OpenBSD and Windows
//
// They have one routing table (plantable.go), and no order of rules: a route that somebody
// else adds wins if it is more specific (CVE-2024-3661), and a program may bind a socket
// to another interface. There only the packet filter holds the tunnel tight. In particular:
//
//   - The BSDs and macOS get everything into the tunnel by the halves of the address space,
//     0.0.0.0/1 and 128.0.0.0/1, ::/1 and 8000::/1, so that the system's own default route
//     stays. Windows compares metrics, and those of the tunnel are 0.
//   - Outside are routes by which the system would send without a tunnel, where a route of the
//     tunnel would take the packets. They are found at each Set: call it again when the
//     host has moved to another network.
//   - Unreachable are reject routes; on Windows, which has none, they lead into the tunnel,
//     whose policy drops what belongs to no SA.
//   - Our own outer packets are kept out by their sockets, which are bound to the outer
//     interface: IP_BOUND_IF on macOS, IP_UNICAST_IF on Windows. FreeBSD and OpenBSD have no such
//     thing without further tables that an administrator must make first (SO_SETFIB,
//     SO_RTABLE): the outer address of each peer must be in Outside, which makes a host route.
//     What other programs send to it goes past the tunnel too (CVE-2023-36673).
//   - OpenBSD names the interface of a route by an address of it: there is none without a
//     virtual address of the family.
//
// Routes are set through routing sockets, where the kernel itself says what is wrong, and by
// which the table is read as well. Addresses are set by ifconfig(8), as wg-quick does: the
// requests behind it have another form on each of these systems, and the program knows that
// of its own. On Windows all goes through the IP Helper API. The systems other than Linux were
// compared by the text of their operations only: nobody has run this there.
//
// # After a crash
//
// Everything set here is found again after the process was killed: each Router keeps a state
// file that lists what it set, and the settings it changed with their former values. On
// Linux rules and routes carry a protocol number of their own besides. Elsewhere what is
// undone must still be in the table as it was set, and the system must not have been
// started again since.
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
	// Outside are the networks that the user keeps outside of the tunnel: they are reached
	// as if it were not there. On FreeBSD and OpenBSD the outer addresses of peers must be
	// among them, see the package comment.
	Outside []netip.Prefix
	// Unreachable are the networks that are neither in the tunnel nor outside of it, and
	// programs are told so: ::/0 where the tunnel is to take everything and the peer gave no
	// IPv6 address.
	//
	// Of the prefixes in Routes, Outside and Unreachable the longest that covers an address
	// decides; of equal ones Outside counts before Routes, and Routes before Unreachable.
	Unreachable []netip.Prefix
	// Sources are the preferred source addresses of Routes, at most one a family, for
	// tunnels without a virtual address; see SourceWithin. None leaves the choice to the
	// kernel, which takes an address of the interface. Only Linux has such a preference:
	// elsewhere packets of the host itself need a virtual address.
	Sources []netip.Addr
	// Mark is the firewall mark (SO_MARK) on our own outer packets; 0 means
	// DefaultMark. Mark, Table and Priority count on Linux only.
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
	// else removed it: that is put back. When it returns packets to the addresses are
	// taken (see AwaitLocal). After an error some of it may be done; Set again, or Close.
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
	before := map[netip.Prefix]bool{} // those that count more
	for _, list := range []*[]netip.Prefix{&c.Outside, &c.Routes, &c.Unreachable} {
		all, err := normalPrefixes(*list, true)
		if err != nil {
			return c, err
		}
		*list = slices.DeleteFunc(all, func(p netip.Prefix) bool { return before[p] })
		for _, p := range *list {
			before[p] = true
		}
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

// covers tells whether the tunnel has a say in a family: what Outside leaves is in it, or
// has no way.
func (c Config) covers(v4 bool) bool {
	return hasFamily(c.Routes, v4) || hasFamily(c.Unreachable, v4)
}

// uses tells whether there is anything of the family.
func (c Config) uses(v4 bool) bool { return hasFamily(c.Routes, v4) || hasFamily(c.Addresses, v4) }

func hasFamily(prefixes []netip.Prefix, v4 bool) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}
