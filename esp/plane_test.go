package esp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/suite"
	"martlet/esp/udpencap"
	"martlet/tun"
)

func TestPlaneCarries(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	c.Local = append(c.Local, selector("2001:db8:1::/48"))
	c.Remote = append(c.Remote, selector("2001:db8:2::/48"))
	b.install(c)
	opener, peer := b.openerOf(c), b.peerOf(c)

	pkts := [][]byte{ip("10.1.0.1", "10.2.0.1", 100), ip("2001:db8:1::1", "2001:db8:2::1", 7), ip("10.1.0.9", "10.2.0.1", 0)}
	sent := b.host(pkts...)
	if len(sent) != len(pkts) {
		t.Fatalf("%d packets sent, want %d", len(sent), len(pkts))
	}
	for i, p := range sent {
		if p.Kind != udpencap.ESP || p.Local != c.Path.Local || p.Remote != c.Path.Remote {
			t.Errorf("packet %d: kind %d from %v to %v", i, p.Kind, p.Local, p.Remote)
		}
		inner, err := opener.Open(p.Data)
		if diff := cmp.Diff(pkts[i], inner); err != nil || diff != "" {
			t.Errorf("packet %d: %v\n%s", i, err, diff)
		}
	}

	back := [][]byte{ip("10.2.0.1", "10.1.0.1", 30), ip("2001:db8:2::1", "2001:db8:1::1", 0)}
	got := b.peer(seal(t, peer, back[0]), seal(t, peer, back[1]))
	if diff := cmp.Diff(back, got); diff != "" {
		t.Error(diff)
	}
	b.wantDrops(nil)

	s := b.plane.Stats()
	want := Stats{In: Counter{2, 28 + 30 + 48}, Out: Counter{3, 128 + 55 + 28}}
	if s.In != want.In || s.Out != want.Out || len(s.Children) != 1 || s.Children[0].In != want.In || s.Children[0].Out != want.Out {
		t.Errorf("stats %+v, want %+v", s, want)
	}
	if err := b.plane.Remove(1); err != nil {
		t.Fatal(err)
	}
	if s := b.plane.Stats(); s.In != want.In || s.Out != want.Out || len(s.Children) != 0 {
		t.Errorf("after removal: %+v", s)
	}
	if _, ok := b.plane.ChildStats(1); ok {
		t.Error("a removed child has stats")
	}
}

