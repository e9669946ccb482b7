package udpencap

import (
	"math"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func (d *descriptor) getInt(t testing.TB, level, name int) (n int) {
	t.Helper()
	var err error
	if e := d.raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), level, name) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return n
}

func TestZones(t *testing.T) {
	if scope("") != 0 || scope("7") != 7 || scope(zone(12)) != 12 || scope("no-such-interface") != 0 {
		t.Error("zones and indexes do not fit")
	}
	if scope("lo") == 0 {
		t.Error("the loopback interface has no index")
	}
}

// TestLinkLocal: the interface is a part of such an address, by name or number, and the answer
// finds its way back.
func TestLinkLocal(t *testing.T) {
	left, right := newNamespace(t), newNamespace(t)
	left.link("cable", right, 1500, 1)
	left.address6("fe80::1", "cable")
	right.address6("fe80::2", "cable")
	a, b := left.listen(new(UDP), "[::]:4500"), right.listen(new(UDP), "[::]:4500")
	p := Packet{Kind: IKE, Data: []byte("question"), Remote: netip.MustParseAddrPort("[fe80::2%cable]:4500")}
	for range 2 {
		left.Do(func() error {
			_, err := a.Write([]Packet{p, p})
			return err
		})
		for _, got := range read(t, b, 2) {
			if got.Remote.Addr().WithZone("") != netip.MustParseAddr("fe80::1") || got.Remote.Addr().Zone() == "" {
				t.Fatalf("from %v", got.Remote)
			}
			write(t, b, Packet{Kind: IKE, Data: []byte("answer"), Local: got.Local, Remote: got.Remote})
			if back := read(t, a, 1)[0]; string(back.Data) != "answer" || back.Remote.Addr().WithZone("") != netip.MustParseAddr("fe80::2") {
				t.Fatalf("%q from %v", back.Data, back.Remote)
			}
		}
	}
}

// asked counts how often a right is asked for that nobody has.
type asked struct{ buffers int }

func (a *asked) Buffers(syscall.RawConn, int) error {
	a.buffers++
	return syscall.EPERM
}

func (a *asked) Bind(syscall.RawConn, netip.AddrPort) error { return syscall.EPERM }

// TestBuffersAskedFor: nobody is asked for what a socket has already.
func TestBuffersAskedFor(t *testing.T) {
	for buffer, want := range map[int]int{
		16 << 10:      0, // every program gets it
		math.MaxInt32: 1, // and this none, with rights or without
	} {
		rights := &asked{}
		s, err := (&UDP{Buffer: buffer, Rights: rights}).Listen(netip.MustParseAddrPort("127.0.0.1:0"), false)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := rights.buffers; got != want {
			t.Errorf("buffers of %d octets were asked for %d times, want %d", buffer, got, want)
		}
	}
}
