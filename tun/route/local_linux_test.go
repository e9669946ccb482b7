package route

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"martlet/tun"
)

// What comes right after Set to an IPv6 address is taken, though a worker of the kernel's sets that
// up. Here the worker gets the processor only when Set waits for it.
func TestPacketRightAfterAnAddress(t *testing.T) {
	host := newNamespace(t)
	device, router := host.open(), New(t.TempDir(), nil)
	inner := host.socket("[::]:7777", 0)
	from, to := netip.MustParseAddrPort("[2001:db8:9::9]:9"), netip.MustParseAddrPort("[fd00:9::5]:7777")
	c := warrior()
	for i := range 30 {
		c.Addresses = append(c.Addresses, netip.PrefixFrom(to.Addr(), 128))
		host.Do(func() error {
			if err := keepProcessor(i); err != nil {
				t.Logf("the worker may be faster, which shows less: %v", err)
			}
			if err := router.Set(c); err != nil {
				return err
			}
			_, err := device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{udp6Packet(from, to, "in")}}})
			return err
		})
		if err := expect(inner, "in"); err != nil {
			t.Fatalf("a packet to the address %d: %v", i, err)
		}
		to = netip.AddrPortFrom(to.Addr().Next(), to.Port())
	}
	host.Do(router.Close)
}

// keepProcessor lets the calling thread keep a processor, another one each time, for as long as it
// does not wait: what the kernel's workers do there is done after that.
func keepProcessor(time int) error {
	var one unix.CPUSet
	one.Set(time % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
}

// udp6Packet makes an IPv6 packet with a UDP datagram.
func udp6Packet(from, to netip.AddrPort, payload string) []byte {
	p := make([]byte, 48, 48+len(payload))
	p[0], p[6], p[7] = 0x60, 17, 64
	copy(p[8:], from.Addr().AsSlice())
	copy(p[24:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[40:], from.Port())
	binary.BigEndian.PutUint16(p[42:], to.Port())
	length := 8 + len(payload)
	binary.BigEndian.PutUint16(p[4:], uint16(length))
	binary.BigEndian.PutUint16(p[44:], uint16(length))
	p = append(p, payload...)
	sum := uint32(17 + length) // with the pseudo-header (RFC 8200 §8.1)
	for i, b := range p[8:] {
		sum += uint32(b) << (8 * (1 - i&1))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[46:], ^uint16(sum+sum>>16))
	return p
}
