package esp

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

func TestTooBig4(t *testing.T) {
	for _, payload := range []int{548 - 28 - 1, 548 - 28, 548 - 28 + 1, 1472, 65507} {
		pkt := ip("10.1.0.1", "10.2.0.1", payload)
		mtu := len(pkt) - 1
		got, ok := appendTooBig([]byte("before"), pkt, mtu)
		if !ok || string(got[:6]) != "before" {
			t.Fatalf("%d octets: ok %t, %x", len(pkt), ok, got)
		}
		got = got[6:]
		f, n, ok := parse(got)
		if !ok || n != len(got) || n != min(576, 28+len(pkt)) {
			t.Fatalf("%d octets: answer of %d octets, by its own account %d", len(pkt), len(got), n)
		}
		if f.Src != addr("10.2.0.1") || f.Dst != addr("10.1.0.1") || f.Protocol != protoICMP {
			t.Errorf("from %v to %v, protocol %d", f.Src, f.Dst, f.Protocol)
		}
		if plainSum(got[:20]) != 0xffff || plainSum(got[20:]) != 0xffff {
			t.Error("checksums are wrong")
		}
		if h, err := ipv4.ParseHeader(got); err != nil || h.TTL != 64 || h.Flags != ipv4.DontFragment || h.TOS != 0xc0 {
			t.Errorf("header %v, %v", h, err)
		}
		m, err := icmp.ParseMessage(protoICMP, got[20:])
		if err != nil {
			t.Fatal(err)
		}
		body, _ := m.Body.(*icmp.DstUnreach)
		if m.Type != ipv4.ICMPTypeDestinationUnreachable || m.Code != 4 || body == nil || !bytes.Equal(body.Data, pkt[:n-28]) {
			t.Errorf("type %v code %d", m.Type, m.Code)
		}
		if told := int(binary.BigEndian.Uint16(got[26:])); told != mtu || binary.BigEndian.Uint16(got[24:]) != 0 {
			t.Errorf("MTU %d, want %d", told, mtu)
		}
	}
}

func TestTooBig6(t *testing.T) {
	for _, test := range []struct{ payload, mtu, told int }{
		{1233, 1280, 1280},
		{1400, 1380, 1380},
		{1400, 1000, 1280},
		{1400, -5, 1280},
		{65535 - 8, 65574, 65574},
	} {
		pkt := ip("2001:db8::1", "2001:db8::2", test.payload)
		got, ok := appendTooBig(nil, pkt, test.mtu)
		f, n, fine := parse(got)
		if !ok || !fine || n != len(got) || n != min(1280, 48+len(pkt)) {
			t.Fatalf("%v: ok %t, answer of %d octets, by its own account %d", test, ok, len(got), n)
		}
		if f.Src != addr("2001:db8::2") || f.Dst != addr("2001:db8::1") || got[7] != 64 {
			t.Errorf("from %v to %v, hop limit %d", f.Src, f.Dst, got[7])
		}
		pseudo := icmp.IPv6PseudoHeader(net.IP(f.Src.AsSlice()), net.IP(f.Dst.AsSlice()))
		binary.BigEndian.PutUint32(pseudo[32:], uint32(n-40))
		if plainSum(append(pseudo, got[40:]...)) != 0xffff {
			t.Error("checksum is wrong")
		}
		m, err := icmp.ParseMessage(protoICMPv6, got[40:])
		if err != nil {
			t.Fatal(err)
		}
		body, _ := m.Body.(*icmp.PacketTooBig)
		if m.Type != ipv6.ICMPTypePacketTooBig || m.Code != 0 || body == nil || body.MTU != test.told || !bytes.Equal(body.Data, pkt[:n-48]) {
			t.Errorf("%v: %v code %d %v", test, m.Type, m.Code, body)
		}
	}
}

// TestTooBigOfTiny: no answer tells less than the least MTU of the family.
func TestTooBigOfTiny(t *testing.T) {
	got, ok := appendTooBig(nil, ip("10.0.0.1", "10.0.0.2", 100), 10)
	if !ok || binary.BigEndian.Uint16(got[26:]) != 68 {
		t.Errorf("ok %t, %x", ok, got)
	}
}

