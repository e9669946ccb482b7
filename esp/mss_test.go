package esp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// tcpPacket is a TCP packet with its right checksum. The options are filled up to 4 octets.
func tcpPacket(src, dst string, flags byte, options, payload []byte) []byte {
	for len(options)%4 != 0 {
		options = append(slices.Clone(options), optionEnd)
	}
	b := make([]byte, 20, 20+len(options)+len(payload))
	binary.BigEndian.PutUint16(b, 4000)
	binary.BigEndian.PutUint16(b[2:], 5000)
	binary.BigEndian.PutUint32(b[4:], 0x01020304)
	b[12], b[13] = byte(20+len(options))<<2, flags
	b = append(append(b, options...), payload...)
	pkt := packet(addr(src), addr(dst), protoTCP, b)
	l4 := len(pkt) - len(b)
	binary.BigEndian.PutUint16(pkt[l4+16:], ^fold(sumOf(b, pseudoSum(pkt, protoTCP, len(b)))))
	return pkt
}

func TestMSSFor(t *testing.T) {
	if mssFor(1438, false) != 1398 || mssFor(1438, true) != 1378 {
		t.Error("RFC 9293 §3.7.1: the MTU without fixed headers")
	}
}

func TestClampMSS(t *testing.T) {
	mss := func(n uint16) []byte { return []byte{optionMSS, 4, byte(n >> 8), byte(n)} }
	for _, test := range []struct {
		name          string
		flags         byte
		options, want []byte // nil: as before
	}{
		{"too large", flagSYN, mss(1460), mss(1300)},
		{"of a SYN, ACK", flagSYN | 0x10, mss(1460), mss(1300)},
		{"largest", flagSYN, mss(65535), mss(1300)},
		{"equal", flagSYN, mss(1300), nil},
		{"smaller is never raised", flagSYN, mss(536), nil},
		{"zero", flagSYN, mss(0), nil},
		{"no SYN", 0x10, mss(1460), nil},
		{"none", flagSYN, nil, nil},
		{
			"after others", flagSYN,
			slices.Concat([]byte{4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 7, 1}, mss(1460)),
			slices.Concat([]byte{4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 7, 1}, mss(1300)),
		},
		{"odd offset", flagSYN, append([]byte{1}, mss(1460)...), append([]byte{1}, mss(1300)...)},
		{"odd offset, 3", flagSYN, append([]byte{3, 3, 7}, mss(40000)...), append([]byte{3, 3, 7}, mss(1300)...)},
		{"twice", flagSYN, append(mss(1460), mss(9000)...), append(mss(1300), mss(1300)...)},
		{"after the end", flagSYN, append([]byte{0, 0, 0, 0}, mss(1460)...), nil},
		{"of 3 octets", flagSYN, []byte{optionMSS, 3, 255, 1}, nil},
		{"of 6 octets", flagSYN, []byte{optionMSS, 6, 255, 255, 255, 255, 1, 1}, nil},
		{"of 0 octets", flagSYN, []byte{optionMSS, 0, 255, 255}, nil},
		{"of 1 octet", flagSYN, []byte{optionMSS, 1, optionMSS, 4}, nil},
		{"behind one of no length", flagSYN, append([]byte{8, 0, 1, 1}, mss(1460)...), nil},
		{"that goes over the end", flagSYN, []byte{1, optionMSS, 4, 255}, nil},
		{"kind alone at the end", flagSYN, []byte{1, 1, 1, optionMSS}, nil},
		{"behind one that goes over the end", flagSYN, []byte{3, 9, 1, 1, 2, 4, 255, 255}, nil},
		{"all of the space", flagSYN, append(bytes.Repeat([]byte{1}, 36), mss(1460)...), append(bytes.Repeat([]byte{1}, 36), mss(1300)...)},
	} {
		for _, src := range []string{"10.0.0.1", "2001:db8::1"} {
			dst, l4 := "10.0.0.2", 20
			if addr(src).Is6() {
				dst, l4 = "2001:db8::2", 40
			}
			// The payload looks like the option.
			payload := slices.Repeat(mss(1460), 3)
			pkt := tcpPacket(src, dst, test.flags, test.options, payload)
			want := slices.Clone(pkt)
			if test.want != nil {
				want = tcpPacket(src, dst, test.flags, test.want, payload)
			}
			wrong := slices.Clone(pkt)
			wrong[l4+17]++
			if changed := clampMSS(pkt, l4, 1300); changed != (test.want != nil) {
				t.Errorf("%s, %s: changed %t", test.name, src, changed)
			}
			if !bytes.Equal(pkt, want) {
				t.Errorf("%s, %s:\n%x, want\n%x", test.name, src, pkt, want)
			}
			clampMSS(wrong, l4, 1300)
			if transportValid(wrong, l4, protoTCP) {
				t.Errorf("%s, %s: a wrong checksum became right", test.name, src)
			}
			if clampMSS(pkt, l4, 1300) {
				t.Errorf("%s, %s: changed again", test.name, src)
			}
		}
	}
}

