package route

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// system is one with a single routing table, as runtime.GOOS names it.
type system string

const (
	macOS     system = "darwin"
	freeBSD   system = "freebsd"
	openBSD   system = "openbsd"
	microsoft system = "windows"
)

// surroundings are what planTable must know of the host.
type surroundings struct {
	System system
	V6     bool // IPv6 is there at all
	// Table is the system's, with what earlier Routers and this one added to it.
	Table []row
	// Addresses that devices have, as prefixes of one address.
	Addresses map[string][]netip.Prefix
	// Switches are those of IP forwarding and what goes with them, with their values. On
	// Windows each interface has one for each family, see forwardSwitch.
	Switches map[string]string
	// Others are the settings of other living Routers of this host.
	Others []setting
}

// forwardSwitch is the key of an interface's switch on Windows.
func forwardSwitch(v4 bool, device string) string {
	if v4 {
		return "IPv4 " + device
	}
	return "IPv6 " + device
}

// interfaceSwitch takes such a key apart.
func (s setting) interfaceSwitch() (v4 bool, device string) {
	family, device, _ := strings.Cut(s.Key, " ")
	return family == "IPv4", device
}

// step is one operation. Exactly one of link, address, route and setting is used.
type step struct {
	system  system
	verb    verb
	device  string // of link and address
	link    link
	address netip.Prefix
	route   row
	local   netip.Addr // OpenBSD: the address by which a route names the tunnel's interface
	setting setting
}

// link is what is set of the interface itself.
type link struct {
	up  bool
	mtu int
	v6  bool // Windows: of which family
}

func (s step) removes() bool { return s.verb == remove }

// planTable is plan for a system with a single routing table. Since nothing there can be added
// twice, only what is missing is listed, and only what is there is taken away. A route that
// leads elsewhere from now on is taken away right before it is added.
//
// The order: forwarding, then the interface, then what keeps packets outside of the tunnel or
// from leaving, and last what leads into it. Routes go before addresses.
func planTable(have state, want Config, s surroundings) ([]step, state, error) {
	p := planner{have: have, want: want, surroundings: s}
	rows, err := p.rows()
	if err != nil {
		return nil, have, err
	}
	gone := p.goneAddresses()
	// A BSD takes routes away together with an address to which they belong.
	doomed := func(r row) bool {
		return s.System != microsoft && r.Device == want.Device && hasFamily(gone, r.Prefix.Addr().Is4())
	}
	for _, r := range have.Rows {
		if doomed(r) || !slices.ContainsFunc(rows, func(w row) bool { return w.Prefix == r.Prefix }) {
			p.take(r)
		}
	}
	for _, a := range gone {
		p.add(step{verb: remove, device: have.Config.Device, address: a})
	}
	settings := p.settings()
	for _, old := range slices.Backward(have.Settings) {
		if !slices.Contains(settings, old) && !inGroup(s.Others, old.Group) {
			p.add(step{verb: remove, setting: old})
		}
	}
	if want.Device == "" {
		return p.steps, state{}, nil
	}
	for _, to := range settings {
		if s.Switches[to.Key] != to.Want {
			p.add(step{setting: to})
		}
	}
	p.interfaceSteps()
	for _, r := range rows {
		if r.in(s.Table) && !doomed(r) {
			continue
		}
		for _, old := range have.Rows {
			if old.Prefix == r.Prefix && !doomed(old) {
				p.take(old)
			}
		}
		p.add(step{route: r, local: p.local(r)})
	}
	return p.steps, state{Config: want, Settings: settings, Rows: rows}, nil
}

// planner gathers the steps of one plan.
type planner struct {
	surroundings
	have  state
	want  Config
	steps []step
}

func (p *planner) add(s step) {
	s.system = p.System
	p.steps = append(p.steps, s)
}

// take takes a row away, if it is still there as it was set.
func (p *planner) take(r row) {
	if r.in(p.Table) {
		p.add(step{verb: remove, route: r})
	}
}

// goneAddresses are those that the device has from us and is to lose.
func (p *planner) goneAddresses() []netip.Prefix {
	var out []netip.Prefix
	device := p.have.Config.Device
	for _, a := range p.have.Config.Addresses {
		a = single(a.Addr())
		kept := device == p.want.Device && slices.ContainsFunc(p.want.Addresses, func(w netip.Prefix) bool { return w.Addr() == a.Addr() })
		if !kept && slices.Contains(p.Addresses[device], a) {
			out = append(out, a)
		}
	}
	return out
}

