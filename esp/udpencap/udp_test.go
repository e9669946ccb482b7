package udpencap

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB, u *UDP, local string, encap bool) Socket {
	t.Helper()
	s, err := u.Listen(netip.MustParseAddrPort(local), encap)
	if err != nil {
		if a := netip.MustParseAddrPort(local).Addr(); a.Is6() {
			t.Skipf("this system has no IPv6: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// read reads until n packets are there, and keeps copies.
func read(t testing.TB, s Socket, n int) (list []Packet) {
	t.Helper()
	packets := make([]Packet, s.Batch())
	for len(list) < n {
		m, err := s.Read(packets)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets[:m] {
			p.Data = slices.Clone(p.Data)
			list = append(list, p)
		}
	}
	return list
}

func write(t testing.TB, s Socket, packets ...Packet) {
	t.Helper()
	if n, err := s.Write(packets); err != nil || n != len(packets) {
		t.Fatalf("%d of %d packets sent: %v", n, len(packets), err)
	}
}

func counted(s Socket) Counters { return s.(interface{ Counters() Counters }).Counters() }

var families = []struct{ name, any, loopback string }{
	{"IPv4", "0.0.0.0:0", "127.0.0.1"},
	{"IPv6", "[::]:0", "::1"},
}

// TestUDP: the kinds arrive as they were sent, with addresses, in both families.
func TestUDP(t *testing.T) {
	for _, f := range families {
		for _, encap := range []bool{true, false} {
			t.Run(f.name, func(t *testing.T) {
				u := new(UDP)
				a, b := listen(t, u, f.any, encap), listen(t, u, f.any, encap)
				loopback := netip.MustParseAddr(f.loopback)
				to := netip.AddrPortFrom(loopback, b.LocalAddr().Port())
				if !b.LocalAddr().Addr().IsUnspecified() || b.Encap() != encap {
					t.Errorf("bound to %v, encap %t", b.LocalAddr(), b.Encap())
				}
				sent := []Packet{{Kind: IKE, Data: []byte("a message"), Remote: to}}
				if encap {
					sent = append(sent,
						Packet{Kind: ESP, Data: []byte("12345678 packet"), Remote: to},
						Packet{Kind: Keepalive, Data: []byte{0xff}, Remote: to},
						Packet{Kind: ESP, Data: bytes.Repeat([]byte{7}, 60_000), Remote: to},
					)
				}
				write(t, a, sent...)
				for i, p := range read(t, b, len(sent)) {
					if p.Kind != sent[i].Kind || !bytes.Equal(p.Data, sent[i].Data) {
						t.Errorf("packet %d: kind %d, %d octets", i, p.Kind, len(p.Data))
					}
					if want := netip.AddrPortFrom(loopback, a.LocalAddr().Port()); p.Remote != want {
						t.Errorf("packet %d: from %v, want %v", i, p.Remote, want)
					}
					if runtime.GOOS != "windows" && p.Local != to {
						t.Errorf("packet %d: to %v, want %v", i, p.Local, to)
					}
				}
				if c := counted(a); c.Sent != uint64(len(sent)) {
					t.Errorf("sender: %+v", c)
				}
				if c := counted(b); c.Received != uint64(len(sent)) || c.Malformed != 0 {
					t.Errorf("receiver: %+v", c)
				}
			})
		}
	}
}

// TestMarkerOnTheWire: what the other socket sees when it does not look for markers.
func TestMarkerOnTheWire(t *testing.T) {
	u := new(UDP)
	encap, plain := listen(t, u, "127.0.0.1:0", true), listen(t, u, "127.0.0.1:0", false)
	write(t, encap, Packet{Kind: IKE, Data: []byte("x"), Remote: plain.LocalAddr()}, Packet{Kind: ESP, Data: []byte("spi-seq-"), Remote: plain.LocalAddr()})
	got := read(t, plain, 2)
	if string(got[0].Data) != "\x00\x00\x00\x00x" || string(got[1].Data) != "spi-seq-" {
		t.Errorf("on the wire: %q and %q", got[0].Data, got[1].Data)
	}
	write(t, plain, Packet{Kind: IKE, Data: []byte("no marker here"), Remote: encap.LocalAddr()})
	if got := read(t, encap, 1); got[0].Kind != ESP {
		t.Errorf("read as kind %d", got[0].Kind)
	}
}

// TestMalformed: datagrams of no kind are counted, and Read goes on to the next.
func TestMalformed(t *testing.T) {
	u := new(UDP)
	encap, plain := listen(t, u, "127.0.0.1:0", true), listen(t, u, "127.0.0.1:0", false)
	for _, data := range []string{"", "\x00", "abc", "\x00\x00\x00\x00", "1234567"} {
		write(t, plain, Packet{Data: []byte(data), Remote: encap.LocalAddr()})
	}
	write(t, plain, Packet{Data: []byte("12345678"), Remote: encap.LocalAddr()})
	if got := read(t, encap, 1); string(got[0].Data) != "12345678" {
		t.Errorf("got %q", got[0].Data)
	}
	if c := counted(encap); c.Malformed != 5 || c.Received != 1 {
		t.Errorf("%+v", c)
	}
}

// TestBothWildcards: the families do not take each other's port.
func TestBothWildcards(t *testing.T) {
	u := new(UDP)
	four := listen(t, u, "0.0.0.0:0", true)
	six := listen(t, u, netip.AddrPortFrom(netip.IPv6Unspecified(), four.LocalAddr().Port()).String(), true)
	if four.LocalAddr().Port() != six.LocalAddr().Port() {
		t.Errorf("bound to %v and %v", four.LocalAddr(), six.LocalAddr())
	}
	if _, err := u.Listen(four.LocalAddr(), true); err == nil {
		t.Error("one port bound twice")
	}
}

// TestSourceAddress: Local chooses the source of a packet.
func TestSourceAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8 on the loopback interface")
	}
	u := new(UDP)
	a, b := listen(t, u, "0.0.0.0:0", true), listen(t, u, "0.0.0.0:0", true)
	local, remote := netip.MustParseAddr("127.0.0.55"), netip.MustParseAddr("127.0.0.66")
	write(t, a, Packet{Kind: IKE, Data: []byte("x"), Local: netip.AddrPortFrom(local, 1), Remote: netip.AddrPortFrom(remote, b.LocalAddr().Port())})
	got := read(t, b, 1)[0]
	if got.Remote.Addr() != local || got.Local.Addr() != remote {
		t.Errorf("from %v to %v, want %v to %v", got.Remote, got.Local, local, remote)
	}
	// The answer goes out from where the question came in.
	write(t, b, Packet{Kind: IKE, Data: []byte("y"), Local: got.Local, Remote: got.Remote})
	if back := read(t, a, 1)[0]; back.Remote != got.Local || back.Local.Addr() != local {
		t.Errorf("answer from %v to %v", back.Remote, back.Local)
	}
}

// TestECN: the field crosses, and DSCP does not disturb it.
func TestECN(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("portable sockets have no ECN")
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			u := new(UDP)
			a, b := listen(t, u, f.any, true), listen(t, u, f.any, true)
			to := netip.AddrPortFrom(netip.MustParseAddr(f.loopback), b.LocalAddr().Port())
			var sent []Packet
			for ecn := range uint8(4) {
				for _, dscp := range []uint8{0, 46} {
					sent = append(sent, Packet{Kind: ESP, Data: []byte("12345678"), Remote: to, Local: netip.AddrPortFrom(to.Addr(), 0), ECN: ecn, DSCP: dscp})
				}
			}
			write(t, a, sent...)
			for i, p := range read(t, b, len(sent)) {
				if p.ECN != sent[i].ECN {
					t.Errorf("ECN %d with DSCP %d arrived as %d", sent[i].ECN, sent[i].DSCP, p.ECN)
				}
			}
		})
	}
}

