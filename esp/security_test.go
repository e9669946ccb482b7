package esp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/esp/udpencap"
)

// TestInnerSourceSpoofing is security.md row 63 and goal D1: a million packets of an
// authenticated peer that lies about the inner addresses; none is forwarded, all are
// counted.
func TestInnerSourceSpoofing(t *testing.T) {
	count := 1_000_000
	if testing.Short() {
		count = 50_000
	}
	const (
		client  = "10.66.0.7" // the peer's virtual address, all that it may use
		client6 = "2001:db8:66::7"
		other   = "10.66.0.8" // of another client
		inside  = "10.1.0.5"  // behind us
		inside6 = "2001:db8:1::5"
		gateway = "192.0.2.1" // our outer address
	)
	b := newBench(t)
	web := selector("10.1.9.0/24")
	web.Protocol, web.StartPort, web.EndPort = protoTCP, 443, 443
	echo := selector("10.1.8.0/24")
	echo.Protocol, echo.StartPort, echo.EndPort = protoICMP, 8<<8, 8<<8|255
	c := b.child(1, "10.1.0.0/24", client+"/32")
	c.Local = append(c.Local, web, echo, selector("2001:db8:1::/48"))
	c.Remote = append(c.Remote, selector(client6+"/128"))
	b.install(c)
	neighbour := b.child(2, "10.1.0.0/24", other+"/32")
	b.install(neighbour)
	peer := b.peerOf(c)

	tcp := func(src, dst uint16) []byte { return udpHeader(src, dst, 12) }
	fragment := func(pkt []byte) []byte { pkt[7] = 3; return pkt }
	lies := [][]byte{
		ip(other, inside, 9),       // another client's address
		ip("8.8.8.8", inside, 9),   // anybody's
		ip(inside, inside, 9),      // one of our side
		ip(gateway, inside, 9),     // the gateway's own
		ip("127.0.0.1", inside, 9), // loopback
		ip(client, "127.0.0.1", 9),
		ip("224.0.0.1", inside, 9), // multicast
		ip(client, "224.0.0.5", 9),
		ip("255.255.255.255", inside, 9),
		ip(client, "255.255.255.255", 9),
		ip("0.0.0.0", inside, 9),
		ip(client, "10.1.1.1", 9), // destinations that were not negotiated
		ip(client, gateway, 9),
		ip(client, other, 9),
		ip("2001:db8:66::8", inside6, 9),
		ip(client6, "2001:db8:2::1", 9),
		ip("::1", inside6, 9),
		ip("ff02::1", inside6, 9),
		packet(addr(client), addr("10.1.9.1"), protoUDP, tcp(1000, 443)), // protocol
		packet(addr(client), addr("10.1.9.1"), protoTCP, tcp(1000, 444)), // port
		packet(addr(client), addr("10.1.8.1"), protoICMP, []byte{5, 0, 0, 0, 0, 0, 0, 0}),
		packet(addr(client), addr("10.1.8.1"), protoUDP, tcp(8<<8, 8<<8)),
		fragment(packet(addr(client), addr("10.1.9.1"), protoTCP, tcp(1000, 443))), // no port to see
		fragment(packet(addr(client), addr("10.1.8.1"), protoICMP, []byte{8, 0, 0, 0})),
		packet(addr(client6), addr(inside6), protoIPv4, ip(other, inside, 9))[:39], // no whole header
	}
	r := rand.New(rand.NewPCG(9, 9))
	slab, batch := make([]byte, 0, 64*256), make([]udpencap.Packet, 0, 64)
	for n := 0; n < count; {
		slab, batch = slab[:0], batch[:0]
		for len(batch) < cap(batch) && n < count {
			lie := lies[n%len(lies)]
			if n%3 == 0 { // random addresses; the odds of a true one are one in 2^32
				lie = slices.Clone(lies[0])
				binary.BigEndian.PutUint64(lie[12:], r.Uint64())
				if netip.AddrFrom4([4]byte(lie[12:16])) == addr(client) {
					continue
				}
			}
			start := len(slab)
			var err error
			if slab, err = peer.Seal(slab, lie, protocolOf(lie)); err != nil {
				t.Fatal(err)
			}
			batch = append(batch, udpencap.Packet{
				Kind: udpencap.ESP, Data: slab[start:],
				Local: netip.MustParseAddrPort(ourAddr), Remote: c.Path.Remote,
			})
			n++
		}
		if got := b.arrive(batch...); len(got) != 0 {
			t.Fatalf("forwarded: %x", got[0])
		}
	}
	s := b.plane.Stats()
	if n := s.Drops[DropSelector] + s.Drops[DropBadInner]; n != uint64(count) || s.Drops.Total() != n || s.In.Packets != 0 {
		t.Errorf("%d of %d counted; drops %v, in %v", n, count, s.Drops, s.In)
	}
	if cs, _ := b.plane.ChildStats(1); cs.Drops.Total() != uint64(count) {
		t.Errorf("%d of %d counted for the child", cs.Drops.Total(), count)
	}
	// The same peer speaking the truth is heard.
	for _, truth := range [][]byte{
		ip(client, inside, 9), ip(client6, inside6, 9),
		packet(addr(client), addr("10.1.9.1"), protoTCP, tcp(1000, 443)),
		packet(addr(client), addr("10.1.8.1"), protoICMP, []byte{8, 0, 0, 0}),
		fragment(packet(addr(client), addr(inside), protoUDP, []byte{1, 2, 3, 4})),
	} {
		if got := b.peer(seal(t, peer, truth)); len(got) != 1 || string(got[0]) != string(truth) {
			t.Errorf("not forwarded: %x", truth)
		}
	}
}

