package udpencap

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// pathMTU is two sockets with a narrow link between, in both families.
func pathMTU(t *testing.T, f func(t *testing.T, left, right *bound)) {
	l, r := narrow(t, 1300)
	for _, test := range []struct{ name, left, right string }{
		{"IPv4", "10.0.1.1", "10.0.2.2"},
		{"IPv6", "fd00:1::1", "fd00:2::2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, r := *l, *r
			l.t, r.t = t, t
			at := func(a string) string { return netip.AddrPortFrom(netip.MustParseAddr(a), 4500).String() }
			f(t, l.listen(&UDP{Shards: 2}, at(test.left)), r.listen(new(UDP), at(test.right)))
		})
	}
}

// TestPathMTU: a datagram that must not be cut and is too long brings the length that passes,
// and one that may be cut arrives.
func TestPathMTU(t *testing.T) {
	pathMTU(t, func(t *testing.T, left, right *bound) {
		left.start()
		slab := Packet{Kind: ESP, Data: append(esp(1, 0, 10, 1400), esp(1, 10, 1, 100)...), Segment: 1400, Remote: right.LocalAddr(), DF: true}
		// The router's answer may go to another file descriptor of the port, which learns from
		// it too; then it is this system that refuses the next ones.
		var p arrived
		for told := false; !told; {
			write(t, left, slab)
			select {
			case p = <-left.arrived:
				told = true
			default:
				runtime.Gosched()
			}
		}
		if p.Kind != TooBig || p.Segment != 1300 || p.Remote.Addr() != right.LocalAddr().Addr() {
			t.Errorf("told %+v, want a length of 1300", p)
		}
		// From now on the system knows; of a slab only what is short arrives.
		before := counted(left)
		write(t, left, slab, Packet{Kind: ESP, Data: esp(2, 0, 1, 1000), Remote: right.LocalAddr(), DF: true})
		after := counted(left)
		if after.TooBig-before.TooBig != 10 || after.Sent-before.Sent != 2 {
			t.Errorf("%+v after %+v", after, before)
		}
		for p := (arrived{}); p.Data == nil || p.Data[0] != 2; p = read(t, right, 1)[0] {
			if len(p.Data) > 1300 {
				t.Errorf("%d octets arrived", len(p.Data))
			}
		}
		// IKE is long in its beginnings, and ESP may be cut if it is not told otherwise.
		ike := Packet{Kind: IKE, Data: bytes.Repeat([]byte{3}, 4000), Remote: right.LocalAddr()}
		whole := Packet{Kind: ESP, Data: esp(3, 0, 4, 1400), Segment: 1400, Remote: right.LocalAddr()}
		write(t, left, ike, whole)
		for i, p := range read(t, right, 5) {
			if p.Kind == IKE && !bytes.Equal(p.Data, ike.Data) || p.Kind == ESP && len(p.Data) != 1400 {
				t.Errorf("datagram %d: kind %d, %d octets", i, p.Kind, len(p.Data))
			}
		}
	})
}

// TestFragmentsOnTheWay: long IKE messages arrive before anybody knows the path.
func TestFragmentsOnTheWay(t *testing.T) {
	pathMTU(t, func(t *testing.T, left, right *bound) {
		if left.LocalAddr().Addr().Is6() {
			t.Skip("routers do not cut IPv6")
		}
		for _, size := range []int{1400, 3000} {
			write(t, left, Packet{Kind: IKE, Data: bytes.Repeat([]byte{3}, size), Remote: right.LocalAddr()})
			if got := read(t, right, 1)[0]; len(got.Data) != size {
				t.Errorf("%d octets of %d arrived", len(got.Data), size)
			}
		}
	})
}

// TestErrorQueueStaysEmpty: errors of ESP are taken from the queue as they come, since they fill
// the receive buffer, and nothing is said of what is no length.
func TestErrorQueueStaysEmpty(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			// To which file descriptor of a port the kernel tells an error hangs on the ports.
			for heard := false; !heard; {
				a, b := pair(t, new(UDP), f.loopback)
				gone := listen(t, new(UDP), netip.AddrPortFrom(netip.MustParseAddr(f.loopback), 0).String(), true)
				nobody := gone.LocalAddr()
				gone.Close()
				r := a.Readers()[1].(*reader)
				packets := make([]Packet, r.Batch())
				for i := range 50 {
					write(t, a, Packet{Kind: ESP, Data: esp(1, i, 1, 100), Remote: nobody, DF: true})
					if i%2 == 0 {
						if n, err := r.ReadMore(packets); n != 0 || err != nil {
							t.Fatalf("%d packets, %v", n, err)
						}
					}
				}
				write(t, b, Packet{Kind: ESP, Data: esp(1, 0, 1, 100), Remote: a.LocalAddr()})
				if n, err := r.Read(packets); n != 1 || err != nil || packets[0].Kind != ESP {
					t.Fatalf("%d packets, %v", n, err)
				}
				if c := counted(a); c.Sent != 50 || c.TooBig != 0 {
					t.Errorf("%+v", c)
				}
				if r.d.events(t)&unix.POLLERR != 0 {
					t.Error("errors are left in the queue")
				}
				heard = counted(a).ReadErrors > 0
			}
		})
	}
}

