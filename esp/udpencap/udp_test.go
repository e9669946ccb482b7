package udpencap

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bound is a socket of a test, and what arrived at it.
type bound struct {
	Socket
	once    sync.Once
	arrived chan arrived
	closed  chan struct{}
	readers sync.WaitGroup
}

type arrived struct {
	Packet
	reader int
}

func listen(t testing.TB, u *UDP, local string, encap bool) *bound {
	t.Helper()
	s, err := u.Listen(netip.MustParseAddrPort(local), encap)
	if err != nil {
		if a := netip.MustParseAddrPort(local).Addr(); a.Is6() {
			t.Skipf("this system has no IPv6: %v", err)
		}
		t.Fatal(err)
	}
	return newBound(t, s)
}

func newBound(t testing.TB, s Socket) *bound {
	b := &bound{Socket: s, arrived: make(chan arrived), closed: make(chan struct{})}
	t.Cleanup(func() {
		s.Close()
		close(b.closed)
		b.readers.Wait()
	})
	return b
}

// start has all readers copy what arrives, a datagram each.
func (b *bound) start() {
	b.once.Do(func() {
		for i, r := range b.Readers() {
			b.readers.Go(func() { b.run(i, r) })
		}
	})
}

func (b *bound) run(i int, r Reader) {
	packets := make([]Packet, r.Batch())
	for {
		n, err := r.Read(packets)
		if err != nil {
			return
		}
		for _, p := range packets[:n] {
			q := p
			if p.Kind == TooBig {
				b.arrive(q, i)
				continue
			}
			for data := range p.Datagrams() {
				q.Data, q.Segment = slices.Clone(data), 0
				b.arrive(q, i)
			}
		}
	}
}

func (b *bound) arrive(p Packet, reader int) {
	select {
	case b.arrived <- arrived{p, reader}:
	case <-b.closed:
	}
}

// read reads until n datagrams are there. Those of one reader have their order.
func read(t testing.TB, b *bound, n int) (list []arrived) {
	t.Helper()
	b.start()
	for len(list) < n {
		select {
		case p := <-b.arrived:
			list = append(list, p)
		case <-t.Context().Done():
			t.Fatalf("%d datagrams of %d arrived", len(list), n)
		}
	}
	return list
}

// order puts IKE and keepalives before ESP, as they may have a reader of their own.
func order(p Packet) int {
	if p.Kind == ESP {
		return 1
	}
	return 0
}

func write(t testing.TB, s Socket, packets ...Packet) {
	t.Helper()
	if n, err := s.Write(packets); err != nil || n != len(packets) {
		t.Fatalf("%d of %d packets sent: %v", n, len(packets), err)
	}
}

func counted(b *bound) Counters { return b.Socket.(interface{ Counters() Counters }).Counters() }

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
				got := read(t, b, len(sent))
				slices.SortStableFunc(sent, func(a, b Packet) int { return order(a) - order(b) })
				slices.SortStableFunc(got, func(a, b arrived) int { return order(a.Packet) - order(b.Packet) })
				for i, p := range got {
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

// TestSegments: packets that are sent together arrive one by one, or together again.
func TestSegments(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			u := new(UDP)
			a, b := listen(t, u, f.any, true), listen(t, u, f.any, true)
			to := netip.AddrPortFrom(netip.MustParseAddr(f.loopback), b.LocalAddr().Port())
			data := bytes.Repeat([]byte("12345678 packet"), 20)
			write(t, a,
				Packet{Kind: ESP, Data: data[:15*19+9], Segment: 15, Remote: to},
				Packet{Kind: ESP, Data: data, Segment: 15, Remote: to, DF: true},
				Packet{Kind: ESP, Data: data, Segment: len(data), Remote: to})
			var got []byte
			for _, p := range read(t, b, 20+20+1) {
				if got = append(got, p.Data...); len(p.Data) != 15 && len(p.Data) != 9 && len(p.Data) != len(data) {
					t.Errorf("%d octets arrived", len(p.Data))
				}
			}
			if !bytes.Equal(got, slices.Concat(data[:15*19+9], data, data)) {
				t.Error("what arrived is something else")
			}
			if c := counted(a); c.Sent != 41 {
				t.Errorf("%+v", c)
			}
		})
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
	// Behind them, one for each reader.
	for _, data := range []string{"12345678", "\x00\x00\x00\x00IKE"} {
		write(t, plain, Packet{Data: []byte(data), Remote: encap.LocalAddr()})
	}
	read(t, encap, 2)
	if c := counted(encap); c.Malformed != 5 || c.Received != 2 {
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
	for i := range 20 {
		write(t, a, Packet{Kind: ESP, Data: []byte("12345678"), Remote: nobody, DF: i%2 == 0})
	}
	good := Packet{Kind: ESP, Data: []byte("12345678"), Remote: b.LocalAddr()}
	for _, bad := range []Packet{{Kind: ESP, Data: good.Data, Remote: netip.MustParseAddrPort("[::1]:9")}, {Kind: ESP, Data: good.Data}} {
		if n, err := a.Write([]Packet{good, good, bad, good}); n != 2 || err == nil {
			t.Errorf("sent %d, %v; want 2 and an error", n, err)
		}
		write(t, a, good)
		read(t, b, 3)
	}
	write(t, b, Packet{Kind: ESP, Data: []byte("12345678"), Remote: a.LocalAddr()})
	read(t, a, 1)
}

