package netstack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"martlet/tun"
)

// What the stack says of super-packets lets anybody cut them apart.
func TestSuperPackets(t *testing.T) {
	for host, kind := range map[string]tun.GSO{"10.9.0.1": tun.GSOTCPv4, "fd00:9::1": tun.GSOTCPv6} {
		t.Run(host, func(t *testing.T) {
			var runs, partial atomic.Int64
			client, server := joined(t,
				func(from, to *Stack) {
					frames := make([]tun.Frame, from.Batch())
					for {
						n, err := from.Read(frames)
						if err != nil {
							return
						}
						for _, f := range frames[:n] {
							wellFormed(t, f, from.MTU())
							if f.Offload.Partial {
								partial.Add(1)
								describes(t, f)
							}
							if f.Offload.GSO == tun.GSONone {
								continue
							}
							runs.Add(1)
							if f.Offload.GSO != kind {
								t.Errorf("kind %d, want %d", f.Offload.GSO, kind)
							}
						}
						if n, err = to.Write(frames[:n]); err != nil && !errors.Is(err, os.ErrClosed) {
							t.Error(n, err)
						}
					}
				},
				func(from, to *Stack) { pump(t, from, to, nil, false) })
			want := make([]byte, 3<<20)
			rand.NewChaCha8([32]byte{4}).Read(want)
			got := make(chan []byte, 1)
			at := listen(t, server, net.JoinHostPort(host, "0"), func(c net.Conn) {
				b, _ := io.ReadAll(c)
				got <- b
			})
			c := dial(t, client, "tcp", at.String())
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if !bytes.Equal(<-got, want) {
				t.Error("what came is not what was sent")
			}
			client.Close()
			if r, p := runs.Load(), partial.Load(); r == 0 || r == p {
				t.Errorf("%d super-packets of %d partial packets", r, p)
			}
		})
	}
}

// describes checks the offload of a partial frame against what the packet itself says.
func describes(t *testing.T, f tun.Frame) {
	t.Helper()
	b, o := f.Pieces[0], f.Offload
	start, src, dst := 40, b[8:24], b[24:40]
	if b[0]>>4 == 4 {
		start, src, dst = 20, b[12:16], b[16:20]
		if !header.IPv4(b).IsChecksumValid() || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
			t.Error("header of IPv4 is not that of the whole")
		}
	} else if int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 {
		t.Error("header of IPv6 is not that of the whole")
	}
	tcp := b[start:]
	if o.Start != start || o.Offset != 16 {
		t.Errorf("checksum at %d+%d", o.Start, o.Offset)
	}
	if o.GSO != tun.GSONone && o.Header != start+int(tcp[12]>>4)*4 {
		t.Errorf("headers of %d octets", o.Header)
	}
	// RFC 9293 §3.1: the pseudo header is addresses, protocol and length.
	pseudo := append(append(bytes.Clone(src), dst...), 0, 6)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(tcp)))
	sum := checksum.Checksum(pseudo, 0)
	if got := binary.BigEndian.Uint16(tcp[16:]); got != sum {
		t.Errorf("partial checksum %#04x, want %#04x", got, sum)
	}
	for _, packet := range cut(nil, f) {
		if !intact(packet, tun.Offload{}) {
			t.Errorf("a packet of %d octets is not intact", len(packet))
		}
	}
}

// Streams stay what they were, in writes and super-packets of any size.
func TestStreamSizes(t *testing.T) {
	for name, carry := range map[string]func(bool, []byte) bool{
		"whole": nil, "cut": func(bool, []byte) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t, carry)
			at := listen(t, server, "[::]:0", echo)
			for _, to := range serverAddrs {
				c := dial(t, client, "tcp", netip.AddrPortFrom(to, at.Port()).String())
				sent, got := sha256.New(), sha256.New()
				var wg sync.WaitGroup
				wg.Go(func() {
					random, bits := rand.New(rand.NewPCG(5, 6)), rand.NewChaCha8([32]byte{7})
					buf := make([]byte, 200_000)
					for range 150 {
						b := buf[:random.IntN(1<<(1+random.IntN(17)))]
						bits.Read(b)
						sent.Write(b)
						if _, err := c.Write(b); err != nil {
							t.Error(err)
							return
						}
					}
					c.(interface{ CloseWrite() error }).CloseWrite()
				})
				if _, err := io.Copy(got, c); err != nil {
					t.Error(err)
				}
				wg.Wait()
				if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
					t.Errorf("%s: what came back is not what was sent", to)
				}
			}
		})
	}
}