// TestClampMSSMalformed: headers that end too early, or say so.
func TestClampMSSMalformed(t *testing.T) {
	pkt := tcpPacket("10.0.0.1", "10.0.0.2", flagSYN, []byte{optionMSS, 4, 255, 255}, nil)
	for n := range pkt {
		if b := slices.Clone(pkt[:n]); clampMSS(b, 20, 1300) || !bytes.Equal(b, pkt[:n]) {
			t.Errorf("%d octets of %d: changed", n, len(pkt))
		}
	}
	for offset := range byte(16) {
		b := slices.Clone(pkt)
		b[32] = offset << 4
		if clampMSS(b, 20, 1300) != (offset == 6) {
			t.Errorf("data offset %d: changed %t", offset, offset != 6)
		}
	}
	for _, mss := range []int{-1, 65536} {
		if clampMSS(slices.Clone(pkt), 20, mss) {
			t.Errorf("changed to %d", mss)
		}
	}
}

// FuzzClampMSS: whatever the options are, a right checksum stays right and a wrong one
// wrong, nothing but checksum and options changes, and nothing is raised.
func FuzzClampMSS(f *testing.F) {
	f.Add([]byte{2, 4, 5, 180}, uint16(1300), uint16(0), false)
	f.Add([]byte{1, 2, 4, 5, 180, 3, 3, 7, 4, 2, 0, 0}, uint16(1300), uint16(7), true)
	f.Fuzz(func(t *testing.T, options []byte, mss, wrong uint16, is6 bool) {
		if len(options) > 40 {
			return
		}
		src, dst, l4 := "10.0.0.1", "10.0.0.2", 20
		if is6 {
			src, dst, l4 = "2001:db8::1", "2001:db8::2", 40
		}
		pkt := tcpPacket(src, dst, flagSYN, options, []byte{2, 4, 255, 255})
		check := binary.BigEndian.Uint16(pkt[l4+16:])
		binary.BigEndian.PutUint16(pkt[l4+16:], check+wrong)
		before := slices.Clone(pkt)
		right := transportValid(pkt, l4, protoTCP)
		changed := clampMSS(pkt, l4, int(mss))
		if changed == bytes.Equal(before, pkt) {
			t.Fatalf("changed %t:\n%x\n%x", changed, before, pkt)
		}
		if transportValid(pkt, l4, protoTCP) != right {
			t.Fatalf("right before %t:\n%x\n%x", right, before, pkt)
		}
		copy(before[l4+16:], pkt[l4+16:l4+18])
		if end := l4 + 20 + (len(options)+3)/4*4; !bytes.Equal(before[:l4+20], pkt[:l4+20]) || !bytes.Equal(before[end:], pkt[end:]) {
			t.Fatalf("more than the options:\n%x\n%x", before, pkt)
		}
	})
}

// TestClampMSSOfAny: random segments, and the headers of other packets, end.
func TestClampMSSOfAny(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 100_000 {
		pkt := randomBytes(r, r.IntN(100))
		l4 := r.IntN(60)
		if len(pkt) > l4+13 {
			pkt[l4+13] |= flagSYN
		}
		clampMSS(pkt, l4, r.IntN(1500))
	}
}

func TestClampMSSAllocates(t *testing.T) {
	pkt := tcpPacket("10.0.0.1", "10.0.0.2", flagSYN, []byte{1, optionMSS, 4, 255, 255}, nil)
	mss := 60000
	if n := testing.AllocsPerRun(100, func() { mss--; clampMSS(pkt, 20, mss) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkClampMSS is of a segment without SYN, as nearly all are.
func BenchmarkClampMSS(b *testing.B) {
	pkt := tcpPacket("10.0.0.1", "10.0.0.2", 0x10, nil, make([]byte, 1360))
	b.ReportAllocs()
	for b.Loop() {
		clampMSS(pkt, 20, 1300)
	}
}