// events is what is to be had of a file descriptor.
func (d *descriptor) events(t *testing.T) (revents int16) {
	err := d.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
		if _, err := unix.Poll(p, 0); err != nil {
			t.Error(err)
		}
		revents = p[0].Revents
	})
	if err != nil {
		t.Error(err)
	}
	return revents
}

// TestTooBigWakes: a reader that waits hears of what this system does not send.
func TestTooBigWakes(t *testing.T) {
	n := newNamespace(t)
	n.IP("link set lo mtu 1400")
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		a := n.listen(new(UDP), local)
		a.start()
		for range 20 {
			write(t, a, Packet{Kind: ESP, Data: esp(1, 0, 1, 1400), Remote: a.LocalAddr(), DF: true})
			if p := read(t, a, 1)[0]; p.Kind != TooBig || p.Segment != 1400 || p.Remote.Addr() != a.LocalAddr().Addr() {
				t.Fatalf("%+v", p)
			}
		}
		if c := counted(a); c.TooBig != 20 || c.Received+c.Sent+c.ReadErrors != 0 {
			t.Errorf("%+v", c)
		}
	}
}

// TestManyErrors: more than are taken at once are taken little by little.
func TestManyErrors(t *testing.T) {
	n := newNamespace(t)
	n.IP("link set lo mtu 1400")
	a := n.listen(new(UDP), "127.0.0.1:0")
	r := a.Readers()[1].(*reader)
	const errs = 2*maxDrain + 10
	for range errs {
		sendPast(t, r.d, a.LocalAddr(), unix.EMSGSIZE)
	}
	write(t, a, Packet{Kind: ESP, Data: esp(1, 0, 1, 1400), Remote: a.LocalAddr(), DF: true})
	packets := make([]Packet, r.Batch())
	told := 0
	for call := r.Read; ; call = r.ReadMore {
		n, err := call(packets)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		told += n
	}
	if told != 3 || r.queue.seen < errs || r.d.events(t)&unix.POLLERR != 0 {
		t.Errorf("told %d times of %d errors, and events are %#x", told, r.queue.seen, r.d.events(t))
	}
}

// sendPast sends a datagram of 1473 octets past Write, which would wake the reader of errors.
func sendPast(t *testing.T, d *descriptor, to netip.AddrPort, want error) {
	t.Helper()
	err := d.raw.Control(func(fd uintptr) {
		if err := unix.Sendto(int(fd), esp(1, 0, 1, 1473), 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != want {
			t.Errorf("%v, want %v", err, want)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestErrorWithFullSendBuffer: the runtime's poller refuses to wait for a file descriptor that
// has an error and can be neither read nor written.
func TestErrorWithFullSendBuffer(t *testing.T) {
	left, right := newNamespace(t), newNamespace(t)
	left.link("cable", right, 1500, 1)
	a := left.listen(&UDP{Buffer: 4096}, "0.0.0.0:4500")
	a.start()
	d := a.Socket.(*socket).esp[0]
	// What waits for the hardware address of nobody stays in the send buffer.
	for i := 0; d.events(t)&unix.POLLOUT != 0; i++ {
		write(t, a, Packet{Kind: ESP, Data: esp(1, i, 1, 1000), Remote: netip.MustParseAddrPort("10.0.1.77:4500"), DF: true})
	}
	for i := range 10 {
		sendPast(t, d, netip.MustParseAddrPort("10.0.1.2:4500"), unix.EMSGSIZE)
		if p := read(t, a, 1)[0]; p.Kind != TooBig || p.Segment != 1500 {
			t.Fatalf("%d: %+v", i, p)
		}
	}
	b := right.listen(new(UDP), "0.0.0.0:4500")
	write(t, b, Packet{Kind: ESP, Data: esp(1, 0, 1, 100), Remote: netip.MustParseAddrPort("10.0.1.1:4500")})
	if p := read(t, a, 1)[0]; p.Kind != ESP {
		t.Errorf("%+v", p)
	}
}

func TestErrorQueueTells(t *testing.T) {
	q := new(errorQueue)
	remote := func(i int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:4500", i)) }
	for i := range 100 {
		q.add(Packet{Kind: TooBig, Remote: remote(i % 9), Segment: 1500 - i})
	}
	packets := make([]Packet, 5)
	if n := q.take(packets); n != 5 || packets[4].Segment != 1500-94 || packets[0].Segment != 1500-99 {
		t.Errorf("%d, %+v", n, packets)
	}
	if n := q.take(packets); n != 3 || packets[0].Remote != remote(5) {
		t.Errorf("%d, %+v", n, packets)
	}
	if n := q.take(packets); n != 0 {
		t.Errorf("%d left", n)
	}
}
