package udpencap

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func checkMark(t *testing.T, s Socket, want int) {
	t.Helper()
	err := s.(*socket).raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err != nil || got != want {
			t.Errorf("mark %#x, %v; want %#x", got, err, want)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestAllocateNothing: the bar of performance.md.
func TestAllocateNothing(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			u := new(UDP)
			a, b := listen(t, u, netip.AddrPortFrom(netip.MustParseAddr(f.loopback), 0).String(), true), listen(t, u, netip.AddrPortFrom(netip.MustParseAddr(f.loopback), 0).String(), true)
			packets := make([]Packet, 16)
			for i := range packets {
				packets[i] = Packet{Kind: ESP, Data: make([]byte, 1400), Local: a.LocalAddr(), Remote: b.LocalAddr(), ECN: 2}
				packets[i].Data[0] = 1
			}
			in := make([]Packet, b.Batch())
			n := testing.AllocsPerRun(50, func() {
				write(t, a, packets...)
				for got := 0; got < len(packets); {
					n, err := b.Read(in)
					if err != nil {
						t.Fatal(err)
					}
					got += n
				}
			})
			if n != 0 {
				t.Errorf("a batch there allocates %v times", n)
			}
		})
	}
}

func TestZones(t *testing.T) {
	if scope("") != 0 || scope("7") != 7 || scope(zone(12)) != 12 || scope("no-such-interface") != 0 {
		t.Error("zones and indexes do not fit")
	}
	if scope("lo") == 0 {
		t.Error("the loopback interface has no index")
	}
}

func BenchmarkLoopback(b *testing.B) {
	u := new(UDP)
	s, r := listen(b, u, "127.0.0.1:0", true), listen(b, u, "127.0.0.1:0", true)
	packets := make([]Packet, 64)
	for i := range packets {
		packets[i] = Packet{Kind: ESP, Data: make([]byte, 1400), Remote: r.LocalAddr()}
		packets[i].Data[0] = 1
	}
	in := make([]Packet, r.Batch())
	b.SetBytes(64 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		write(b, s, packets...)
		for got := 0; got < len(packets); {
			n, err := r.Read(in)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}