// TestOwnAddressAsSource: even where the selectors take everything, the peer cannot
// speak as our end of the tunnel, nor as nobody.
func TestOwnAddressAsSource(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "0.0.0.0/0", "0.0.0.0/0")
	b.install(c)
	peer := b.peerOf(c)
	for _, src := range []string{"192.0.2.1", "127.0.0.1", "224.0.0.9", "0.0.0.0"} {
		if got := b.peer(seal(t, peer, ip(src, "10.1.0.1", 9))); len(got) != 0 {
			t.Errorf("forwarded from %s", src)
		}
	}
	b.wantDrops(map[Drop]uint64{DropSelector: 1, DropBadInner: 3})
	if got := b.peer(seal(t, peer, ip("198.51.100.7", "192.0.2.1", 9))); len(got) != 1 {
		t.Error("a packet between the tunnel's ends is lost")
	}
}

// TestLoop: packets between the tunnel's own sockets do not go through the tunnel, in
// either direction (security.md row 69); others between the same addresses do.
func TestLoop(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "0.0.0.0/0", "0.0.0.0/0")
	b.install(c)
	peer := b.peerOf(c)
	udp := func(src, dst string, port uint16) []byte {
		return packet(addr(src), addr(dst), protoUDP, udpHeader(4500, port, 20))
	}
	if sent := b.host(udp("192.0.2.1", "198.51.100.7", 4500)); len(sent) != 0 {
		t.Error("our own ESP packet was sealed again")
	}
	if sent := b.host(udp("192.0.2.1", "198.51.100.7", 4501)); len(sent) != 1 {
		t.Error("a packet to another port of the peer was lost")
	}
	for _, port := range []uint16{500, 4500} {
		if got := b.peer(seal(t, peer, udp("198.51.100.7", "192.0.2.1", port))); len(got) != 0 {
			t.Errorf("delivered to our port %d", port)
		}
	}
	if got := b.peer(seal(t, peer, udp("198.51.100.7", "192.0.2.1", 53)), seal(t, peer, udp("10.0.0.1", "192.0.2.2", 4500))); len(got) != 2 {
		t.Error("packets to another port, and to another address, were lost")
	}
	b.wantDrops(map[Drop]uint64{DropLoop: 3})
}

// TestReplayLive is goal D2 on the plane: a recorded conversation played again, in any
// order, delivers nothing.
func TestReplayLive(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	b.install(c)
	peer := b.peerOf(c)
	peer.seq, b.plane.children[1].rx.in.window.top = 1<<32-5000, 1<<32-5000
	var record [][]byte
	for range 10_000 {
		record = append(record, seal(t, peer, ip("10.2.0.1", "10.1.0.1", 1)))
	}
	r := rand.New(rand.NewPCG(1, 1))
	for part := range slices.Chunk(record, defaultWindow) {
		part = slices.Clone(part)
		r.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		for batch := range slices.Chunk(part, 64) {
			if got := b.peer(batch...); len(got) != len(batch) {
				t.Fatalf("%d of %d packets lost to reordering within the window", len(batch)-len(got), len(batch))
			}
		}
	}
	for range 3 {
		r.Shuffle(len(record), func(i, j int) { record[i], record[j] = record[j], record[i] })
		for batch := range slices.Chunk(record, 64) {
			if got := b.peer(batch...); len(got) != 0 {
				t.Fatalf("%d packets delivered twice", len(got))
			}
		}
	}
	s := b.plane.Stats()
	if n := s.Drops[DropReplay] + s.Drops[DropTooOld] + s.Drops[DropBadICV]; n != 30_000 || s.Drops.Total() != n {
		t.Errorf("drops %v", s.Drops)
	}
}

