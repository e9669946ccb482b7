package esp

import "martlet/crypto/suite"

// InnerMTU is the longest inner packet whose ESP-in-UDP packet fits into an outer
// packet of so many octets: 1438 for AES-GCM over IPv4 and 1500. It reckons with an
// outer header without options or extensions. Of algorithms that it does not know it
// assumes the longest fields there are.
func InnerMTU(outer int, remoteIs6 bool, encr, integ suite.Transform) int {
	header := 20
	if remoteIs6 {
		header = 40
	}
	iv, icv, block := 16, 32, 16
	switch encr.ID {
	case suite.EncrAESGCM16, suite.EncrChaCha20Poly1305:
		iv, icv, block = 8, 16, 4
	case suite.EncrAESGCM16IIV, suite.EncrChaCha20Poly1305IIV:
		iv, icv, block = 0, 16, 4
	case suite.EncrAESGCM12:
		iv, icv, block = 8, 12, 4
	case suite.EncrAESGCM8:
		iv, icv, block = 8, 8, 4
	case suite.EncrAESCTR:
		iv, block = 8, 4
		icv = integLen(integ)
	case suite.EncrAESCBC:
		icv = integLen(integ)
	}
	text := outer - header - udpHeaderLen - headLen - iv - icv
	return max(0, text/block*block-2)
}

const udpHeaderLen = 8

// StreamOverhead is how much more of an outer packet TCP takes than UDP, when a stream carries
// a packet in each segment: a header with time stamps, and the length (RFC 9329 §3).
const StreamOverhead = 20 + 12 + 2 - udpHeaderLen

func integLen(integ suite.Transform) int {
	switch integ.ID {
	case suite.IntegHMACSHA1_96:
		return 12
	case suite.IntegHMACSHA2_256_128:
		return 16
	case suite.IntegHMACSHA2_384_192:
		return 24
	}
	return 32
}
