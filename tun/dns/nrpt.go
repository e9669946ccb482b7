package dns

import (
	"fmt"
	"slices"
	"strings"
)

// Windows has a table of rules which names go to which servers (NRPT, MS-GPNRPT), beside the
// servers of each interface. Rules bind: without one, names go to the servers of all interfaces at
// once, and the first answer wins.

const (
	localRules  = `SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig`
	policyRules = `SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig`
	rulePrefix  = "martlet-"

	// maxRuleNames is how many names one rule holds; more are passed over without a word.
	maxRuleNames = 50
)

// interfaceRoots have a key for each interface, by family.
var interfaceRoots = []string{
	`SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces`,
	`SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces`,
}

// value is one of the registry, below the local machine: a number, a text or several.
type value struct {
	Key, Name string
	Data      any // uint32, string or []string
}

func (v value) String() string { return fmt.Sprintf(`%s\%s = %q`, v.Key, v.Name, fmt.Sprint(v.Data)) }

// nrptRules are the rules of c below the key root. A name with a dot before it stands for all below.
func nrptRules(root string, c Config) []value {
	names := []string{"."}
	if !c.all() {
		names = nil
		for _, n := range c.below() {
			names = append(names, "."+n)
		}
	}
	var out []value
	n := 0
	for chunk := range slices.Chunk(names, maxRuleNames) {
		key := fmt.Sprintf(`%s\%s%s-%d`, root, rulePrefix, c.Device, n)
		n++
		out = append(
			out,
			value{key, "Version", uint32(2)},
			value{key, "Name", chunk},
			value{key, "GenericDNSServers", joined(c.Servers, ";")},
			value{key, "ConfigOptions", uint32(8)}, // only the servers
		)
	}
	return out
}

// interfaceValues are those of the interface: the domains to search, and, when all names go to
// them, the servers.
func interfaceValues(guid string, c Config) []value {
	var out []value
	for i, root := range interfaceRoots {
		var servers []string
		for _, a := range c.Servers {
			if c.all() && a.Is4() == (i == 0) {
				servers = append(servers, a.String())
			}
		}
		key := root + `\` + guid
		out = append(
			out,
			value{key, "NameServer", strings.Join(servers, ",")},
			value{key, "SearchList", strings.Join(c.Search, ",")},
		)
	}
	return out
}

// ruleDevice reads whose a rule is by the name of its key; "" when it is not ours.
func ruleDevice(key string) string {
	rest, ours := strings.CutPrefix(key, rulePrefix)
	i := strings.LastIndexByte(rest, '-')
	if !ours || i < 0 || checkDevice(rest[:i]) != nil {
		return ""
	}
	return rest[:i]
}
