package firewall

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// grammar is which language a packet filter pf speaks: each system has gone its own way from OpenBSD's.
type grammar struct {
	// match has rules that mark a packet without deciding about it, and that clamp: OpenBSD, and
	// FreeBSD from 14. Without, as on macOS, there is "scrub" to clamp.
	match bool
	// natTo translates in filter rules, as OpenBSD does, and not in "nat" rules before them.
	natTo bool
	// tokens are given to whoever enables the filter, which stays on until the last one is given back.
	tokens bool
	// parent is the anchor that the main ruleset calls, prefix begins the names of ours below it.
	parent, prefix string
}

// The grammars of pf. Apple's main ruleset calls all below its own anchor, and a person seldom
// changes it.
var (
	macOS   = grammar{tokens: true, parent: "com.apple", prefix: TablePrefix}
	freeBSD = grammar{match: true, parent: "martlet"}
	openBSD = grammar{match: true, natTo: true, parent: "martlet"}
)

func (g grammar) anchor(device string) string { return g.parent + "/" + g.prefix + device }

// device is that of an anchor of ours, "" for those of others.
func (g grammar) device(anchor string) string {
	device, ours := strings.CutPrefix(anchor, g.anchor(""))
	if !ours || !deviceOfPF().MatchString(device) {
		return ""
	}
	return device
}

// around is what the text must know of the host.
type around struct {
	user       int      // our effective user ID
	interfaces []string // by which packets leave: all but the loopback and Device
	hole       bool     // is open
	label      string   // what the anchor has to remember
}

// Tags that our rules put on packets, which keep one at a time through the host.
const (
	tagIn      = "martlet_in"      // may come in
	tagThrough = "martlet_through" // came in by the tunnel
	tagOut     = "martlet_out"     // may go out
)

// pf is the text of an anchor, for "pfctl -a ANCHOR -f -", which replaces it as a whole.
//
// Where the grammar has match rules, they mark what a kill switch lets pass, all else is dropped, and
// the rules after the anchor still decide about what was marked: ours only refuse. macOS has none;
// there the anchor's verdict is the last one for what the kill switch lets pass.
func (g grammar) pf(r Rules, a around) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	inside, outside := "on "+r.Device, "on ! "+r.Device

	// Without match rules, normalization comes first, then translation, then filter rules.
	if !g.match {
		g.clamp(r, line)
	}
	// pf draws source ports at random from 50001 up, and so never gives one of Ports (CVE-2021-3773).
	for _, p := range r.Masquerade {
		for _, name := range a.interfaces {
			if g.natTo {
				line("match out on %s %s from %s to any nat-to (%s)", name, inet(p.Addr()), p.Masked(), name)
			} else {
				line("nat on %s %s from %s to any -> (%s)", name, inet(p.Addr()), p.Masked(), name)
			}
		}
	}
	if g.match {
		g.clamp(r, line)
	}
	// No packet comes from this address: the rule is there for its label.
	line("block drop in quick %s inet from 255.255.255.255 to any label %q", inside, a.label)

	for _, p := range r.ProtectAddresses {
		line("block drop in quick %s %s from ! (self) to %s", outside, inet(p.Addr()), p.Addr())
	}
	for _, o := range r.OuterAddresses {
		line("block drop in quick %s %s from %s to any", inside, inet(o), o)
		line("block drop in quick %s %s from any to %s", inside, inet(o), o)
	}
	for _, p := range r.Ports {
		line("block drop in quick %s proto udp from any to (self) port %d", inside, p)
	}
	for _, p := range r.TCPPorts {
		line("block drop in quick %s proto tcp from any to (self) port %d", inside, p)
	}
	if r.IsolateClients && g.match || r.KillSwitch {
		line("%s", g.allow("in", inside+" all", tagThrough))
	}
	if r.IsolateClients && (g.match || r.KillSwitch) {
		line("block drop out quick %s all tagged %s", inside, tagThrough)
	}
	if r.KillSwitch {
		g.killSwitch(r, a, line)
	}
	return b.String()
}

// clamp bounds the segments that TCP connections announce through the tunnel, those of this host too.
func (g grammar) clamp(r Rules, line func(string, ...any)) {
	if r.ClampMSS == 0 {
		return
	}
	for _, f := range []struct {
		family string
		mss    int
	}{{"inet", r.ClampMSS - 40}, {"inet6", r.ClampMSS - 60}} {
		if g.match {
			line("match on %s %s proto tcp all scrub (max-mss %d)", r.Device, f.family, f.mss)
		} else {
			line("scrub on %s %s proto tcp all max-mss %d", r.Device, f.family, f.mss)
		}
	}
}

// allow lets pass what is described: by a tag, or where that cannot be, at once.
func (g grammar) allow(way, what, tag string) string {
	if g.match {
		return fmt.Sprintf("match %s %s tag %s", way, what, tag)
	}
	return fmt.Sprintf("pass %s quick %s no state tag %s", way, what, tag)
}

