package route

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AwaitLocal waits until the kernel takes packets to an IPv6 address that was given to an interface
// which is up, in the network namespace of the calling thread. The kernel leaves that to a worker:
// programs can send from the address before, and what comes back at once would be lost. Where it is
// done already that takes one question, and after a second it is given up: what is lost then is sent
// again.
func AwaitLocal(a netip.Addr) {
	const step, steps = 250 * time.Microsecond, 4000
	for range steps {
		// Where one packet would go. The list of all routes, which tells it too, may be long.
		found, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(found) > 0 && found[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(step)
	}
}
