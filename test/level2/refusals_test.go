package level2

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/test/simnet"
)

// unwelcome is messages that are refused, of every kind that a stranger can make out of an
// IKE_SA_INIT request: cut, with each field of the header changed, as another exchange, as
// a response, of another version, for SAs that there are not and for the one that there is.
func unwelcome(request []byte, spi uint64) [][]byte {
	var out [][]byte
	add := func(change func(b []byte) []byte) {
		b := change(slices.Clone(request))
		if len(b) >= 28 {
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		}
		out = append(out, b)
	}
	for i := 28; i < len(request); i++ {
		add(func(b []byte) []byte { b[i] ^= 0xff; return b })
	}
	for n := range len(request) {
		add(func(b []byte) []byte { return b[:n] })
	}
	for kind := range 256 {
		for _, flags := range []byte{0x08, 0x20, 0x00, 0x28} {
			for _, own := range []uint64{0, 1, spi} {
				add(func(b []byte) []byte {
					b[18], b[19] = byte(kind), flags
					binary.BigEndian.PutUint64(b[8:], own)
					return b
				})
			}
		}
		add(func(b []byte) []byte { b[16] = byte(kind); return b })
		add(func(b []byte) []byte { b[17] = byte(kind); return b })
	}
	return out
}

// TestRow16RefusalsAtFullLogLevel: nodes that log all that they can get nothing but messages
// that they refuse, most of which are for no SA.
func TestRow16RefusalsAtFullLogLevel(t *testing.T) {
	inBubble(t, 16, func(w *world) {
		w.record()
		gateway, client := w.pair()
		request := w.initRequest()
		w.net.Trace(nil)
		attacker := w.net.Host("attacker", usual, attackerAddr)
		spi, err := strconv.ParseUint(gateway.sa().SPIr, 16, 64)
		if err != nil {
			w.Fatal(err)
		}
		for i, data := range unwelcome(request, spi) {
			for _, to := range []netip.AddrPort{netip.AddrPortFrom(gatewayAddr, 500), netip.AddrPortFrom(gatewayAddr, 4500)} {
				if to.Port() == 4500 {
					data = append(make([]byte, 4), data...)
				}
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), to.Port())
				attacker.Send(simnet.Datagram{From: from, To: to, Data: data})
			}
			if i%20 == 0 {
				pass(31 * time.Second) // the half-open ones are gone: no cookies are asked for
			}
		}
		pass(time.Minute)
		drops := gateway.Status().Drops
		for _, reason := range []string{"ike-malformed", "ike-wrong-version", "ike-unknown-spi", "ike-invalid-ke", "ike-no-nat-traversal", "ike-unsolicited-response", "ike-replayed"} {
			if drops[reason] == 0 {
				w.Errorf("nothing was refused as %s: %v", reason, drops)
			}
		}
		if drops["ike-panic"] != 0 {
			w.Errorf("panics: %v", drops)
		}
		if text := gateway.text.String(); strings.Count(text, "refused: ") < 3 {
			w.Error("the log tells of no refusals")
		}
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}
