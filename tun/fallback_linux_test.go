package tun_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
	"martlet/tun"
)

// Whatever the kernel refuses, traffic passes, and the device tells what it lacks.
func TestFallbacks(t *testing.T) {
	const tso, uso = unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	attached := 0
	for _, c := range []struct {
		name     string
		refuse   func(request uint, value int) bool
		queues   int
		tcp, udp bool
		limits   []string // a word of each
	}{
		{"nothing", func(uint, int) bool { return false }, 2, true, true, nil},
		{"USO", func(request uint, value int) bool {
			return request == unix.TUNSETOFFLOAD && value&uso != 0
		}, 2, true, false, []string{"datagrams one by one"}},
		{"TSO", func(request uint, value int) bool {
			return request == unix.TUNSETOFFLOAD && value&(uso|tso) != 0
		}, 2, true, false, []string{"datagrams one by one", "TCP segments one by one"}},
		{"checksums", func(request uint, _ int) bool {
			return request == unix.TUNSETOFFLOAD
		}, 2, true, false, []string{"datagrams one by one", "TCP segments one by one", "checksums"}},
		{"virtio headers", func(request uint, value int) bool {
			return request == unix.TUNSETIFF && value&unix.IFF_VNET_HDR != 0
		}, 1, false, false, []string{"no virtio headers", "of 2 queues only 1"}},
		{"several queues", func(request uint, value int) bool {
			return request == unix.TUNSETIFF && value&unix.IFF_MULTI_QUEUE != 0
		}, 1, true, true, []string{"of 2 queues only 1"}},
		{"the second queue", func(request uint, _ int) bool {
			if request == unix.TUNSETIFF {
				attached++
			}
			return request == unix.TUNSETIFF && attached%2 == 0
		}, 1, true, true, []string{"of 2 queues only 1"}},
		{"the form of headers", func(request uint, _ int) bool {
			return request == unix.TUNSETVNETLE || request == unix.TUNSETVNETHDRSZ
		}, 2, true, true, []string{"length of its virtio headers"}},
		{"the length of queues", func(request uint, _ int) bool {
			return request == unix.SIOCSIFTXQLEN
		}, 2, true, true, []string{"1000 packets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, tun.OpenRefused(func(request uint, value int) error {
				if c.refuse(request, value) {
					return unix.EINVAL
				}
				return nil
			}), 2)
			if n := len(a.device.Queues()); n != c.queues {
				t.Errorf("%d queues, want %d", n, c.queues)
			}
			limits := a.device.(interface{ Limits() []string }).Limits()
			for i, word := range c.limits {
				if len(limits) != len(c.limits) || !strings.Contains(limits[i], word) {
					t.Errorf("limits %q, want %q", limits, c.limits)
					break
				}
			}
			if !a.device.Takes(tun.GSONone) || a.device.Takes(tun.GSOTCPv4) != c.tcp || a.device.Takes(tun.GSOTCPv6) != c.tcp || a.device.Takes(tun.GSOUDP) != c.udp || a.device.Takes(2) {
				t.Error("it takes other super-packets")
			}
			relay(t, a.device, b.device, func(_ tun.Device, _ int, f tun.Frame) {
				if !a.device.Takes(f.Offload.GSO) {
					t.Errorf("%+v came unasked", f.Offload)
				}
			})
			for _, family := range families {
				transfer(t, a, b, family.server, 1<<20)
				datagrams(t, a, b, family.server, 1000)
			}
			if n := a.device.(interface{ Malformed() uint64 }).Malformed(); n != 0 {
				t.Errorf("%d frames were malformed", n)
			}
		})
	}
}

// A packet whose checksum is left to the host gets it, with virtio headers and without.
func TestPartialWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		open func(name string, mtu, queues int) (tun.Device, error)
	}{
		{"by the kernel", tun.Open},
		{"by us", tun.OpenRefused(func(request uint, value int) error {
			if request == unix.TUNSETIFF && value&unix.IFF_VNET_HDR != 0 {
				return unix.EINVAL
			}
			return nil
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.open, 1, "10.9.0.1/24")
			in := s.udp(t, netip.MustParseAddrPort("10.9.0.1:4000"))
			datagram := []byte{ // with the sum of the pseudo header: addresses, protocol and length
				0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0x66, 0xba, 10, 9, 0, 2, 10, 9, 0, 1,
				0, 99, 0x0f, 0xa0, 0, 11, 0x14, 0x31, 'a', 'b', 'c',
			}
			n, err := s.device.Queues()[0].Write([]tun.Frame{
				{Pieces: [][]byte{datagram[:28], datagram[28:]}, Offload: tun.Offload{Partial: true, Start: 20, Offset: 6}},
			})
			if n != 1 || err != nil {
				t.Fatalf("took %d, %v", n, err)
			}
			buf := make([]byte, 100)
			k, from, err := in.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:k]) != "abc" || from != netip.MustParseAddrPort("10.9.0.2:99") {
				t.Errorf("got %q from %v, %v", buf[:k], from, err)
			}
		})
	}
}

// Errors that nothing helps against close what was opened.
func TestOpenFails(t *testing.T) {
	netns.Enter(t)
	for _, request := range []uint{unix.TUNSETIFF, unix.SIOCSIFMTU} {
		_, err := tun.OpenRefused(func(r uint, _ int) error {
			if r == request {
				return unix.EPERM
			}
			return nil
		})("martlet0", 1400, 2)
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("request %#x refused: got %v", request, err)
		}
		if _, err := netlink.LinkByName("martlet0"); err == nil {
			t.Error("the interface is still there")
		}
	}
}

// An interface that an administrator made and that waits for a program is taken; one that
// a program has is not joined.
func TestInterfaceOfOthers(t *testing.T) {
	netns.Enter(t)
	waiting := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "waiting0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, NonPersist: false}
	if err := netlink.LinkAdd(waiting); err != nil {
		t.Fatal(err)
	}
	for _, file := range waiting.Fds {
		file.Close()
	}
	device, err := tun.Open("waiting0", 1400, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if limits := device.(interface{ Limits() []string }).Limits(); len(device.Queues()) != 1 || len(limits) != 1 || !strings.Contains(limits[0], "was there before") {
		t.Errorf("%d queues, %q", len(device.Queues()), limits)
	}
	for _, queues := range []int{1, 2} {
		ours, err := tun.Open("martlet0", 1400, queues)
		if err != nil {
			t.Fatal(err)
		}
		for _, theirs := range []int{1, 2} {
			if _, err := tun.Open("martlet0", 1400, theirs); !errors.Is(err, unix.EBUSY) {
				t.Errorf("%d queues of an interface with %d: got %v", theirs, queues, err)
			}
		}
		ours.Close()
	}
	if _, err := tun.Open("lo", 1400, 2); !errors.Is(err, unix.EBUSY) {
		t.Errorf("loopback: got %v", err)
	}
}
