package ike

import (
	"bytes"

	"martlet/ike/message"
)

// natDetection is our two notifies: the source wrong on purpose, the destination
// true.
func natDetection(spii, spir message.SPI, p Path) []message.Payload {
	return []message.Payload{
		notifyData(message.NATDetectionSourceIP, message.FakedNATDetection(spii, spir, p.Local)),
		notifyData(message.NATDetectionDestinationIP, message.NATDetection(spii, spir, p.Remote)),
	}
}

// detectNAT evaluates the peer's notifies; there may be several sources. It reports
// false where the peer sent none: it has no NAT traversal.
func detectNAT(ps []message.Payload, spii, spir message.SPI, p Path) (condition, bool) {
	here := message.NATDetection(spii, spir, p.Local)
	there := message.NATDetection(spii, spir, p.Remote)
	faked := message.FakedNATDetection(spii, spir, p.Remote)
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
