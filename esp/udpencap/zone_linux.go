package udpencap

import (
	"net"
	"strconv"
)

// zone and scope turn the index of an interface into the zone of a link-local
// address and back. The number itself is a zone too, and costs no search.

func zone(index uint32) string { return strconv.FormatUint(uint64(index), 10) }

func scope(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}
