package firewall

import (
	"net/netip"
	"time"
)

// linkLocal is where DHCPv6 servers and relays speak from and to (RFC 8415 section 7.1).
var linkLocal = netip.MustParsePrefix("fe80::/10")

// What is let in and out for neighbour and listener discovery.
var (
	neighbourIn  = []icmp6Type{routerAdvert, neighborSolicit, neighborAdvert, listenerQuery}
	neighbourOut = []icmp6Type{routerSolicit, neighborSolicit, neighborAdvert, listenerReport, listenerReport1, listenerDone}
)

// MaxHole is how long a hole may be open at most.
const MaxHole = time.Hour

// portal is what passes a hole: names, and pages by which a person logs in to a network.
var portal = []struct {
	protocol byte
	port     uint16
}{{udp, 53}, {tcp, 53}, {tcp, 80}, {tcp, 443}}

// hole tells whether a kill switch was given a hole, which may be closed by now.
func (r Rules) hole() bool { return r.KillSwitch && !r.HoleUntil.IsZero() }

// killSwitch drops what neither belongs to the tunnel nor keeps it alive. It lets pass:
//
//   - what stays on this host, and what goes through the tunnel's device;
//   - what our own sockets send and get, which their mark tells. An address would not do: whoever
//     names the gateway to this host could have any address excepted (CVE-2023-36673);
//   - what a host needs to have an address and neighbours at all: DHCP as a client, neighbour
//     discovery (RFC 4861) without redirects, and listener discovery, without which switches stop
//     to pass neighbour solicitations on (RFC 4541 section 3). ARP is no IP, and these chains do
//     not see it;
//   - what comes from and goes to Local, and what passes a hole.
//
// What is forwarded has no exception but the tunnel. The rest meets a rule at the end of each
// chain and not its policy, since the kernel puts a policy in force somewhat later than rules.
func (r Rules) killSwitch() (input, forward, output []rule) {
	from, to := func(name string) iface { return iface{name: name} }, func(name string) iface { return iface{out: true, name: name} }
	input = []rule{
		{from("lo"), accept{}},
		{from(r.Device), accept{}},
		{socketMark(r.Mark), accept{}},
		{family(4), udpPorts{67, 68}, accept{}},
		{address{prefix: linkLocal}, udpPorts{547, 546}, accept{}},
	}
	for _, t := range neighbourIn {
		input = append(input, rule{t, accept{}})
	}
	for _, p := range r.Local {
		input = append(input, rule{address{prefix: p}, accept{}})
	}
	if r.hole() {
		input = append(input, rule{answer{}, holePort{}, accept{}})
	}
	forward = []rule{{from(r.Device), accept{}}, {to(r.Device), accept{}}}
	output = []rule{
		{to("lo"), accept{}},
		{to(r.Device), accept{}},
		{mark(r.Mark), accept{}},
		{family(4), udpPorts{68, 67}, accept{}},
		{address{prefix: linkLocal}, udpPorts{546, 547}, accept{}},
	}
	for _, t := range neighbourOut {
		output = append(output, rule{t, accept{}})
	}
	for _, p := range r.Local {
		output = append(output, rule{address{destination: true, prefix: p}, accept{}})
	}
	if r.hole() {
		for _, p := range r.ProtectAddresses { // of what was inside the tunnel
			own := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			output = append(output, rule{address{prefix: own}, drop{}})
		}
		output = append(output, rule{holePort{destination: true}, accept{}})
	}
	end := rule{drop{}}
	return append(input, end), append(forward, end), append(output, end)
}
