package firewall

import (
	"fmt"
	"net/netip"
	"strings"
)

// A table is chains of rules, a rule is clauses; each prints as nft lists it.
type table struct {
	family string // inet or arp
	name   string
	hole   bool // it has the set of that name
	chains []chain
}

type chain struct {
	name     string
	kind     string // filter or nat
	hook     string
	priority string
	rules    []rule
}

func (t table) chainNames() []string {
	var out []string
	for _, c := range t.chains {
		out = append(out, c.name)
	}
	return out
}

type rule []clause

type clause fmt.Stringer

type (
	iface struct {
		out  bool
		not  bool
		name string
	}
	address struct {
		destination bool
		prefix      netip.Prefix
	}
	addressType struct { // local or not, by the kernel's table
		destination bool
		not         bool
	}
	udpPort    uint16 // of the destination
	udpSource  uint16
	udpPorts   struct{ from, to uint16 }
	tcpPort    uint16 // of the destination
	mark       uint32
	socketMark uint32 // of the socket that gets the packet
	connMark   uint32
	setMark    uint32
	setConn    uint32
	synOnly    struct{}
	family     byte // 4 or 6
	icmp6Type  byte
	segment    uint16
	holePort   struct{ destination bool } // of a packet that passes a hole
	answer     struct{}                   // of a connection that was let out
	masquerade struct{}
	accept     struct{}
	drop       struct{}
)

// The numbers of layer 4.
const (
	tcp   = 6
	udp   = 17
	icmp6 = 58
)

// Types of ICMPv6 (RFC 4861 section 4, RFC 3810 section 5).
const (
	listenerQuery   icmp6Type = 130
	listenerReport1 icmp6Type = 131
	listenerDone    icmp6Type = 132
	routerSolicit   icmp6Type = 133
	routerAdvert    icmp6Type = 134
	neighborSolicit icmp6Type = 135
	neighborAdvert  icmp6Type = 136
	listenerReport  icmp6Type = 143
)

func (c iface) String() string {
	word, not := "iifname", ""
	if c.out {
		word = "oifname"
	}
	if c.not {
		not = "!= "
	}
	return fmt.Sprintf("%s %s%q", word, not, c.name)
}

func (c address) String() string {
	word, side, value := "ip", "saddr", c.prefix.Masked().String()
	if c.prefix.Addr().Is6() {
		word = "ip6"
	}
	if c.destination {
		side = "daddr"
	}
	if c.prefix.IsSingleIP() {
		value = c.prefix.Addr().String()
	}
	return fmt.Sprintf("%s %s %s", word, side, value)
}

func (c addressType) String() string {
	side, not := "saddr", ""
	if c.destination {
		side = "daddr"
	}
	if c.not {
		not = "!= "
	}
	return fmt.Sprintf("fib %s type %slocal", side, not)
}

func (c udpPort) String() string    { return fmt.Sprintf("udp dport %d", uint16(c)) }
func (c tcpPort) String() string    { return fmt.Sprintf("tcp dport %d", uint16(c)) }
func (c udpSource) String() string  { return fmt.Sprintf("udp sport %d", uint16(c)) }
func (c udpPorts) String() string   { return fmt.Sprintf("udp sport %d udp dport %d", c.from, c.to) }
func (c mark) String() string       { return fmt.Sprintf("meta mark 0x%08x", uint32(c)) }
func (c socketMark) String() string { return fmt.Sprintf("socket mark 0x%08x", uint32(c)) }
func (c connMark) String() string   { return fmt.Sprintf("ct mark 0x%08x", uint32(c)) }
func (c setMark) String() string    { return fmt.Sprintf("meta mark set 0x%08x", uint32(c)) }
func (c setConn) String() string    { return fmt.Sprintf("ct mark set 0x%08x", uint32(c)) }
func (synOnly) String() string      { return "tcp flags syn / syn,rst" }
func (c segment) String() string    { return fmt.Sprintf("tcp option maxseg size set %d", uint16(c)) }
func (accept) String() string       { return "accept" }
func (drop) String() string         { return "drop" }

func (c family) String() string { return fmt.Sprintf("meta nfproto ipv%d", byte(c)) }

func (c icmp6Type) String() string {
	return "icmpv6 type " + map[icmp6Type]string{
		listenerQuery: "mld-listener-query", listenerReport1: "mld-listener-report",
		listenerDone: "mld-listener-done", listenerReport: "mld2-listener-report",
		routerSolicit: "nd-router-solicit", routerAdvert: "nd-router-advert",
		neighborSolicit: "nd-neighbor-solicit", neighborAdvert: "nd-neighbor-advert",
	}[c]
}

func (c holePort) String() string {
	if c.destination {
		return "meta l4proto . th dport @hole"
	}
	return "meta l4proto . th sport @hole"
}

func (answer) String() string     { return "ct state established" }
func (masquerade) String() string { return "masquerade fully-random" }

func (r rule) String() string {
	words := make([]string, len(r))
	for i, c := range r {
		words[i] = c.String()
	}
	return strings.Join(words, " ")
}

