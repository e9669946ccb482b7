package netstack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"martlet/tun"
)

// samples are packets as the stack itself makes them, by what they are.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	s, err := New(1400, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, a := range clientAddrs {
		if err := s.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string][]byte{}
	frames := make([]tun.Frame, 1)
	for _, to := range serverAddrs {
		for name, send := range map[string]func(){
			"tcp": func() { s.DialContext(t.Context(), "tcp", net.JoinHostPort(to.String(), "80")) },
			"udp": func() {
				c, err := s.DialContext(t.Context(), "udp", net.JoinHostPort(to.String(), "53"))
				if err == nil {
					c.Write([]byte("odd"))
					c.Close()
				}
			},
			"icmp": func() { s.Ping(t.Context(), to) },
		} {
			go send()
			if _, err := s.Read(frames); err != nil {
				t.Fatal(err)
			}
			b := append([]byte(nil), frames[0].Pieces[0]...)
			out[fmt.Sprintf("%s over IPv%d", name, b[0]>>4)] = b
		}
	}
	return out
}

func TestIntact(t *testing.T) {
	for name, packet := range samples(t) {
		t.Run(name, func(t *testing.T) {
			if !intact(packet, tun.Offload{}) {
				t.Fatalf("refused %x", packet)
			}
			for n := 1; n < len(packet); n++ {
				if intact(packet[:n], tun.Offload{}) {
					t.Errorf("took the first %d octets of %d", n, len(packet))
				}
			}
			for i := range packet {
				if packet[0]>>4 == 6 && (i < 4 || i == 7) {
					continue // class, flow label and hop limit have no checksum
				}
				b := bytes.Clone(packet)
				b[i] ^= 0x10
				// Another protocol or a fragment: no checksum that we know.
				known := !(b[0]>>4 == 6 && (i == 6)) && b[0]>>4 == packet[0]>>4
				if known && intact(b, tun.Offload{}) {
					t.Errorf("took it with octet %d damaged", i)
				}
			}
		})
	}
}

func TestIntactSpecialCases(t *testing.T) {
	all := samples(t)

	none := bytes.Clone(all["udp over IPv4"])
	binary.BigEndian.PutUint16(none[26:], 0)
	if !intact(none, tun.Offload{}) {
		t.Error("refused UDP without a checksum over IPv4")
	}
	none = bytes.Clone(all["udp over IPv6"])
	binary.BigEndian.PutUint16(none[46:], 0)
	if intact(none, tun.Offload{}) {
		t.Error("took UDP without a checksum over IPv6")
	}

	// With extension headers in between: the checksum stays.
	plain := all["udp over IPv6"]
	const hopByHop, destination, fragment, udp = 0, 60, 44, 17
	extended := func(first byte, headers ...[]byte) []byte {
		b := bytes.Clone(plain[:40])
		b[6] = first
		for _, h := range headers {
			b = append(b, h...)
		}
		b = append(b, plain[40:]...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	long := append([]byte{udp, 1}, make([]byte, 14)...)
	chain := extended(hopByHop, []byte{destination, 0, 1, 4, 0, 0, 0, 0}, long)
	if !intact(chain, tun.Offload{}) {
		t.Error("refused extension headers")
	}
	chain[len(chain)-1] ^= 1
	if intact(chain, tun.Offload{}) {
		t.Error("took damage behind extension headers")
	}
	if intact(extended(hopByHop, []byte{udp, 200, 1, 4, 0, 0, 0, 0}), tun.Offload{}) {
		t.Error("took an extension header that is longer than the packet")
	}
	if !intact(extended(fragment, []byte{udp, 0, 0, 1, 0, 0, 0, 7}), tun.Offload{}) {
		t.Error("refused a fragment")
	}

	piece := netip.MustParseAddr("10.9.0.1").AsSlice()
	v4 := append([]byte{0x45, 0, 0, 28, 0, 1, 0x20, 0, 64, udp, 0, 0}, append(append(piece, piece...), make([]byte, 8)...)...)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(v4[i:]))
	}
	binary.BigEndian.PutUint16(v4[10:], ^uint16(sum+sum>>16))
	if !intact(v4, tun.Offload{}) {
		t.Error("refused the first fragment of an IPv4 packet")
	}
}
