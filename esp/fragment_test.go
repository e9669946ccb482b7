package esp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// ipv4With makes a UDP packet with options, identification and the word of flags and offset.
func ipv4With(options []byte, id, flags uint16, payload []byte) []byte {
	for len(options)%4 != 0 {
		options = append(slices.Clone(options), optionEnd)
	}
	pkt := packet(addr("10.0.0.1"), addr("10.0.0.2"), protoUDP, nil)
	pkt = slices.Concat(pkt, options, payload)
	pkt[0] = 0x45 + byte(len(options)/4)
	pkt[1] = 0xb9
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	binary.BigEndian.PutUint16(pkt[4:], id)
	binary.BigEndian.PutUint16(pkt[6:], flags)
	setHeaderSum(pkt)
	return pkt
}

// setHeaderSum makes the checksum of an IPv4 header right.
func setHeaderSum(pkt []byte) {
	pkt[10], pkt[11] = 0, 0
	binary.BigEndian.PutUint16(pkt[10:], ^plainSum(pkt[:pkt[0]&15*4]))
}

func fragments(pkt []byte, mtu int) [][]byte {
	var list [][]byte
	for at := 0; at >= 0; {
		var b []byte
		b, at = cutFragment(nil, pkt, mtu, at)
		list = append(list, b)
	}
	return list
}

// reassemble is RFC 791 §3.2 for fragments of one packet in any order: the header of the
// first, and the payload of all. Where they do not cover everything up to a last one
// without MF, it is nil; with open, the last may have MF too.
func reassemble(t *testing.T, list [][]byte, open bool) []byte {
	t.Helper()
	list = slices.Clone(list)
	offset := func(b []byte) int { return int(binary.BigEndian.Uint16(b[6:])&0x1fff) * 8 }
	slices.SortFunc(list, func(a, b []byte) int { return offset(a) - offset(b) })
	first := list[0]
	pkt := slices.Clone(first[:first[0]&15*4])
	next := offset(first)
	for i, b := range list {
		_, n, ok := parse(b)
		if !ok || n != len(b) || plainSum(b[:b[0]&15*4]) != 0xffff {
			t.Fatalf("a fragment is malformed: %x", b)
		}
		more := b[6]&0x20 != 0
		if offset(b) != next || !open && more != (i < len(list)-1) {
			return nil
		}
		payload := b[b[0]&15*4:]
		if more && !open && len(payload)%8 != 0 {
			t.Fatalf("%d octets before the end", len(payload))
		}
		pkt = append(pkt, payload...)
		next += len(payload)
	}
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	flags := binary.BigEndian.Uint16(first[6:]) &^ 0x2000
	if list[len(list)-1][6]&0x20 != 0 {
		flags |= 0x2000
	}
	binary.BigEndian.PutUint16(pkt[6:], flags)
	setHeaderSum(pkt)
	return pkt
}

// TestFragment: random packets, some with options or themselves fragments, come back
// octet for octet, also after their fragments were cut again.
func TestFragment(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for i := range 1500 {
		size := r.IntN(3000)
		if i%100 == 0 {
			size = 65535 - 60 - r.IntN(100)
		}
		var options []byte
		for r.IntN(2) == 0 && len(options) < 30 {
			one := append([]byte{byte(r.Uint32())&0x9f | 2, 0}, randomBytes(r, r.IntN(8))...)
			one[1] = byte(len(one))
			options = append(options, one...)
		}
		flags := uint16(0)
		if i%3 == 0 && size < 3000 {
			flags = uint16(r.IntN(7000)) | uint16(r.IntN(2))<<13
		}
		if flags&0x2000 != 0 {
			size = (size + 8) &^ 7
		}
		pkt := ipv4With(options, uint16(r.Uint32()), flags|uint16(r.IntN(2))<<15, randomBytes(r, size))
		if !mayFragment(pkt) {
			t.Fatalf("may not be cut: %x", pkt[:60])
		}
		mtu := 68 + r.IntN(1500)
		list := fragments(pkt, mtu)
		again := list
		if i%2 == 0 {
			again = nil
			for _, b := range list {
				if !mayFragment(b) {
					t.Fatal("a fragment may not be cut")
				}
				again = append(again, fragments(b, 68+r.IntN(200))...)
			}
			r.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		}
		for _, b := range list {
			if len(b) > mtu {
				t.Fatalf("%d octets, want %d at most", len(b), mtu)
			}
			for _, at := range []int{1, 4, 5, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19} {
				if b[at] != pkt[at] {
					t.Fatalf("octet %d of the header changed", at)
				}
			}
		}
		if len(pkt) <= mtu && (len(list) != 1 || !bytes.Equal(list[0], pkt)) {
			t.Fatal("a packet that fits changed")
		}
		if got := reassemble(t, again, flags&0x2000 != 0); !bytes.Equal(got, pkt) {
			t.Fatalf("mtu %d, %d fragments:\n%x, want\n%x", mtu, len(again), got, pkt)
		}
	}
}

