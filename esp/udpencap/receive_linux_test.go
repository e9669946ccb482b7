package udpencap

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is two sockets of one family over the loopback interface, a and b.
func pair(t testing.TB, u *UDP, loopback string) (a, b *bound) {
	t.Helper()
	local := netip.AddrPortFrom(netip.MustParseAddr(loopback), 0).String()
	return listen(t, u, local, true), listen(t, u, local, true)
}

// esp is packets of one SPI with numbers from first on, each of size octets.
func esp(spi byte, first, n, size int) (b []byte) {
	for i := range n {
		p := bytes.Repeat([]byte{spi}, size)
		p[4], p[5], p[6], p[7] = 0, 0, byte((first+i)>>8), byte(first+i)
		b = append(b, p...)
	}
	return b
}

// sendSlab sends datagrams as one slab, past all that a socket of ours looks at.
func sendSlab(t testing.TB, to *bound, segment int, slab []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var control []byte
	if segment != 0 {
		control = appendControl(make([]byte, 0, 64), unix.SOL_UDP, unix.UDP_SEGMENT, []byte{byte(segment), byte(segment >> 8)}, 2)
	}
	if err := unix.Sendmsg(fd, slab, control, &unix.SockaddrInet4{Port: int(to.LocalAddr().Port()), Addr: to.LocalAddr().Addr().As4()}, 0); err != nil {
		t.Fatal(err)
	}
}

// TestSlabs: what goes out as a slab arrives as one, whatever its last datagram is.
func TestSlabs(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			a, b := pair(t, new(UDP), f.loopback)
			r := b.Readers()[1]
			packets := make([]Packet, r.Batch())
			for _, test := range []struct {
				n, size, last int
			}{{1, 1400, 0}, {2, 8, 0}, {46, 1400, 0}, {40, 1400, 99}, {64, 1000, 0}, {63, 1000, 8}, {1, 30_000, 29_999}, {1, 60_000, 0}} {
				data := esp(7, 0, test.n, test.size)
				if test.last > 0 {
					data = append(data, esp(7, test.n, 1, test.last)...)
				}
				write(t, a, Packet{Kind: ESP, Data: data, Segment: test.size, Remote: b.LocalAddr(), Local: a.LocalAddr(), ECN: 2, DF: true})
				n, err := r.Read(packets)
				if err != nil || n != 1 {
					t.Fatalf("%+v: %d packets, %v", test, n, err)
				}
				want := Packet{Kind: ESP, Segment: test.size, Local: b.LocalAddr(), Remote: a.LocalAddr(), ECN: 2}
				if len(data) == test.size {
					want.Segment = 0
				}
				p := packets[0]
				if !bytes.Equal(p.Data, data) {
					t.Errorf("%+v: %d octets of %d, or others", test, len(p.Data), len(data))
				}
				p.Data, want.Data = nil, nil
				if !equalPackets(p, want) {
					t.Errorf("%+v: %+v, want %+v", test, p, want)
				}
			}
			if s, c := counted(a).Sent, counted(b).Received; s != c || s != 1+2+46+41+64+64+2+1 {
				t.Errorf("%d sent, %d received", s, c)
			}
		})
	}
}

func equalPackets(a, b Packet) bool {
	return a.Kind == b.Kind && bytes.Equal(a.Data, b.Data) && a.Segment == b.Segment && a.Local == b.Local && a.Remote == b.Remote && a.ECN == b.ECN
}