func TestInstallRefuses(t *testing.T) {
	b := newBench(t)
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	for name, change := range map[string]func(c *Child){
		"ID in use":           func(c *Child) { c.ID = 1 },
		"SPI in use":          func(c *Child) { c.In.SPI = 0x1001 },
		"inbound SPI 255":     func(c *Child) { c.In.SPI = 255 },
		"outbound SPI 0":      func(c *Child) { c.Out.SPI = 0 },
		"inbound key":         func(c *Child) { c.In.EncrKey = c.In.EncrKey[1:] },
		"outbound algorithm":  func(c *Child) { c.Out.Encr = suite.Transform{} },
		"no local selector":   func(c *Child) { c.Local = nil },
		"no remote selector":  func(c *Child) { c.Remote = nil },
		"reversed selector":   func(c *Child) { c.Local[0].From, c.Local[0].To = c.Local[0].To, c.Local[0].From },
		"window":              func(c *Child) { c.Window = 63 },
		"no remote":           func(c *Child) { c.Path.Remote = netip.AddrPort{} },
		"port without socket": func(c *Child) { c.Path.Local = netip.MustParseAddrPort("192.0.2.1:4501") },
		"other address":       func(c *Child) { c.Path.Local = netip.MustParseAddrPort("192.0.2.2:4500") },
		"other family":        func(c *Child) { c.Path.Remote = netip.MustParseAddrPort("[2001:db8::1]:4500") },
	} {
		c := b.child(2, "10.1.0.0/16", "10.2.0.0/16")
		change(&c)
		if err := b.plane.Install(c); err == nil {
			t.Errorf("%s: installed", name)
		}
	}
	if n := len(b.plane.Stats().Children); n != 1 {
		t.Errorf("%d children after refusals", n)
	}
	path := Path{Local: netip.MustParseAddrPort(ourAddr), Remote: netip.MustParseAddrPort(peerAddr)}
	for name, err := range map[string]error{
		"switch":            b.plane.Switch(9),
		"move":              b.plane.Move(9, path),
		"move to no socket": b.plane.Move(1, Path{Local: netip.MustParseAddrPort("192.0.2.1:1"), Remote: path.Remote}),
		"remove":            b.plane.Remove(9),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRouteFor: which socket a path leads through.
func TestRouteFor(t *testing.T) {
	p := New(newDevice(1, nil), new(events), nil)
	named := make(map[string]*memorySocket)
	for _, local := range []string{"192.0.2.1:4500", "192.0.2.2:4500", "0.0.0.0:4500", "[::]:4500", "192.0.2.1:7000", "0.0.0.0:500"} {
		s := newSocket(local, 1, nil)
		s.noEncap = local == "0.0.0.0:500"
		named[local] = s
		p.sockets[s] = &boundSocket{socket: s}
	}
	for _, test := range []struct{ local, remote, want string }{
		{"192.0.2.1:4500", "198.51.100.1:4500", "192.0.2.1:4500"},
		{"192.0.2.2:4500", "198.51.100.1:4500", "192.0.2.2:4500"},
		{"192.0.2.3:4500", "198.51.100.1:4500", "0.0.0.0:4500"},
		{"0.0.0.0:4500", "198.51.100.1:4500", "0.0.0.0:4500"},
		{"[::ffff:192.0.2.1]:4500", "[::ffff:198.51.100.1]:4500", "192.0.2.1:4500"},
		{"[2001:db8::9]:4500", "[2001:db8::1]:4500", "[::]:4500"},
		{"0.0.0.0:7000", "198.51.100.1:4500", "192.0.2.1:7000"},
		{"192.0.2.9:7000", "198.51.100.1:4500", ""},
		{"0.0.0.0:500", "198.51.100.1:500", ""}, // carries no ESP
	} {
		r, err := p.routeFor(Path{Local: netip.MustParseAddrPort(test.local), Remote: netip.MustParseAddrPort(test.remote)})
		switch {
		case err != nil && test.want != "":
			t.Errorf("%s to %s: %v", test.local, test.remote, err)
		case err == nil && r.socket != named[test.want]:
			t.Errorf("%s to %s: socket %v, want %q", test.local, test.remote, r.socket.LocalAddr(), test.want)
		}
	}
	// Streams are a path of their own.
	path := Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:4500"), Stream: true}
	if r, err := p.routeFor(path); err == nil {
		t.Errorf("a stream without streams leads through %v", r.socket.LocalAddr())
	}
	streams := newSocket("192.0.2.1:4500", 1, nil)
	streams.stream = true
	p.sockets[streams] = &boundSocket{socket: streams}
	if r, err := p.routeFor(path); err != nil || r.socket != streams {
		t.Errorf("a stream: %v", err)
	}
	path.Stream = false
	if r, err := p.routeFor(path); err != nil || r.socket != named["192.0.2.1:4500"] {
		t.Errorf("UDP beside streams: %v", err)
	}
}

// TestRekey: make before break, as initiator and as responder.
func TestRekey(t *testing.T) {
	spiOfHost := func(b *bench) uint32 {
		t.Helper()
		sent := b.host(ip("10.1.0.1", "10.2.0.1", 1))
		if len(sent) != 1 {
			t.Fatalf("%d packets sent", len(sent))
		}
		spi := binary.BigEndian.Uint32(sent[0].Data)
		return spi
	}
	reply := ip("10.2.0.1", "10.1.0.1", 1)

	t.Run("initiator", func(t *testing.T) {
		b := newBench(t)
		first, second := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.2.0.0/16")
		b.install(first)
		b.install(second)
		if got := spiOfHost(b); got != first.Out.SPI {
			t.Errorf("before the switch: SPI %#x", got)
		}
		if err := b.plane.Switch(2); err != nil {
			t.Fatal(err)
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after the switch: SPI %#x", got)
		}
		// The old one's first packet comes late, and changes nothing.
		if got := b.peer(seal(t, b.peerOf(first), reply)); len(got) != 1 {
			t.Error("a late packet on the old SA was lost")
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after a late packet: SPI %#x", got)
		}
		if err := b.plane.Remove(1); err != nil {
			t.Fatal(err)
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after removal: SPI %#x", got)
		}
		b.wantDrops(nil)
	})
	t.Run("retired", func(t *testing.T) {
		b := newBench(t)
		first, second := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.2.0.0/16")
		b.install(first)
		b.install(second)
		if err := b.plane.Retire(1); err != nil {
			t.Fatal(err)
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("sends on SPI %#x", got)
		}
		if got := b.peer(seal(t, b.peerOf(first), reply)); len(got) != 1 {
			t.Error("a late packet was lost")
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after a late packet: SPI %#x", got)
		}
		if b.plane.Switch(1) == nil || b.plane.Retire(7) == nil {
			t.Error("switched to a child that sends no more")
		}
		if err := b.plane.Remove(1); err != nil {
			t.Fatal(err)
		}
		if got := b.peer(seal(t, b.peerOf(first), reply)); len(got) != 0 {
			t.Error("a packet on a removed SA passed")
		}
		b.wantDrops(map[Drop]uint64{DropNoSA: 1})
	})
	t.Run("responder", func(t *testing.T) {
		b := newBench(t)
		first, second := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.2.0.0/16")
		b.install(first)
		b.install(second)
		forged := seal(t, b.peerOf(second), reply)
		forged[len(forged)-1] ^= 1
		b.peer(forged)
		if got := spiOfHost(b); got != first.Out.SPI {
			t.Errorf("a forged packet switched to SPI %#x", got)
		}
		if got := b.peer(seal(t, b.peerOf(second), reply)); len(got) != 1 {
			t.Error("the first packet on the new SA was lost")
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after the first packet: SPI %#x", got)
		}
		b.wantDrops(map[Drop]uint64{DropBadICV: 1})
	})
	t.Run("removal", func(t *testing.T) {
		b := newBench(t)
		first, second := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.2.0.0/16")
		b.install(first)
		b.install(second)
		if err := b.plane.Remove(1); err != nil {
			t.Fatal(err)
		}
		if got := spiOfHost(b); got != second.Out.SPI {
			t.Errorf("after removal: SPI %#x", got)
		}
	})
}

// TestSockets: what a path's socket does with packets, and what happens when it goes.
func TestSockets(t *testing.T) {
	b := newBench(t)
	one, two := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.3.0.0/16")
	b.install(one)
	b.install(two)
	refused := errors.New("refused")
	b.refuse = func(p udpencap.Packet) error {
		if spi := binary.BigEndian.Uint32(p.Data); spi == one.Out.SPI {
			return refused
		}
		return nil
	}
	mix := [][]byte{ip("10.1.0.1", "10.3.0.1", 1), ip("10.1.0.1", "10.2.0.1", 1), ip("10.1.0.1", "10.2.0.1", 1), ip("10.1.0.1", "10.3.0.1", 1)}
	if sent := b.host(mix...); len(sent) != 2 {
		t.Errorf("%d packets sent beside refused ones, want 2", len(sent))
	}
	b.wantDrops(map[Drop]uint64{DropSocket: 2})
	if s, _ := b.plane.ChildStats(1); s.Drops[DropSocket] != 2 || s.Out.Packets != 0 || !s.Sent.IsZero() {
		t.Errorf("child 1: %+v", s)
	}
	if s, _ := b.plane.ChildStats(2); s.Drops.Total() != 0 || s.Out.Packets != 2 || s.Sent.IsZero() {
		t.Errorf("child 2: %+v", s)
	}

	b.refuse = nil
	other := newSocket("192.0.2.1:9999", 1, b.socket.wire)
	b.plane.sockets[other] = &boundSocket{socket: other}
	path := Path{Local: netip.MustParseAddrPort("192.0.2.1:9999"), Remote: netip.MustParseAddrPort("203.0.113.5:1234")}
	if err := b.plane.Move(2, path); err != nil {
		t.Fatal(err)
	}
	sent := b.host(mix...)
	if len(sent) != 4 {
		t.Fatalf("%d packets sent over two sockets, want 4", len(sent))
	}
	for i, want := range []netip.AddrPort{path.Remote, one.Path.Remote, one.Path.Remote, path.Remote} {
		if sent[i].Remote != want {
			t.Errorf("packet %d went to %v, want %v", i, sent[i].Remote, want)
		}
	}
	b.socket.Close()
	if sent := b.host(mix...); len(sent) != 2 {
		t.Errorf("%d packets sent beside a closed socket, want 2", len(sent))
	}
	b.wantDrops(map[Drop]uint64{DropSocket: 4})
}

// TestExpire: soft at 2^31 numbers of either direction, hard at the end; once each.
func TestExpire(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	c.In.ESN, c.Out.ESN = false, false
	b.install(c)
	ch := b.plane.children[1]
	pkt := ip("10.1.0.1", "10.2.0.1", 1)

	ch.tx.out.seq = softPackets - 2
	b.host(pkt)
	if len(b.events.expired) != 0 {
		t.Fatalf("expired early: %v", b.events.expired)
	}
	b.host(pkt, pkt, pkt)
	ch.tx.out.seq = 1<<32 - 3
	if sent := b.host(pkt, pkt, pkt, pkt, pkt); len(sent) != 2 {
		t.Errorf("%d packets sent before the end of the numbers, want 2", len(sent))
	}
	want := []string{"child 1 hard false", "child 1 hard true"}
	if diff := cmp.Diff(want, b.events.expired); diff != "" {
		t.Error(diff)
	}
	b.wantDrops(map[Drop]uint64{DropExhausted: 3})

	b.events.expired = nil
	peer := b.peerOf(c)
	peer.seq = softPackets - 2
	reply := ip("10.2.0.1", "10.1.0.1", 1)
	b.peer(seal(t, peer, reply))
	if len(b.events.expired) != 0 {
		t.Fatalf("inbound expired early: %v", b.events.expired)
	}
	b.peer(seal(t, peer, reply))
	b.peer(seal(t, peer, reply))
	if diff := cmp.Diff(want[:1], b.events.expired); diff != "" {
		t.Error(diff)
	}
}

// TestVolumes: the limits of a child, by octets and by packets, in both directions.
func TestVolumes(t *testing.T) {
	pkt, reply := ip("10.1.0.1", "10.2.0.1", 1), ip("10.2.0.1", "10.1.0.1", 1)
	size := uint64(len(pkt))
	for name, limits := range map[string][2]Volume{
		"octets":  {{Bytes: 3 * size}, {Bytes: 5 * size}},
		"packets": {{Packets: 3}, {Packets: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
			c.Soft, c.Hard = limits[0], limits[1]
			b.install(c)
			if sent := b.host(pkt, pkt); len(sent) != 2 || len(b.events.expired) != 0 {
				t.Fatalf("%d sent, expired %v", len(sent), b.events.expired)
			}
			if sent := b.host(pkt, pkt, pkt, pkt, pkt); len(sent) != 3 {
				t.Errorf("%d more sent, want 3", len(sent))
			}
			want := []string{"child 1 hard false", "child 1 hard true"}
			if diff := cmp.Diff(want, b.events.expired); diff != "" {
				t.Error(diff)
			}
			b.wantDrops(map[Drop]uint64{DropExhausted: 2})
			b.events.expired = nil
			peer := b.peerOf(c)
			for range 7 {
				b.peer(seal(t, peer, reply))
			}
			if diff := cmp.Diff(want, b.events.expired); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKinds: IKE goes to its owner, keepalives and unknown SPIs are counted, and what
// stands between them passes.
func TestKinds(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	b.install(c)
	peer := b.peerOf(c)
	esp := func(data []byte) udpencap.Packet { return udpencap.Packet{Kind: udpencap.ESP, Data: data} }
	inner := ip("10.2.0.1", "10.1.0.1", 1)
	got := b.arrive(
		esp(seal(t, peer, inner)),
		udpencap.Packet{Kind: udpencap.IKE, Data: []byte("message")},
		esp(seal(t, peer, inner)),
		esp([]byte{0, 0, 0x99, 0x99, 0, 0, 0, 1}),
		esp([]byte{1, 2, 3}),
		udpencap.Packet{Kind: udpencap.Keepalive, Data: []byte{0xff}},
		esp(seal(t, peer, inner)),
	)
	if len(got) != 3 {
		t.Errorf("%d packets delivered, want 3", len(got))
	}
	if len(b.events.ike) != 1 || string(b.events.ike[0]) != "message" {
		t.Errorf("IKE messages %q", b.events.ike)
	}
	if len(b.events.unknown) != 1 || b.events.unknown[0] != 0x9999 {
		t.Errorf("unknown SPIs %#x", b.events.unknown)
	}
	if s := b.plane.Stats(); s.IKE != 1 || s.Keepalives != 1 {
		t.Errorf("%d IKE messages and %d keepalives counted", s.IKE, s.Keepalives)
	}
	b.wantDrops(map[Drop]uint64{DropNoSA: 1, DropTooShort: 1})
}

// TestDeviceRefuses: what the host does not take is counted.
func TestDeviceRefuses(t *testing.T) {
	b := newBench(t)
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	b.install(c)
	peer := b.peerOf(c)
	b.dev.sink = func(pkt []byte) bool { return pkt[len(pkt)-1]%2 == 1 }
	var pkts [][]byte
	for i := range 10 {
		pkts = append(pkts, seal(t, peer, ip("10.2.0.1", "10.1.0.1", 1+i)))
	}
	b.peer(pkts...)
	b.wantDrops(map[Drop]uint64{DropDevice: 5})
}

// TestAcquire: what no child takes is told, in measure.
func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for range 100 {
			b.host(ip("10.1.0.1", "10.9.0.1", 1), ip("10.1.0.1", "224.0.0.251", 1), ip("fe80::1", "ff02::2", 1))
		}
		want := []Flow{{Src: addr("10.1.0.1"), Dst: addr("10.9.0.1"), Protocol: protoUDP, SrcPort: 4000, DstPort: 5000}}
		if diff := cmp.Diff(want, b.events.acquired, compareAddrs); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Second)
		b.host(ip("10.1.0.1", "10.9.0.1", 1))
		if len(b.events.acquired) != 2 {
			t.Errorf("%d events after a second, want 2", len(b.events.acquired))
		}
		time.Sleep(time.Minute)
		b.events.acquired = nil
		for i := range 10_000 {
			b.host(packet(addr("10.1.0.1"), netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), protoUDP, nil))
		}
		if n := len(b.events.acquired); n != 50 {
			t.Errorf("%d events for 10,000 destinations at once, want 50", n)
		}
		b.wantDrops(map[Drop]uint64{DropNoPolicy: 300 + 1 + 10_000})
	})
}

// TestUnknownSPILimit: a flood of guesses does not flood the control plane.
func TestUnknownSPILimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		guess := []byte{9, 9, 9, 9, 0, 0, 0, 1}
		for range 1000 {
			b.peer(guess, guess, guess)
		}
		if n := len(b.events.unknown); n != 10 {
			t.Errorf("%d events at once, want 10", n)
		}
		time.Sleep(time.Second)
		for range 1000 {
			b.peer(guess)
		}
		if n := len(b.events.unknown); n != 20 {
			t.Errorf("%d events after a second, want 20", n)
		}
		b.wantDrops(map[Drop]uint64{DropNoSA: 4000})
	})
}

