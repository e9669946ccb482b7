package martlet

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"martlet/tun"
	"martlet/tun/netmon/portal"
	"martlet/tun/route"
)

// hostChecks are what is checked of this host, in the order in which it is told.
var hostChecks = []func(*hostFacts) []Finding{
	checkClock, checkDevice, checkRunning, checkLeft, checkRoutes, checkLogin, checkRules, checkForwarding, checkResolvers, checkFilter,
}

// sysctlsSeen are the settings that checks look at.
var sysctlsSeen = []string{
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6", "net/ipv4/conf/all/rp_filter",
}

const needsLinux = "only Linux shows this"

func checkClock(f *hostFacts) []Finding {
	if f.now.Before(f.built) {
		return finding("clock", ResultFail, fmt.Sprintf("it says %s, which is before this program was built (%s)", f.now.UTC().Format("2006-01-02 15:04"), f.built.UTC().Format("2006-01-02")),
			"set the clock: certificates are valid from and to a date")
	}
	return finding("clock", ResultOK, "it says "+f.now.UTC().Format("2006-01-02 15:04")+" UTC")
}

func checkDevice(f *hostFacts) []Finding {
	bad := ResultWarn // nobody has asked for a device
	if f.device {
		bad = ResultFail
	}
	const instead = "or add --userspace and a proxy, which need neither device nor root"
	open, _ := errors.AsType[*tun.OpenError](f.driver)
	switch {
	case f.system != "linux" && open != nil:
		return finding("device", bad, "no TUN device can be made: "+open.Err.Error(), open.Hint+"; "+instead)
	case f.system != "linux" && !f.may:
		e := noPrivilege(f.system)
		return finding("device", bad, e.Why, e.Hint)
	case errors.Is(f.driver, fs.ErrNotExist):
		hint := "load the driver with modprobe tun; "
		if f.container != "" {
			hint = "pass /dev/net/tun into the container; "
		}
		return finding("device", bad, "there is no /dev/net/tun", hint+instead)
	case f.driver != nil && f.may:
		return finding("device", bad, "/dev/net/tun cannot be opened: "+f.driver.Error(), "is it allowed in this container (devices cgroup)? "+instead)
	case !f.may:
		return finding("device", bad, "this user may not make devices and routes (CAP_NET_ADMIN)", "use sudo; "+instead)
	}
	return finding("device", ResultOK, "TUN devices can be made")
}

func checkRunning(f *hostFacts) []Finding {
	switch {
	case f.running != nil:
		r := finding("running", ResultOK, fmt.Sprintf("martlet %s runs, process %d, IKE SAs: %d", f.running.Version, f.running.PID, len(f.running.SAs)))
		for _, why := range f.running.NotReady {
			r = append(r, Finding{Check: "running", Result: ResultWarn, Text: "it is not ready: " + why, Hint: "martlet status tells more"})
		}
		return r
	case f.killed() || f.notAsked == nil:
		return finding("running", ResultOK, "no martlet runs")
	}
	e, ok := errors.AsType[*Error](f.notAsked)
	if !ok {
		return finding("running", ResultWarn, "it cannot be told whether martlet runs: "+f.notAsked.Error())
	}
	return finding("running", ResultWarn, e.What+": "+e.Why, e.Hint)
}

// checkLeft looks for what a martlet left that was killed.
func checkLeft(f *hostFacts) []Finding {
	if f.running != nil || f.notAsked != nil && !f.killed() {
		return finding("left behind", ResultSkip, "what there is may be of the martlet that runs")
	}
	var left []string
	left = append(left, f.notes...)
	closed := false
	if k := f.kernel; k != nil {
		for _, table := range k.tables {
			left, closed = append(left, "table "+table+" of nftables"), true
		}
		if slices.ContainsFunc(k.rules, func(r ruleFact) bool { return r.ours }) {
			left = append(left, fmt.Sprintf("rules of protocol %d (ip rule)", route.Protocol))
		}
	}
	switch {
	case closed:
		return finding("left behind", ResultFail, "by a martlet that was killed: "+strings.Join(left, ", ")+"; a kill switch keeps this host closed",
			"martlet down undoes it, and so does the next martlet up")
	case len(left) > 0:
		return finding("left behind", ResultWarn, "by a martlet that was killed: "+strings.Join(left, ", "), "martlet down undoes it, and so does the next martlet up")
	}
	return finding("left behind", ResultOK, "nothing of an earlier martlet")
}

func checkRoutes(f *hostFacts) []Finding {
	k := f.kernel
	if k == nil {
		return finding("routes", ResultSkip, needsLinux)
	}
	four, six := k.defaults[true], k.defaults[false]
	_, known := k.sysctl["net/ipv6/conf/all/disable_ipv6"]
	off := !known || k.sysctl["net/ipv6/conf/all/disable_ipv6"] == "1"
	switch {
	case four == "" && six == "":
		return []Finding{{Check: "routes", Result: ResultFail, Network: true, Text: "there is no default route, by no family", Hint: "connect this host to a network"}}
	case four != "" && six != "":
		return finding("routes", ResultOK, "default routes by "+four+" (IPv4) and "+six+" (IPv6)")
	case four == "":
		return finding("routes", ResultWarn, "a default route by "+six+" for IPv6 only", "gateways that have IPv4 only cannot be reached without NAT64")
	case off:
		return finding("routes", ResultOK, "a default route by "+four+" for IPv4; IPv6 is off on this host")
	}
	return finding("routes", ResultOK, "a default route by "+four+" for IPv4; no IPv6 from this network")
}