// TestRebinding is security.md row 64: only an authentic packet that is the newest
// tells of another address, and nothing moves by itself.
func TestRebinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
		b.install(c)
		peer := b.peerOf(c)
		next := func() []byte { return seal(t, peer, ip("10.2.0.1", "10.1.0.1", 1)) }
		const elsewhere, attacker = "203.0.113.9:999", "203.0.113.66:6"
		told := func() (list []string) {
			for _, p := range b.events.remapped {
				list = append(list, p.Remote.String())
			}
			b.events.remapped = nil
			return list
		}
		want := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, told()); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		first, late := next(), next()
		b.peer(first)
		want("from the usual address")
		newest := next()
		b.peer(newest)
		b.from(attacker, newest)
		want("replayed from another address")
		forged := next()
		forged[len(forged)-1] ^= 1
		b.from(attacker, forged)
		want("forged")
		if got := b.from(attacker, late); len(got) != 1 {
			t.Error("a late packet was lost")
		}
		want("authentic, but not the newest")
		b.from(elsewhere, next())
		want("newest", elsewhere)
		b.from(elsewhere, next(), next())
		want("again, at once")
		time.Sleep(time.Second)
		b.from(elsewhere, next())
		want("again, after a second", elsewhere)
		if sent := b.host(ip("10.1.0.1", "10.2.0.1", 1)); sent[0].Remote != c.Path.Remote {
			t.Errorf("the path moved by itself to %v", sent[0].Remote)
		}
		moved := Path{Local: c.Path.Local, Remote: netip.MustParseAddrPort(elsewhere)}
		if err := b.plane.Move(1, moved); err != nil {
			t.Fatal(err)
		}
		if sent := b.host(ip("10.1.0.1", "10.2.0.1", 1)); sent[0].Remote != moved.Remote {
			t.Errorf("after the move: to %v", sent[0].Remote)
		}
		b.from(elsewhere, next())
		want("after the move")
		b.peer(next())
		want("back at the old address", peerAddr)
		// A batch that mixes addresses tells where the newest came from.
		one, two := next(), next()
		list := []udpencap.Packet{
			{Kind: udpencap.ESP, Data: two, Remote: moved.Remote},
			{Kind: udpencap.ESP, Data: one, Remote: netip.MustParseAddrPort(peerAddr)},
		}
		b.arrive(list...)
		want("mixed")
	})
}

// TestNoPlaintext is security.md row 65: what no child takes does not leave at all,
// wherever it comes from, in either family.
func TestNoPlaintext(t *testing.T) {
	b := newBench(t)
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	for _, pkt := range [][]byte{
		ip("10.9.0.1", "10.2.0.1", 9),       // forwarded, of another source
		ip("192.0.2.1", "10.2.0.1", 9),      // made here
		ip("10.1.0.1", "10.3.0.1", 9),       // elsewhere
		ip("2001:db8::1", "2001:db8::2", 9), // the other family
		ip("fe80::1", "ff02::16", 9),        // of the link
	} {
		if sent := b.host(pkt); len(sent) != 0 {
			t.Errorf("sent: %x", sent[0].Data)
		}
	}
	b.wantDrops(map[Drop]uint64{DropNoPolicy: 5})
}

// FuzzInbound is a hostile peer: the octets as a packet on the wire, and, sealed with
// the right keys, as the text inside. What is delivered must be well-formed and
// within the selectors, and every packet must be accounted for.
func FuzzInbound(f *testing.F) {
	inner := ip("10.2.0.1", "10.1.0.1", 5)
	f.Add(append(slices.Clone(inner), 1, 2, 2, protoIPv4), uint8(0))
	f.Add(append(ip("2001:db8:2::1", "2001:db8:1::1", 5), 0, protoIPv6), uint8(3))
	f.Add(append(withExtensions(), 0, protoIPv6), uint8(1))
	f.Add([]byte{0, protoNone}, uint8(0))
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0, 0, 0x10, 1, 0, 0, 0, 1}, uint8(0))
	b := newBench(f)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	c.Local = append(c.Local, selector("2001:db8:1::/48"))
	c.Remote = append(c.Remote, selector("2001:db8:2::/48"))
	b.install(c)
	peer := b.peerOf(c)
	f.Fuzz(func(t *testing.T, data []byte, ecn uint8) {
		before := b.plane.Stats()
		wire := append([]byte{0, 0, 0x10, 1}, data...)
		got := b.arrive(
			udpencap.Packet{Kind: udpencap.ESP, Data: slices.Clone(data), ECN: ecn},
			udpencap.Packet{Kind: udpencap.ESP, Data: wire, ECN: ecn},
			udpencap.Packet{Kind: udpencap.ESP, Data: sealText(peer, data), ECN: ecn},
		)
		if len(got) > 1 {
			t.Fatalf("%d packets delivered, and only one was authentic", len(got))
		}
		for _, pkt := range got {
			flow, n, ok := parse(pkt)
			if !ok || n != len(pkt) || !flow.routable() || !flow.Within(c.Remote, c.Local) {
				t.Fatalf("delivered: %x", pkt)
			}
		}
		after := b.plane.Stats()
		if after.Drops.Total()-before.Drops.Total()+after.In.Packets-before.In.Packets != 3 {
			t.Fatalf("3 packets came; before %+v, after %+v", before, after)
		}
	})
}
