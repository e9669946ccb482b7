package esp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// narrow is a bench with a child in both families, over a path that takes outer packets of so many
// octets, as a router has said.
func narrow(t *testing.T, mtu int) (*bench, Child) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	c.Local = append(c.Local, selector("2001:db8:1::/48"))
	c.Remote = append(c.Remote, selector("2001:db8:2::/48"))
	b.install(c)
	b.tooBig(peerAddr, mtu)
	return b, c
}

func (b *bench) tooBig(remote string, mtu int) {
	b.arrive(udpencap.Packet{Kind: udpencap.TooBig, Remote: netip.MustParseAddrPort(remote), Segment: mtu})
}

// inner is what a path of mtu octets takes with the algorithms of child.
func innerOf(mtu int) int { return InnerMTU(mtu, false, gcm256, none) }

func unfragmentable(pkt []byte) []byte {
	pkt[6] |= 0x40
	setHeaderSum(pkt)
	return pkt
}

// TestPathMTUIsTold: who sends what no longer fits is told the largest that does (RFC 4301 §8.2), in
// both families, for single packets and for super-packets; what fits passes.
func TestPathMTUIsTold(t *testing.T) {
	b, _ := narrow(t, 1400)
	limit := innerOf(1400)
	four := func(length int) []byte {
		return unfragmentable(ip("10.1.0.1", "10.2.0.1", length-28))
	}
	six := func(length int) []byte { return ip("2001:db8:1::1", "2001:db8:2::1", length-48) }
	for _, pkt := range [][]byte{four(limit), six(limit)} {
		sent := b.host(pkt)
		if len(sent) != 1 || !sent[0].DF || len(sent[0].Data) > 1400-28 {
			t.Fatalf("a packet that fits went as %+v", sent)
		}
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		kind byte
		at   int // of the MTU in the answer
	}{
		{"IPv4", four(limit + 1), 3, 20 + 6},
		{"IPv6", six(limit + 1), 2, 40 + 6},
	} {
		b.delivered = nil
		if sent := b.host(c.pkt); len(sent) != 0 {
			t.Errorf("%s: sent all the same", c.name)
		}
		if len(b.delivered) != 1 {
			t.Fatalf("%s: %d answers, want 1", c.name, len(b.delivered))
		}
		answer := b.delivered[0]
		if answer[c.at-6] != c.kind || int(binary.BigEndian.Uint16(answer[c.at:])) != limit || !bytes.Contains(answer, c.pkt[:60]) {
			t.Errorf("%s: the answer is %x, want MTU %d", c.name, answer, limit)
		}
	}
	frame := tcpSuper("10.1.0.1", limit, 3*limit)
	b.delivered = nil
	b.out.batch([]tun.Frame{frame})
	b.out.flush()
	if len(b.delivered) != 1 || len(b.sent) != 0 {
		t.Errorf("a super-packet of packets too long: %d answers and %d packets sent, want 1 and 0", len(b.delivered), len(b.sent))
	}
	b.wantDrops(map[Drop]uint64{DropTooBig: 3})
}

// tcpSuper is a TCP super-packet with segments of so many octets of payload.
func tcpSuper(src string, segment, payload int) tun.Frame {
	pkt := tcpPacket(src, "10.2.0.1", flagACK, nil, make([]byte, payload))
	pkt = unfragmentable(pkt)
	binary.BigEndian.PutUint16(pkt[20+tcpChecksum:], fold(pseudoSum(pkt, protoTCP, len(pkt)-20)))
	return tun.Frame{
		Pieces:  [][]byte{pkt},
		Offload: tun.Offload{GSO: tun.GSOTCPv4, Header: 40, Segment: segment, Partial: true, Start: 20, Offset: tcpChecksum},
	}
}

