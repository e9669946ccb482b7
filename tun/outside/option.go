package outside

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"martlet/tun/netmon"
)

// option is an option of a socket whose value is an int; the zero value is none.
type option struct{ level, name, value int }

// The options by their numbers, which cannot all be had from one system.
const (
	ipProtoIP, ipProtoIPv6 = 0, 41

	ipBoundIF, ipv6BoundIF     = 25, 125 // macOS, netinet/in.h and netinet6/in6.h
	ipUnicastIF, ipv6UnicastIF = 31, 31  // Windows, ws2ipdef.h
	solSocketBSD               = 0xffff
	soUserCookie               = 0x1015 // FreeBSD, sys/socket.h
	soRTable                   = 0x1021 // OpenBSD, sys/socket.h
)

// boundIF binds to an interface on macOS.
func boundIF(v4 bool, index int) option {
	if v4 {
		return option{ipProtoIP, ipBoundIF, index}
	}
	return option{ipProtoIPv6, ipv6BoundIF, index}
}

// unicastIF binds to an interface on Windows, where the index is in network byte order for IPv4
// and in the host's, which is little-endian, for IPv6.
func unicastIF(v4 bool, index int) option {
	if !v4 {
		return option{ipProtoIPv6, ipv6UnicastIF, index}
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(index))
	return option{ipProtoIP, ipUnicastIF, int(binary.LittleEndian.Uint32(b[:]))}
}

// userCookie is the mark of FreeBSD.
func userCookie(cookie uint32) option {
	if cookie == 0 {
		return option{}
	}
	return option{solSocketBSD, soUserCookie, int(cookie)}
}

// routingTable is another routing table of OpenBSD.
func routingTable(table uint8) option {
	if table == 0 {
		return option{}
	}
	return option{solSocketBSD, soRTable, int(table)}
}

// onLoopback tells whether an address, of the form that Control gets, is one of this host alone.
func onLoopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// bound is the option that binds a socket to the interface that leads out.
func (w Way) bound(v4 bool, address string, bind func(v4 bool, index int) option) (option, error) {
	if onLoopback(address) {
		return option{}, nil
	}
	_, index, ok := netmon.DefaultInterface(v4, w.Tunnel)
	if !ok {
		family := "IPv6"
		if v4 {
			family = "IPv4"
		}
		return option{}, fmt.Errorf("outside: no interface but the tunnel's leads out by %s: %w; connect this host to a network", family, syscall.ENETUNREACH)
	}
	return bind(v4, index), nil
}