// TestLongSlab: one that is longer than the kernel takes at once goes as several.
func TestLongSlab(t *testing.T) {
	a, b := pair(t, new(UDP), "127.0.0.1")
	for _, size := range []int{16, 500, 1400, 9000} {
		const n = 200
		data := append(esp(7, 0, n, size), esp(7, n, 1, size-1)...)
		write(t, a, Packet{Kind: ESP, Data: data, Segment: size, Remote: b.LocalAddr(), DF: true})
		var got []byte
		for _, p := range read(t, b, n+1) {
			got = append(got, p.Data...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("datagrams of %d octets do not arrive as they were", size)
		}
	}
}

// TestMixedSlab: the kernel makes a slab of whatever one peer sends.
func TestMixedSlab(t *testing.T) {
	_, b := pair(t, new(UDP), "127.0.0.1")
	ike := append(make([]byte, 4), bytes.Repeat([]byte{'i'}, 16)...)
	short := append(make([]byte, 4), "short"...)
	bad := make([]byte, 3)
	one, two := esp(1, 0, 3, 20), esp(2, 0, 2, 20)
	for _, test := range []struct {
		name      string
		segment   int
		slab      [][]byte
		want      []Packet
		malformed uint64
	}{
		{"ESP of two SAs", 20, [][]byte{one, two}, []Packet{{Kind: ESP, Data: slices.Concat(one, two), Segment: 20}}, 0},
		{"IKE between", 20, [][]byte{one, ike, two}, []Packet{
			{Kind: ESP, Data: one, Segment: 20}, {Kind: IKE, Data: ike[4:]}, {Kind: ESP, Data: two, Segment: 20},
		}, 0},
		{"IKE first and last", 20, [][]byte{ike, one[:20], short}, []Packet{
			{Kind: IKE, Data: ike[4:]}, {Kind: ESP, Data: one[:20]}, {Kind: IKE, Data: []byte("short")},
		}, 0},
		{"a keepalive behind", 20, [][]byte{one, {0xff}}, []Packet{
			{Kind: ESP, Data: one, Segment: 20}, {Kind: Keepalive, Data: []byte{0xff}},
		}, 0},
		{"keepalives", 1, [][]byte{{0xff}, {0xff}, {0xfe}, {0xff}}, []Packet{
			{Kind: Keepalive, Data: []byte{0xff}}, {Kind: Keepalive, Data: []byte{0xff}}, {Kind: Keepalive, Data: []byte{0xff}},
		}, 1},
		{"too short behind", 20, [][]byte{one, bad}, []Packet{{Kind: ESP, Data: one, Segment: 20}}, 1},
		{"only a marker", 20, [][]byte{two, ike[:4]}, []Packet{{Kind: ESP, Data: two, Segment: 20}}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := counted(b)
			sendSlab(t, b, test.segment, slices.Concat(test.slab...))
			r := b.Readers()[1]
			if test.slab[0][0] == 0 {
				r = b.Readers()[0]
			}
			// One at a time, so that most of a slab is left for the next call.
			var got []Packet
			packets := make([]Packet, 1)
			for len(got) < len(test.want) {
				n, err := r.Read(packets)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, packets[:n]...)
			}
			for i, p := range got {
				p.Local, p.Remote = netip.AddrPort{}, netip.AddrPort{}
				if !equalPackets(p, test.want[i]) {
					t.Errorf("packet %d: %+v\nwant %+v", i, p, test.want[i])
				}
			}
			if n, err := r.ReadMore(packets); n != 0 || err != nil {
				t.Errorf("and another one: %d, %v", n, err)
			}
			received := uint64(0)
			for _, p := range test.want {
				received += uint64(p.Count())
			}
			after := counted(b)
			if after.Received-before.Received != received || after.Malformed-before.Malformed != test.malformed {
				t.Errorf("counted %+v after %+v", after, before)
			}
		})
	}
}

// TestReadMore: what was lent stays as it is until the next Read, and no memory is taken twice.
func TestReadMore(t *testing.T) {
	a, b := pair(t, new(UDP), "127.0.0.1")
	r := b.Readers()[1]
	packets := make([]Packet, 2*espMessages)
	if n, err := r.ReadMore(packets); n != 0 || err != nil {
		t.Errorf("nothing was sent: %d, %v", n, err)
	}
	send := func(i int) {
		write(t, a, Packet{Kind: ESP, Data: esp(1, 2*i, 2, 1000), Segment: 1000, Remote: b.LocalAddr()})
	}
	for range 3 {
		send(0)
		n, err := r.Read(packets)
		if err != nil || n != 1 {
			t.Fatalf("%d packets, %v", n, err)
		}
		for i := 1; n < espMessages; i++ {
			send(i)
			for m := 0; m == 0; n += m {
				if m, err = r.ReadMore(packets[n:]); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(n)
		if m, err := r.ReadMore(packets[n:]); m != 0 || err != nil {
			t.Errorf("all memory is lent, and yet: %d packets, %v", m, err)
		}
		for i, p := range packets[:n] {
			if !bytes.Equal(p.Data, esp(1, 2*i, 2, 1000)) {
				t.Errorf("packet %d has changed", i)
			}
		}
		if n, err := r.Read(packets); n != 1 || err != nil || !bytes.Equal(packets[0].Data, esp(1, 2*espMessages, 2, 1000)) {
			t.Errorf("behind it: %d packets, %v", n, err)
		}
	}
}

// TestFewPackets: what does not fit into packets comes with the next call, Read or ReadMore.
func TestFewPackets(t *testing.T) {
	_, b := pair(t, new(UDP), "127.0.0.1")
	r := b.Readers()[1]
	ike := append(make([]byte, 4), bytes.Repeat([]byte{'i'}, 16)...)
	for range 4 {
		sendSlab(t, b, 20, slices.Concat(esp(1, 0, 2, 20), ike, esp(1, 2, 1, 20), ike, esp(1, 3, 1, 20)))
	}
	var got []byte
	packets := make([]Packet, 3)
	for i := 0; len(got) < 4*(2*20+16+20+16+20); i++ {
		call := r.Read
		if i%2 == 1 {
			call = r.ReadMore
		}
		n, err := call(packets[:1+i%3])
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets[:n] {
			got = append(got, p.Data...)
		}
	}
	want := bytes.Repeat(slices.Concat(esp(1, 0, 2, 20), ike[4:], esp(1, 2, 1, 20), ike[4:], esp(1, 3, 1, 20)), 4)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestReceiveErrors: what is about one datagram is counted, and the rest is told.
func TestReceiveErrors(t *testing.T) {
	for _, kind := range []Kind{IKE, ESP} {
		a, b := pair(t, new(UDP), "127.0.0.1")
		r := b.Readers()[kind].(*reader)
		packets := make([]Packet, r.Batch())
		p := Packet{Kind: kind, Data: esp(1, 0, 1, 100), Remote: b.LocalAddr()}
		write(t, a, p)
		fail := func(errnos ...syscall.Errno) {
			r.system = func(fd uintptr, first *mmsghdr, n int) (int, syscall.Errno) {
				if len(errnos) == 0 {
					return recvmmsg(fd, first, n)
				}
				errno := errnos[0]
				errnos = errnos[1:]
				return -1, errno
			}
		}
		fail(unix.EINTR, unix.ECONNREFUSED, unix.EMSGSIZE)
		if n, err := r.Read(packets); n != 1 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		fail(unix.ECONNREFUSED)
		if n, err := r.ReadMore(packets); n != 0 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		if c := counted(b); c.ReadErrors != 3 || c.Received != 1 {
			t.Errorf("%+v", c)
		}
		fail(unix.ENOMEM)
		if n, err := r.Read(packets); n != 0 || !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%d packets, %v", n, err)
		}
		fail(unix.ENOMEM)
		if n, err := r.ReadMore(packets); n != 0 || !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%d packets, %v", n, err)
		}
		// What came before an error is not held back, and one that is not whole is left out.
		fail()
		write(t, a, p, p, p)
		if n, err := r.Read(packets[:1]); n != 1 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		write(t, a, p)
		fail(unix.ENOMEM)
		if n, err := r.ReadMore(packets[:1]); n != 0 || !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%d packets, %v", n, err)
		}
		fail()
		if n, err := r.Read(packets); n != 3 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		write(t, a, p, p)
		r.system = func(fd uintptr, first *mmsghdr, n int) (int, syscall.Errno) {
			n, errno := recvmmsg(fd, first, n)
			first.hdr.Flags |= unix.MSG_TRUNC
			return n, errno
		}
		if n, err := r.Read(packets); n != 1 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		if c := counted(b); c.ReadErrors != 4 {
			t.Errorf("%+v", c)
		}
	}
}

