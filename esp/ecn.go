package esp

import "encoding/binary"

// The ECN field (RFC 3168 §5).
const (
	ecnNotECT = 0
	ecnECT1   = 1
	ecnECT0   = 2
	ecnCE     = 3
)

// decapECN combines the ECN fields of outer and inner header at the tunnel's exit
// (RFC 6040 §4.2). It reports false where the packet must be dropped: congestion was
// met, and the inner transport could not be told.
func decapECN(outer, inner uint8) (ecn uint8, ok bool) {
	switch {
	case outer == ecnCE:
		return ecnCE, inner != ecnNotECT
	case outer == ecnECT1 && inner == ecnECT0:
		return ecnECT1, true
	}
	return inner, true
}

// trafficClass returns the octet of DSCP and ECN of a packet that parse accepted.
func trafficClass(pkt []byte) uint8 {
	if pkt[0]>>4 == 4 {
		return pkt[1]
	}
	return pkt[0]<<4 | pkt[1]>>4
}

// setECN writes the ECN field of a packet that parse accepted, and keeps the IPv4
// header checksum right by the difference (RFC 1624 §3), so that a wrong one stays
// wrong.
func setECN(pkt []byte, ecn uint8) {
	if pkt[0]>>4 == 6 {
		pkt[1] = pkt[1]&^0x30 | ecn<<4
		return
	}
	before := binary.BigEndian.Uint16(pkt)
	pkt[1] = pkt[1]&^3 | ecn
	after := binary.BigEndian.Uint16(pkt)
	sum := uint32(^binary.BigEndian.Uint16(pkt[10:])) + uint32(^before) + uint32(after)
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum))
}
