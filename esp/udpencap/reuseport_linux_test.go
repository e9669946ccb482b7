package udpencap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestShards: IKE and keepalives come to the first reader, each SPI to one of the others.
func TestShards(t *testing.T) {
	for _, f := range families {
		for shards, readers := range map[int]int{0: 2, 1: 2, 2: 3, 3: 5, 4: 5} {
			t.Run(f.name, func(t *testing.T) {
				a, b := pair(t, &UDP{Shards: shards}, f.loopback)
				if n := len(b.Readers()); n != readers {
					t.Fatalf("%d readers for %d shards, want %d", n, shards, readers)
				}
				sent := []Packet{{Kind: IKE, Data: []byte("IKE"), Remote: b.LocalAddr()}, {Kind: Keepalive, Data: []byte{0xff}, Remote: b.LocalAddr()}}
				for i := range 40 {
					p := Packet{Kind: ESP, Data: esp(1, 0, 1, 40), Remote: b.LocalAddr(), DF: i%2 == 0}
					binary.BigEndian.PutUint32(p.Data, 0xffee00+uint32(i+1)<<24)
					sent = append(sent, p)
				}
				write(t, a, sent...)
				for _, p := range read(t, b, len(sent)) {
					want := 0
					if p.Kind == ESP {
						want = 1 + int(p.Data[0])&(readers-2)
					}
					if p.reader != want {
						t.Errorf("kind %d, %x: from reader %d, want %d", p.Kind, p.Data[:1], p.reader, want)
					}
				}
			})
		}
	}
}

func TestShardProgram(t *testing.T) {
	for _, n := range []int{1, 2, 16} {
		vm, err := bpf.NewVM(shardProgram(n))
		if err != nil {
			t.Fatal(err)
		}
		for payload, want := range map[string]int{
			"":                     0,
			"\xff":                 0,
			"abc":                  0,
			"\x00\x00\x00\x00":     0,
			"\x00\x00\x00\x00abcd": 0,
			"\x00\x00\x00\x01abcd": 1,
			"\x01\x00\x00\x00":     1 + 1&(n-1),
			"\xff\xff\xff\xff":     n,
			"\xfe\xff\xff\xffabcd": 1 + 14&(n-1),
		} {
			if got, err := vm.Run([]byte(payload)); got != want || err != nil {
				t.Errorf("%d shards: %x goes to %d, want %d (%v)", n, payload, got, want, err)
			}
		}
	}
}

// TestShardsOfOneEngine: SPIs that have the number of an engine in their low bits come to all
// readers, in equal parts, and each always to the same.
func TestShardsOfOneEngine(t *testing.T) {
	const spis = 1024
	for _, n := range []int{1, 2, 4, 8} {
		vm, err := bpf.NewVM(shardProgram(n))
		if err != nil {
			t.Fatal(err)
		}
		for bits := range 7 {
			random := rand.New(rand.NewPCG(1, uint64(bits)))
			packets := make([]int, n)
			for range spis {
				spi := random.Uint32()&^(1<<bits-1) | uint32(1<<bits-1)
				first, err := vm.Run(binary.BigEndian.AppendUint32(nil, spi))
				if err != nil || first < 1 || first > n {
					t.Fatalf("%08x goes to %d of %d, %v", spi, first, n, err)
				}
				if again, _ := vm.Run(append(binary.BigEndian.AppendUint32(nil, spi), 0, 0, 0, 2, 7)); again != first {
					t.Errorf("%08x goes to %d and to %d", spi, first, again)
				}
				packets[first-1]++
			}
			if slices.Min(packets) < spis/n/2 {
				t.Errorf("%d shard bits: SPIs spread as %d", bits, packets)
			}
		}
	}
}

// TestIKEBehindFullQueue: where nobody takes ESP any more IKE still arrives, and what was lost
// is counted.
func TestIKEBehindFullQueue(t *testing.T) {
	a, b := pair(t, &UDP{Buffer: 64 << 10}, "127.0.0.1")
	const each, rounds = 40, 50
	for i := range rounds {
		write(t, a, Packet{Kind: ESP, Data: esp(1, i*each, each, 1000), Segment: 1000, Remote: b.LocalAddr(), DF: true})
	}
	write(t, a, Packet{Kind: IKE, Data: []byte("still alive?"), Remote: b.LocalAddr()})
	packets := make([]Packet, 64)
	if n, err := b.Readers()[0].Read(packets); n != 1 || err != nil || string(packets[0].Data) != "still alive?" {
		t.Fatalf("%d packets, %v", n, err)
	}
	r := b.Readers()[1]
	n, err := r.Read(packets)
	if err != nil || n == 0 || n >= rounds {
		t.Fatalf("%d slabs of %d kept, %v", n, rounds, err)
	}
	// The count comes with what is received next.
	write(t, a, Packet{Kind: ESP, Data: esp(1, 0, 1, 1000), Remote: b.LocalAddr(), DF: true})
	if n, err := r.Read(packets); n != 1 || err != nil {
		t.Fatalf("%d packets, %v", n, err)
	}
	if c := counted(b); c.Overflows == 0 || c.Received != uint64(1+n*each+1) {
		t.Errorf("%+v", c)
	}
}

