package martlet

import "golang.org/x/sys/unix"

// mayConfigureHost reports whether this process has CAP_NET_ADMIN, which devices, routes
// and packet filter need. In doubt it may, and fails where it may not.
func mayConfigureHost() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return true
	}
	return sets[unix.CAP_NET_ADMIN/32].Effective&(1<<(unix.CAP_NET_ADMIN%32)) != 0
}