// rows are the routes that want needs, of which some may be there already.
func (p *planner) rows() ([]row, error) {
	var wanted []destination
	for _, d := range p.want.destinations() {
		v4 := d.prefix.Addr().Is4()
		if p.want.covers(v4) && (v4 || p.V6) {
			wanted = append(wanted, d)
		}
	}
	if p.System != microsoft {
		wanted = halved(wanted)
	}
	// What carries packets where there is no tunnel.
	without := slices.DeleteFunc(slices.Clone(p.Table), func(r row) bool {
		return r.in(p.have.Rows) || r.Device != "" && (r.Device == p.want.Device || r.Device == p.have.Config.Device)
	})
	var out []row
	for _, d := range wanted {
		r := row{Prefix: d.prefix, Device: p.want.Device}
		switch {
		case d.purpose == outside:
			present, ok := onward(without, d.prefix)
			if !ok || !between(wanted, present.Prefix, d.prefix) {
				continue
			}
			r.Gateway, r.Device = present.Gateway, present.Device
		case d.purpose == nowhere && p.System != microsoft:
			r = row{Prefix: d.prefix, Reject: true}
		case p.System == openBSD && !p.local(r).IsValid():
			return nil, fmt.Errorf("route: %s cannot lead into %s: OpenBSD names an interface by an address of it, and there is none of that family; ask the peer for a virtual address", d.prefix, p.want.Device)
		}
		out = append(out, r)
	}
	return out, nil
}

// between tells whether a destination of the tunnel would take inner from the route to outer
// that has it now. One to the same network would, having the better metric or being refused.
func between(wanted []destination, outer, inner netip.Prefix) bool {
	return slices.ContainsFunc(wanted, func(d destination) bool {
		covering := row{Prefix: d.prefix}
		return d.purpose != outside && covering.covers(inner) && d.prefix.Bits() >= outer.Bits()
	})
}

// local is the address by which OpenBSD's routes name the tunnel's interface.
func (p *planner) local(r row) netip.Addr {
	if p.System != openBSD || r.Reject || r.Device != p.want.Device {
		return netip.Addr{}
	}
	for _, a := range p.want.Addresses {
		if a.Addr().Is4() == r.Prefix.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// interfaceSteps set what belongs to the interface itself. Addresses stand alone, without a
// network around them: the routes are those of the Config.
func (p *planner) interfaceSteps() {
	switch {
	case p.System == microsoft:
		p.add(step{device: p.want.Device, link: link{up: true, mtu: p.want.MTU}})
		if p.V6 {
			p.add(step{device: p.want.Device, link: link{up: true, mtu: p.want.MTU, v6: true}})
		}
	case p.want.MTU != 0:
		p.add(step{device: p.want.Device, link: link{mtu: p.want.MTU}})
	}
	for _, a := range p.want.Addresses {
		a = single(a.Addr())
		if (a.Addr().Is4() || p.V6) && !slices.Contains(p.Addresses[p.want.Device], a) {
			p.add(step{device: p.want.Device, address: a})
		}
	}
	if p.System != microsoft {
		p.add(step{device: p.want.Device, link: link{up: true}})
	}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Switches of the BSDs. Where FreeBSD forwards IPv6 it ignores router advertisements, and the
// host would lose its default route, unless the last one is set (RFC 6204).
const (
	forwardBSD4 = "net.inet.ip.forwarding"
	forwardBSD6 = "net.inet6.ip6.forwarding"
	routerBSD6  = "net.inet6.ip6.rfc6204w3"
)

func (p *planner) settings() []setting {
	c := p.want
	return settle(p.have.Settings, p.Others, []group{
		{forward4Group, c.Forward && c.uses(true), func() []setting { return p.forwarding(forward4Group, true) }, false},
		{forward6Group, c.Forward && c.uses(false) && p.V6, func() []setting { return p.forwarding(forward6Group, false) }, false},
	})
}

func (p *planner) forwarding(group string, v4 bool) []setting {
	keys, on := []string{forwardBSD4}, "1"
	switch {
	case p.System == microsoft:
		on = "Enabled"
		keys = slices.DeleteFunc(slices.Sorted(maps.Keys(p.Switches)), func(key string) bool {
			return !strings.HasPrefix(key, forwardSwitch(v4, ""))
		})
	case !v4:
		keys = []string{routerBSD6, forwardBSD6}
	}
	var out []setting
	for _, key := range keys {
		if was, ok := p.Switches[key]; ok && was != on {
			out = append(out, setting{Group: group, Key: key, Was: was, Want: on})
		}
	}
	return out
}
