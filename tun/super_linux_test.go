package tun_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"martlet/tun"
)

const testMTU = 1400

// pair is two sites, on whose devices the test decides.
func pair(t testing.TB, open func(name string, mtu, queues int) (tun.Device, error), queues int) (a, b *site) {
	t.Helper()
	a = newSite(t, open, queues, "10.9.0.1/24", "fd00:9::1/64")
	b = newSite(t, open, queues, "10.9.0.2/24", "fd00:9::2/64")
	return a, b
}

var families = []struct {
	name   string
	server netip.Addr
	kind   tun.GSO
	ip     int // octets of the IP header
}{
	{"IPv4", netip.MustParseAddr("10.9.0.2"), tun.GSOTCPv4, 20},
	{"IPv6", netip.MustParseAddr("fd00:9::2"), tun.GSOTCPv6, 40},
}

// A TCP sender's super-packets come whole, are taken whole, and every octet arrives.
func TestSuperPacketsOfTCP(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			var mu sync.Mutex
			longest, super := 0, 0
			a, b := pair(t, tun.Open, 1)
			relay(t, a.device, b.device, func(_ tun.Device, _ int, f tun.Frame) {
				p, o := f.Pieces[0], f.Offload
				if o.GSO == tun.GSONone {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, len(p))
				super++
				tcp := family.ip + int(p[family.ip+12]>>4)*4
				want := tun.Offload{GSO: family.kind, Header: tcp, Segment: testMTU - tcp, Partial: true, Start: family.ip, Offset: 16}
				if o != want || len(p) <= testMTU {
					t.Errorf("%d octets, %+v, want %+v", len(p), o, want)
				}
			})
			transfer(t, a, b, family.server, 8<<20)
			mu.Lock()
			defer mu.Unlock()
			if super == 0 || longest < 10*testMTU {
				t.Errorf("%d super-packets, the longest %d octets", super, longest)
			}
			t.Logf("%d super-packets, the longest %d octets", super, longest)
		})
	}
}

// transfer sends octets by TCP from a to a server at b and finds that all arrive.
func transfer(t *testing.T, a, b *site, server netip.Addr, size int) {
	t.Helper()
	l := b.listenTCP(t, netip.AddrPortFrom(server, 0))
	c := a.dialTCP(t, l.Addr().(*net.TCPAddr).AddrPort())
	go func() {
		io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(size)))
		c.CloseWrite()
	}()
	in, err := l.AcceptTCP()
	if err != nil {
		t.Error(err)
		return
	}
	defer in.Close()
	compare(t, in, rand.NewChaCha8([32]byte{1}), size)
}

// compare reads all and finds what the generator makes.
func compare(t *testing.T, in io.Reader, want *rand.ChaCha8, size int) {
	t.Helper()
	total, a, b := 0, make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := in.Read(a)
		want.Read(b[:n])
		if string(a[:n]) != string(b[:n]) {
			t.Errorf("the octets from %d on are not those sent", total)
			return
		}
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
	if total != size {
		t.Errorf("got %d octets of %d", total, size)
	}
}

// A sender of many datagrams in one call gives one frame, and they arrive as they were.
func TestSuperPacketsOfUDP(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			offloads := make(chan tun.Offload, 100)
			a, b := pair(t, tun.Open, 1)
			relay(t, a.device, b.device, func(_ tun.Device, _ int, f tun.Frame) {
				if len(f.Pieces[0]) > 2000 {
					offloads <- f.Offload
				}
			})
			if !a.device.Takes(tun.GSOUDP) {
				t.Skip("the kernel has no USO")
			}
			const segment = 1000
			datagrams(t, a, b, family.server, segment)
			want := tun.Offload{GSO: tun.GSOUDP, Header: family.ip + 8, Segment: segment, Partial: true, Start: family.ip, Offset: 6}
			if got := <-offloads; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// datagrams sends many in one call from a to a server at b and finds that they arrive as
// they were.
func datagrams(t *testing.T, a, b *site, server netip.Addr, segment int) {
	t.Helper()
	client := netip.IPv4Unspecified()
	if server.Is6() {
		client = netip.IPv6Unspecified()
	}
	in, out := b.udp(t, netip.AddrPortFrom(server, 0)), a.udp(t, netip.AddrPortFrom(client, 0))
	data := make([]byte, segment*30-300)
	rand.NewChaCha8([32]byte{2}).Read(data)
	if _, _, err := out.WriteMsgUDPAddrPort(data, segmented(segment), in.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	for rest := data; len(rest) > 0; {
		n, err := in.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		want := min(segment, len(rest))
		if string(buf[:n]) != string(rest[:want]) {
			t.Fatalf("a datagram of %d octets is not the one of %d that was sent", n, want)
		}
		rest = rest[want:]
	}
}

// segmented is the control message that has the kernel cut what is sent.
func segmented(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}