// TestRefused: the ICMP error of a port that nobody listens on ends nothing, and what
// cannot be sent does not take the rest with it.
func TestRefused(t *testing.T) {
	u := new(UDP)
	a, b := listen(t, u, "127.0.0.1:0", true), listen(t, u, "127.0.0.1:0", true)
	gone := listen(t, u, "127.0.0.1:0", true)
	nobody := gone.LocalAddr()
	gone.Close()
	for range 5 {
		write(t, a, Packet{Kind: ESP, Data: []byte("12345678"), Remote: nobody})
	}
	good := Packet{Kind: ESP, Data: []byte("12345678"), Remote: b.LocalAddr()}
	bad := Packet{Kind: ESP, Data: make([]byte, 70_000), Remote: b.LocalAddr()}
	for _, bad := range []Packet{bad, {Kind: ESP, Data: good.Data, Remote: netip.MustParseAddrPort("[::1]:9")}, {Kind: ESP, Data: good.Data}} {
		if n, err := a.Write([]Packet{good, good, bad, good}); n != 2 || err == nil {
			t.Errorf("sent %d, %v; want 2 and an error", n, err)
		}
		write(t, a, good)
		read(t, b, 3)
	}
	write(t, b, Packet{Kind: ESP, Data: []byte("12345678"), Remote: a.LocalAddr()})
	read(t, a, 1)
}

