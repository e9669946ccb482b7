package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// killSwitch checks what a kill switch needs, after the rest. Nothing of the host is behind it
// without a device, so that it would promise what it cannot keep.
func (f *faults) killSwitch(c *Config) {
	const key = "node.kill_switch"
	if !c.Node.KillSwitch || f.has(key) {
		return
	}
	switch c.Node.Mode {
	case ModeUserspace:
		f.add(key, `node.mode is "userspace", in which nothing of this host goes through the tunnel`, `what uses the tunnel there has no way around it; else set mode = "tun"`)
		return
	case ModeAuto:
		f.add(key, `node.mode is "auto", and "userspace" where there is no privilege, in which nothing of this host goes through the tunnel`, `set mode = "tun"`)
		return
	}
	if table, any := c.Doors(); any {
		f.add(key, fmt.Sprintf("%s needs packets to end in this process, and a kill switch a device of this host", table), "remove one of them")
		return
	}
	if len(c.Connections) == 0 {
		f.add(key, "there is no connection, so that nothing could leave this host", "add a [connection.NAME] table with a remote")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		conn := c.Connections[name]
		if conn != nil && slices.ContainsFunc(conn.Exclude, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			f.add(key, fmt.Sprintf("connection %s has a whole family of addresses in exclude, which would pass", name), "name networks there, or remove the key here")
		}
		if conn != nil && len(conn.Remote) == 0 && !f.has(join("connection", name)) {
			f.add(key, fmt.Sprintf("connection %s has no remote: it is for peers that come to a gateway", name), "a gateway would let none of what they send go on; remove the key there")
			return
		}
	}
}
