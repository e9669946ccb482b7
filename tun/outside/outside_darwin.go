package outside

import "golang.org/x/sys/unix"

// The numbers are those of this system, or this does not compile.
var _ = [1]int{}[ipProtoIP-unix.IPPROTO_IP|ipProtoIPv6-unix.IPPROTO_IPV6|ipBoundIF-unix.IP_BOUND_IF|ipv6BoundIF-unix.IPV6_BOUND_IF]

func (w Way) option(v4 bool, address string) (option, error) {
	return w.bound(v4, address, boundIF)
}