// TestFragmentOptions: those with the copied flag stand in each, the others in the first.
func TestFragmentOptions(t *testing.T) {
	record, alert, source := []byte{7, 7, 4, 1, 2, 3, 4}, []byte{0x94, 4, 0, 0}, []byte{0x83, 3, 4}
	for _, test := range []struct {
		name          string
		options, want []byte
	}{
		{"none", nil, nil},
		{"not copied", record, nil},
		{"copied", alert, alert},
		{"filled up", source, []byte{0x83, 3, 4, 0}},
		{"mixed", slices.Concat(record, []byte{1}, alert, []byte{1, 1}, source), slices.Concat(alert, source, []byte{0})},
		{"behind the end", slices.Concat([]byte{1, 1, 1, 0}, alert), nil},
		{"no length", []byte{0x94, 4, 0, 0, 1, 1, 1, 0x94}, alert},
		{"length 0", slices.Concat(alert, []byte{0x88, 0, 1, 1}, alert), alert},
		{"length 1", slices.Concat(alert, []byte{0x88, 1, 1, 1}, alert), alert},
		{"length over the end", slices.Concat(alert, []byte{0x88, 5, 1, 1}), alert},
	} {
		pkt := ipv4With(test.options, 77, 0, make([]byte, 200))
		list := fragments(pkt, 100)
		if len(list) < 3 {
			t.Fatalf("%d fragments", len(list))
		}
		for i, b := range list {
			want := test.want
			if i == 0 {
				want = pkt[20 : pkt[0]&15*4]
			}
			if got := b[20 : b[0]&15*4]; !bytes.Equal(got, want) {
				t.Errorf("%s, fragment %d: %x, want %x", test.name, i, got, want)
			}
		}
	}
}

func TestMayFragment(t *testing.T) {
	edit := func(pkt []byte, change func(b []byte)) []byte { change(pkt); return pkt }
	plain := func() []byte { return ipv4With(nil, 1, 0, make([]byte, 100)) }
	for _, test := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"plain", plain(), true},
		{"something behind", append(plain(), 1, 2, 3), true},
		{"forbidden", ipv4With(nil, 1, 0x4000, make([]byte, 100)), false},
		{"last fragment", ipv4With(nil, 1, 185, make([]byte, 100)), true},
		{"over the end", ipv4With(nil, 1, 0x1fff, make([]byte, 100)), false},
		{"to the end", ipv4With(nil, 1, 0x1fff-14, make([]byte, 99)), true},
		{"IPv6", ip("2001:db8::1", "2001:db8::2", 100), false},
		{"wrong checksum", edit(plain(), func(b []byte) { b[8]-- }), false},
		{"header of 16", edit(plain(), func(b []byte) { b[0] = 0x44; setHeaderSum(b) }), false},
		{"length below header", edit(plain(), func(b []byte) { b[3] = 19; setHeaderSum(b) }), false},
		{"length above packet", edit(plain(), func(b []byte) { b[3] = 121; setHeaderSum(b) }), false},
	} {
		if got := mayFragment(test.pkt); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
	for n := range plain() {
		if mayFragment(plain()[:n]) {
			t.Errorf("%d octets may be cut", n)
		}
	}
}

// FuzzFragment: the fragments of whatever may be cut make it again.
func FuzzFragment(f *testing.F) {
	f.Add(ipv4With(nil, 1, 0, make([]byte, 200)), 68)
	f.Add(ipv4With([]byte{0x94, 4, 0, 0, 7, 3, 4}, 1, 0x2007, make([]byte, 200)), 100)
	f.Fuzz(func(t *testing.T, pkt []byte, mtu int) {
		if _, n, ok := parse(pkt); ok && pkt[0]>>4 == 4 {
			pkt = slices.Clone(pkt[:n])
			pkt[6] &^= 0x40
			setHeaderSum(pkt)
		}
		if !mayFragment(pkt) {
			return
		}
		list := fragments(pkt, mtu)
		for _, b := range list {
			if len(b) > max(mtu, 68) {
				t.Fatalf("%d octets, want %d at most", len(b), mtu)
			}
		}
		if got := reassemble(t, list, pkt[6]&0x20 != 0); !bytes.Equal(got, pkt) {
			t.Fatalf("mtu %d, %d fragments:\n%x, want\n%x", mtu, len(list), got, pkt)
		}
	})
}

func TestFragmentAllocates(t *testing.T) {
	pkt, scratch := ipv4With([]byte{0x94, 4, 0, 0}, 1, 0, make([]byte, 3000)), make([]byte, 0, 1500)
	if n := testing.AllocsPerRun(100, func() {
		if !mayFragment(pkt) {
			t.Fatal("may not be cut")
		}
		for at := 0; at >= 0; {
			_, at = cutFragment(scratch, pkt, 1400, at)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkFragment cuts a packet of 1500 octets into two.
func BenchmarkFragment(b *testing.B) {
	pkt, scratch := ipv4With(nil, 1, 0, make([]byte, 1480)), make([]byte, 0, 1500)
	b.SetBytes(int64(len(pkt)))
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at >= 0; {
			_, at = cutFragment(scratch, pkt, 1400, at)
		}
	}
}
