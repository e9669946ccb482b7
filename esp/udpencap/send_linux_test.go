package udpencap

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// refuse has a socket's sender fail with what f says of a message, or not if that is 0.
func refuse(b *bound, f func(slab bool, octets int) syscall.Errno) {
	s := b.Socket.(*socket)
	v := s.takeSender()
	v.batch.system = func(fd uintptr, first *mmsghdr, _ int) (int, syscall.Errno) {
		octets, slab := 0, false
		for _, piece := range unsafe.Slice(first.hdr.Iov, first.hdr.Iovlen) {
			octets += int(piece.Len)
		}
		for control := unsafe.Slice(first.hdr.Control, first.hdr.Controllen); len(control) > 0; {
			level, kind, _, rest, _ := nextControl(control)
			control = rest
			slab = slab || level == unix.SOL_UDP && kind == unix.UDP_SEGMENT
		}
		if errno := f(slab, octets); errno != 0 {
			return -1, errno
		}
		return sendmmsg(fd, first, 1)
	}
	s.giveSender(v)
}

// TestSlabRefused: what the system does not cut goes one by one, and after EIO always.
func TestSlabRefused(t *testing.T) {
	for _, test := range []struct {
		errno syscall.Errno
		again int // slabs of the second Write
		logs  int
	}{{unix.EIO, 0, 1}, {unix.EINVAL, 2, 0}, {unix.EOPNOTSUPP, 2, 0}, {unix.EMSGSIZE, 2, 0}} {
		for _, df := range []bool{true, false} {
			core, logs := observer.New(zap.InfoLevel)
			a, b := pair(t, &UDP{Logger: zap.New(core), Buffer: 64 << 10}, "127.0.0.1")
			slabs := 0
			refuse(a, func(slab bool, _ int) syscall.Errno {
				if !slab {
					return 0
				}
				slabs++
				return test.errno
			})
			single := Packet{Kind: ESP, Data: esp(2, 0, 1, 300), Remote: b.LocalAddr(), DF: df}
			slab := Packet{Kind: ESP, Data: append(esp(1, 0, 9, 1000), esp(1, 9, 1, 70)...), Segment: 1000, Remote: b.LocalAddr(), DF: df}
			for round := range 2 {
				slabs = 0
				write(t, a, single, slab, slab, single)
				var got []byte
				for _, p := range read(t, b, 22) {
					got = append(got, p.Data...)
				}
				if want := slices.Concat(single.Data, slab.Data, slab.Data, single.Data); !bytes.Equal(got, want) {
					t.Errorf("%v: what arrived is something else", test.errno)
				}
				want := test.again
				if df {
					want *= 2 // the error may have been that of an earlier one
				}
				if round == 1 && slabs != want {
					t.Errorf("%v: %d slabs were tried, want %d", test.errno, slabs, want)
				}
			}
			if n := logs.FilterMessageSnippet("one by one").Len(); n != test.logs {
				t.Errorf("%v: %d log lines, want %d", test.errno, n, test.logs)
			}
			if c := counted(a); c.Sent != 44 || c.TooBig != 0 {
				t.Errorf("%v: %+v", test.errno, c)
			}
		}
	}
}

// TestSendErrors: which errors are those of a packet, which of earlier ones, and which are lost
// datagrams.
func TestSendErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		errno syscall.Errno
		times int
		df    bool
		sent  int // packets, before an error
		want  Counters
	}{
		{"an ICMP error", unix.ECONNREFUSED, 1, true, 3, Counters{Sent: 3}},
		{"some ICMP errors", unix.EHOSTUNREACH, 4, true, 3, Counters{Sent: 3}},
		{"no route", unix.ENETUNREACH, 1000, true, 1, Counters{Sent: 1}},
		{"no queue of errors", unix.ENETUNREACH, 1, false, 1, Counters{Sent: 1}},
		{"a firewall", unix.EPERM, 1000, true, 1, Counters{Sent: 1}},
		{"an error of an earlier one, by a strange name", unix.ENONET, 1, true, 3, Counters{Sent: 3}},
		{"a full queue", unix.ENOBUFS, 1, true, 3, Counters{Sent: 2, Congested: 1}},
		{"a length that is told late", unix.EMSGSIZE, 1, true, 3, Counters{Sent: 3}},
		{"a length", unix.EMSGSIZE, 2, true, 3, Counters{Sent: 2, TooBig: 1}},
		{"a length that IKE may not have", unix.EMSGSIZE, 1, false, 3, Counters{Sent: 2, TooBig: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := pair(t, new(UDP), "127.0.0.1")
			times := test.times
			refuse(a, func(_ bool, octets int) syscall.Errno {
				if octets != 200 || times == 0 {
					return 0
				}
				times--
				return test.errno
			})
			var packets []Packet
			for _, size := range []int{100, 200, 150} {
				packets = append(packets, Packet{Kind: ESP, Data: esp(1, 0, 1, size), Remote: b.LocalAddr(), DF: test.df})
			}
			n, err := a.Write(packets)
			if n != test.sent || (err == nil) != (n == len(packets)) || err != nil && !errors.Is(err, test.errno) {
				t.Errorf("sent %d: %v", n, err)
			}
			if c := counted(a); c != test.want {
				t.Errorf("%+v, want %+v", c, test.want)
			}
		})
	}
}

