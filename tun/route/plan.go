package route

import (
	"fmt"
	"net/netip"
	"slices"
)

const (
	mainPriority = 32766 // of the rule that looks up main
	priorities   = 30    // that one Router may use
	markRule     = 0     // offsets from Config.Priority
	tunnelRule   = 20
)

// setting is a sysctl that was changed: its key in the form of the path below
// /proc/sys, its value before, and the one it has been given. An empty Want means
// that it was not written, but changes as a side effect of others in its group.
type setting struct {
	Group string `json:"group"`
	Key   string `json:"key"`
	Was   string `json:"was"`
	Want  string `json:"want,omitempty"`
}

// value is what the setting gets when it is made or taken back.
func (s setting) value(v verb) string {
	if v == remove {
		return s.Was
	}
	return s.Want
}

// facts are what plan must know of the host.
type facts struct {
	// V6 tells whether the host has IPv6 at all.
	V6 bool
	// Sysctl are the values of the sysctls that are there; a key not in it does not
	// exist.
	Sysctl map[string]string
	// Others are the settings of other living Routers of this host.
	Others []setting
	// Interfaces, for their own copies of the forwarding switch.
	Interfaces []string
}

// state is what a Router has set: the Config that is in force, the sysctls in
// the order in which they were written, and where there is one routing table (planTable)
// the rows that were added to it.
type state struct {
	Config   Config    `json:"config"`
	Settings []setting `json:"settings"`
	Rows     []row     `json:"rows,omitempty"`
}

type verb int

const (
	add verb = iota
	remove
)

// operation is one step. Exactly one of the parts after remove is used.
type operation struct {
	verb    verb
	device  string
	up      bool
	mtu     int
	address netip.Prefix
	route   routeEntry
	rule    ruleEntry
	sysctl  setting
}

// removes tells whether it takes something away.
func (o operation) removes() bool { return o.verb == remove }

type routeEntry struct {
	purpose purpose
	device  string // of a route into the tunnel; the others have none
	prefix  netip.Prefix
	table   int
	source  netip.Addr
}

type ruleEntry struct {
	v4       bool
	priority int
	mark     uint32
	invert   bool // all but the mark
	table    int  // 254 is main
}

const mainTable = 254

// String is the command that does the same by hand.
func (o operation) String() string {
	word := "add"
	if o.verb == remove {
		word = "del"
	}
	switch {
	case o.sysctl.Key != "":
		return fmt.Sprintf("sysctl -w %s=%s", o.sysctl.Key, o.sysctl.value(o.verb))
	case o.up:
		return fmt.Sprintf("ip link set %s up", o.device)
	case o.mtu != 0:
		return fmt.Sprintf("ip link set %s mtu %d", o.device, o.mtu)
	case o.address.IsValid():
		flags := ""
		if o.verb == add {
			flags = " noprefixroute"
			if o.address.Addr().Is6() {
				flags = " nodad noprefixroute"
			}
		}
		return fmt.Sprintf("ip address %s %s dev %s%s", word, o.address, o.device, flags)
	case o.route.prefix.IsValid():
		if o.verb == add {
			word = "replace"
		}
		where := o.route.prefix.String()
		switch o.route.purpose {
		case into:
			where += " dev " + o.route.device
		case outside:
			where = "throw " + where
		case nowhere:
			where = "unreachable " + where
		}
		s := fmt.Sprintf("ip route %s %s table %d proto %d", word, where, o.route.table, Protocol)
		if o.route.source.IsValid() {
			s += " src " + o.route.source.String()
		}
		return s
	default:
		family, not, table := "-4", "", fmt.Sprint(o.rule.table)
		if !o.rule.v4 {
			family = "-6"
		}
		if o.rule.invert {
			not = " not"
		}
		if o.rule.table == mainTable {
			table = "main"
		}
		return fmt.Sprintf("ip %s rule %s pref %d%s fwmark %#x lookup %s proto %d", family, word, o.rule.priority, not, o.rule.mark, table, Protocol)
	}
}

// plan tells how to come from have to want, and the state after it. Additions are
// listed even where have has them already, since somebody may have removed them;
// carrying them out again changes nothing. want is normal; the zero Config means
// that everything goes.
//
// The order: sysctls that make replies acceptable, then the interface, then
// routes, and last the rules that send traffic into them. Removal goes the other
// way, so that at no moment a rule points to an empty table.
func plan(have state, want Config, f facts) ([]operation, state) {
	var ops []operation
	for _, r := range rules(have.Config, f) {
		if !slices.Contains(rules(want, f), r) {
			ops = append(ops, operation{verb: remove, rule: r})
		}
	}
	for _, r := range routesOf(have.Config, f) {
		// One that leads elsewhere or gets another source is replaced, without a gap.
		same := func(w routeEntry) bool { return w.prefix == r.prefix && w.table == r.table }
		if !slices.ContainsFunc(routesOf(want, f), same) {
			ops = append(ops, operation{verb: remove, route: r})
		}
	}
	for _, a := range have.Config.Addresses {
		if have.Config.Device != want.Device || !slices.Contains(want.Addresses, a) {
			ops = append(ops, operation{verb: remove, device: have.Config.Device, address: a})
		}
	}
	settings := wantedSettings(have.Settings, want, f)
	for _, s := range slices.Backward(have.Settings) {
		if !slices.Contains(settings, s) && !inGroup(f.Others, s.Group) {
			ops = append(ops, operation{verb: remove, sysctl: s})
		}
	}
	for _, s := range settings {
		if s.Want != "" && f.Sysctl[s.Key] != s.Want {
			ops = append(ops, operation{sysctl: s})
		}
	}
	if want.Device == "" {
		return ops, state{}
	}
	if want.MTU != 0 {
		ops = append(ops, operation{device: want.Device, mtu: want.MTU})
	}
	for _, a := range want.Addresses {
		if a.Addr().Is4() || f.V6 {
			ops = append(ops, operation{device: want.Device, address: a})
		}
	}
	ops = append(ops, operation{device: want.Device, up: true})
	for _, r := range routesOf(want, f) {
		ops = append(ops, operation{route: r})
	}
	for _, r := range rules(want, f) {
		ops = append(ops, operation{rule: r})
	}
	return ops, state{Config: want, Settings: settings}
}