// TestUsage: authentic packets count as heard, others do not.
func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		one, two := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.3.0.0/16")
		b.install(one)
		b.install(two)
		peer := b.peerOf(one)
		both := []uint64{1, 2, 77}
		if heard, sent := b.plane.Usage(both); !heard.IsZero() || !sent.IsZero() {
			t.Errorf("before anything: heard %v, sent %v", heard, sent)
		}
		time.Sleep(time.Second)
		b.peer(seal(t, peer, ip("10.2.0.1", "10.1.0.1", 1)))
		first := time.Now()
		time.Sleep(time.Second)
		b.host(ip("10.1.0.1", "10.3.0.1", 1))
		second := time.Now()
		time.Sleep(time.Second)
		forged := seal(t, peer, ip("10.2.0.1", "10.1.0.1", 1))
		forged[9] ^= 1
		b.peer(forged)
		if heard, sent := b.plane.Usage(both); !heard.Equal(first) || !sent.Equal(second) {
			t.Errorf("heard %v, sent %v, want %v and %v", heard, sent, first, second)
		}
		if heard, sent := b.plane.Usage([]uint64{2}); !heard.IsZero() || !sent.Equal(second) {
			t.Errorf("child 2: heard %v, sent %v", heard, sent)
		}
		// A dummy packet says that the peer lives (RFC 4303 §2.6), though nothing is delivered.
		if got := b.peer(sealText(peer, []byte{0, protoNone})); len(got) != 0 {
			t.Error("a dummy packet was delivered")
		}
		if heard, _ := b.plane.Usage(both); !heard.Equal(time.Now()) {
			t.Errorf("after a dummy packet: heard %v", heard)
		}
	})
}