// TestTooLongSkipped: datagrams that follow a too long one and are as long are not even tried.
func TestTooLongSkipped(t *testing.T) {
	a, b := pair(t, new(UDP), "127.0.0.1")
	a.Socket.(*socket).gso.Store(false)
	tried := 0
	refuse(a, func(_ bool, octets int) syscall.Errno {
		if octets < 1000 {
			return 0
		}
		tried++
		return unix.EMSGSIZE
	})
	write(t, a,
		Packet{Kind: ESP, Data: append(esp(1, 0, 20, 1000), esp(1, 20, 1, 10)...), Segment: 1000, Remote: b.LocalAddr(), DF: true},
		Packet{Kind: ESP, Data: esp(1, 0, 1, 100), Remote: b.LocalAddr(), DF: true})
	if c := counted(a); c.TooBig != 20 || c.Sent != 2 || tried != 2 {
		t.Errorf("%+v, %d tried", c, tried)
	}
	for _, p := range read(t, b, 2) {
		if len(p.Data) > 100 {
			t.Errorf("%d octets arrived", len(p.Data))
		}
	}
}

// TestRoutes: messages of one vector that go different ways each have their own name and
// control messages, also when they come back to an earlier one.
func TestRoutes(t *testing.T) {
	u := new(UDP)
	a := listen(t, u, "0.0.0.0:0", true)
	var to []*bound
	for range 3 {
		to = append(to, listen(t, u, "127.0.0.1:0", true))
	}
	var packets []Packet
	for i := range 150 {
		size := 100 + i%4
		packets = append(packets, Packet{
			Kind: ESP, Data: esp(byte(1+i%5), i, 1+i%3, size), Segment: size, DF: i%7 < 4,
			Remote: to[i%3].LocalAddr(), Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%5)}), 0), ECN: uint8(i % 4),
		})
	}
	write(t, a, packets...)
	got := map[int]int{}
	for i, b := range to {
		n := 0
		for j := i; j < len(packets); j += 3 {
			n += packets[j].Count()
		}
		for _, p := range read(t, b, n) {
			if p.Remote.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, p.Data[0]}) {
				t.Errorf("SPI %d came from %v", p.Data[0], p.Remote)
			}
			if got[len(p.Data)]++; p.ECN != uint8(len(p.Data)-100) {
				t.Errorf("%d octets with ECN %d", len(p.Data), p.ECN)
			}
		}
	}
	want := map[int]int{}
	for _, p := range packets {
		want[p.Segment] += p.Count()
	}
	for size, n := range want {
		if got[size] != n {
			t.Errorf("%d datagrams of %d octets, want %d", got[size], size, n)
		}
	}
}

// TestUnequal: on a kernel that corrupts slabs of one length, each that would be one ends with a keepalive.
func TestUnequal(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			a, b := pair(t, new(UDP), f.loopback)
			s := a.Socket.(*socket)
			s.log = zap.New(core)
			s.offload(kernel{7, 1, 5})
			s.offload(kernel{6, 18, 44})
			if s.unequal || logs.Len() != 0 {
				t.Error("a good kernel is suspected")
			}
			if s.offload(kernel{7, 0, 12}); !s.unequal || logs.Len() != 1 {
				t.Errorf("unequal is %t, %d log lines", s.unequal, logs.Len())
			}
			for _, test := range []struct{ n, size, last, tails int }{
				{1, 1400, 0, 0},
				{7, 1400, 0, 0},
				{8, 1400, 0, 1},
				{8, 1400, 100, 0},
				{46, 1400, 0, 1},
				{46, 1400, 99, 0},
				{63, 1000, 0, 1},
				{64, 1000, 0, 1},
				{64, 1000, 10, 1},
				{200, 500, 0, 4},
				{64, 8, 0, 1},
				{1, 30_000, 0, 0},
				{2, 30_000, 0, 0},
			} {
				data := esp(1, 0, test.n, test.size)
				n := test.n
				if test.last > 0 {
					data = append(data, esp(1, n, 1, test.last)...)
					n++
				}
				before := counted(a)
				write(t, a, Packet{Kind: ESP, Data: data, Segment: test.size, Remote: b.LocalAddr(), DF: true})
				var got []byte
				tails := 0
				for _, p := range read(t, b, n+test.tails) {
					if p.Kind == Keepalive {
						tails++
					} else {
						got = append(got, p.Data...)
					}
				}
				if !bytes.Equal(got, data) || tails != test.tails {
					t.Errorf("%+v: %d octets of %d, or others, and %d keepalives", test, len(got), len(data), tails)
				}
				if sent := counted(a).Sent - before.Sent; sent != uint64(n) {
					t.Errorf("%+v: %d counted", test, sent)
				}
			}
		})
	}
}
