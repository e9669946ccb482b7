package esp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
	"martlet/tun"
)

// TestReferenceIsLinux sends frames through a forwarding host of a namespace's own, whose
// way out takes no super-packets, and finds what referenceSegment says.
func TestReferenceIsLinux(t *testing.T) {
	netns.Enter(t)
	in, out := openRaw(t, "in0", unix.IFF_VNET_HDR), openRaw(t, "out0", 0)
	for _, pattern := range []string{"ipv4/conf/*/rp_filter", "ipv6/conf/*/accept_dad", "ipv6/conf/*/router_solicitations"} {
		list, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil || len(list) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, path := range list {
			setting(t, path, "0")
		}
	}
	setting(t, "/proc/sys/net/ipv4/ip_forward", "1")
	setting(t, "/proc/sys/net/ipv6/conf/all/forwarding", "1")
	for name, routes := range map[string][]string{"in0": {"10.1.0.0/16", "2001:db8:1::/48"}, "out0": {"10.2.0.0/16", "2001:db8:2::/48"}} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		for _, route := range routes {
			_, dst, err := net.ParseCIDR(route)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}); err != nil {
				t.Fatalf("route %s: %v", route, err)
			}
		}
	}
	frames := map[tun.GSO]int{}
	for seed := range uint64(40) {
		tr := newTraffic(seed, false)
		for i := range 40 {
			f := tr.frame()
			pkt := f.Pieces[0]
			if pkt[0]>>4 == 4 && (plainSum(pkt[:pkt[0]&15*4]) != 0xffff || pkt[0] > 0x45 && pkt[20] == 7) {
				continue // not forwarded, or with the host's address recorded
			}
			want := referenceSegment(f)
			for _, b := range want {
				forwarded(b)
			}
			if _, err := unix.Write(in, slices.Concat(virtioHeader(f.Offload), pkt)); err != nil {
				t.Fatalf("seed %d, frame %d, %+v: %v", seed, i, f.Offload, err)
			}
			got := receive(t, out, len(want), f.Offload)
			if !slices.EqualFunc(got, want, slices.Equal) {
				samePackets(t, got, want)
				t.Fatalf("seed %d, frame %d, %+v: not what Linux makes", seed, i, f.Offload)
			}
			frames[f.Offload.GSO]++
		}
	}
	for _, kind := range []tun.GSO{tun.GSONone, tun.GSOTCPv4, tun.GSOTCPv6, tun.GSOUDP} {
		if frames[kind] < 20 {
			t.Errorf("%d frames of kind %d", frames[kind], kind)
		}
	}
}

// receive reads packets of random traffic; there may be others, of the host.
func receive(t *testing.T, out, n int, o tun.Offload) [][]byte {
	t.Helper()
	var list [][]byte
	net4, net6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48")
	for b := make([]byte, 65536); len(list) < n; {
		fds := []unix.PollFd{{Fd: int32(out), Events: unix.POLLIN}}
		switch ready, err := unix.Poll(fds, 10_000); {
		case err == unix.EINTR:
			continue
		case err != nil || ready == 0:
			t.Fatalf("%+v: %d packets, want %d (%v)", o, len(list), n, err)
		}
		size, err := unix.Read(out, b)
		if err != nil {
			t.Fatal(err)
		}
		if f, _, ok := parse(b[:size]); ok && (net4.Contains(f.Src) || net6.Contains(f.Src)) {
			list = append(list, slices.Clone(b[:size]))
		}
	}
	return list
}

// forwarded does to a packet what a router does.
func forwarded(pkt []byte) {
	if pkt[0]>>4 == 6 {
		pkt[7]--
		return
	}
	pkt[8]--
	setHeaderSum(pkt)
}

// virtioHeader is struct virtio_net_hdr in the host's byte order.
func virtioHeader(o tun.Offload) []byte {
	b := []byte{0, byte(o.GSO)}
	if o.Partial {
		b[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	}
	for _, n := range []int{o.Header, o.Segment, o.Start, o.Offset} {
		b = binary.NativeEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func openRaw(t *testing.T, name string, flags uint16) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs a TUN driver: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Skipf("needs root for a TUN device: %v", err)
	}
	return fd
}

func setting(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}
