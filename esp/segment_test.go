package esp

import (
	"encoding/binary"
	"slices"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// TestSegments: each packet has what the super-packet says, and its own lengths, sequence number,
// identification and checksums.
func TestSegments(t *testing.T) {
	frame := tcpSuper("10.1.0.1", 100, 250)
	pkt := frame.Pieces[0]
	pkt[20+tcpFlags] = flagACK | flagPSH | flagFIN | flagCWR
	binary.BigEndian.PutUint16(pkt[4:], 0xffff)
	binary.BigEndian.PutUint32(pkt[20+tcpSequence:], 0xffffffff)
	list := segmented(frame)
	if len(list) != 3 {
		t.Fatalf("%d packets, want 3", len(list))
	}
	for i, want := range []struct {
		length   int
		id       uint16
		sequence uint32
		flags    byte
	}{
		{140, 0xffff, 0xffffffff, flagACK | flagCWR},
		{140, 0, 99, flagACK},
		{90, 1, 199, flagACK | flagPSH | flagFIN},
	} {
		p := list[i]
		if _, n, ok := parse(p); !ok || n != want.length || binary.BigEndian.Uint16(p[4:]) != want.id ||
			binary.BigEndian.Uint32(p[20+tcpSequence:]) != want.sequence || p[20+tcpFlags] != want.flags ||
			plainSum(p[:20]) != 0xffff || !transportValid(p, 20, protoTCP) {
			t.Errorf("packet %d is %x, want %+v", i, p[:40], want)
		}
	}
}

// TestNoSegments: a frame that is not what its Offload says is dropped, and costs nothing else.
func TestNoSegments(t *testing.T) {
	for name, spoil := range map[string]func(o *tun.Offload, pkt []byte){
		"complete":               func(o *tun.Offload, _ []byte) { o.Partial = false },
		"no segment length":      func(o *tun.Offload, _ []byte) { o.Segment = 0 },
		"negative segment":       func(o *tun.Offload, _ []byte) { o.Segment = -1 },
		"header beyond the end":  func(o *tun.Offload, _ []byte) { o.Header = 1 << 20 },
		"header too short":       func(o *tun.Offload, _ []byte) { o.Header = 20 },
		"transport before IP":    func(o *tun.Offload, _ []byte) { o.Start = -1 },
		"another family":         func(o *tun.Offload, _ []byte) { o.GSO = tun.GSOTCPv6 },
		"another protocol":       func(o *tun.Offload, _ []byte) { o.GSO = tun.GSOUDP },
		"no kind that there is":  func(o *tun.Offload, _ []byte) { o.GSO = 3 },
		"checksum elsewhere":     func(o *tun.Offload, _ []byte) { o.Offset = 6 },
		"a TCP header of 60":     func(_ *tun.Offload, pkt []byte) { pkt[20+tcpOffset] = 0xf0 },
		"an IP header with more": func(_ *tun.Offload, pkt []byte) { pkt[0] = 0x46 },
	} {
		frame := tcpSuper("10.1.0.1", 100, 250)
		spoil(&frame.Offload, frame.Pieces[0])
		b := newBench(t)
		b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
		b.out.batch([]tun.Frame{frame, {Pieces: [][]byte{ip("10.1.0.1", "10.2.0.1", 1)}}})
		if b.out.flush(); len(b.sent) != 1 {
			t.Errorf("%s: %d packets sent, want the other one", name, len(b.sent))
		}
		b.wantDrops(map[Drop]uint64{DropBadInner: 1})
	}
}

// TestRuns: packets of one length leave as one slab, at most as many as a kernel takes, and a shorter
// one ends it.
func TestRuns(t *testing.T) {
	b := newBench(t)
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	var runs []udpencap.Packet
	b.out.plane.sockets = nil
	socket := &slabSocket{memorySocket: b.socket, write: func(p udpencap.Packet) { runs = append(runs, p) }}
	ch := b.plane.children[1]
	r := *ch.route.Load()
	r.socket = socket
	ch.route.Store(&r)
	var frames []tun.Frame
	for _, n := range slices.Concat(slices.Repeat([]int{500}, 70), []int{400, 400, 500}) {
		frames = append(frames, tun.Frame{Pieces: [][]byte{ip("10.1.0.1", "10.2.0.1", n)}})
	}
	b.out.batch(append(frames, tcpSuper("10.1.0.1", 100, 250)))
	b.out.flush()
	var got []int
	for i := range runs {
		got = append(got, runs[i].Count())
	}
	// 64, and 6 with a shorter one behind them; one that a longer one may not follow; that, with the
	// first of the super-packet behind it; and its rest.
	if want := []int{64, 7, 1, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("slabs of %d packets, want %d", got, want)
	}
}

// slabSocket keeps slabs whole.
type slabSocket struct {
	*memorySocket
	write func(udpencap.Packet)
}

func (s *slabSocket) Write(packets []udpencap.Packet) (int, error) {
	for _, p := range packets {
		s.write(p)
	}
	return len(packets), nil
}

// BenchmarkSegment cuts a super-packet of 64 KiB.
func BenchmarkSegment(b *testing.B) {
	frame := tcpSuper("10.1.0.1", 1398, 46*1398)
	f, _, _ := parse(frame.Pieces[0])
	slot := make([]byte, 2048)
	b.SetBytes(int64(len(frame.Pieces[0])))
	b.ReportAllocs()
	for b.Loop() {
		var s segments
		s.reset(&frame, &f)
		for n := s.next(); n != 0; n = s.next() {
			s.write(slot[:n])
		}
	}
}

// BenchmarkCoalesce joins them again.
func BenchmarkCoalesce(b *testing.B) {
	list := segmented(tcpSuper("10.1.0.1", 1398, 46*1398))
	heads := make([][40]byte, len(list))
	flows := make([]Flow, len(list))
	for i, pkt := range list {
		heads[i] = [40]byte(pkt)
		flows[i], _, _ = parse(pkt)
	}
	c := newCoalescer(func(tun.GSO) bool { return true })
	ch := &child{}
	b.SetBytes(46 * 1398)
	b.ReportAllocs()
	for b.Loop() {
		for i, pkt := range list {
			copy(pkt, heads[i][:])
			c.add(ch, pkt, &flows[i])
		}
		if c.finish(); len(c.frames) != 1 {
			b.Fatalf("%d frames", len(c.frames))
		}
		c.reset()
	}
}