// TestNowhere: a packet without an address, before there was one with.
func TestNowhere(t *testing.T) {
	for _, f := range families {
		s := listen(t, new(UDP), f.any, true)
		if n, err := s.Write([]Packet{{Kind: ESP, Data: []byte("12345678")}}); n != 0 || err == nil {
			t.Errorf("sent %d, %v", n, err)
		}
	}
}

// TestClose: every blocked Read ends, and both ways tell why.
func TestClose(t *testing.T) {
	s := listen(t, &UDP{Shards: 4}, "127.0.0.1:0", true)
	ended := make(chan error)
	for _, r := range s.Readers() {
		go func() {
			_, err := r.Read(make([]Packet, r.Batch()))
			ended <- err
		}()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range s.Readers() {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	}
	for _, r := range s.Readers() {
		if n, err := r.ReadMore(make([]Packet, 1)); n != 0 || err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("read more: %d, %v", n, err)
		}
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

// TestPrepared: every file descriptor is prepared before it is bound and again when that is asked
// for, and none is used that could not be.
func TestPrepared(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			local := netip.AddrPortFrom(netip.MustParseAddr(f.loopback), 0)
			prepared := map[uintptr]int{}
			u := &UDP{Shards: 2, Control: func(network, address string, c syscall.RawConn) error {
				if network != networkOf(local) || netip.MustParseAddrPort(address).Addr() != local.Addr() {
					t.Errorf("%s %s is prepared, want %s %v", network, address, networkOf(local), local.Addr())
				}
				return c.Control(func(fd uintptr) { prepared[fd]++ })
			}}
			s := listen(t, u, local.String(), true)
			if len(prepared) != len(s.Readers()) {
				t.Errorf("%d file descriptors are prepared, of %d", len(prepared), len(s.Readers()))
			}
			if err := s.Socket.(interface{ ControlAgain() error }).ControlAgain(); err != nil {
				t.Fatal(err)
			}
			for fd, times := range prepared {
				if times != 2 {
					t.Errorf("file descriptor %d was prepared %d times", fd, times)
				}
			}
			refused := errors.New("refused")
			u.Control = func(string, string, syscall.RawConn) error { return refused }
			if _, err := u.Listen(local, true); !errors.Is(err, refused) {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

func TestBufferLogged(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s := listen(t, &UDP{Logger: zap.New(core), Buffer: 1 << 30}, "127.0.0.1:0", true)
	granted := s.Socket.(*socket).granted
	if n := logs.Len(); n != 1 && granted < 1<<30 || n != 0 && granted >= 1<<30 {
		t.Errorf("%d octets granted of %d, %d log lines", granted, 1<<30, n)
	}
	small := listen(t, &UDP{Buffer: 64 << 10}, "127.0.0.1:0", true)
	if got := small.Socket.(*socket).granted; got != 64<<10 {
		t.Errorf("%d octets granted of %d", got, 64<<10)
	}
}

func TestCountersAdd(t *testing.T) {
	a := Counters{1, 2, 3, 4, 5, 6, 7}
	if got, want := a.Add(a), (Counters{2, 4, 6, 8, 10, 12, 14}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