// TestPortIsTaken: neither another program's socket nor one of ours is shared.
func TestPortIsTaken(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			first := listen(t, new(UDP), f.any, true)
			addresses := []netip.AddrPort{
				netip.AddrPortFrom(netip.MustParseAddr(f.loopback), first.LocalAddr().Port()), first.LocalAddr(),
			}
			for _, local := range addresses {
				for _, encap := range []bool{true, false} {
					_, err := new(UDP).Listen(local, encap)
					if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "has the port") || !strings.Contains(err.Error(), local.String()) {
						t.Errorf("%v: %v", local, err)
					}
				}
			}
			// Another program, that wants the port or has it.
			if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(first.LocalAddr())); err == nil {
				c.Close()
				t.Error("another program got the port too")
			}
			for _, share := range []bool{false, true} {
				c, err := bind(netip.AddrPortFrom(netip.MustParseAddr(f.loopback), 0), func(raw syscall.RawConn) error {
					if !share {
						return nil
					}
					return (&descriptor{raw: raw}).setInt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := new(UDP).Listen(boundTo(c), true); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("the port of another program that shares it (%t): %v", share, err)
				}
				c.Close()
			}
			// As soon as it is free it can be had again.
			first.Close()
			listen(t, new(UDP), first.LocalAddr().String(), true)
		})
	}
}

// TestOneDescriptor: where the system refuses to share a port, one file descriptor has everything.
func TestOneDescriptor(t *testing.T) {
	for _, shards := range []int{1, 4} {
		core, logs := observer.New(zap.InfoLevel)
		u := &UDP{Shards: shards, Logger: zap.New(core), Buffer: 64 << 10, refused: errors.New("no")}
		a, b := pair(t, u, "127.0.0.1")
		if n := logs.FilterMessageSnippet("does not tell ESP from IKE").Len(); n != 2 || len(b.Readers()) != 1 {
			t.Errorf("%d log lines for two sockets, %d readers", n, len(b.Readers()))
		}
		slab := esp(1, 0, 40, 1000)
		write(t, a, Packet{Kind: ESP, Data: slab, Segment: 1000, Remote: b.LocalAddr(), DF: true}, Packet{Kind: IKE, Data: []byte("IKE"), Remote: b.LocalAddr()})
		packets := make([]Packet, b.Readers()[0].Batch())
		if n, err := b.Readers()[0].Read(packets); n != 2 || err != nil || !bytes.Equal(packets[0].Data, slab) || packets[1].Kind != IKE {
			t.Errorf("%d packets, %v", n, err)
		}
		if _, err := new(UDP).Listen(a.LocalAddr(), true); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("the same port: %v", err)
		}
		// Nothing is left of the attempt.
		if got := a.Socket.(*socket).ike.getInt(t, unix.SOL_SOCKET, unix.SO_REUSEPORT); got != 0 {
			t.Error("the port is shared")
		}
	}
}

// TestOptions: what of a socket may be fragmented, and what is counted.
func TestOptions(t *testing.T) {
	four := listen(t, &UDP{Shards: 2}, "127.0.0.1:0", true)
	plain := listen(t, new(UDP), "127.0.0.1:0", false)
	s := four.Socket.(*socket)
	discover := func(d *descriptor) int { return d.getInt(t, unix.SOL_IP, unix.IP_MTU_DISCOVER) }
	for _, d := range s.esp {
		if discover(d) != unix.IP_PMTUDISC_DO || d.getInt(t, unix.SOL_IP, unix.IP_RECVERR) != 1 {
			t.Error("ESP may be fragmented")
		}
	}
	for _, d := range []*descriptor{s.ike, plain.Socket.(*socket).ike} {
		if discover(d) != unix.IP_PMTUDISC_DONT || d.getInt(t, unix.SOL_IP, unix.IP_RECVERR) != 0 {
			t.Error("IKE may not be fragmented")
		}
	}
	if len(plain.Readers()) != 1 {
		t.Error("a socket without ESP has readers for it")
	}
	six, err := new(UDP).Listen(netip.MustParseAddrPort("[::1]:0"), true)
	if err != nil {
		t.Skipf("this system has no IPv6: %v", err)
	}
	defer six.Close()
	s = six.(*socket)
	discover = func(d *descriptor) int { return d.getInt(t, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER) }
	if discover(s.ike) != unix.IPV6_PMTUDISC_DONT || discover(s.esp[0]) != unix.IPV6_PMTUDISC_DO || s.esp[0].getInt(t, unix.SOL_IPV6, unix.IPV6_RECVERR) != 1 {
		t.Error("IPv6: fragmented wrongly")
	}
}
