package tun_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
	"martlet/tun"
)

// site is a network namespace with a TUN device.
type site struct {
	*netns.Namespace
	device tun.Device
}

// newSite makes one whose device has the given addresses.
func newSite(t testing.TB, open func(name string, mtu, queues int) (tun.Device, error), queues int, addresses ...string) *site {
	t.Helper()
	s := &site{Namespace: netns.New(t)}
	err := s.Try(func() (err error) {
		if s.device, err = open("martlet0", testMTU, queues); err != nil {
			return err
		}
		link, err := netlink.LinkByName("martlet0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		for _, a := range addresses {
			own, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			own.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, own); err != nil {
				return err
			}
			if err := awaitLocal(own.IP); err != nil {
				return err
			}
		}
		return nil
	})
	if s.device != nil {
		t.Cleanup(func() { s.device.Close() })
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitLocal returns when the kernel takes packets to an address: for IPv6 a worker of
// its own sees to that some time after the address is there.
func awaitLocal(address net.IP) error {
	for {
		routes, err := netlink.RouteGet(address)
		if err != nil || len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return err
		}
		runtime.Gosched()
	}
}

func (s *site) listenTCP(t testing.TB, at netip.AddrPort) *net.TCPListener {
	t.Helper()
	var l *net.TCPListener
	if err := s.Try(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (s *site) dialTCP(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	var c *net.TCPConn
	if err := s.Try(func() (err error) {
		c, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *site) udp(t testing.TB, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	if err := s.Try(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// relay carries all frames of two devices to the same queue of the other, and shows them
// to watch, which must be quick and may be called from several goroutines.
func relay(t testing.TB, a, b tun.Device, watch func(from tun.Device, queue int, f tun.Frame)) {
	t.Helper()
	var pumps sync.WaitGroup
	pump := func(from, to tun.Device, i int) {
		in, out := from.Queues()[i], to.Queues()[i]
		frames := make([]tun.Frame, in.Batch())
		for {
			n, err := in.Read(frames)
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				return
			}
			for _, f := range frames[:n] {
				if len(f.Pieces) != 1 || cap(f.Pieces[0])-len(f.Pieces[0]) < 64 {
					t.Errorf("%d pieces, %d octets of %d", len(f.Pieces), len(f.Pieces[0]), cap(f.Pieces[0]))
				}
				watch(from, i, f)
				// What lies behind may be overwritten.
				p := f.Pieces[0]
				clear(p[len(p):cap(p)])
			}
			if _, err := out.Write(frames[:n]); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		}
	}
	for i := range a.Queues() {
		pumps.Go(func() { pump(a, b, i) })
		pumps.Go(func() { pump(b, a, i) })
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
		pumps.Wait()
	})
}
