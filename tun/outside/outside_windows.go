package outside

import "golang.org/x/sys/windows"

// The numbers are those of this system, or this does not compile.
var _ = [1]int{}[ipProtoIP-windows.IPPROTO_IP|ipProtoIPv6-windows.IPPROTO_IPV6]

func (w Way) option(v4 bool, address string) (option, error) {
	return w.bound(v4, address, unicastIF)
}

func (o option) set(fd uintptr) error {
	return windows.SetsockoptInt(windows.Handle(fd), o.level, o.name, o.value)
}