// TestClose: a blocked Read ends, and both ways tell why.
func TestClose(t *testing.T) {
	s := listen(t, new(UDP), "127.0.0.1:0", true)
	ended := make(chan error)
	go func() {
		_, err := s.Read(make([]Packet, s.Batch()))
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := s.Write([]Packet{{Kind: ESP, Data: []byte("12345678"), Remote: s.LocalAddr()}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// TestMany: more packets than one system call takes, from several goroutines at once.
func TestMany(t *testing.T) {
	u := new(UDP)
	a, b := listen(t, u, "127.0.0.1:0", true), listen(t, u, "127.0.0.1:0", true)
	const senders, each = 4, 150
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			var list []Packet
			for j := range each {
				list = append(list, Packet{Kind: ESP, Data: []byte{1, byte(i), byte(j), 0, 0, 0, 0, 0}, Remote: b.LocalAddr()})
			}
			if n, err := a.Write(list); n != each || err != nil {
				t.Errorf("sent %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	var next [senders]byte
	for _, p := range read(t, b, senders*each) {
		i, j := p.Data[1], p.Data[2]
		if j != next[i] {
			t.Fatalf("sender %d: packet %d after %d", i, j, next[i])
		}
		next[i]++
	}
}

func TestListenRefuses(t *testing.T) {
	if _, err := new(UDP).Listen(netip.AddrPort{}, true); err == nil {
		t.Error("no address: accepted")
	}
	if _, err := new(UDP).Listen(netip.MustParseAddrPort("192.0.2.99:0"), true); err == nil {
		t.Error("an address that the host does not have: accepted")
	}
}

// TestMark: where it may be set it is, else the error says what is missing.
func TestMark(t *testing.T) {
	s, err := (&UDP{Mark: 0x4d4c}).Listen(netip.MustParseAddrPort("127.0.0.1:0"), true)
	if err != nil {
		t.Logf("without the privilege, or the system: %v", err)
		return
	}
	defer s.Close()
	checkMark(t, s, 0x4d4c)
}

func TestBufferLogged(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s := listen(t, &UDP{Logger: zap.New(core), Buffer: 1 << 30}, "127.0.0.1:0", true)
	granted := s.(*socket).granted
	if n := logs.Len(); n != 1 && granted < 1<<30 || n != 0 && granted >= 1<<30 {
		t.Errorf("%d octets granted of %d, %d log lines", granted, 1<<30, n)
	}
	small := listen(t, &UDP{Buffer: 64 << 10}, "127.0.0.1:0", true)
	if got := small.(*socket).granted; got != 64<<10 {
		t.Errorf("%d octets granted of %d", got, 64<<10)
	}
}

func TestCountersAdd(t *testing.T) {
	a := Counters{Received: 1, Sent: 2, Malformed: 3, ReadErrors: 4}
	if got, want := a.Add(a), (Counters{2, 4, 6, 8}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