// TestMarks: ECN goes both ways (RFC 6040), DSCP only where it is wanted.
func TestMarks(t *testing.T) {
	b := newBench(t)
	plain, copying := b.child(1, "10.1.0.0/16", "10.2.0.0/16"), b.child(2, "10.1.0.0/16", "10.3.0.0/16")
	copying.CopyDSCP = true
	b.install(plain)
	b.install(copying)
	for _, test := range []struct {
		dst  string
		dscp uint8
	}{{"10.2.0.1", 0}, {"10.3.0.1", 46}} {
		for ecn := range uint8(4) {
			pkt := ip("10.1.0.1", test.dst, 1)
			pkt[1] = 46<<2 | ecn
			sent := b.host(pkt)
			if len(sent) != 1 || sent[0].ECN != ecn || sent[0].DSCP != test.dscp {
				t.Errorf("to %s with ECN %d: outer ECN %d, DSCP %d", test.dst, ecn, sent[0].ECN, sent[0].DSCP)
			}
		}
	}
	peer := b.peerOf(plain)
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			pkt := ip("10.2.0.1", "10.1.0.1", 1)
			setECN(pkt, inner)
			got := b.arrive(udpencap.Packet{Kind: udpencap.ESP, Data: seal(t, peer, pkt), ECN: outer, Remote: plain.Path.Remote})
			want, ok := decapECN(outer, inner)
			if ok != (len(got) == 1) {
				t.Fatalf("inner ECN %d, outer %d: %d packets delivered", inner, outer, len(got))
			}
			if ok && (trafficClass(got[0]) != want || checksum(got[0][:20]) != 0xffff) {
				t.Errorf("inner ECN %d, outer %d: class %#x, want %d", inner, outer, trafficClass(got[0]), want)
			}
		}
	}
	b.wantDrops(map[Drop]uint64{DropECN: 1})
}

