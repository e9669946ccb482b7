package esp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// addrOf counts through addresses.
func addrOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 66, byte(i >> 8), byte(i)})
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// withExtensions is an IPv6 packet with each extension header that is walked.
func withExtensions() []byte {
	body := slices.Concat(
		[]byte{protoRouting, 0, 1, 4, 0, 0, 0, 0},     // hop-by-hop
		[]byte{protoDestOptions, 0, 0, 0, 0, 0, 0, 0}, // routing
		[]byte{protoAH, 1, 1, 12, 14: 0, 15: 0},       // destination options
		[]byte{protoFragment, 4, 8: 1, 23: 0},         // AH with 12 octets of ICV
		[]byte{protoUDP, 0, 0, 1, 0, 0, 0, 9},         // first fragment
		udpHeader(53, 54, 5),
	)
	return packet(addr("2001:db8::1"), addr("2001:db8::2"), protoHopByHop, body)
}

func TestParse(t *testing.T) {
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	c, d := addr("2001:db8::1"), addr("2001:db8::2")
	v4 := func(proto uint8, body ...byte) []byte { return packet(a, b, proto, body) }
	v6 := func(proto uint8, body ...byte) []byte { return packet(c, d, proto, body) }
	edit := func(pkt []byte, change func(b []byte)) []byte { change(pkt); return pkt }
	options := func() []byte {
		pkt := append(v4(protoTCP)[:20], 1, 1, 1, 0, 0, 80, 1, 187)
		pkt[0] = 0x46
		pkt[3] = 28
		return pkt
	}
	for _, test := range []struct {
		name string
		pkt  []byte
		want Flow
	}{
		{"UDP", ip("10.0.0.1", "10.0.0.2", 3), Flow{Src: a, Dst: b, Protocol: protoUDP, SrcPort: 4000, DstPort: 5000}},
		{"UDP, IPv6", ip("2001:db8::1", "2001:db8::2", 3), Flow{Src: c, Dst: d, Protocol: protoUDP, SrcPort: 4000, DstPort: 5000}},
		{"options", options(), Flow{Src: a, Dst: b, Protocol: protoTCP, SrcPort: 80, DstPort: 443}},
		{"ICMP", v4(protoICMP, 8, 3, 0, 0), Flow{Src: a, Dst: b, Protocol: protoICMP, SrcPort: 0x803, DstPort: 0x803}},
		{"ICMPv6", v6(protoICMPv6, 135, 0, 0, 0), Flow{Src: c, Dst: d, Protocol: protoICMPv6, SrcPort: 135 << 8, DstPort: 135 << 8}},
		{"GRE", v4(47, 1, 2, 3, 4), Flow{Src: a, Dst: b, Protocol: 47, NoPorts: true}},
		{"empty", v4(protoUDP), Flow{Src: a, Dst: b, Protocol: protoUDP, NoPorts: true}},
		{"half a port", v4(protoTCP, 1, 2, 3), Flow{Src: a, Dst: b, Protocol: protoTCP, NoPorts: true}},
		{
			"first fragment", edit(v4(protoUDP, 0, 1, 0, 2), func(b []byte) { b[6] = 0x20 }),
			Flow{Src: a, Dst: b, Protocol: protoUDP, SrcPort: 1, DstPort: 2},
		},
		{
			"later fragment", edit(v4(protoUDP, 0, 1, 0, 2), func(b []byte) { b[7] = 1 }),
			Flow{Src: a, Dst: b, Protocol: protoUDP, NoPorts: true},
		},
		{"extensions", withExtensions(), Flow{Src: c, Dst: d, Protocol: protoUDP, SrcPort: 53, DstPort: 54}},
		{
			"later fragment, IPv6", v6(protoFragment, protoTCP, 0, 0, 8, 0, 0, 0, 1, 0, 80, 0, 81),
			Flow{Src: c, Dst: d, Protocol: protoTCP, NoPorts: true},
		},
		{
			"later fragment of extensions", v6(protoFragment, protoDestOptions, 0, 0, 8, 0, 0, 0, 1, 0, 80, 0, 81),
			Flow{Src: c, Dst: d, Protocol: protoDestOptions, NoPorts: true, NoProtocol: true},
		},
		{"no next header", v6(protoNone), Flow{Src: c, Dst: d, Protocol: protoNone, NoPorts: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, n, ok := parse(test.pkt)
			if !ok || n != len(test.pkt) {
				t.Fatalf("ok %t, length %d of %d", ok, n, len(test.pkt))
			}
			if diff := cmp.Diff(test.want, f, compareAddrs); diff != "" {
				t.Error(diff)
			}
			// What follows the packet does not matter, and no beginning is taken.
			if g, n, ok := parse(append(slices.Clone(test.pkt), 1, 2, 3)); !ok || n != len(test.pkt) || g != f {
				t.Error("trailing octets change the result")
			}
			for n := range test.pkt {
				if _, _, ok := parse(test.pkt[:n]); ok {
					t.Errorf("%d of %d octets accepted", n, len(test.pkt))
				}
			}
		})
	}
}

