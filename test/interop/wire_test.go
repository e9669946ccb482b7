package interop

import (
	"strings"
	"syscall"
	"testing"
)

// outside is what may be seen on the wire between tunnel ends: IKE and ESP in UDP, or in TCP
// where UDP is not answered, what a host says of those for an end that was killed (port unreachable),
// and what a link needs (ARP, neighbour and listener discovery).
const outside = "(udp and (port 500 or port 4500)) or (tcp port 4500) or arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 137) or " +
	"(ip6[6] == 0 and ip6[40] == 58 and ip6[48] == 143) or (ip6[6] == 0 and ip6[40] == 58 and ip6[48] >= 130 and ip6[48] <= 132) or " +
	"(icmp[0:2] == 0x0303 and icmp[17] == 17 and (icmp[28:2] == 4500 or icmp[30:2] == 500 or icmp[30:2] == 4500)) or " +
	"(icmp6 and ip6[40:2] == 0x0104 and ip6[54] == 17 and (ip6[88:2] == 4500 or ip6[90:2] == 500 or ip6[90:2] == 4500))"

// wiretap is a tcpdump that shows what must not be there.
type wiretap struct{ proc *process }

// tap starts tcpdump on an interface of a namespace, for everything that does not fit a
// filter.
func tap(ns *namespace, device, allowed string) *wiretap {
	ns.t.Helper()
	p := ns.spawn("tcpdump", nil, "tcpdump", "-l", "-n", "-q", "--immediate-mode", "-i", device, "not ("+allowed+")")
	p.says("listening on")
	return &wiretap{p}
}

// record starts tcpdump with all packets going to a file.
func record(ns *namespace, device, file string) *process {
	ns.t.Helper()
	p := ns.spawn("tcpdump", nil, "tcpdump", "-U", "-n", "--immediate-mode", "-Z", "root", "-i", device, "-w", file)
	p.says("listening on")
	return p
}

// seen ends the tap and returns the packets that it saw, a line each.
func (w *wiretap) seen() []string {
	w.proc.stop(syscall.SIGINT)
	var lines []string
	for l := range strings.Lines(w.proc.out.String()) {
		if strings.Contains(l, " IP ") || strings.Contains(l, " IP6 ") || strings.Contains(l, "ethertype") {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

// clean ends the tap and fails the test if it saw anything.
func (w *wiretap) clean(t testing.TB) {
	t.Helper()
	if !strings.Contains(w.proc.out.String(), "listening on") {
		t.Error("tcpdump did not listen")
	}
	if seen := w.seen(); len(seen) > 0 {
		t.Errorf("%d packets outside the tunnel:\n%s", len(seen), tail(strings.Join(seen, "\n"), 20))
	}
}
