package udpencap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlLen is room for the control messages that come with a datagram, and for those that
// go with one: PKTINFO of up to 20 octets, TOS, UDP_GRO and SO_RXQ_OVFL of 4, each with a header of up
// to 16 and padding.
const controlLen = 128

// arrival is what the control messages of a datagram tell.
type arrival struct {
	local   []byte // the destination address; nil where it is not told
	ecn     uint8
	segment int    // the length of the datagrams of a slab, or 0
	drops   uint32 // datagrams that the file descriptor has lost in all, or 0
}

// parseArrival reads control messages. What is not one ends it.
func parseArrival(b []byte) (a arrival) {
	for {
		level, kind, data, rest, ok := nextControl(b)
		if !ok {
			return a
		}
		b = rest
		switch {
		case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, local address, destination in the header.
			a.local = data[8:12]
		case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			a.local = data[:16]
		case level == unix.SOL_IP && kind == unix.IP_TOS && len(data) >= 1:
			a.ecn = data[0] & 3
		case level == unix.SOL_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
			a.ecn = uint8(binary.NativeEndian.Uint32(data)) & 3
		case level == unix.SOL_UDP && kind == unix.UDP_GRO && len(data) >= 4:
			// An int; the kernel has never more than 16 bits for it.
			a.segment = int(binary.NativeEndian.Uint32(data) & 0xffff)
		case level == unix.SOL_SOCKET && kind == unix.SO_RXQ_OVFL && len(data) >= 4:
			a.drops = binary.NativeEndian.Uint32(data)
		}
	}
}

// nextControl takes the first control message off b.
func nextControl(b []byte) (level, kind int32, data, rest []byte, ok bool) {
	if len(b) < unix.SizeofCmsghdr {
		return 0, 0, nil, nil, false
	}
	var h unix.Cmsghdr
	copy((*[unix.SizeofCmsghdr]byte)(unsafe.Pointer(&h))[:], b)
	n := int(h.Len)
	if n < unix.CmsgLen(0) || n > len(b) {
		return 0, 0, nil, nil, false
	}
	end := min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(b))
	return h.Level, h.Type, b[unix.CmsgLen(0):n], b[end:], true
}

// appendControl appends a control message whose content is data and zeros up to size.
// The capacity of b holds all messages.
func appendControl(b []byte, level, kind int32, data []byte, size int) []byte {
	n := len(b)
	b = b[:n+unix.CmsgSpace(size)]
	clear(b[n:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[n]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	copy(b[n+unix.CmsgLen(0):], data)
	return b
}

// addrPort reads what the system wrote as an address.
func addrPort(n *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&n.Port))
	if n.Family == unix.AF_INET {
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), binary.BigEndian.Uint16(port[:]))
	}
	a := netip.AddrFrom16(n.Addr).Unmap()
	if n.Scope_id != 0 {
		a = a.WithZone(zone(n.Scope_id))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port[:]))
}

// setName writes an address for the system, and returns its length.
func setName(n *unix.RawSockaddrInet6, to netip.AddrPort) uint32 {
	port := [2]byte{byte(to.Port() >> 8), byte(to.Port())}
	if a := to.Addr(); a.Is6() {
		*n = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.As16(), Scope_id: scope(a.Zone())}
		n.Port = *(*uint16)(unsafe.Pointer(&port))
		return unix.SizeofSockaddrInet6
	}
	*n = unix.RawSockaddrInet6{}
	a := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
	*a = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	a.Port = *(*uint16)(unsafe.Pointer(&port))
	return unix.SizeofSockaddrInet4
}