func TestTooBigUnanswered(t *testing.T) {
	const long = 1400
	v4 := func(proto uint8, body ...byte) []byte {
		return packet(addr("10.0.0.1"), addr("10.0.0.2"), proto, append(body, make([]byte, long)...))
	}
	v6 := func(proto uint8, body ...byte) []byte {
		return packet(addr("2001:db8::1"), addr("2001:db8::2"), proto, append(body, make([]byte, long)...))
	}
	edit := func(pkt []byte, change func(b []byte)) []byte { change(pkt); return pkt }
	for _, test := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"UDP", ip("10.0.0.1", "10.0.0.2", long), true},
		{"a protocol without ports", v4(47), true},
		{"echo request", v4(protoICMP, 8, 0), true},
		{"echo reply", v4(protoICMP, 0, 0), true},
		{"timestamp", v4(protoICMP, 13, 0), true},
		{"unreachable", v4(protoICMP, 3, 3), false},
		{"quench", v4(protoICMP, 4, 0), false},
		{"redirect", v4(protoICMP, 5, 0), false},
		{"time exceeded", v4(protoICMP, 11, 0), false},
		{"parameter problem", v4(protoICMP, 12, 0), false},
		{"unknown type", v4(protoICMP, 77, 0), false},
		{"ICMPv6 over IPv4", v4(protoICMPv6, 128, 0), false},
		{"first fragment", edit(ip("10.0.0.1", "10.0.0.2", long), func(b []byte) { b[6] = 0x20 }), true},
		{"later fragment", edit(ip("10.0.0.1", "10.0.0.2", long), func(b []byte) { b[7] = 1 }), false},
		{"last fragment", edit(ip("10.0.0.1", "10.0.0.2", long), func(b []byte) { b[6] = 0x1f }), false},
		{"to multicast", ip("10.0.0.1", "224.0.0.5", long), false},
		{"to broadcast", ip("10.0.0.1", "255.255.255.255", long), false},
		{"to nobody", ip("10.0.0.1", "0.0.0.0", long), false},
		{"to loopback", ip("10.0.0.1", "127.0.0.1", long), false},
		{"from multicast", ip("224.0.0.5", "10.0.0.1", long), false},
		{"from broadcast", ip("255.255.255.255", "10.0.0.1", long), false},
		{"from nobody", ip("0.0.0.0", "10.0.0.1", long), false},
		{"from this network", ip("0.1.2.3", "10.0.0.1", long), false},
		{"from class E", ip("240.0.0.1", "10.0.0.1", long), false},
		{"from loopback", ip("127.0.0.1", "10.0.0.1", long), false},
		{"fits", ip("10.0.0.1", "10.0.0.2", 1000-28), false},
		{"does not fit", ip("10.0.0.1", "10.0.0.2", 1001-28), true},

		{"UDP, IPv6", ip("2001:db8::1", "2001:db8::2", long), true},
		{"fits, IPv6", ip("2001:db8::1", "2001:db8::2", 1280-48), false},
		{"echo request, IPv6", v6(protoICMPv6, 128, 0), true},
		{"echo reply, IPv6", v6(protoICMPv6, 129, 0), true},
		{"unreachable, IPv6", v6(protoICMPv6, 1, 0), false},
		{"too big, IPv6", v6(protoICMPv6, 2, 0), false},
		{"unknown error, IPv6", v6(protoICMPv6, 100, 0), false},
		{"redirect, IPv6", v6(protoICMPv6, 137, 0), false},
		{"error behind extensions, IPv6", v6(protoDestOptions, protoICMPv6, 0, 0, 0, 0, 0, 0, 0, 1, 0), false},
		{"ICMP over IPv6", v6(protoICMP, 8, 0), false},
		{"first fragment, IPv6", v6(protoFragment, protoUDP, 0, 0, 1, 0, 0, 0, 9), true},
		{"later fragment, IPv6", v6(protoFragment, protoUDP, 0, 0, 8, 0, 0, 0, 9), false},
		{"first fragment behind others, IPv6", v6(protoRouting, slices.Concat([]byte{protoAH, 0, 7: 0}, []byte{protoFragment, 2, 15: 0}, []byte{protoUDP, 0, 0, 1, 7: 9})...), true},
		{"later fragment behind others, IPv6", v6(protoRouting, slices.Concat([]byte{protoAH, 0, 7: 0}, []byte{protoFragment, 2, 15: 0}, []byte{protoUDP, 0, 0, 8, 7: 9})...), false},
		{"to multicast, IPv6", ip("2001:db8::1", "ff02::5", long), false},
		{"from multicast, IPv6", ip("ff02::5", "2001:db8::1", long), false},
		{"from nobody, IPv6", ip("::", "2001:db8::1", long), false},
		{"from loopback, IPv6", ip("::1", "2001:db8::1", long), false},
		{"malformed", edit(ip("10.0.0.1", "10.0.0.2", long), func(b []byte) { b[0] = 0x44 }), false},
		{"empty", nil, false},
	} {
		got, ok := appendTooBig([]byte{7}, test.pkt, 1000)
		if ok != test.want {
			t.Errorf("%s: %t", test.name, ok)
		}
		if !ok && !bytes.Equal(got, []byte{7}) {
			t.Errorf("%s: something was appended", test.name)
		}
		if ok {
			if again, ok := appendTooBig(nil, got[1:], 68); ok {
				t.Errorf("%s: the answer is answered: %x", test.name, again)
			}
		}
	}
}

// FuzzTooBig: an answer is well-formed, right, not longer than it may be, and goes where
// the packet came from.
func FuzzTooBig(f *testing.F) {
	f.Add(ip("10.0.0.1", "10.0.0.2", 100), 68)
	f.Add(ip("2001:db8::1", "2001:db8::2", 1300), 1300)
	f.Add(withExtensions(), 68)
	f.Fuzz(func(t *testing.T, pkt []byte, mtu int) {
		before := slices.Clone(pkt)
		got, ok := appendTooBig(nil, pkt, mtu)
		if !bytes.Equal(before, pkt) {
			t.Fatal("the packet changed")
		}
		if !ok {
			return
		}
		about, _, _ := parse(pkt)
		answer, n, fine := parse(got)
		if !fine || n != len(got) || n > 1280 || answer.Src != about.Dst || answer.Dst != about.Src {
			t.Fatalf("%x", got)
		}
		if about.Src.Is4() {
			if n > 576 || plainSum(got[:20]) != 0xffff || plainSum(got[20:]) != 0xffff {
				t.Fatalf("%x", got)
			}
		} else if fold(sumOf(got[40:], pseudoSum(got, protoICMPv6, n-40))) != 0xffff {
			t.Fatalf("%x", got)
		}
		if _, ok := appendTooBig(nil, got, 0); ok {
			t.Fatal("the answer is answered")
		}
	})
}

func TestTooBigAllocates(t *testing.T) {
	v4, v6 := ip("10.0.0.1", "10.0.0.2", 1400), ip("2001:db8::1", "2001:db8::2", 1400)
	dst := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		appendTooBig(dst, v4, 1300)
		appendTooBig(dst, v6, 1300)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTooBig(b *testing.B) {
	pkt, dst := ip("2001:db8::1", "2001:db8::2", 1400), make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		appendTooBig(dst, pkt, 1300)
	}
}
