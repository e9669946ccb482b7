package route

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"martlet/tun"
	"martlet/tun/firewall"
)

const patience = 10 * time.Second // before a test gives up on what must come

// The tunnel takes everything, the peer's own address included; the peer's
// packets must still be let in, whatever the reverse path check says.
func TestReversePathCheck(t *testing.T) {
	for _, filter := range []string{"0", "1", "2"} {
		t.Run("rp_filter "+filter, func(t *testing.T) {
			host, peer := network(t)
			for _, name := range []string{"all", "default", "eth0"} {
				host.Do(func() error {
					return os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte(filter), 0)
				})
			}
			// A route as a hostile DHCP server would add it (CVE-2024-3661).
			host.IP("route add 203.0.113.0/25 via 192.0.2.1")
			device := host.open()
			router, fw := New(t.TempDir(), nil), firewall.New(nil)
			rules := firewall.Rules{Device: "martlet0", Mark: DefaultMark, RestoreMark: true, Ports: []uint16{4500}, ProtectAddresses: warrior().Addresses}
			peer.IP("address add 198.51.100.200/32 dev eth0")
			c := warrior()
			c.Outside = prefixes("198.51.100.192/26")
			host.Do(func() error { return errors.Join(router.Set(c), fw.Set(rules)) })

			unmarked := host.socket("[::]:0", 0)
			go reflect(peer.socket("198.51.100.200:7000", 0))
			if err := exchange(unmarked, "198.51.100.200:7000"); err != nil {
				t.Errorf("an unmarked packet to a network that is kept outside: %v", err)
			}

			outer := host.socket("[::]:0", DefaultMark)
			for _, to := range []string{"198.51.100.1:4500", "192.0.2.1:4500", "[2001:db8:1::1]:4500"} {
				go reflect(peer.socket(to, 0))
				if err := exchange(outer, to); err != nil {
					t.Errorf("our marked packet to the peer at %s: %v", to, err)
				}
			}

			listener := host.socket("[::]:4500", DefaultMark)
			go reflect(listener)
			caller := peer.socket("198.51.100.1:0", 0)
			if err := exchange(caller, "192.0.2.2:4500"); err != nil {
				t.Errorf("a call from the peer: %v", err)
			}

			inner := host.socket("[::]:7777", 0)
			if _, err := inner.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("203.0.113.9:9")); err != nil {
				t.Error(err)
			}
			if err := expectFromHost(device, netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("203.0.113.9")); err != nil {
				t.Errorf("an unmarked packet: %v", err)
			}
			in := udpPacket(netip.MustParseAddrPort("203.0.113.9:9"), netip.MustParseAddrPort("10.9.0.5:7777"), "in")
			if n, err := device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{in[:3], in[3:]}}}); n != 1 || err != nil {
				t.Errorf("write to the device: %d, %v", n, err)
			}
			if err := expect(inner, "in"); err != nil {
				t.Errorf("a packet out of the tunnel: %v", err)
			}

			// What the above would be worth without the marks.
			host.Do(fw.Clear)
			if filter == "1" {
				if err := host.expectReversePathDrop(outer, "198.51.100.1:4500"); err != nil {
					t.Errorf("without restored marks: %v", err)
				}
			} else if err := exchange(outer, "198.51.100.1:4500"); err != nil {
				t.Errorf("without restored marks: %v", err)
			}
			host.Do(router.Close)
		})
	}
}

// CVE-2019-14899: the virtual address is not to be had from the outer link.
func TestVirtualAddressFromOutside(t *testing.T) {
	host, peer := network(t)
	host.open()
	router, fw := New(t.TempDir(), nil), firewall.New(nil)
	c := warrior()
	c.Routes = prefixes("10.9.0.0/16", "fd00:9::/48")
	rules := firewall.Rules{Device: "martlet0", ProtectAddresses: c.Addresses}
	host.Do(func() error { return errors.Join(router.Set(c), fw.Set(rules)) })
	peer.IP("route add 10.9.0.5 via 192.0.2.2")
	peer.IP("-6 route add fd00:9::5 via 2001:db8::2")

	victim := host.socket("[::]:7777", 0)
	prober := peer.socket("[::]:0", 0)
	probe := func(to, text string) {
		t.Helper()
		if _, err := prober.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)); err != nil {
			t.Fatal(err)
		}
	}
	// The link keeps the order: were a probe let in, it would come first.
	for _, path := range []struct{ virtual, open string }{
		{"10.9.0.5:7777", "192.0.2.2:7777"},
		{"[fd00:9::5]:7777", "[2001:db8::2]:7777"},
	} {
		probe(path.open, "neighbour is known")
		if err := expect(victim, "neighbour is known"); err != nil {
			t.Fatal(err)
		}
		probe(path.virtual, "probe")
		probe(path.open, "open")
		if err := expect(victim, "open"); err != nil {
			t.Errorf("%s: %v", path.virtual, err)
		}
	}
	host.Do(fw.Clear)
	probe("10.9.0.5:7777", "probe")
	if err := expect(victim, "probe"); err != nil {
		t.Errorf("without the table the probe should come in, else this test shows nothing: %v", err)
	}
	host.Do(router.Close)
}

// reflect sends each packet back until the socket is closed.
func reflect(c *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		c.WriteToUDPAddrPort(buf[:n], from)
	}
}

func exchange(c *net.UDPConn, to string) error {
	if _, err := c.WriteToUDPAddrPort([]byte(to), netip.MustParseAddrPort(to)); err != nil {
		return err
	}
	return expect(c, to)
}

func expect(c *net.UDPConn, want string) error {
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	if got := string(buf[:n]); got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// expectReversePathDrop sends until the kernel has counted a reply whose source
// it did not like.
func (n *testNamespace) expectReversePathDrop(c *net.UDPConn, to string) error {
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := c.WriteToUDPAddrPort([]byte(to), netip.MustParseAddrPort(to)); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := c.Read(buf); err == nil {
			return fmt.Errorf("a reply of %d octets came in: the test shows nothing", n)
		}
		var counters []byte
		n.Do(func() (err error) {
			counters, err = os.ReadFile("/proc/thread-self/net/netstat")
			return err
		})
		lines := strings.Split(string(counters), "\n")
		names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
		for i, name := range names {
			if name == "IPReversePathFilter" && values[i] != "0" {
				return nil
			}
		}
	}
	return errors.New("neither a reply nor a drop by the reverse path check")
}

// expectFromHost waits for a packet with these addresses, past those that the
// kernel sends on its own.
func expectFromHost(device tun.Device, from, to netip.Addr) error {
	result := make(chan error, 1)
	go func() {
		frames := make([]tun.Frame, device.Queues()[0].Batch())
		for {
			n, err := device.Queues()[0].Read(frames)
			if err != nil {
				result <- err
				return
			}
			for _, f := range frames[:n] {
				p := f.Pieces[0]
				if len(p) >= 20 && p[0]>>4 == 4 && bytes.Equal(p[16:20], to.AsSlice()) {
					if !bytes.Equal(p[12:16], from.AsSlice()) {
						err = fmt.Errorf("from %v, want %s", p[12:16], from)
					}
					result <- err
					return
				}
			}
		}
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		device.Close()
		return errors.New("nothing came out of the device")
	}
}

// udpPacket makes an IPv4 packet with a UDP datagram, whose checksum of 0 means
// that there is none.
func udpPacket(from, to netip.AddrPort, payload string) []byte {
	p := make([]byte, 28, 28+len(payload))
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(payload)))
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(p[20:], from.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	return append(p, payload...)
}
