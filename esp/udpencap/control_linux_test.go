package udpencap

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// message is a control message whose content is numbers.
func message(level, kind int32, numbers ...uint32) []byte {
	var data []byte
	for _, n := range numbers {
		data = binary.NativeEndian.AppendUint32(data, n)
	}
	return appendControl(make([]byte, 0, 128), level, kind, data, len(data))
}

func TestControl(t *testing.T) {
	v4 := appendControl(make([]byte, 0, 64), unix.SOL_IP, unix.IP_PKTINFO, []byte{8: 192, 0, 2, 1}, unix.SizeofInet4Pktinfo)
	six := netip.MustParseAddr("2001:db8::1").As16()
	v6 := appendControl(make([]byte, 0, 64), unix.SOL_IPV6, unix.IPV6_PKTINFO, six[:], unix.SizeofInet6Pktinfo)
	tos := appendControl(make([]byte, 0, 64), unix.SOL_IP, unix.IP_TOS, []byte{0xba}, 1)
	for name, test := range map[string]struct {
		control [][]byte
		want    arrival
	}{
		"nothing":      {nil, arrival{}},
		"IPv4":         {[][]byte{v4, tos}, arrival{local: []byte{192, 0, 2, 1}, ecn: 2}},
		"IPv6":         {[][]byte{v6, message(unix.SOL_IPV6, unix.IPV6_TCLASS, 0xbb)}, arrival{local: six[:], ecn: 3}},
		"slab":         {[][]byte{message(unix.SOL_UDP, unix.UDP_GRO, 1400), message(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 77)}, arrival{segment: 1400, drops: 77}},
		"negative":     {[][]byte{message(unix.SOL_UDP, unix.UDP_GRO, 1<<31)}, arrival{}},
		"others first": {[][]byte{message(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1, 2, 3, 4), tos}, arrival{ecn: 2}},
		"cut":          {[][]byte{tos, v4[:20]}, arrival{ecn: 2}},
		"empty ones":   {[][]byte{message(unix.SOL_IP, unix.IP_PKTINFO), message(unix.SOL_UDP, unix.UDP_GRO), message(unix.SOL_IP, unix.IP_TOS), tos}, arrival{ecn: 2}},
	} {
		got := parseArrival(bytes.Join(test.control, nil))
		if !bytes.Equal(got.local, test.want.local) || got.ecn != test.want.ecn || got.segment != test.want.segment || got.drops != test.want.drops {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func TestParseTooBig(t *testing.T) {
	extended := func(errno, origin, info uint32) []byte {
		var o [4]byte
		o[0] = byte(origin)
		return message(unix.SOL_IP, unix.IP_RECVERR, errno, binary.NativeEndian.Uint32(o[:]), info, 0, 1, 2, 3, 4)
	}
	tooBig := uint32(unix.EMSGSIZE)
	for name, test := range map[string]struct {
		control []byte
		mtu     int
	}{
		"nothing":           {nil, 0},
		"a router":          {extended(tooBig, unix.SO_EE_ORIGIN_ICMP, 1300), 1300},
		"a router of IPv6":  {extended(tooBig, unix.SO_EE_ORIGIN_ICMP6, 1300), 1300},
		"this system":       {extended(tooBig, unix.SO_EE_ORIGIN_LOCAL, 1500), 1500},
		"a time stamp":      {extended(tooBig, unix.SO_EE_ORIGIN_TIMESTAMPING, 1500), 0},
		"another error":     {extended(uint32(unix.ECONNREFUSED), unix.SO_EE_ORIGIN_ICMP, 1500), 0},
		"without length":    {extended(tooBig, unix.SO_EE_ORIGIN_ICMP, 0), 0},
		"longer than all":   {extended(tooBig, unix.SO_EE_ORIGIN_LOCAL, 65535), 0},
		"a huge length":     {extended(tooBig, unix.SO_EE_ORIGIN_ICMP, 1<<31+1300), 0},
		"cut":               {message(unix.SOL_IPV6, unix.IPV6_RECVERR, tooBig, unix.SO_EE_ORIGIN_ICMP6, 1300), 0},
		"behind an address": {bytes.Join([][]byte{message(unix.SOL_IP, unix.IP_PKTINFO, 1, 2, 3), extended(tooBig, unix.SO_EE_ORIGIN_ICMP, 600)}, nil), 600},
	} {
		if mtu, ok := parseTooBig(test.control); ok != (test.mtu != 0) || ok && mtu != test.mtu {
			t.Errorf("%s: %d, %t", name, mtu, ok)
		}
	}
}

// FuzzControl: whatever stands where the kernel writes control messages, parsing it ends,
// and what comes out is in bounds.
func FuzzControl(f *testing.F) {
	f.Add(message(unix.SOL_UDP, unix.UDP_GRO, 1400))
	f.Add(bytes.Join([][]byte{message(unix.SOL_IP, unix.IP_PKTINFO, 1, 2, 3), message(unix.SOL_IP, unix.IP_TOS, 1)}, nil))
	f.Add(message(unix.SOL_IP, unix.IP_RECVERR, uint32(unix.EMSGSIZE), unix.SO_EE_ORIGIN_ICMP, 1300, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseArrival(b)
		if n := len(a.local); n != 0 && n != 4 && n != 16 || a.ecn > 3 || a.segment < 0 || a.segment > 0xffff {
			t.Fatalf("%+v", a)
		}
		if mtu, ok := parseTooBig(b); ok && (mtu <= 0 || mtu >= maxDatagram) {
			t.Fatalf("mtu %d", mtu)
		}
		total := 0
		for rest := b; ; {
			_, _, data, next, ok := nextControl(rest)
			if !ok {
				break
			}
			if total += unix.CmsgLen(len(data)); len(next) >= len(rest) || total > len(b) {
				t.Fatalf("%d octets of messages in %d", total, len(b))
			}
			rest = next
		}
	})
}
