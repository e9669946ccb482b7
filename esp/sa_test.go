package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"martlet/crypto/suite"
)

func TestSealOpen(t *testing.T) {
	for _, a := range algorithms {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%t", a.name, esn), func(t *testing.T) {
				out, in := newPair(t, a.encr, a.integ, esn, 0)
				block := out.cipher.BlockLen()
				for size := range 200 {
					for _, inner := range [][]byte{ip("10.0.0.1", "10.0.0.2", size), ip("2001:db8::1", "2001:db8::2", size)} {
						pkt := seal(t, out, inner)
						if len(pkt) != out.SealedLen(len(inner)) {
							t.Fatalf("inner of %d octets: packet has %d, SealedLen says %d", len(inner), len(pkt), out.SealedLen(len(inner)))
						}
						if text := len(pkt) - out.lead - out.tail; text%max(4, block) != 0 || text-len(inner)-2 >= max(4, block) {
							t.Fatalf("inner of %d octets: text has %d, want the least multiple of %d", len(inner), text, max(4, block))
						}
						if spi := binary.BigEndian.Uint32(pkt); spi != in.spi {
							t.Fatalf("SPI %#x, want %#x", spi, in.spi)
						}
						if seq := binary.BigEndian.Uint32(pkt[4:]); uint64(seq) != out.Sequence() {
							t.Fatalf("sequence number %d, want %d", seq, out.Sequence())
						}
						got, err := in.Open(pkt)
						if err != nil || !bytes.Equal(got, inner) {
							t.Fatalf("inner of %d octets: %v, %x", len(inner), err, got)
						}
					}
				}
			})
		}
	}
}

// TestSealAppends: Seal leaves what stands in dst, and uses its capacity.
func TestSealAppends(t *testing.T) {
	out, in := newPair(t, gcm256, none, true, 0)
	inner := ip("10.0.0.1", "10.0.0.2", 100)
	slab := append(make([]byte, 0, 4096), "before"...)
	got, err := out.Seal(slab, inner, protoIPv4)
	if err != nil || &got[0] != &slab[0] || string(got[:6]) != "before" || len(got) != 6+out.SealedLen(len(inner)) {
		t.Fatalf("seal into a slab: %v, %d octets", err, len(got))
	}
	if opened, err := in.Open(got[6:]); err != nil || !bytes.Equal(opened, inner) {
		t.Fatalf("open: %v", err)
	}
	if got, err = out.Seal(nil, inner, protoIPv4); err != nil || len(got) != out.SealedLen(len(inner)) {
		t.Fatalf("seal into nothing: %v, %d octets", err, len(got))
	}
}

// TestOpenTruncated: no beginning of a packet is taken, and none moves the window.
func TestOpenTruncated(t *testing.T) {
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			out, in := newPair(t, a.encr, a.integ, true, 0)
			pkt := seal(t, out, ip("10.0.0.1", "10.0.0.2", 60))
			for n := range pkt {
				if _, err := in.Open(slices.Clone(pkt[:n])); err != DropTooShort && err != DropBadICV {
					t.Fatalf("%d of %d octets: %v, want too-short or bad-icv", n, len(pkt), err)
				}
			}
			if in.Sequence() != 0 {
				t.Fatal("a truncated packet moved the window")
			}
			if _, err := in.Open(pkt); err != nil {
				t.Fatalf("whole packet: %v", err)
			}
		})
	}
}

// TestOpenForged: one changed bit anywhere is found; the window stays.
func TestOpenForged(t *testing.T) {
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			out, in := newPair(t, a.encr, a.integ, true, 0)
			pkt := seal(t, out, ip("10.0.0.1", "10.0.0.2", 20))
			for bit := range len(pkt) * 8 {
				bad := slices.Clone(pkt)
				bad[bit/8] ^= 1 << (bit % 8)
				if bit/8 >= 4 && bit/8 < 8 && binary.BigEndian.Uint32(bad[4:]) == 0 {
					continue // sequence number 0 is refused before the integrity check
				}
				if _, err := in.Open(bad); err != DropBadICV {
					t.Fatalf("bit %d of octet %d: %v, want bad-icv", bit%8, bit/8, err)
				}
			}
			if in.Sequence() != 0 {
				t.Fatal("a forged packet moved the window")
			}
		})
	}
}

// sealText protects a text as it is: the hostile peer's tool, which has the keys.
func sealText(out *Outbound, text []byte) []byte {
	out.seq++
	pkt := make([]byte, out.lead+len(text)+out.tail)
	binary.BigEndian.PutUint32(pkt, out.spi)
	binary.BigEndian.PutUint32(pkt[4:], uint32(out.seq))
	copy(pkt[out.lead:], text)
	out.cipher.Seal(pkt, headLen, out.seq, suite.ESN{On: out.esn, High: uint32(out.seq >> 32)})
	return pkt
}