// killSwitch drops what Rules.killSwitch drops on Linux, with two differences. Our own sockets are told
// by their user and by whom they speak to, together: not by an address alone, which whoever names
// the gateway to this host could make any other (CVE-2023-36673). What remains is that other
// programs of the same user, root, can send to these addresses and ports, by UDP and TCP only.
// And what hosts behind this one send into the tunnel has to come from Local, since a rule for what
// comes in cannot know where it will go.
//
// No rule but the hole's keeps state, by which packets would still pass when the rules have changed.
func (g grammar) killSwitch(r Rules, a around, line func(string, ...any)) {
	in := func(format string, args ...any) { line("%s", g.allow("in", fmt.Sprintf(format, args...), tagIn)) }
	out := func(format string, args ...any) { line("%s", g.allow("out", fmt.Sprintf(format, args...), tagOut)) }
	in("on lo0 all")
	out("on lo0 all")
	out("on %s all", r.Device)
	out("all tagged %s", tagThrough)
	for _, p := range r.Peers {
		at := fmt.Sprintf("%s port %d", p.Addr(), p.Port())
		in("%s proto { tcp, udp } from %s to any user %d", inet(p.Addr()), at, a.user)
		out("%s proto { tcp, udp } from any to %s user %d", inet(p.Addr()), at, a.user)
	}
	in("inet proto udp from any port 67 to any port 68")
	out("inet proto udp from { (self), 0.0.0.0 } port 68 to any port 67")
	in("inet6 proto udp from %s port 547 to any port 546", linkLocal)
	out("inet6 proto udp from %s port 546 to any port 547", linkLocal)
	for _, t := range neighbourIn {
		in("inet6 proto %d all icmp6-type %d", icmp6, t)
	}
	for _, t := range neighbourOut {
		out("inet6 proto %d all icmp6-type %d", icmp6, t)
	}
	for _, p := range r.Local {
		in("%s from %s to any", inet(p.Addr()), p)
		out("%s from (self) to %s", inet(p.Addr()), p)
	}
	if a.hole {
		for _, p := range r.ProtectAddresses { // of what was inside the tunnel
			line("block drop out quick on ! %s %s from %s to ! (self)", r.Device, inet(p.Addr()), p.Addr())
		}
		for _, p := range portal {
			// Answers come in by the state of the question.
			line("pass out quick proto %d from (self) to any port %d keep state", p.protocol, p.port)
		}
	}
	if g.match {
		line("block drop in quick on ! %s all ! tagged %s", r.Device, tagIn)
		line("block drop out quick all ! tagged %s", tagOut)
		return
	}
	line("block drop quick all")
}

func inet(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

var deviceOfPF = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*[0-9]$`) })

// checkPF refuses what the text could not say.
func (r Rules) checkPF() error {
	// The number at its end tells it from the words of the grammar.
	if !deviceOfPF().MatchString(r.Device) {
		return fmt.Errorf("firewall: device %q: want letters and digits with a number at the end, as in tun0, of which pf's rules have interfaces", r.Device)
	}
	for _, p := range r.Peers {
		if !p.IsValid() || p.Port() == 0 || p.Addr().IsUnspecified() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return fmt.Errorf("firewall: peer %s: want an address and a port", p)
		}
	}
	return nil
}

// missing are the lines that the main ruleset lacks, by what "pfctl -s rules" and "pfctl -s nat" print.
func (g grammar) missing(r Rules, rules, nat string) []string {
	calls := func(listing, keyword string) bool {
		for l := range strings.Lines(listing) {
			f := strings.Fields(l)
			if len(f) < 2 || f[0] != keyword {
				continue
			}
			switch strings.Join(f[2:], " ") {
			case "", "all", "all fragment reassemble":
			default:
				continue // an anchor with conditions is not called for every packet
			}
			if name := strings.Trim(f[1], `"`); name == g.parent+"/*" || name == g.anchor(r.Device) {
				return true
			}
		}
		return false
	}
	var out []string
	need := func(listing, keyword string) {
		if !calls(listing, keyword) {
			out = append(out, fmt.Sprintf("%s %q", keyword, g.parent+"/*"))
		}
	}
	if r.ClampMSS != 0 && !g.match {
		need(rules, "scrub-anchor")
	}
	if len(r.Masquerade) > 0 && !g.natTo {
		need(nat, "nat-anchor")
	}
	need(rules, "anchor")
	return out
}

// early is the first rule before our anchor that lets packets pass for good, "" if there is none: a kill
// switch never sees these packets.
func (g grammar) early(device, rules string) string {
	for l := range strings.Lines(rules) {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		if name := strings.Trim(f[1], `"`); f[0] == "anchor" && (name == g.parent+"/*" || name == g.anchor(device)) {
			return ""
		}
		if f[0] == "pass" && slices.Contains(f, "quick") {
			return strings.TrimSpace(l)
		}
	}
	return ""
}
