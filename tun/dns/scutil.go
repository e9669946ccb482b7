package dns

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// macOS has a store of what its networks say, to which scutil speaks, and a folder with a file
// for each suffix whose names go elsewhere (man 5 resolver). The store is empty after a reboot;
// the files tell in their first line whose they are.

const (
	resolverFolder = "etc/resolver"
	resolverMark   = "# martlet "
)

// scutilKeys are ours in the store: one for all names, one for the domains to search.
func scutilKeys(device string) (all, search string) {
	return "State:/Network/Service/martlet-" + device + "/DNS", "State:/Network/Service/martlet-" + device + "-search/DNS"
}

// scutilSet is what scutil reads so that our keys are what c says. A key that is not wanted goes:
// removing one that is not there is an answer, not a failure. The match domain "" is all names.
func scutilSet(c Config) string {
	all, search := scutilKeys(c.Device)
	var b strings.Builder
	b.WriteString("open\n")
	for _, k := range []struct {
		key, domains string
		wanted       bool
		noSearch     int
	}{
		{all, `""`, c.all(), 1},
		{search, strings.Join(c.Search, " "), len(c.Search) > 0, 0},
	} {
		if !k.wanted {
			fmt.Fprintf(&b, "remove %s\n", k.key)
			continue
		}
		fmt.Fprintf(&b, "d.init\nd.add ServerAddresses * %s\nd.add SupplementalMatchDomains * %s\nd.add SupplementalMatchDomainsNoSearch # %d\nset %s\n",
			joined(c.Servers, " "), k.domains, k.noSearch, k.key)
	}
	b.WriteString("quit\n")
	return b.String()
}

func scutilRemove(device string) string {
	all, search := scutilKeys(device)
	return "open\nremove " + all + "\nremove " + search + "\nquit\n"
}

func joined(servers []netip.Addr, between string) string {
	var out []string
	for _, a := range servers {
		out = append(out, a.String())
	}
	return strings.Join(out, between)
}

// resolverFiles are those of the split domains, by path from the root.
func resolverFiles(c Config) map[string]string {
	out := map[string]string{}
	for _, n := range c.Domains {
		out[path.Join(resolverFolder, n)] = resolverMark + c.Device + "\n" + resolvConfText(c.Servers, nil)
	}
	return out
}

// resolverDevice reads whose a file in the folder is; "" when it is not ours.
func resolverDevice(content string) string {
	first, _, _ := strings.Cut(content, "\n")
	device, ours := strings.CutPrefix(first, resolverMark)
	if !ours || checkDevice(device) != nil {
		return ""
	}
	return device
}

// scutilDevices finds the devices of our keys in what scutil says to "list".
func scutilDevices(list string) []string {
	var out []string
	for line := range strings.Lines(list) {
		_, name, found := strings.Cut(strings.TrimSpace(line), "State:/Network/Service/martlet-")
		device, isDNS := strings.CutSuffix(name, "/DNS")
		device = strings.TrimSuffix(device, "-search")
		if found && isDNS && checkDevice(device) == nil {
			out = append(out, device)
		}
	}
	return out
}
