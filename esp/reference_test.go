package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"martlet/tun"
)

// The fast path, as plain as it can be: one packet at a time, copied, with the sums of
// plainSum. It is what Linux does in software with a super-packet, which
// TestReferenceIsLinux shows.

const (
	flagURG = 0x20
	flagECE = 0x40
)

// referenceSegment cuts a super-packet into its packets, completes the checksum of a
// single one, and returns others as they are; all of them copied. Of a frame that makes no
// sense there is nothing.
//
// The checksums come from what the frame's checksum field says of the pseudo header, as
// in Linux, and not from the addresses.
func referenceSegment(f tun.Frame) [][]byte {
	pkt := slices.Concat(f.Pieces...)
	if err := sensible(f, pkt); err != nil {
		return nil
	}
	switch {
	case f.Offload.GSO == tun.GSONone && !f.Offload.Partial:
		return [][]byte{pkt}
	case f.Offload.GSO == tun.GSONone || len(pkt)-f.Offload.Header <= f.Offload.Segment:
		completeSum(pkt, f.Offload.Start, f.Offload.Offset)
		return [][]byte{pkt}
	}
	var list [][]byte
	for i, at := 0, f.Offload.Header; at < len(pkt); i++ {
		end := min(len(pkt), at+f.Offload.Segment)
		list = append(list, referencePacket(f.Offload, pkt, i, at, end))
		at = end
	}
	return list
}

// completeSum puts the checksum of what follows start, to which the field's own content
// belongs. Nothing says that 0 means none, so that it is never 0.
func completeSum(pkt []byte, start, offset int) {
	sum := ^plainSum(pkt[start:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(pkt[start+offset:], sum)
}

// referencePacket is packet i of a super-packet, with its octets from at to end.
func referencePacket(o tun.Offload, whole []byte, i, at, end int) []byte {
	first, last := i == 0, end == len(whole)
	pkt := slices.Concat(whole[:o.Header], whole[at:end])
	if pkt[0]>>4 == 4 {
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
		binary.BigEndian.PutUint16(pkt[4:], binary.BigEndian.Uint16(whole[4:])+uint16(i))
		setHeaderSum(pkt)
	} else {
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
	}
	l4 := pkt[o.Start:]
	if o.GSO == tun.GSOUDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	} else {
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(i*o.Segment))
		if !last {
			l4[13] &^= flagFIN | flagPSH
		}
		if !first {
			l4[13] &^= flagCWR // RFC 3168 §6.1.2: the reduction is told once
		}
	}
	// The pseudo header of the whole, with its length exchanged.
	partial := binary.BigEndian.Uint16(l4[o.Offset:])
	partial = plainSum(binary.BigEndian.AppendUint32(nil, uint32(partial)<<16|uint32(^uint16(len(whole)-o.Start))))
	partial = plainSum(binary.BigEndian.AppendUint32(nil, uint32(partial)<<16|uint32(len(l4))))
	binary.BigEndian.PutUint16(l4[o.Offset:], partial)
	sum := ^plainSum(l4)
	if sum == 0 && o.GSO == tun.GSOUDP {
		sum = 0xffff // RFC 768: 0 is none
	}
	binary.BigEndian.PutUint16(l4[o.Offset:], sum)
	return pkt
}

// sensible tells what Linux would not take of a frame, or what contradicts itself.
func sensible(f tun.Frame, pkt []byte) error {
	o := f.Offload
	_, length, ok := parse(pkt)
	switch {
	case !ok:
		return errors.New("not an IP packet")
	case o.GSO == tun.GSONone && !o.Partial:
		return nil
	case o.GSO != tun.GSONone && length != len(pkt):
		return fmt.Errorf("%d octets by its header, %d in fact", length, len(pkt))
	case !o.Partial:
		return errors.New("a super-packet whose checksum is not partial")
	case o.Start < 20 || o.Offset < 0 || o.Start > len(pkt) || o.Start+o.Offset+2 > len(pkt):
		return fmt.Errorf("checksum from %d on at %d of %d", o.Start, o.Start+o.Offset, len(pkt))
	case o.GSO == tun.GSONone:
		return nil
	}
	if pkt[0]>>4 == 4 && o.Start != int(pkt[0]&15)*4 || pkt[0]>>4 == 6 && o.Start < 40 {
		return fmt.Errorf("checksum from %d on", o.Start)
	}
	l4 := pkt[o.Start:]
	header, offset := udpHeaderLen, 6
	if o.GSO != tun.GSOUDP {
		if (o.GSO != tun.GSOTCPv4 || pkt[0]>>4 != 4) && (o.GSO != tun.GSOTCPv6 || pkt[0]>>4 != 6) {
			return fmt.Errorf("kind %d for IP version %d", o.GSO, pkt[0]>>4)
		}
		if len(l4) < 20 || l4[12]>>4 < 5 {
			return errors.New("TCP header too short")
		}
		header, offset = int(l4[12]>>4)*4, 16
	}
	if o.Header != o.Start+header || o.Header > len(pkt) || o.Offset != offset || o.Segment <= 0 {
		return fmt.Errorf("offload %+v of %d octets, want header %d and offset %d", o, len(pkt), o.Start+header, offset)
	}
	if n := int(binary.BigEndian.Uint16(l4[4:])); o.GSO == tun.GSOUDP && n != len(l4) {
		return fmt.Errorf("%d octets by the UDP header, %d in fact", n, len(l4))
	}
	return nil
}