func TestParseMalformed(t *testing.T) {
	edit := func(pkt []byte, change func(b []byte)) []byte { change(pkt); return pkt }
	v4 := func() []byte { return ip("10.0.0.1", "10.0.0.2", 3) }
	v6 := func() []byte { return ip("2001:db8::1", "2001:db8::2", 3) }
	many := []byte{}
	for range maxExtensions + 1 {
		many = append(many, protoDestOptions, 0, 0, 0, 0, 0, 0, 0)
	}
	for name, pkt := range map[string][]byte{
		"version 0":            edit(v4(), func(b []byte) { b[0] = 0x05 }),
		"version 5":            edit(v4(), func(b []byte) { b[0] = 0x55 }),
		"header of 16":         edit(v4(), func(b []byte) { b[0] = 0x44 }),
		"header of 60":         edit(v4(), func(b []byte) { b[0] = 0x4f }),
		"length below header":  edit(v4(), func(b []byte) { b[3] = 19 }),
		"length above packet":  edit(v4(), func(b []byte) { b[2] = 1 }),
		"IPv6 length above":    edit(v6(), func(b []byte) { b[4] = 1 }),
		"jumbogram":            edit(packet(addr("2001:db8::1"), addr("2001:db8::2"), protoHopByHop, []byte{17, 0, 0xc2, 4, 0, 1, 0, 0}), func(b []byte) { b[5] = 0 }),
		"extension cut":        packet(addr("2001:db8::1"), addr("2001:db8::2"), protoRouting, []byte{17, 1, 0, 0, 0, 0, 0, 0}),
		"too many extensions":  packet(addr("2001:db8::1"), addr("2001:db8::2"), protoDestOptions, many),
		"IPv4-mapped source":   packet(addr("::ffff:10.0.0.1"), addr("2001:db8::2"), protoUDP, nil),
		"IPv4-mapped receiver": packet(addr("2001:db8::2"), addr("::ffff:10.0.0.1"), protoUDP, nil),
	} {
		if _, _, ok := parse(pkt); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRoutable(t *testing.T) {
	for _, test := range []struct {
		src, dst string
		want     bool
	}{
		{"10.0.0.1", "10.0.0.2", true},
		{"10.0.0.1", "224.0.0.5", true},
		{"127.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "127.9.9.9", false},
		{"224.0.0.1", "10.0.0.2", false},
		{"255.255.255.255", "10.0.0.2", false},
		{"0.0.0.0", "10.0.0.2", false},
		{"10.0.0.1", "0.0.0.0", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"2001:db8::1", "ff02::5", true},
		{"::1", "2001:db8::2", false},
		{"2001:db8::1", "::1", false},
		{"ff02::1", "2001:db8::2", false},
		{"::", "2001:db8::2", false},
	} {
		f := Flow{Src: addr(test.src), Dst: addr(test.dst)}
		if got := f.routable(); got != test.want {
			t.Errorf("%s to %s: %t", test.src, test.dst, got)
		}
	}
}

// FuzzInner: parse never reads outside, and what it says holds of the octets.
func FuzzInner(f *testing.F) {
	f.Add(ip("10.0.0.1", "10.0.0.2", 3))
	f.Add(ip("2001:db8::1", "2001:db8::2", 3))
	f.Add(withExtensions())
	f.Fuzz(func(t *testing.T, pkt []byte) {
		flow, n, ok := parse(pkt)
		if !ok {
			return
		}
		if n > len(pkt) || n < 20 {
			t.Fatalf("length %d of %d", n, len(pkt))
		}
		if _, again, ok := parse(pkt[:n]); !ok || again != n {
			t.Fatal("the packet cut to its length is another one")
		}
		if flow.Src.BitLen() != flow.Dst.BitLen() || flow.Src.Is4() != (pkt[0]>>4 == 4) {
			t.Fatalf("addresses %v and %v in version %d", flow.Src, flow.Dst, pkt[0]>>4)
		}
		before := slices.Clone(pkt)
		for ecn := range uint8(4) {
			setECN(pkt, ecn)
			if trafficClass(pkt) != trafficClass(before)&^3|ecn {
				t.Fatalf("class %#x after setting ECN %d on %#x", trafficClass(pkt), ecn, trafficClass(before))
			}
		}
		if flow.Src.Is4() && binary.BigEndian.Uint16(before[10:]) != 0 {
			setECN(pkt, trafficClass(before)&3)
			if checksum(pkt[:20]) != checksum(before[:20]) {
				t.Fatal("header checksum differs after the ECN field is as before")
			}
		}
	})
}