// TestOpenTrailer: security.md row 4 for ESP, each pad length over each short text.
func TestOpenTrailer(t *testing.T) {
	out, in := newPair(t, gcm256, none, true, 0)
	for size := range 64 {
		for pad := range 256 {
			text := make([]byte, size+2)
			for i := range min(pad, size) {
				text[size-1-i] = byte(min(pad, size) - i)
			}
			text[size], text[size+1] = byte(pad), protoNone
			want := error(DropDummy)
			if pad > size {
				want = DropBadPadding
			}
			if _, err := in.Open(sealText(out, text)); err != want {
				t.Fatalf("%d octets and pad length %d: %v, want %v", size, pad, err, want)
			}
		}
	}
	if _, err := in.Open(sealText(out, []byte{1})); err != DropTooShort {
		t.Errorf("text of one octet: %v", err)
	}
	for i := range 8 {
		text := append(ip("10.0.0.1", "10.0.0.2", 20), 1, 2, 3, 4, 5, 6, 7, 8, 8, protoIPv4)
		text[len(text)-10+i] ^= 0x40
		if _, err := in.Open(sealText(out, text)); err != DropBadPadding {
			t.Errorf("padding octet %d changed: %v, want bad-padding", i, err)
		}
	}
}

// TestOpenPadding: more padding than is needed, up to 255 octets (RFC 4303 §2.4), and
// padding for traffic flow confidentiality (§2.7), are taken away.
func TestOpenPadding(t *testing.T) {
	out, in := newPair(t, gcm256, none, true, 0)
	for _, inner := range [][]byte{ip("10.0.0.1", "10.0.0.2", 33), ip("2001:db8::1", "2001:db8::2", 33)} {
		for tfc := range 20 {
			for pad := range 256 {
				text := append(slices.Clone(inner), bytes.Repeat([]byte{0xaa}, tfc)...)
				for i := range pad {
					text = append(text, byte(i+1))
				}
				text = append(text, byte(pad), protocolOf(inner))
				if got, err := in.Open(sealText(out, text)); err != nil || !bytes.Equal(got, inner) {
					t.Fatalf("padding %d, TFC padding %d: %v", pad, tfc, err)
				}
			}
		}
	}
}

func TestOpenNextHeader(t *testing.T) {
	out, in := newPair(t, gcm256, none, true, 0)
	v4, v6 := ip("10.0.0.1", "10.0.0.2", 20), ip("2001:db8::1", "2001:db8::2", 20)
	for next := range 256 {
		for _, inner := range [][]byte{v4, v6} {
			want := error(DropNextHeader)
			switch {
			case next == protoNone:
				want = DropDummy
			case next == int(protocolOf(inner)):
				want = nil
			case next == protoIPv4, next == protoIPv6:
				want = DropBadInner
			}
			text := append(slices.Clone(inner), 0, byte(next))
			if _, err := in.Open(sealText(out, text)); err != want {
				t.Errorf("next header %d over IPv%d: %v, want %v", next, inner[0]>>4, err, want)
			}
		}
	}
}

// TestInnerShorterThanHeaders is security.md row 24: inner packets cut anywhere, in
// authentic ESP packets.
func TestInnerShorterThanHeaders(t *testing.T) {
	out, in := newPair(t, gcm256, none, true, 0)
	for _, inner := range [][]byte{ip("10.0.0.1", "10.0.0.2", 20), ip("2001:db8::1", "2001:db8::2", 20), withExtensions()} {
		for n := range inner {
			text := append(slices.Clone(inner[:n]), 0, protocolOf(inner))
			if _, err := in.Open(sealText(out, text)); err != DropBadInner {
				t.Fatalf("%d of %d octets: %v, want bad-inner", n, len(inner), err)
			}
		}
	}
}

// TestLargestInner is security.md row 65: the longest inner packets with every
// padding; nothing overflows, in either direction.
func TestLargestInner(t *testing.T) {
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			out, in := newPair(t, a.encr, a.integ, true, 0)
			for size := 65535 - 20; size > 65535-20-40; size-- {
				inner := packet(addr("10.0.0.1"), addr("10.0.0.2"), 200, make([]byte, size))
				if got, err := in.Open(seal(t, out, inner)); err != nil || !bytes.Equal(got, inner) {
					t.Fatalf("inner of %d octets: %v", len(inner), err)
				}
			}
			inner := packet(addr("2001:db8::1"), addr("2001:db8::2"), 200, make([]byte, 65535))
			if got, err := in.Open(seal(t, out, inner)); err != nil || !bytes.Equal(got, inner) {
				t.Fatalf("IPv6 packet of %d octets: %v", len(inner), err)
			}
		})
	}
}

