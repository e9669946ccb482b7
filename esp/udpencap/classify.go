package udpencap

// Lengths that tell datagrams apart.
const (
	markerLen = 4 // the non-ESP marker (RFC 3948 §2.2)
	espHeader = 8 // SPI and sequence number, without which nothing is ESP
)

// classify tells what a datagram that arrived on a socket holds, and returns it without
// marker, a part of b. It reports false for what is none of the kinds.
func classify(b []byte, encap bool) (Kind, []byte, bool) {
	switch {
	case !encap:
		// RFC 7296 §3.1: IKE messages on port 500 have no marker, and ESP has no
		// business there.
		return IKE, b, len(b) > 0
	case len(b) == 1:
		return Keepalive, b, b[0] == 0xff
	case len(b) < markerLen:
		return 0, nil, false
	case [markerLen]byte(b) == [markerLen]byte{}:
		return IKE, b[markerLen:], len(b) > markerLen
	}
	return ESP, b, len(b) >= espHeader
}
