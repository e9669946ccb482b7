package ike

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 7296 §2.23 asks for it; no secret rests on it.
	"encoding/binary"
	"net/netip"

	"martlet/ike/message"
)

// natHash is the data of a NAT_DETECTION notify: SHA-1(SPIi | SPIr | IP | port)
// (RFC 7296 §2.23).
func natHash(spii, spir message.SPI, at netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(spii))
	b = binary.BigEndian.AppendUint64(b, uint64(spir))
	b = append(b, at.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	h := sha1.Sum(b)
	return h[:]
}

// nowhere is the address that we claim to send from, so that the peer sees a NAT and
// encapsulates in UDP, which is all that we do (design.md section 2). Another Martlet
// recognizes it and knows that there is no real NAT.
func nowhere(like netip.AddrPort) netip.AddrPort {
	if like.Addr().Unmap().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}

// natDetection is our two notifies: the source wrong on purpose, the destination
// true.
func natDetection(spii, spir message.SPI, p Path) []message.Payload {
	return []message.Payload{
		notifyData(message.NATDetectionSourceIP, natHash(spii, spir, nowhere(p.Remote))),
		notifyData(message.NATDetectionDestinationIP, natHash(spii, spir, p.Remote)),
	}
}

// detectNAT evaluates the peer's notifies; there may be several sources. It reports
// false where the peer sent none: it has no NAT traversal.
func detectNAT(ps []message.Payload, spii, spir message.SPI, p Path) (condition, bool) {
	here := natHash(spii, spir, p.Local)
	there := natHash(spii, spir, p.Remote)
	faked := natHash(spii, spir, nowhere(p.Local))
	var sources, destinations int
	conds := condNATHere | condNATThere
	for _, payload := range ps {
		n, ok := payload.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Notify {
		case message.NATDetectionSourceIP:
			sources++
			if bytes.Equal(n.Data, there) || bytes.Equal(n.Data, faked) {
				conds &^= condNATThere
			}
		case message.NATDetectionDestinationIP:
			destinations++
			if bytes.Equal(n.Data, here) {
				conds &^= condNATHere
			}
		}
	}
	if sources == 0 || destinations == 0 {
		return 0, false
	}
	if conds == 0 {
		conds = condEncapForced
	}
	return conds, true
}
