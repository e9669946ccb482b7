package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// TestRow64Remapped: the newest authentic packet of a peer behind a NAT says where it is,
// until the next one does. Without a NAT a peer with MOBIKE says so itself.
func TestRow64Remapped(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	masquerade(w, a, "203.0.113.7", 20000)
	a.initiate("home", b)
	w.run(time.Second)
	c := b.onlyChild()
	old := c.Path
	for _, p := range []Path{b.pathFrom("203.0.113.7", 33333), b.pathFrom(strangerAddr, 4500), old} {
		b.handle(Remapped{Child: c.ID, Path: p})
		if s := engineOf(b); b.onlyChild().Path != p || s.path != p {
			t.Errorf("IKE on %v, packets on %v, want %v", s.path, b.onlyChild().Path, p)
		}
	}
	b.handle(Remapped{Child: c.ID + 100, Path: b.pathFrom(strangerAddr, 4500)})
	if b.onlyChild().Path != old {
		t.Error("another child's packet moved this one")
	}

	// Not to where the configuration does not let the peer come from.
	engineOf(b).conn.From = []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}
	b.handle(Remapped{Child: c.ID, Path: b.pathFrom(strangerAddr, 4500)})
	if b.onlyChild().Path != old {
		t.Error("followed to an address that is not let in")
	}

	_, _, b = roamers(t)
	c, home := b.onlyChild(), b.onlyChild().Path
	b.handle(Remapped{Child: c.ID, Path: b.pathFrom(strangerAddr, 4500)})
	if b.onlyChild().Path != home {
		t.Error("a peer without NAT moved by itself")
	}
}

// TestWithoutMOBIKEAPeerIsFollowed: it has no other way to say where it is.
func TestWithoutMOBIKEAPeerIsFollowed(t *testing.T) {
	w, a, b := roamers(t, func(client, _ *Connection) { client.NoMOBIKE = true })
	before := a.onlyChild().SPIIn
	a.move(awayAddr)
	w.run(10 * time.Second)
	meet(t, a, b, awayAddr, gatewayAddr)
	if a.onlyChild().SPIIn == before {
		t.Error("the child was not replaced, by which other peers learn where its packets go")
	}

	// The gateway does not move because somebody sends from elsewhere.
	home := a.onlyChild().Path
	a.handle(Remapped{Child: a.onlyChild().ID, Path: a.pathFrom(strangerAddr, 4500)})
	if a.onlyChild().Path != home {
		t.Error("the client followed its gateway")
	}
	c := b.onlyChild()
	b.handle(Remapped{Child: c.ID, Path: b.pathFrom(homeAddr, 4500)})
	if got := b.onlyChild().Path; got.Remote.Addr().String() != homeAddr {
		t.Errorf("the gateway sends to %v", got)
	}
}

// TestNoNATsAllowed: the peer says from where to where it sends, and an update that a NAT
// has changed is refused.
func TestNoNATsAllowed(t *testing.T) {
	for _, c := range []struct {
		name, from string
		data       func(p Path) []byte
		want       message.NotifyType
	}{
		{"true", awayAddr, bothEnds, 0},
		{"translated", awayAddr, func(p Path) []byte { p.Remote = netip.MustParseAddrPort("10.0.0.1:4500"); return bothEnds(p) }, message.UnexpectedNATDetected},
		{"another port", awayAddr, func(p Path) []byte { p.Remote = netip.AddrPortFrom(p.Remote.Addr(), 4501); return bothEnds(p) }, message.UnexpectedNATDetected},
		{"cut off", awayAddr, func(p Path) []byte { return bothEnds(p)[:11] }, message.UnexpectedNATDetected},
		{"empty", awayAddr, func(Path) []byte { return nil }, message.UnexpectedNATDetected},
	} {
		w, a, b := roamers(t)
		s, home := engineOf(a), engineOf(b).path
		w.fate = func(*host, Send) int { return 0 }
		p := b.pathFrom(c.from, 4500)
		b.deliverOn(p, craft(t, s, message.Informational, s.nextID, 0, notify(message.UpdateSAAddresses), notifyData(message.NoNATsAllowed, c.data(p))))
		got := message.NotifyType(0)
		for _, x := range b.sent {
			if h, err := message.ParseHeader(x.Data); err == nil && h.IsResponse() && h.MessageID == s.nextID {
				_, e, text, _ := message.Open(slices.Clone(x.Data), s.open)
				if ps, err := message.ParsePayloads(e.First, text); err != nil {
					t.Fatal(err)
				} else if n := message.FindError(ps); n != nil {
					got = n.Notify
				}
			}
		}
		moved := engineOf(b).path != home
		if got != c.want || moved != (c.want == 0) {
			t.Errorf("%s: answered %v, IKE moved: %v", c.name, got, moved)
		}
	}
}

// TestNATIsDetectedAnew: the client goes behind a NAT and out again; keepalives begin
// and end.
func TestNATIsDetectedAnew(t *testing.T) {
	w, a, b := roamers(t)
	w.nat[netip.MustParseAddrPort(awayAddr+":4500")] = netip.MustParseAddrPort("203.0.113.7:20000")
	a.move(awayAddr)
	w.run(time.Second)
	if !engineOf(a).is(condNATHere) || !engineOf(b).is(condNATThere) {
		t.Errorf("conditions %v and %v", engineOf(a).conds.names(), engineOf(b).conds.names())
	}
	if got := b.onlyChild().Path.Remote.String(); got != "203.0.113.7:20000" {
		t.Errorf("the gateway sends to %v", got)
	}
	a.sent = nil
	w.run(50 * time.Second)
	if len(a.sent) != 2 || !a.sent[0].Keepalive {
		t.Errorf("%d messages in 50 s, want two keepalives", len(a.sent))
	}
	a.move(homeAddr)
	w.run(time.Second)
	meet(t, a, b, homeAddr, gatewayAddr)
	if engineOf(a).is(condNATHere) || engineOf(b).is(condNATThere) {
		t.Errorf("conditions %v and %v", engineOf(a).conds.names(), engineOf(b).conds.names())
	}
	a.sent = nil
	w.run(time.Minute)
	if len(a.sent) != 0 {
		t.Errorf("%d messages without a NAT", len(a.sent))
	}
}

// TestMappingChangeIsNoticed: with nothing but IKE, the client's own check tells it that the
// NAT has given it another port.
func TestMappingChangeIsNoticed(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = 10*time.Second, -1
	w, a, b := pair(t, client, gateway)
	masquerade(w, a, "203.0.113.7", 20000)
	a.initiate("home", b)
	for port := uint16(30000); port < 30003; port++ {
		w.run(15 * time.Second)
		outside := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), port)
		w.nat[netip.AddrPortFrom(a.addr, 4500)] = outside
		w.run(15 * time.Second)
		if got := b.onlyChild().Path.Remote; got != outside {
			t.Errorf("the gateway sends to %v, want %v", got, outside)
		}
	}
	// As long as nothing changes nothing is told.
	a.sent = nil
	w.run(45 * time.Second)
	for _, x := range a.sent {
		if h, err := message.ParseHeader(x.Data); err == nil && !h.IsResponse() && len(x.Data) > 113 {
			t.Error("an update without need")
		}
	}
}