// run is a TCP segment to a port where nobody listens, with as much payload, as a
// super-packet says it.
func run(to netip.Addr, payload int) tun.Frame {
	const segment = 1300
	o := tun.Offload{GSO: tun.GSOTCPv4, Header: 40, Segment: segment, Partial: true, Start: 20, Offset: 16}
	var b []byte
	if to.Is4() {
		b = make([]byte, 40+payload)
		b[0], b[8], b[9] = 0x45, 64, 6
		copy(b[12:], clientAddrs[0].AsSlice())
		copy(b[16:], to.AsSlice())
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:20], 0))
	} else {
		o.GSO, o.Header, o.Start = tun.GSOTCPv6, 60, 40
		b = make([]byte, 60+payload)
		b[0], b[6], b[7] = 0x60, 6, 64
		copy(b[8:], clientAddrs[1].AsSlice())
		copy(b[24:], to.AsSlice())
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	tcp := header.TCP(b[o.Start:])
	tcp.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, SeqNum: 1000, DataOffset: 20, WindowSize: 1000})
	rand.NewChaCha8([32]byte{8}).Read(tcp[20:])
	addresses := checksum.Checksum(b[o.Start-2*to.BitLen()/8:o.Start], 6)
	binary.BigEndian.PutUint16(tcp[16:], checksum.Combine(addresses, uint16(len(tcp))))
	return tun.Frame{Offload: o, Pieces: [][]byte{b}}
}

// acknowledged is what the reset that waits to be read acknowledges; 0 where there is none.
func acknowledged(t *testing.T, s *Stack) int {
	t.Helper()
	frames := make([]tun.Frame, batch)
	n, err := s.TryRead(frames)
	if n == 0 || err != nil {
		return 0
	}
	b := frames[0].Pieces[0]
	if n != 1 || !intact(b, frames[0].Offload) {
		t.Fatalf("%d frames, the first %x", n, b)
	}
	tcp := header.TCP(b[len(b)-20:])
	return int(tcp.AckNumber())
}

// A super-packet is one segment to the stack, however many pieces it comes in.
func TestWriteSuperPacket(t *testing.T) {
	s := host(t, Options{}, serverAddrs)
	for kind, want := range map[tun.GSO]bool{tun.GSONone: true, tun.GSOTCPv4: true, tun.GSOTCPv6: true, tun.GSOUDP: false, 9: false} {
		if s.Takes(kind) != want {
			t.Errorf("takes kind %d: %v", kind, !want)
		}
	}
	random := rand.New(rand.NewPCG(9, 10))
	for _, to := range serverAddrs {
		for _, size := range []int{1301, 4000, 33_000, 65_475} {
			f := run(to, size)
			whole := f.Pieces[0]
			for _, pieces := range []int{1, 2, 50} {
				f.Pieces = [][]byte{whole}
				for len(f.Pieces) < pieces {
					last := f.Pieces[len(f.Pieces)-1]
					if len(last) <= 61 {
						break
					}
					at := 60 + random.IntN(min(len(last)-60, 2*len(whole)/pieces))
					f.Pieces = append(f.Pieces[:len(f.Pieces)-1], last[:at], last[at:])
				}
				before := s.stack.Stats().IP.PacketsReceived.Value()
				if n, err := s.Write([]tun.Frame{f}); n != 1 || err != nil {
					t.Fatalf("%d octets for %s: took %d, %v", size, to, n, err)
				}
				if n := s.stack.Stats().IP.PacketsReceived.Value() - before; n != 1 {
					t.Errorf("%d deliveries", n)
				}
				if got := acknowledged(t, s); got != 1000+size {
					t.Errorf("%d octets in %d pieces: %d acknowledged", size, len(f.Pieces), got-1000)
				}
			}
		}
	}
}