// tables are the IP table, which is always there, and the ARP table if it is
// needed.
func (r Rules) tables() []table {
	out := []table{{family: "inet", name: r.table(), hole: r.hole(), chains: r.chains()}}
	if r.RestoreMark {
		// A strict reverse path check looks at ARP requests too, and a host that
		// does not answer them cannot be reached. IPv6 has no such check.
		restore := chain{name: "restore", kind: "filter", hook: "input", priority: "filter"}
		restore.rules = []rule{{iface{name: r.Device, not: true}, setMark(r.Mark)}}
		out = append(out, table{family: "arp", name: r.table(), chains: []chain{restore}})
	}
	return out
}

// chainNames are those that a table may have. Each stands for one hook and priority, for good: a
// chain of that name may be there already.
var chainNames = []string{"protect", "restore", "save", "input", "forward", "output", "masquerade", "guard"}

// chains of the IP table. A chain without rules is left out.
func (r Rules) chains() []chain {
	inside, outside := iface{name: r.Device}, iface{name: r.Device, not: true}
	toInside, toOutside := iface{out: true, name: r.Device}, iface{out: true, not: true, name: r.Device}

	protect := chain{name: "protect", kind: "filter", hook: "prerouting", priority: "raw"}
	for _, p := range r.ProtectAddresses {
		own := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		protect.rules = append(protect.rules, rule{outside, address{destination: true, prefix: own}, addressType{not: true}, drop{}})
	}
	for _, a := range r.OuterAddresses {
		own := netip.PrefixFrom(a, a.BitLen())
		protect.rules = append(protect.rules,
			rule{inside, address{prefix: own}, drop{}},
			rule{inside, address{destination: true, prefix: own}, drop{}})
	}
	for _, p := range r.Ports {
		protect.rules = append(protect.rules, rule{inside, udpPort(p), addressType{destination: true}, drop{}})
	}
	for _, p := range r.TCPPorts {
		protect.rules = append(protect.rules, rule{inside, tcpPort(p), addressType{destination: true}, drop{}})
	}

	restore := chain{name: "restore", kind: "filter", hook: "prerouting", priority: "mangle"}
	save := chain{name: "save", kind: "filter", hook: "postrouting", priority: "mangle"}
	if r.RestoreMark {
		restore.rules = append(restore.rules, rule{outside, connMark(r.Mark), setMark(r.Mark)})
		for _, p := range r.Ports {
			restore.rules = append(restore.rules, rule{outside, udpPort(p), addressType{destination: true}, setMark(r.Mark)})
		}
		for _, p := range r.TCPPorts {
			restore.rules = append(restore.rules, rule{outside, tcpPort(p), addressType{destination: true}, setMark(r.Mark)})
		}
		save.rules = append(save.rules, rule{mark(r.Mark), setConn(r.Mark)})
	}

	forward := chain{name: "forward", kind: "filter", hook: "forward", priority: "filter"}
	if r.IsolateClients {
		forward.rules = append(forward.rules, rule{inside, toInside, drop{}})
	}
	if r.ClampMSS != 0 {
		for _, way := range []iface{inside, toInside} {
			forward.rules = append(forward.rules,
				rule{way, family(4), synOnly{}, segment(r.ClampMSS - 40)},
				rule{way, family(6), synOnly{}, segment(r.ClampMSS - 60)})
		}
	}

	input := chain{name: "input", kind: "filter", hook: "input", priority: "filter"}
	output := chain{name: "output", kind: "filter", hook: "output", priority: "filter"}
	if r.KillSwitch {
		var through []rule
		input.rules, through, output.rules = r.killSwitch()
		forward.rules = append(forward.rules, through...)
	}

	nat := chain{name: "masquerade", kind: "nat", hook: "postrouting", priority: "srcnat"}
	for _, p := range r.Masquerade {
		nat.rules = append(nat.rules, rule{inside, toOutside, address{prefix: p}, masquerade{}})
	}
	// Chance may still give a connection one of our ports. It is not confirmed
	// before the last chain: dropped here, it has never been, and the next packet
	// gets another port.
	guard := chain{name: "guard", kind: "filter", hook: "postrouting", priority: "srcnat + 10"}
	if len(r.Masquerade) > 0 {
		for _, p := range r.Ports {
			guard.rules = append(guard.rules, rule{inside, udpSource(p), addressType{}, drop{}})
		}
	}

	var out []chain
	for _, c := range []chain{protect, restore, save, input, forward, output, nat, guard} {
		if len(c.rules) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// String is the tables as "nft list ruleset" prints them, but for the elements of the set hole, which
// pass away.
func (r Rules) String() string {
	var b strings.Builder
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "table %s %s {\n", t.family, t.name)
		if t.hole {
			b.WriteString("\tset hole {\n\t\ttype inet_proto . inet_service\n\t\tflags timeout\n\t}\n")
		}
		for i, c := range t.chains {
			if i > 0 || t.hole {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %s; policy accept;\n", c.name, c.kind, c.hook, c.priority)
			for _, line := range c.rules {
				fmt.Fprintf(&b, "\t\t%s\n", line)
			}
			b.WriteString("\t}\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
}