// TestPathMTUFragments: what may be cut is, and comes out whole.
func TestPathMTUFragments(t *testing.T) {
	b, c := narrow(t, 1400)
	pkt := ip("10.1.0.1", "10.2.0.1", 3000)
	binary.BigEndian.PutUint16(pkt[4:], 77)
	setHeaderSum(pkt)
	sent := b.host(bytes.Clone(pkt))
	opener := b.openerOf(c)
	var parts [][]byte
	for _, p := range sent {
		inner, err := opener.Open(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		if len(inner) > innerOf(1400) || !p.DF {
			t.Errorf("a fragment of %d octets, DF %t", len(inner), p.DF)
		}
		parts = append(parts, inner)
	}
	if got := reassemble(t, parts, false); !bytes.Equal(got, pkt) {
		t.Errorf("%d fragments do not make the packet again", len(parts))
	}
	b.wantDrops(nil)
}

// TestLeastMTU: what IPv6 expects of every link passes, however narrow the path; then the outer
// packet may be cut.
func TestLeastMTU(t *testing.T) {
	for _, said := range []int{0, 1, 576, 1280} {
		b, _ := narrow(t, said)
		sent := b.host(ip("2001:db8:1::1", "2001:db8:2::1", 1280-48))
		if len(sent) != 1 || sent[0].DF {
			t.Errorf("MTU %d: a packet of 1280 octets went as %+v", said, sent)
		}
		if b.host(ip("2001:db8:1::1", "2001:db8:2::1", 1281-48)); len(b.sent) != 0 {
			t.Errorf("MTU %d: a packet of 1281 octets was sent", said)
		}
		small := b.host(ip("10.1.0.1", "10.2.0.1", 100))
		if len(small) != 1 || !small[0].DF {
			t.Errorf("MTU %d: a small packet went as %+v", said, small)
		}
	}
}

// TestPathMTUSources: a stranger's word changes nothing, an unauthentic one only lowers, a proven one
// also raises, and it is old after ten minutes (RFC 8201 §4).
func TestPathMTUSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := narrow(t, 1400)
		remote := netip.MustParseAddrPort(peerAddr).Addr()
		passes := func(mtu int) bool {
			return len(b.host(unfragmentable(ip("10.1.0.1", "10.2.0.1", innerOf(mtu)-28)))) == 1
		}
		b.tooBig("203.0.113.9:4500", 1280)
		if b.tooBig(peerAddr, 1480); !passes(1400) || passes(1480) || len(b.plane.paths) != 1 {
			t.Errorf("a later and larger MTU, or a stranger's, counts; %d paths", len(b.plane.paths))
		}
		if b.tooBig(peerAddr, 1380); passes(1400) || !passes(1380) {
			t.Error("a smaller MTU does not count")
		}
		if b.plane.SetPathMTU(remote, 1450, true); !passes(1450) || passes(1480) {
			t.Error("a proven MTU does not count")
		}
		if err := b.plane.Move(1, Path{Local: netip.MustParseAddrPort(ourAddr), Remote: netip.MustParseAddrPort("203.0.113.9:4500")}); err != nil {
			t.Fatal(err)
		}
		if !passes(1500) {
			t.Error("the path after a move is taken for that of before")
		}
		if err := b.plane.Move(1, Path{Local: netip.MustParseAddrPort(ourAddr), Remote: netip.MustParseAddrPort(peerAddr)}); err != nil {
			t.Fatal(err)
		}
		if passes(1480) || !passes(1450) {
			t.Error("the path was forgotten in a move away and back")
		}
		time.Sleep(10*time.Minute - time.Second)
		if passes(1480) {
			t.Error("forgotten too soon")
		}
		if time.Sleep(2 * time.Second); !passes(1500) {
			t.Error("never forgotten")
		}
	})
}

// TestMSSIsClamped: a SYN in either direction offers what the tunnel takes, its checksum is right, and
// KeepMSS leaves it.
func TestMSSIsClamped(t *testing.T) {
	option := []byte{2, 4, 0x05, 0xb4} // 1460
	for _, keep := range []bool{false, true} {
		b := newBench(t)
		c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
		c.KeepMSS = keep
		b.install(c)
		want := 1400 - 40 // the device's MTU
		if keep {
			want = 1460
		}
		check := func(way string, pkt []byte) {
			t.Helper()
			if got := int(binary.BigEndian.Uint16(pkt[42:])); got != want || !transportValid(pkt, 20, protoTCP) {
				t.Errorf("%s: MSS %d, checksum right %t; want %d", way, got, transportValid(pkt, 20, protoTCP), want)
			}
		}
		out, err := b.openerOf(c).Open(b.host(tcpPacket("10.1.0.1", "10.2.0.1", flagSYN, option, nil))[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		check("out", out)
		in := b.peer(seal(t, b.peerOf(c), tcpPacket("10.2.0.1", "10.1.0.1", flagSYN|flagACK, option, nil)))
		check("in", in[0])
		if b.tooBig(peerAddr, 1400); !keep {
			want = innerOf(1400) - 40
		}
		out, err = b.openerOf(c).Open(b.host(tcpPacket("10.1.0.1", "10.2.0.1", flagSYN, option, nil))[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		check("out, on a narrow path", out)
	}
}