// Nothing is repaired in silence, and nothing is believed that cannot be.
func TestWriteRefuses(t *testing.T) {
	s := host(t, Options{}, serverAddrs)
	for _, to := range serverAddrs {
		good := run(to, 2000)
		single := run(to, 1000)
		single.Pieces[0] = cut(nil, tun.Frame{Offload: tun.Offload{Partial: true, Start: single.Offload.Start, Offset: 16}, Pieces: single.Pieces})[0]
		single.Offload = tun.Offload{}
		for name, damage := range map[string]func(*tun.Frame){
			"a super-packet that is not partial": func(f *tun.Frame) { f.Offload.Partial = false },
			"joined datagrams":                   func(f *tun.Frame) { f.Offload.GSO = tun.GSOUDP },
			"another family":                     func(f *tun.Frame) { f.Offload.GSO ^= tun.GSOTCPv4 ^ tun.GSOTCPv6 },
			"an unknown kind":                    func(f *tun.Frame) { f.Offload.GSO = 9 },
			"another start":                      func(f *tun.Frame) { f.Offload.Start++ },
			"another offset":                     func(f *tun.Frame) { f.Offload.Offset = 6 },
			"the end missing":                    func(f *tun.Frame) { f.Pieces[0] = f.Pieces[0][:100] },
			"a damaged header of IP":             func(f *tun.Frame) { f.Pieces[0][4] ^= 0xf0 },
			"a single packet, damaged": func(f *tun.Frame) {
				*f = tun.Frame{Pieces: [][]byte{bytes.Clone(single.Pieces[0])}}
				f.Pieces[0][500] ^= 1
			},
		} {
			f := tun.Frame{Offload: good.Offload, Pieces: [][]byte{bytes.Clone(good.Pieces[0])}}
			damage(&f)
			if n, err := s.Write([]tun.Frame{f}); n != 0 || err != nil {
				t.Errorf("%s to %s: took %d, %v", name, to, n, err)
			}
			if got := acknowledged(t, s); got != 0 {
				t.Errorf("%s to %s: got an answer", name, to)
			}
		}
		n, err := s.Write([]tun.Frame{single, good})
		if n != 2 || err != nil {
			t.Errorf("took %d, %v", n, err)
		}
		for n := 1; n > 0; n, _ = s.TryRead(make([]tun.Frame, batch)) {
		}
	}
}

// What lies behind the end of a packet, as padding does, is no part of it, also where it is
// joined to another.
func TestWritePadded(t *testing.T) {
	s := host(t, Options{}, serverAddrs)
	for _, to := range serverAddrs {
		f := run(to, 2000)
		f.Offload.Segment = 1000
		two := cut(nil, f)
		frames := []tun.Frame{{Pieces: two[:1]}, {Pieces: [][]byte{two[1], make([]byte, 6)}}}
		if n, err := s.Write(frames); n != 2 || err != nil {
			t.Fatalf("took %d, %v", n, err)
		}
		if got := acknowledged(t, s); got != 3000 {
			t.Errorf("%s: %d octets acknowledged of 2000", to, got-1000)
		}
	}
}

// TryRead does not wait, and a stack at rest keeps no memory for frames.
func TestTryRead(t *testing.T) {
	s := host(t, Options{}, clientAddrs[:1])
	frames := make([]tun.Frame, 3)
	try := func(want int) {
		t.Helper()
		if n, err := s.TryRead(frames); n != want || err != nil {
			t.Errorf("got %d, %v, want %d", n, err, want)
		}
	}
	try(0)
	c := dial(t, s, "udp", "10.9.0.1:9")
	for range 5 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	try(3)
	if s.lent == nil {
		t.Error("frames in no memory")
	}
	try(2)
	try(0)
	if s.lent != nil {
		t.Error("keeps memory that nobody was lent")
	}
	if n, err := s.Read(nil); n != 0 || err != nil {
		t.Errorf("into nothing: %d, %v", n, err)
	}
}

func FuzzWrite(f *testing.F) {
	add := func(packet []byte, o tun.Offload) {
		f.Add(packet, uint8(o.GSO), o.Partial, o.Header, o.Segment, o.Start, o.Offset, len(packet)/2)
	}
	add([]byte{0x45, 0, 0, 20}, tun.Offload{})
	add(append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2}, make([]byte, 20)...), tun.Offload{})
	add([]byte{0x60, 0, 0, 0, 0, 0, 58, 64}, tun.Offload{})
	for _, to := range clientAddrs {
		for _, size := range []int{0, 100, 5000} {
			r := run(to, size)
			add(r.Pieces[0], r.Offload)
		}
	}
	s, err := New(1400, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	for _, a := range clientAddrs {
		if err := s.AddAddress(a); err != nil {
			f.Fatal(err)
		}
	}
	frames := make([]tun.Frame, batch)
	f.Fuzz(func(t *testing.T, packet []byte, kind uint8, partial bool, headers, segment, start, offset, at int) {
		o := tun.Offload{GSO: tun.GSO(kind), Header: headers, Segment: segment, Partial: partial, Start: start, Offset: offset}
		at = max(0, min(at, len(packet)))
		frame := tun.Frame{Offload: o, Pieces: [][]byte{packet[:at], packet[at:]}}
		if _, err := s.Write([]tun.Frame{frame}); err != nil {
			t.Fatal(err)
		}
		for n := 1; n > 0; n, _ = s.TryRead(frames) {
		}
	})
}