func routesOf(c Config, f facts) []routeEntry {
	var out []routeEntry
	for _, d := range c.destinations() {
		v4 := d.prefix.Addr().Is4()
		if !c.covers(v4) || !v4 && !f.V6 {
			continue
		}
		e := routeEntry{purpose: d.purpose, prefix: d.prefix, table: c.Table}
		if d.purpose == into {
			e.device, e.source = c.Device, c.source(d.prefix)
		}
		out = append(out, e)
	}
	return out
}

// rules of the families that the tunnel covers, in the order of their preference.
func rules(c Config, f facts) []ruleEntry {
	var out []ruleEntry
	for _, v4 := range []bool{true, false} {
		if !c.covers(v4) || !v4 && !f.V6 {
			continue
		}
		out = append(out,
			ruleEntry{v4: v4, priority: c.Priority + markRule, mark: c.Mark, table: mainTable},
			ruleEntry{v4: v4, priority: c.Priority + tunnelRule, mark: c.Mark, invert: true, table: c.Table})
	}
	return out
}

// The sysctls that are touched.
const (
	// validMark makes the reverse path check look the source up with the packet's
	// mark. Without it a strict check drops the peer's packets as soon as the
	// tunnel's routes cover the peer.
	validMark  = "net/ipv4/conf/all/src_valid_mark"
	forward4   = "net/ipv4/ip_forward"
	redirects4 = "net/ipv4/conf/all/accept_redirects"
	forward6   = "net/ipv6/conf/all/forwarding"
)

// generation is the switch for link-local addresses of an interface: a TUN needs
// none, and with one the kernel sends router solicitations into the tunnel.
func generation(device string) string { return "net/ipv6/conf/" + device + "/addr_gen_mode" }

// The groups of settings.
const (
	markGroup     = "mark"
	deviceGroup   = "device"
	forward4Group = "forward4"
	forward6Group = "forward6"
)

func inGroup(settings []setting, group string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.Group == group })
}

// group is settings that are wanted and undone as a whole.
type group struct {
	name   string
	wanted bool
	fresh  func() []setting // with their values of now
	alone  bool             // no other Router has the same
}

// wantedSettings are the sysctls that c asks for, in the order in which they are written.
func wantedSettings(have []setting, c Config, f facts) []setting {
	return settle(have, f.Others, []group{
		{markGroup, c.covers(true), func() []setting { return markSettings(f) }, false},
		{deviceGroup, c.Device != "" && f.V6, func() []setting { return deviceSettings(c, f) }, true},
		{forward4Group, c.Forward && c.uses(true), func() []setting { return forward4Settings(f) }, false},
		{forward6Group, c.Forward && c.uses(false) && f.V6, func() []setting { return forward6Settings(f) }, false},
	})
}

// settle are the settings of the groups that are wanted. A group that is in force already
// stays as it was recorded; one that another Router has in force is taken over with the
// values from before it, so that the last of the two to go restores them.
func settle(have, others []setting, groups []group) []setting {
	var out []setting
	for _, g := range groups {
		if !g.wanted {
			continue
		}
		from := have
		if !inGroup(have, g.name) {
			if from = others; g.alone || !inGroup(others, g.name) {
				from = g.fresh()
			}
		}
		for _, s := range from {
			if s.Group == g.name && !slices.ContainsFunc(out, func(o setting) bool { return o.Key == s.Key }) {
				out = append(out, s)
			}
		}
	}
	return out
}

func markSettings(f facts) []setting {
	return f.setting(nil, markGroup, validMark, "1")
}

func deviceSettings(c Config, f facts) []setting {
	return f.setting(nil, deviceGroup, generation(c.Device), "1")
}

// The global forwarding switch overwrites those of the interfaces, and that of
// IPv4 accept_redirects as well. What would be lost is recorded before it; since
// settings are restored backwards, it comes back after it.
func forward4Settings(f facts) []setting {
	var out []setting
	if f.Sysctl[forward4] != "1" {
		for _, name := range f.Interfaces {
			if key := "net/ipv4/conf/" + name + "/forwarding"; f.Sysctl[key] == "1" {
				out = f.setting(out, forward4Group, key, "")
			}
		}
		out = f.setting(out, forward4Group, redirects4, "")
	}
	return f.setting(out, forward4Group, forward4, "1")
}

// A router ignores router advertisements, and the host would lose its default
// route, unless accept_ra is 2.
func forward6Settings(f facts) []setting {
	var out []setting
	if f.Sysctl[forward6] != "1" {
		for _, name := range f.Interfaces {
			if key := "net/ipv6/conf/" + name + "/forwarding"; f.Sysctl[key] == "1" {
				out = f.setting(out, forward6Group, key, "")
			}
			if key := "net/ipv6/conf/" + name + "/accept_ra"; f.Sysctl[key] == "1" {
				out = f.setting(out, forward6Group, key, "2")
			}
		}
	}
	return f.setting(out, forward6Group, forward6, "1")
}

// setting appends a sysctl with its present value, if there is such a sysctl.
func (f facts) setting(to []setting, group, key, want string) []setting {
	was, ok := f.Sysctl[key]
	if !ok {
		return to
	}
	return append(to, setting{Group: group, Key: key, Was: was, Want: want})
}