// TestNonceDiscipline is security.md row 61 and goal D3: sequence numbers, which are
// the IVs, never repeat, and the SA stops hard before they would.
func TestNonceDiscipline(t *testing.T) {
	inner := ip("10.0.0.1", "10.0.0.2", 20)
	for _, c := range []struct {
		esn  bool
		last uint64
	}{{false, math.MaxUint32}, {true, math.MaxUint64 - 1}} {
		t.Run(fmt.Sprintf("esn=%t", c.esn), func(t *testing.T) {
			out, in := newPair(t, gcm256, none, c.esn, 0)
			out.seq = c.last - 1000
			in.window.top = c.last - 1000
			ivs := make(map[string]bool)
			slab := make([]byte, 0, 4096)
			for out.seq < c.last {
				pkt, err := out.Seal(slab, inner, protoIPv4)
				if err != nil {
					t.Fatalf("packet %d: %v", out.seq+1, err)
				}
				iv := string(pkt[headLen:out.lead])
				if ivs[iv] {
					t.Fatalf("packet %d: IV %x used twice", out.seq, iv)
				}
				ivs[iv] = true
				if _, err := in.Open(pkt); err != nil {
					t.Fatalf("open packet %d: %v", out.seq, err)
				}
			}
			for range 3 {
				got, err := out.Seal(slab, inner, protoIPv4)
				if !errors.Is(err, DropExhausted) || len(got) != 0 || out.seq != c.last {
					t.Fatalf("after the last number: %v, %d octets, number %d", err, len(got), out.seq)
				}
			}
		})
	}
}

// TestESNAcrossHalfSpaces: extended numbers go on over 2^32, in and out of order.
func TestESNAcrossHalfSpaces(t *testing.T) {
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			out, in := newPair(t, a.encr, a.integ, true, 64)
			out.seq, in.window.top = 1<<32-100, 1<<32-100
			inner := ip("10.0.0.1", "10.0.0.2", 20)
			var late [][]byte
			for i := range 200 {
				pkt := seal(t, out, inner)
				if i%3 == 0 {
					late = append(late, pkt)
					continue
				}
				if _, err := in.Open(pkt); err != nil {
					t.Fatalf("packet %d: %v", out.seq, err)
				}
				if len(late) == 5 {
					for _, pkt := range late {
						if _, err := in.Open(pkt); err != nil {
							t.Fatalf("late packet: %v", err)
						}
					}
					late = nil
				}
			}
		})
	}
}

// TestForgedSequence is security.md row 62: a high number with a wrong ICV does not
// move the window.
func TestForgedSequence(t *testing.T) {
	out, in := newPair(t, gcm256, none, false, 64)
	inner := ip("10.0.0.1", "10.0.0.2", 20)
	if _, err := in.Open(seal(t, out, inner)); err != nil {
		t.Fatal(err)
	}
	next := seal(t, out, inner)
	forged := slices.Clone(next)
	binary.BigEndian.PutUint32(forged[4:], math.MaxUint32)
	if _, err := in.Open(forged); err != DropBadICV {
		t.Fatalf("forged: %v", err)
	}
	if _, err := in.Open(next); err != nil {
		t.Fatalf("the next packet after a forged one: %v", err)
	}
}

func TestKeysRefused(t *testing.T) {
	good := newKeys(t, 300, gcm256, none, true)
	for name, k := range map[string]Keys{
		"short key": {SPI: 300, Encr: gcm256, EncrKey: good.EncrKey[1:]},
		"unknown":   {SPI: 300, Encr: suite.Transform{Type: suite.TypeEncr, ID: 999}, EncrKey: good.EncrKey},
		"no cipher": {SPI: 300},
	} {
		if _, err := NewOutbound(k); err == nil {
			t.Errorf("%s: outbound accepted", name)
		}
		if _, err := NewInbound(k, 0); err == nil {
			t.Errorf("%s: inbound accepted", name)
		}
	}
	for _, n := range []int{-1, 1, 63, 65537} {
		if _, err := NewInbound(good, n); err == nil {
			t.Errorf("window of %d packets accepted", n)
		}
	}
}

// TestSealOpenAllocateNothing is the bar of performance.md.
func TestSealOpenAllocateNothing(t *testing.T) {
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			out, in := newPair(t, a.encr, a.integ, true, 0)
			inner := ip("10.0.0.1", "10.0.0.2", 1300)
			slab := make([]byte, 0, 4096)
			var pkt []byte
			if n := testing.AllocsPerRun(100, func() { pkt, _ = out.Seal(slab, inner, protoIPv4) }); n != 0 {
				t.Errorf("Seal allocates %v times", n)
			}
			if n := testing.AllocsPerRun(100, func() {
				pkt, _ = out.Seal(slab, inner, protoIPv4)
				if _, err := in.Open(pkt); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("Open allocates %v times", n)
			}
			if n := testing.AllocsPerRun(100, func() {
				pkt, _ = out.Seal(slab, inner, protoIPv4)
				pkt[20] ^= 1
				if _, err := in.Open(pkt); err != DropBadICV {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("Open of a forged packet allocates %v times", n)
			}
		})
	}
}
