package message

import (
	"crypto/sha1" // RFC 7296 §2.23 asks for it; no secret rests on it
	"encoding/binary"
	"net/netip"
)

// NATDetection is the data of a NAT_DETECTION notify about an address and port:
// SHA-1(SPIi | SPIr | IP | port) (RFC 7296 §2.23). The caller owns it.
func NATDetection(spii, spir SPI, at netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(spii))
	b = binary.BigEndian.AppendUint64(b, uint64(spir))
	b = append(b, at.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	h := sha1.Sum(b)
	return h[:]
}

// FakedNATDetection is what a Martlet says of its own address: the complement of the truth. Every
// peer sees a NAT and encapsulates in UDP, which is all that a Martlet does; another Martlet can
// tell whether there is a real one.
func FakedNATDetection(spii, spir SPI, at netip.AddrPort) []byte {
	h := NATDetection(spii, spir, at)
	for i := range h {
		h[i] = ^h[i]
	}
	return h
}
