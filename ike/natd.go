package ike

import (
	"bytes"
	"crypto/sha1" // RFC 7296 §2.23 asks for it; no secret rests on it
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

// fakedHash is what we say of our own address: the complement of the truth. Every peer
// sees a NAT and encapsulates in UDP, which is all that we do;
// another Martlet can tell whether there is a real one.
func fakedHash(spii, spir message.SPI, at netip.AddrPort) []byte {
	h := natHash(spii, spir, at)
	for i := range h {
		h[i] = ^h[i]
	}
	return h
}

// natDetection is our two notifies: the source wrong on purpose, the destination
// true.
func natDetection(spii, spir message.SPI, p Path) []message.Payload {
	return []message.Payload{
		notifyData(message.NATDetectionSourceIP, fakedHash(spii, spir, p.Local)),
		notifyData(message.NATDetectionDestinationIP, natHash(spii, spir, p.Remote)),
	}
}

// detectNAT evaluates the peer's notifies; there may be several sources. It reports
// false where the peer sent none: it has no NAT traversal.
func detectNAT(ps []message.Payload, spii, spir message.SPI, p Path) (condition, bool) {
	here := natHash(spii, spir, p.Local)
	there := natHash(spii, spir, p.Remote)
	faked := fakedHash(spii, spir, p.Remote)
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