// expand is what the host sees of a frame that was written to the device: Linux cuts
// it as referenceSegment does. It panics where Linux would drop the frame, or where it has
// no business to be a super-packet.
func expand(f tun.Frame) [][]byte {
	pkt := slices.Concat(f.Pieces...)
	if err := sensible(f, pkt); err != nil {
		panic(fmt.Sprintf("%v: %+v, %d pieces, %x", err, f.Offload, len(f.Pieces), pkt[:min(len(pkt), 120)]))
	}
	if o := f.Offload; o.GSO != tun.GSONone {
		if len(pkt)-o.Header <= o.Segment {
			panic(fmt.Sprintf("a super-packet of one packet: %+v, %d octets", o, len(pkt)))
		}
		if len(f.Pieces[0]) < o.Header {
			panic(fmt.Sprintf("the first piece has %d octets of %d of headers", len(f.Pieces[0]), o.Header))
		}
		proto := uint8(protoTCP)
		if o.GSO == tun.GSOUDP {
			proto = protoUDP
		}
		got, want := binary.BigEndian.Uint16(pkt[o.Start+o.Offset:]), plainPseudo(pkt, proto, len(pkt)-o.Start)
		if got%0xffff != want%0xffff { // 0 and 0xffff are the same number
			panic(fmt.Sprintf("sum %#x of the pseudo header, want %#x: %+v", got, want, o))
		}
		if pkt[0]>>4 == 4 && plainSum(pkt[:o.Start]) != 0xffff {
			panic("wrong IPv4 header checksum")
		}
	}
	return referenceSegment(f)
}

// plainPseudo is the sum of the pseudo header.
func plainPseudo(pkt []byte, proto uint8, length int) uint16 {
	addrs := pkt[12:20]
	if pkt[0]>>4 == 6 {
		addrs = pkt[8:40]
	}
	return plainSum(append(slices.Clone(addrs), 0, proto, byte(length>>8), byte(length)))
}

// samePackets checks that got has the packets of want, those of each flow in their order.
func samePackets(t testing.TB, got, want [][]byte) {
	t.Helper()
	gotFlows, wantFlows := byFlow(got), byFlow(want)
	for f, list := range wantFlows {
		if !slices.EqualFunc(gotFlows[f], list, slices.Equal) {
			at := 0
			for at < len(list) && at < len(gotFlows[f]) && slices.Equal(list[at], gotFlows[f][at]) {
				at++
			}
			first := func(list [][]byte) string {
				if at >= len(list) {
					return "nothing"
				}
				return fmt.Sprintf("%d octets %x", len(list[at]), list[at][:min(len(list[at]), 120)])
			}
			t.Errorf("%+v: %d packets, want %d; packet %d is\n%s, want\n%s",
				f, len(gotFlows[f]), len(list), at, first(gotFlows[f]), first(list))
			return
		}
	}
	for f, list := range gotFlows {
		if wantFlows[f] == nil {
			t.Errorf("%+v: %d packets that nobody sent", f, len(list))
			return
		}
	}
}

func byFlow(list [][]byte) map[Flow][][]byte {
	flows := map[Flow][][]byte{}
	for _, pkt := range list {
		f, _, _ := parse(pkt)
		flows[f] = append(flows[f], pkt)
	}
	return flows
}

// canonical is a copy of packets without what may differ behind a coalescer: of the two
// numbers that a right checksum can be where it is 0, and, with ids, the identification of
// what is not cut (RFC 6864 §4.1).
func canonical(list [][]byte, ids bool) [][]byte {
	out := make([][]byte, len(list))
	for i, pkt := range list {
		pkt = slices.Clone(pkt)
		out[i] = pkt
		f, length, ok := parse(pkt)
		if !ok {
			continue
		}
		if f.Src.Is4() && plainSum(pkt[:pkt[0]&15*4]) == 0xffff {
			if ids && binary.BigEndian.Uint16(pkt[6:])&0x7fff == 0x4000 {
				pkt[4], pkt[5] = 0, 0
			}
			setHeaderSum(pkt)
		}
		l4, whole := transportAt(pkt)
		if whole && f.Protocol == protoTCP && transportValid(pkt[:length], l4, protoTCP) && binary.BigEndian.Uint16(pkt[l4+16:]) == 0xffff {
			pkt[l4+16], pkt[l4+17] = 0, 0
		}
	}
	return out
}

