package udpencap

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The figures of RFC 9329 §3.1 and §3.2 with contents: a length that counts itself, then the
// non-ESP marker and IKE, or ESP from the SPI on.
const figureStream = "494b45544350" + // "IKETCP" (§4)
	"000a" + "00000000" + "01020304" +
	"000e" + "c0ffee01" + "00000001" + "aabbccdd" +
	"0003" + "ff"

func figurePackets() []Packet {
	return []Packet{
		{Kind: IKE, Data: []byte{1, 2, 3, 4}},
		{Kind: ESP, Data: []byte{0xc0, 0xff, 0xee, 1, 0, 0, 0, 1, 0xaa, 0xbb, 0xcc, 0xdd}},
		{Kind: Keepalive, Data: []byte{0xff}},
	}
}

func TestStreamFixture(t *testing.T) {
	b := []byte(streamPrefix)
	for _, p := range figurePackets() {
		before := len(b)
		b = appendFrame(b, &p)
		if len(b)-before != frameLen(&p) {
			t.Errorf("kind %d has %d octets, frameLen says %d", p.Kind, len(b)-before, frameLen(&p))
		}
	}
	if got := hex.EncodeToString(b); got != figureStream {
		t.Errorf("sent %s, want %s", got, figureStream)
	}
	// And read back, from every truncation: only what is whole comes out.
	b = b[len(streamPrefix):]
	for n := range len(b) + 1 {
		st := &stream{buf: b[:n:n], stop: n}
		packets := make([]Packet, 8)
		got, malformed := st.take(packets)
		want, whole := figurePackets(), 0
		for at := 0; whole < len(want); whole++ {
			if at += frameLen(&want[whole]); at > n {
				break
			}
		}
		if malformed != 0 {
			t.Fatalf("%d octets: something is malformed", n)
		}
		if d := cmp.Diff(want[:whole], packets[:got], cmp.Comparer(samePacket)); d != "" {
			t.Fatalf("%d octets (-want +got):\n%s", n, d)
		}
	}
}

func samePacket(a, b Packet) bool { return a.Kind == b.Kind && bytes.Equal(a.Data, b.Data) }

// What is no message ends the stream, behind those that came before.
func TestStreamGarbage(t *testing.T) {
	good := "000e" + "c0ffee01" + "00000001" + "aabbccdd"
	for name, garbage := range map[string]string{
		"length 0":            "0000",
		"length 1":            "0001",
		"empty":               "0002",
		"one octet":           "000300",
		"half a marker":       "0004" + "0000",
		"marker alone":        "0006" + "00000000",
		"SPI without number":  "0006" + "c0ffee01",
		"ESP of seven octets": "0009" + "c0ffee01000000",
	} {
		b, _ := hex.DecodeString(good + garbage + good)
		st := &stream{buf: b, stop: len(b)}
		packets := make([]Packet, 8)
		if n, malformed := st.take(packets); n != 1 || malformed != 1 || !st.bad {
			t.Errorf("%s: %d messages, %d malformed, bad %v; want 1, 1, true", name, n, malformed, st.bad)
		}
		if n, malformed := st.take(packets); n != 0 || malformed != 0 {
			t.Errorf("%s: %d messages behind it", name, n+malformed)
		}
	}
}

func FuzzStream(f *testing.F) {
	b, _ := hex.DecodeString(figureStream)
	f.Add(b[len(streamPrefix):], uint8(3))
	f.Add([]byte{0, 1}, uint8(1))
	f.Add([]byte{0xff, 0xff, 0, 0, 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, batch uint8) {
		st := &stream{buf: bytes.Clone(b), stop: len(b)}
		packets := make([]Packet, 1+int(batch)%8)
		var back []byte
		for {
			n, malformed := st.take(packets)
			for _, p := range packets[:n] {
				back = appendFrame(back, &p)
			}
			if n == 0 {
				if malformed > 1 || malformed == 1 && !st.bad {
					t.Fatalf("%d malformed, bad %v", malformed, st.bad)
				}
				break
			}
		}
		if !bytes.HasPrefix(b, back) {
			t.Fatalf("what was read is not what stood there:\n% x\n% x", b, back)
		}
		if len(b)-len(back) >= maxFrame && !st.bad {
			t.Fatalf("%d octets are left, which is more than a message", len(b)-len(back))
		}
	})
}