// TestAllocateNothing: the bar of performance.md.
func TestAllocateNothing(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			a, b := pair(t, new(UDP), f.loopback)
			var out []Packet
			for i := range 16 {
				p := Packet{Kind: ESP, Data: esp(1, 0, 40, 1400), Segment: 1400, Local: a.LocalAddr(), Remote: b.LocalAddr(), ECN: 2, DF: true}
				if i%2 == 0 {
					p.Data, p.Segment = p.Data[:1400], 0
				}
				out = append(out, p)
			}
			r := b.Readers()[1]
			in := make([]Packet, r.Batch())
			n := testing.AllocsPerRun(50, func() {
				write(t, a, out...)
				for got := 0; got < len(out); {
					n, err := r.Read(in)
					if err != nil {
						t.Fatal(err)
					}
					more, err := r.ReadMore(in[n:])
					if err != nil {
						t.Fatal(err)
					}
					got += n + more
				}
			})
			if n != 0 {
				t.Errorf("a batch there allocates %v times", n)
			}
		})
	}
}

func benchmark(b *testing.B, f func(b *testing.B, s, r *bound, packets, in []Packet)) {
	for _, test := range []struct {
		name    string
		segment int
		df      bool
	}{{"slabs", 1400, true}, {"single", 0, true}} {
		b.Run(test.name, func(b *testing.B) {
			s, r := pair(b, new(UDP), "127.0.0.1")
			var packets []Packet
			n := 0
			for range 4 {
				p := Packet{Kind: ESP, Data: esp(1, 0, 46, 1400), Segment: test.segment, Remote: r.LocalAddr(), DF: test.df}
				if test.segment == 0 {
					p.Data = p.Data[:1400]
				}
				n += len(p.Data)
				packets = append(packets, p)
			}
			in := make([]Packet, r.Readers()[1].Batch())
			b.SetBytes(int64(n))
			b.ReportAllocs()
			f(b, s, r, packets, in)
		})
	}
}

// BenchmarkSend: the receiver takes what it gets while the clock stands.
func BenchmarkSend(b *testing.B) {
	benchmark(b, func(b *testing.B, s, r *bound, packets, in []Packet) {
		for b.Loop() {
			write(b, s, packets...)
			b.StopTimer()
			takeAll(b, r, in, len(packets))
			b.StartTimer()
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	benchmark(b, func(b *testing.B, s, r *bound, packets, in []Packet) {
		for b.Loop() {
			b.StopTimer()
			write(b, s, packets...)
			b.StartTimer()
			takeAll(b, r, in, len(packets))
		}
	})
}

func takeAll(b *testing.B, r *bound, in []Packet, packets int) {
	for got := 0; got < packets; {
		n, err := r.Readers()[1].Read(in)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}

// BenchmarkLoopback is both.
func BenchmarkLoopback(b *testing.B) {
	benchmark(b, func(b *testing.B, s, r *bound, packets, in []Packet) {
		for b.Loop() {
			write(b, s, packets...)
			takeAll(b, r, in, len(packets))
		}
	})
}