// checkLogin looks for a captive portal.
func checkLogin(f *hostFacts) []Finding {
	switch {
	case f.login == nil:
		return finding("captive portal", ResultSkip, f.loginUnasked)
	case f.login.State == portal.Portal:
		return []Finding{{
			Check: "captive portal", Result: ResultFail, Network: true, Text: "this network wants a login first, at " + f.login.URL,
			Hint: "open that page in a browser and log in; where a kill switch holds it back, martlet portal --hole 5m lets it through",
		}}
	case f.login.State == portal.Open:
		return finding("captive portal", ResultOK, "the network wants none")
	}
	return finding("captive portal", ResultSkip, "nobody answered: whether the network wants a login is not known")
}

// others are programs that are known by the number of their routing table.
var others = map[int]string{52: "Tailscale", 7120: "NetBird", 51820: "wg-quick", 220: "strongSwan"}

func tableName(table int) string {
	if name := others[table]; name != "" {
		return fmt.Sprintf("table %d (%s)", table, name)
	}
	return fmt.Sprintf("table %d", table)
}

// checkRules looks for rules of others that are asked before ours. Ours stand before main, so that most
// are not.
func checkRules(f *hostFacts) []Finding {
	k := f.kernel
	switch {
	case k == nil:
		return finding("other VPNs", ResultSkip, needsLinux)
	case k.rulesErr != nil:
		return finding("other VPNs", ResultSkip, "the rules for routes cannot be read: "+k.rulesErr.Error())
	}
	var found []Finding
	seen := map[string]bool{}
	for _, r := range k.rules {
		if r.ours || r.priority == 0 || r.priority >= route.DefaultPriority || !r.any {
			continue
		}
		var text, hint string
		switch {
		case r.all && r.mask == 0 || r.all && r.invert:
			text = fmt.Sprintf("rule %d sends all traffic by %s before our tunnel is asked", r.priority, tableName(r.table))
			hint = "end the other VPN, or its exit node, while martlet's tunnel is to take everything"
		case r.all && f.mark != 0 && f.mark&r.mask == r.mark:
			text = fmt.Sprintf("rule %d sends packets with our mark %#x by %s", r.priority, f.mark, tableName(r.table))
			hint = "set node.mark to a number that the rule does not mean"
		default:
			continue
		}
		if !seen[text] {
			seen[text] = true
			found = append(found, Finding{Check: "other VPNs", Result: ResultWarn, Text: text, Hint: hint})
		}
	}
	var links []string
	for _, name := range k.links {
		if name != f.name && slices.ContainsFunc([]string{"wg", "tailscale", "tun", "ppp", "wt", "ipsec", "utun", "nordlynx", "CloudflareWARP"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			links = append(links, name)
		}
	}
	if len(found) > 0 {
		return found
	}
	if len(links) > 0 {
		return finding("other VPNs", ResultOK, "there are devices of others ("+strings.Join(links, ", ")+"), whose rules come after ours")
	}
	return finding("other VPNs", ResultOK, "none is seen")
}

func checkForwarding(f *hostFacts) []Finding {
	k := f.kernel
	switch {
	case !f.forward:
		return nil // nobody wants it
	case k == nil:
		return finding("forwarding", ResultSkip, needsLinux)
	case k.sysctl["net/ipv4/ip_forward"] == "1":
		return finding("forwarding", ResultOK, "this host forwards packets")
	case !k.writable:
		return finding("forwarding", ResultFail, "this host does not forward packets, and martlet may not turn that on: /proc/sys cannot be written",
			"run sysctl -w net.ipv4.ip_forward=1 where the container was started, or use root")
	}
	return finding("forwarding", ResultOK, "it is off, and martlet turns it on while it runs")
}

func checkResolvers(f *hostFacts) []Finding {
	d := f.resolvers
	if d.err != nil {
		return finding("resolvers", ResultWarn, "it cannot be told how they are set: "+d.err.Error())
	}
	text := "they are set by " + d.manner
	if len(d.because) > 0 {
		text += ": " + strings.Join(d.because, ", ")
	}
	if !d.splits {
		text += "; all names go into a tunnel that brings resolvers, not only those of its domains"
	}
	return finding("resolvers", ResultOK, text)
}

func checkFilter(f *hostFacts) []Finding {
	k := f.kernel
	bad := ResultWarn
	if f.device {
		bad = ResultFail
	}
	switch {
	case k == nil:
		return finding("packet filter", ResultSkip, needsLinux)
	case errors.Is(k.tableErr, fs.ErrPermission) && !f.may:
		return finding("packet filter", ResultSkip, "only root may look at it")
	case k.tableErr != nil:
		return finding("packet filter", bad, "there is no nftables: "+k.tableErr.Error(), "load nf_tables, or use --userspace")
	}
	var found []Finding
	strict := k.sysctl["net/ipv4/conf/all/rp_filter"] == "1"
	for _, drop := range k.drops {
		found = append(found, Finding{
			Check: "packet filter", Result: ResultWarn, Text: "others drop, unless a rule of theirs allows it, " + drop,
			Hint: "let UDP to and from ports 500 and 4500 pass, and TCP 4500; what they allow cannot be told here",
		})
	}
	if len(found) > 0 {
		return found
	}
	text := "nftables is there, and nobody drops by default"
	if strict {
		text += "; rp_filter is strict, which our rules heed"
	}
	return finding("packet filter", ResultOK, text)
}
