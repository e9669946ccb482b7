package esp

import (
	"encoding/binary"
	"slices"
	"testing"

	"martlet/tun"
)

// segmented is what the fast path makes of a frame of the host.
func segmented(f tun.Frame) [][]byte {
	pkt := slices.Clone(f.Pieces[0])
	flow, _, ok := parse(pkt)
	if !ok {
		return nil
	}
	if f.Offload.GSO == tun.GSONone {
		if !completed(pkt, &f.Offload) {
			return nil
		}
		return [][]byte{pkt}
	}
	var s segments
	if !s.reset(&tun.Frame{Offload: f.Offload, Pieces: [][]byte{pkt}}, &flow) {
		return nil
	}
	var list [][]byte
	for n := s.next(); n > 0; n = s.next() {
		b := make([]byte, n)
		s.write(b)
		list = append(list, b)
	}
	return list
}

// TestSegmentsEquivalent: the segmenter makes of random traffic what the reference does.
func TestSegmentsEquivalent(t *testing.T) {
	for seed := range uint64(100) {
		tr := newTraffic(seed, false)
		for i := range 40 {
			f := tr.frame()
			got, want := canonical(segmented(f), false), canonical(referenceSegment(f), false)
			if !slices.EqualFunc(got, want, slices.Equal) {
				samePackets(t, got, want)
				t.Fatalf("seed %d, frame %d: %+v: %d packets, want %d", seed, i, f.Offload, len(got), len(want))
			}
		}
	}
}

// coalesced is what the host sees of packets from the peer, which are written together
// until last says so, and how many of them came in super-packets.
func coalesced(pkts [][]byte, takes func(tun.GSO) bool, last func() bool) (got [][]byte, joined int) {
	c, ch := newCoalescer(takes), &child{}
	write := func() {
		c.finish()
		for _, f := range c.frames {
			list := expand(f)
			if f.Offload.GSO != tun.GSONone {
				joined += len(list)
			}
			got = append(got, list...)
		}
		c.reset()
	}
	for _, pkt := range pkts {
		if c.full() || last() {
			write()
		}
		pkt = slices.Clone(pkt)
		f, _, _ := parse(pkt)
		c.add(ch, pkt, &f)
	}
	write()
	return got, joined
}

// TestCoalescerEquivalent: the host sees the packets that came in, those of each flow in
// their order.
func TestCoalescerEquivalent(t *testing.T) {
	joined, all := 0, 0
	for seed := range uint64(100) {
		tr := newTraffic(seed, true)
		pkts := wellFormed(tr.packets(1500))
		got, n := coalesced(pkts, func(kind tun.GSO) bool { return seed%4 != 0 || kind != tun.GSOUDP },
			func() bool { return tr.chance(150) })
		all, joined = all+len(got), joined+n
		samePackets(t, canonical(got, true), canonical(pkts, true))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if joined < all/3 {
		t.Errorf("%d packets of %d were joined", joined, all)
	}
}

// wellFormed is those packets that get as far as the coalescer.
func wellFormed(pkts [][]byte) [][]byte {
	return slices.DeleteFunc(pkts, func(pkt []byte) bool {
		_, n, ok := parse(pkt)
		return !ok || n != len(pkt)
	})
}

// FuzzCoalescer: the same of traffic in which some octets are others. Five octets
// say which packet, which octet (two), what to change in it, and whether the checksums are
// made right again.
func FuzzCoalescer(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, []byte{3, 0, 1, 2, 1, 5, 0, 33, 16, 1, 5, 0, 9, 1, 1, 7, 0, 60, 255, 0})
	}
	f.Fuzz(func(t *testing.T, seed uint64, edits []byte) {
		pkts := newTraffic(seed, true).packets(120)
		for i := range pkts {
			pkts[i] = slices.Clone(pkts[i])
		}
		for ; len(edits) >= 5; edits = edits[5:] {
			pkt := pkts[int(edits[0])%len(pkts)]
			pkt[(int(edits[1])<<8|int(edits[2]))%len(pkt)] ^= edits[3]
			if edits[4]&1 == 1 {
				correct(pkt)
			}
		}
		pkts = wellFormed(pkts)
		got, _ := coalesced(pkts, func(tun.GSO) bool { return true }, func() bool { return false })
		samePackets(t, canonical(got, true), canonical(pkts, true))
	})
}

// correct makes the checksums of a TCP or UDP packet right.
func correct(pkt []byte) {
	f, n, ok := parse(pkt)
	if !ok || n != len(pkt) {
		return
	}
	if f.Src.Is4() {
		setHeaderSum(pkt)
	}
	l4, whole := transportAt(pkt)
	offset := 16
	if f.Protocol == protoUDP {
		offset = 6
	}
	if whole && (f.Protocol == protoTCP || f.Protocol == protoUDP) && l4+offset+2 <= len(pkt) {
		binary.BigEndian.PutUint16(pkt[l4+offset:], plainPseudo(pkt, f.Protocol, len(pkt)-l4))
		completeSum(pkt, l4, offset)
	}
}

// FuzzSegments: whatever the frame is, the segmenter makes nothing of it, or what the
// reference does, if that makes something.
func FuzzSegments(f *testing.F) {
	for seed := range uint64(20) {
		frame := newTraffic(seed, false).frame()
		o := frame.Offload
		f.Add(frame.Pieces[0], byte(o.GSO), o.Header, o.Segment, o.Start, o.Offset, o.Partial)
	}
	f.Fuzz(func(t *testing.T, pkt []byte, gso byte, header, segment, start, offset int, partial bool) {
		flow, n, ok := parse(pkt)
		if !ok || n != len(pkt) || segment > 0xffff || segment < len(pkt)/2000 {
			return
		}
		frame := tun.Frame{
			Offload: tun.Offload{GSO: tun.GSO(gso), Header: header, Segment: segment, Start: start, Offset: offset, Partial: partial},
			Pieces:  [][]byte{pkt},
		}
		if gso != 0 && sensible(frame, pkt) == nil {
			binary.BigEndian.PutUint16(pkt[start+offset:], plainPseudo(pkt, flow.Protocol, len(pkt)-start))
			if flow.Src.Is4() {
				setHeaderSum(pkt)
			}
		}
		got, want := canonical(segmented(frame), false), canonical(referenceSegment(frame), false)
		if got != nil && want != nil && !slices.EqualFunc(got, want, slices.Equal) {
			samePackets(t, got, want)
			t.Fatalf("%+v: %d packets, want %d", frame.Offload, len(got), len(want))
		}
	})
}