// TestTooBig: an inner packet that no UDP datagram holds is dropped, not cut.
func TestTooBig(t *testing.T) {
	b := newBench(t)
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	sent := b.host(packet(addr("10.1.0.1"), addr("10.2.0.1"), 200, make([]byte, 65515)), ip("10.1.0.1", "10.2.0.1", 65000), ip("10.1.0.1", "10.2.0.1", 1))
	if len(sent) != 2 {
		t.Errorf("%d packets sent, want 2", len(sent))
	}
	b.wantDrops(map[Drop]uint64{DropTooBig: 1})
}

// TestMalformedFromHost: nothing that the host writes stops the loop.
func TestMalformedFromHost(t *testing.T) {
	b := newBench(t)
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	good := ip("10.1.0.1", "10.2.0.1", 1)
	b.out.batch([]tun.Frame{{}, {Pieces: [][]byte{nil}}, {Pieces: [][]byte{good[:19]}}, {Pieces: [][]byte{good}}})
	b.out.flush()
	if len(b.sent) != 1 {
		t.Errorf("%d packets sent, want 1", len(b.sent))
	}
	b.wantDrops(map[Drop]uint64{DropBadInner: 3})
}

// TestLifecycle: loops begin and end, and nothing outlives Close.
func TestLifecycle(t *testing.T) {
	delivered := make(chan []byte, 10)
	dev := newDevice(8, func(pkt []byte) bool { delivered <- pkt; return true })
	wire := make(chan udpencap.Packet, 10)
	one := newSocket("192.0.2.1:4500", 8, func(p udpencap.Packet) error { wire <- p; return nil })
	two := newSocket("192.0.2.1:4501", 8, func(p udpencap.Packet) error { return nil })
	e := new(events)
	p := New(dev, e, nil)
	p.Start()
	p.Start()
	p.AddSocket(one)
	p.AddSocket(two)
	b := &bench{t: t, plane: p}
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	b.install(c)
	dev.host <- [][]byte{ip("10.1.0.1", "10.2.0.1", 1)}
	if got := <-wire; got.Remote != c.Path.Remote {
		t.Errorf("sent to %v", got.Remote)
	}
	two.arrived <- []udpencap.Packet{{Kind: udpencap.ESP, Data: seal(t, b.peerOf(c), ip("10.2.0.1", "10.1.0.1", 1))}}
	<-delivered
	p.RemoveSocket(two)
	p.RemoveSocket(two)
	if _, err := two.Write(make([]udpencap.Packet, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("removed socket: %v, want closed", err)
	}
	p.Close()
	p.Close()
	if _, err := one.Write(make([]udpencap.Packet, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("socket after Close: %v, want closed", err)
	}
	late := newSocket("192.0.2.1:4502", 8, nil)
	p.AddSocket(late)
	if _, err := late.Write(make([]udpencap.Packet, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("socket added after Close: %v, want closed", err)
	}
	p.Start()
}

// TestReadErrors: an error that may pass does not end a loop, and does not spin.
func TestReadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := newDevice(1, nil)
		reads := 0
		p := New(&failingDevice{channelDevice: dev, reads: &reads}, new(events), nil)
		p.Start()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if reads != 11 {
			t.Errorf("%d reads in ten seconds, want one a second", reads)
		}
		p.Close()
	})
}

type failingDevice struct {
	*channelDevice
	reads *int
}

func (d *failingDevice) Queues() []tun.Queue { return []tun.Queue{d} }

func (d *failingDevice) Read([]tun.Frame) (int, error) {
	*d.reads++
	return 0, errors.New("interface is down")
}
