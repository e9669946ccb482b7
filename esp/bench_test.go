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

// BenchmarkBatchOut is a batch of 64 packets of 1400 octets from the device's memory
// into the socket, without either.
func BenchmarkBatchOut(b *testing.B) {
	f := newBench(b)
	f.socket.wire = func(udpencap.Packet) error { return nil }
	f.install(f.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	frames := make([]tun.Frame, 64)
	for i := range frames {
		frames[i].Pieces = [][]byte{ip("10.1.0.1", "10.2.0.1", 1400-28)}
	}
	b.SetBytes(64 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		f.out.batch(frames)
	}
}
