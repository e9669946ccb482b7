package martlet

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/tun/firewall"
	"martlet/tun/route"
)

// gatherKernel looks at the network namespace of this process.
func gatherKernel() *kernelFacts {
	k := &kernelFacts{sysctl: map[string]string{}, defaults: map[bool]string{}}
	for _, key := range sysctlsSeen {
		if b, err := os.ReadFile("/proc/sys/" + key); err == nil {
			k.sysctl[key] = strings.TrimSpace(string(b))
		}
	}
	k.writable = unix.Access("/proc/sys/net/ipv4/ip_forward", unix.W_OK) == nil
	links, _ := net.Interfaces() // none is as good as an error: there is no network
	for _, l := range links {
		k.links = append(k.links, l.Name)
	}
	for _, v4 := range []bool{true, false} {
		k.gatherRoutes(v4)
	}
	k.gatherTables()
	return k
}

func (k *kernelFacts) gatherRoutes(v4 bool) {
	family := netlink.FAMILY_V6
	if v4 {
		family = netlink.FAMILY_V4
	}
	rules, err := netlink.RuleList(family)
	if err != nil {
		k.rulesErr = err
		return
	}
	defaultOf := map[int]string{} // interface, by table
	for _, table := range tablesOf(rules) {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue // of a family that is off
		}
		for _, r := range routes {
			if bits, _ := 0, 0; r.Dst != nil {
				if bits, _ = r.Dst.Mask.Size(); bits != 0 {
					continue
				}
			}
			if link, err := net.InterfaceByIndex(r.LinkIndex); err == nil {
				defaultOf[table] = link.Name
			}
		}
	}
	if name := defaultOf[unix.RT_TABLE_MAIN]; name != "" {
		k.defaults[v4] = name
	}
	for _, r := range rules {
		f := ruleFact{
			v4: v4, priority: r.Priority, mark: r.Mark, mask: ^uint32(0), invert: r.Invert, table: r.Table,
			ours: r.Protocol == route.Protocol, any: r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == "",
			all: defaultOf[r.Table] != "",
		}
		if r.Mask != nil {
			f.mask = *r.Mask
		}
		if r.Mark == 0 && r.Mask == nil {
			f.mask = 0
		}
		k.rules = append(k.rules, f)
	}
}

func tablesOf(rules []netlink.Rule) []int {
	tables := []int{unix.RT_TABLE_MAIN}
	for _, r := range rules {
		if r.Table > 0 && !slices.Contains(tables, r.Table) {
			tables = append(tables, r.Table)
		}
	}
	return tables
}

// gatherTables looks at nftables, which iptables writes to as well.
func (k *kernelFacts) gatherTables() {
	conn, err := nftables.New()
	if err != nil {
		k.tableErr = err
		return
	}
	tables, err := conn.ListTables()
	if err != nil {
		k.tableErr = err
		return
	}
	for _, t := range tables {
		if strings.HasPrefix(t.Name, firewall.TablePrefix) {
			k.tables = append(k.tables, t.Name)
		}
	}
	chains, err := conn.ListChains()
	if err != nil {
		k.tableErr = err
		return
	}
	for _, c := range chains {
		if c.Hooknum == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop || strings.HasPrefix(c.Table.Name, firewall.TablePrefix) {
			continue
		}
		switch *c.Hooknum {
		case *nftables.ChainHookOutput:
			k.drops = append(k.drops, fmt.Sprintf("what this host sends: chain %s of table %s", c.Name, c.Table.Name))
		case *nftables.ChainHookInput:
			k.drops = append(k.drops, fmt.Sprintf("what this host gets: chain %s of table %s", c.Name, c.Table.Name))
		}
	}
}

// dontFragment has datagrams of a socket, which control prepares otherwise, go whole or not at all, whatever the kernel knows of the path
// (IP_PMTUDISC_PROBE).
func dontFragment(control func(network, address string, c syscall.RawConn) error) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, c); err != nil {
				return err
			}
		}
		var failed error
		err := c.Control(func(fd uintptr) {
			if network == "udp6" {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
				return
			}
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		})
		if err != nil {
			return err
		}
		return failed
	}
}
