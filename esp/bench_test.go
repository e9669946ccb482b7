package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// BenchmarkSeal and BenchmarkOpen are to be read beside BenchmarkRaw, which is Go's
// AEAD alone on the same octets: the bar is 1.25 times its time.
func BenchmarkSeal(b *testing.B) {
	for _, a := range algorithms {
		b.Run(a.name, func(b *testing.B) {
			out, _ := newPair(b, a.encr, a.integ, true, 0)
			inner, slab := ip("10.0.0.1", "10.0.0.2", 1400-28), make([]byte, 0, 2048)
			b.SetBytes(int64(len(inner)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := out.Seal(slab, inner, protoIPv4); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, a := range algorithms {
		b.Run(a.name, func(b *testing.B) {
			out, in := newPair(b, a.encr, a.integ, true, 0)
			inner := ip("10.0.0.1", "10.0.0.2", 1400-28)
			pkt := seal(b, out, inner)
			work := make([]byte, len(pkt))
			b.SetBytes(int64(len(inner)))
			b.ReportAllocs()
			for b.Loop() {
				copy(work, pkt)
				in.window.top, in.window.bits[0] = 0, 0 // the same packet, as if it were new
				if _, err := in.Open(work); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRaw(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce, head := make([]byte, 12), make([]byte, 8)
	text := make([]byte, 1402, 2048)
	b.Run("seal", func(b *testing.B) {
		b.SetBytes(1400)
		for b.Loop() {
			aead.Seal(text[:0], nonce, text, head)
		}
	})
	b.Run("open", func(b *testing.B) {
		sealed := aead.Seal(nil, nonce, text, head)
		work := make([]byte, len(sealed))
		b.SetBytes(1400)
		for b.Loop() {
			copy(work, sealed)
			if _, err := aead.Open(work[:0], nonce, work, head); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPolicyLookup(b *testing.B) {
	p := newPolicy()
	for i := range 20_000 {
		a := addrOf(i)
		p = p.with(policyChild(uint64(i), []Selector{selector("0.0.0.0/0")}, []Selector{{From: a, To: a, EndPort: 65535}}))
	}
	f := flow("10.1.0.1", addrOf(777).String(), protoUDP, 53)
	b.ReportAllocs()
	for b.Loop() {
		if p.lookup(&f) == nil {
			b.Fatal("not found")
		}
	}
}

// The program is built with a profile of BenchmarkOut and BenchmarkIn, cmd/martlet/default.pgo:
//
//	go test -trimpath ./esp -run '^$' -bench '^Benchmark(Out|In)$' -benchtime 5s -cpuprofile FILE

// BenchmarkOut is a batch from the device's memory into the socket, without either: single packets,
// and a super-packet of as many.
func BenchmarkOut(b *testing.B) {
	frames := make([]tun.Frame, 46)
	for i := range frames {
		frames[i].Pieces = [][]byte{ip("10.1.0.1", "10.2.0.1", 1410)}
	}
	for name, frames := range map[string][]tun.Frame{
		"single": frames,
		"super":  {tcpSuper("10.1.0.1", 1398, 46*1398)},
	} {
		b.Run(name, func(b *testing.B) {
			f := newBench(b)
			f.socket.wire = func(udpencap.Packet) error { return nil }
			f.install(f.child(1, "10.1.0.0/16", "10.2.0.0/16"))
			b.SetBytes(46 * 1438)
			b.ReportAllocs()
			for b.Loop() {
				f.out.batch(frames)
				f.out.flush()
			}
		})
	}
}

// BenchmarkIn is a slab from the socket's memory to the device, without either: datagrams that
// cannot be joined, and TCP that can.
func BenchmarkIn(b *testing.B) {
	datagrams := make([][]byte, 46)
	for i := range datagrams {
		datagrams[i] = ip("10.1.0.1", "10.2.0.1", 1410)
	}
	for name, list := range map[string][][]byte{
		"single": datagrams, // without a checksum
		"super":  segmented(tcpSuper("10.1.0.1", 1398, 46*1398)),
	} {
		b.Run(name, func(b *testing.B) {
			f, _, c := newFast(b, 0)
			if err := f.plane.Remove(c.ID); err != nil {
				b.Fatal(err)
			}
			f.install(mirrored(c))
			f.in.queue = &queue{Queue: nullHost{f.dev}}
			out, err := NewOutbound(c.Out)
			if err != nil {
				b.Fatal(err)
			}
			var slab []byte
			for _, pkt := range list {
				if slab, err = out.Seal(slab, pkt, protoIPv4); err != nil {
					b.Fatal(err)
				}
			}
			work := make([]byte, len(slab))
			packets := []udpencap.Packet{{Kind: udpencap.ESP, Data: work, Segment: out.SealedLen(len(list[0])), Local: c.Path.Local, Remote: c.Path.Remote}}
			window := &f.plane.children[c.ID].rx.in.window
			b.SetBytes(46 * 1438)
			b.ReportAllocs()
			for b.Loop() {
				copy(work, slab)
				window.top = 0 // the same packets, as if they were new
				clear(window.bits)
				f.in.batch(packets)
				f.in.flush()
			}
			if s := f.plane.Stats(); s.Drops.Total() != 0 {
				b.Errorf("dropped: %+v", s.Drops)
			}
		})
	}
}