// transportAt is where the transport header of a packet begins that parse accepts, and
// whether it is no fragment.
func transportAt(pkt []byte) (l4 int, whole bool) {
	if pkt[0]>>4 == 4 {
		return int(pkt[0]&15) * 4, binary.BigEndian.Uint16(pkt[6:])&0x3fff == 0
	}
	proto, whole := pkt[6], true
	for l4 = 40; isExtension(proto); {
		size := 8 + int(pkt[l4+1])*8
		switch proto {
		case protoAH:
			size = 8 + int(pkt[l4+1])*4
		case protoFragment:
			size, whole = 8, false
			if binary.BigEndian.Uint16(pkt[l4+2:])&^7 != 0 {
				return l4 + size, false
			}
		}
		proto, l4 = pkt[l4], l4+size
	}
	return l4, whole
}

// TestReference: the packets of random traffic are right, and what is not cut is as it was.
func TestReference(t *testing.T) {
	for seed := range uint64(30) {
		tr := newTraffic(seed, false)
		for range 60 {
			f := tr.frame()
			list := referenceSegment(f)
			if len(list) == 0 {
				t.Fatalf("seed %d: nothing came of %+v", seed, f.Offload)
			}
			o, octets := f.Offload, 0
			for i, pkt := range list {
				flow, n, ok := parse(pkt)
				if !ok || n != len(pkt) {
					t.Fatalf("seed %d: malformed packet %x", seed, pkt)
				}
				if o.GSO == tun.GSONone {
					continue
				}
				octets += len(pkt) - o.Header
				if !transportValid(pkt, o.Start, flow.Protocol) {
					t.Fatalf("seed %d: packet %d of %d has a wrong checksum", seed, i, len(list))
				}
				if want := o.Segment; len(pkt)-o.Header != want && i < len(list)-1 {
					t.Fatalf("seed %d: packet %d of %d has %d octets, want %d", seed, i, len(list), len(pkt)-o.Header, want)
				}
			}
			if o.GSO != tun.GSONone {
				if want := len(f.Pieces[0]) - o.Header; octets != want || len(list) < 2 {
					t.Fatalf("seed %d: %d octets in %d packets, want %d", seed, octets, len(list), want)
				}
				samePackets(t, expand(f), list)
			}
		}
	}
}

// TestCanonical: packets that differ only where they may become the same.
func TestCanonical(t *testing.T) {
	a := tcpPacket("2001:db8::1", "2001:db8::2", flagACK, nil, []byte{0, 0})
	binary.BigEndian.PutUint16(a[60:], binary.BigEndian.Uint16(a[56:])) // now the checksum is 0
	binary.BigEndian.PutUint16(a[56:], 0)
	b := slices.Clone(a)
	b[56], b[57] = 0xff, 0xff
	if !transportValid(a, 40, protoTCP) || !transportValid(b, 40, protoTCP) {
		t.Fatal("wrong checksums")
	}
	samePackets(t, canonical([][]byte{b}, false), [][]byte{a})
	c, d := ipv4With(nil, 1, 0x4000, nil), ipv4With(nil, 0, 0x4000, nil)
	samePackets(t, canonical([][]byte{c}, true), [][]byte{d})
	e := ipv4With(nil, 1, 0, nil)
	e[10]++
	samePackets(t, canonical([][]byte{c, e, withExtensions()}, false), [][]byte{c, e, withExtensions()})
}

// TestReferenceOfOne is a super-packet by hand.
func TestReferenceOfOne(t *testing.T) {
	pkt := tcpPacket("10.0.0.1", "10.0.0.2", flagCWR|flagACK|flagPSH|flagFIN, nil, []byte("abcdefgh"))
	binary.BigEndian.PutUint16(pkt[4:], math.MaxUint16)
	setHeaderSum(pkt)
	binary.BigEndian.PutUint16(pkt[36:], plainPseudo(pkt, protoTCP, 28))
	got := referenceSegment(tun.Frame{
		Offload: tun.Offload{GSO: tun.GSOTCPv4, Header: 40, Segment: 3, Partial: true, Start: 20, Offset: 16},
		Pieces:  [][]byte{pkt[:40], pkt[40:42], pkt[42:]},
	})
	var want [][]byte
	for i, part := range []string{"abc", "def", "gh"} {
		flags := [3]byte{flagCWR | flagACK, flagACK, flagACK | flagPSH | flagFIN}[i]
		b := tcpPacket("10.0.0.1", "10.0.0.2", flags, nil, []byte(part))
		binary.BigEndian.PutUint16(b[4:], uint16(math.MaxUint16+i))
		binary.BigEndian.PutUint32(b[24:], 0x01020304+uint32(3*i))
		setHeaderSum(b)
		b[36], b[37] = 0, 0
		binary.BigEndian.PutUint16(b[36:], plainPseudo(b, protoTCP, len(b)-20))
		completeSum(b, 20, 16)
		want = append(want, b)
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%x, want\n%x", got, want)
	}
}
