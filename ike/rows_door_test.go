package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

func TestRow53DegenerateKeyExchange(t *testing.T) {
	for _, group := range []struct {
		name string
		id   uint16
	}{{"x25519", suite.KEX25519}, {"ecp256", suite.KEECP256}, {"ecp384", suite.KEECP384}, {"ecp521", suite.KEECP521}, {"modp2048", suite.KEMODP2048}, {"modp3072", suite.KEMODP3072}} {
		client, gateway := pskPair(t)
		client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-"+group.name)
		gateway.Proposals = client.Proposals
		w, a, b := pair(t, client, gateway)
		w.fate = func(*host, Send) int { return 0 }
		a.initiate("home", b)
		w.run(time.Millisecond)
		m := lastInit(t, a)
		ke, _ := message.Find[*message.KE](m.Payloads)
		n := kex.PublicLen(group.id)
		one := make([]byte, n)
		one[n-1] = 1
		for i, data := range [][]byte{make([]byte, n), one, bytes.Repeat([]byte{0xff}, n)} {
			if group.id == suite.KEX25519 && i > 0 {
				continue // a valid point, or one of low order in another octet order
			}
			ke.Data = data
			m.SPIi = message.SPI(i + 1)
			b.deliverOn(b.path(a, false), m.Append(nil))
		}
		w.run(time.Second)
		if len(b.e.Statuses()) != 0 || b.count(DropMalformed) == 0 || len(sentOf(b, message.IKESAInit, true)) != 0 {
			t.Errorf("%s: a degenerate value made an SA", group.name)
		}
	}
}

// TestRow56NoAmplification: what a stranger gets is never longer than what he sent, and
// one for one.
func TestRow56NoAmplification(t *testing.T) {
	client, gateway := pskPair(t)
	other := *gateway
	other.Proposals = ikeProposals(t, "aes128-sha1-modp1024")
	for name, c := range map[string]struct {
		conn *Connection
		gate HalfOpen
	}{
		"cookie":      {gateway, HalfOpen{CookiePrefix: -1}},
		"puzzle":      {gateway, HalfOpen{CookiePrefix: -1, PuzzlePrefix: -1}},
		"no proposal": {&other, HalfOpen{}},
	} {
		w, a, b := pair(t, client, c.conn)
		b.e.gate.cfg = c.gate
		raw := initRequest(t, a, b)
		for i := range 1000 {
			raw[0] = byte(i)
			raw[1] = byte(i >> 8)
			b.deliverOn(b.path(a, false), raw)
		}
		w.run(5 * time.Minute)
		if len(b.sent) > 1000 {
			t.Errorf("%s: %d answers to 1000 requests", name, len(b.sent))
		}
		for _, s := range b.sent {
			if len(s.Data) > len(raw) {
				t.Errorf("%s: %d octets for %d", name, len(s.Data), len(raw))
			}
		}
		empty(t, b)
	}
}

func TestRow57HalfOpenRemoved(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519")
	w, a, b := pair(t, client, gateway)
	for i := range 50 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}), 500)
		p := b.path(a, false)
		p.Remote = src
		b.deliverOn(p, initRequestTo(t, a, b, src))
	}
	if n := len(b.e.Statuses()); n != 50 {
		t.Fatalf("%d half-open", n)
	}
	w.run(29 * time.Second)
	if n := len(b.e.Statuses()); n != 50 {
		t.Errorf("%d half-open after 29 s", n)
	}
	w.run(2 * time.Second)
	empty(t, b)
	if n := len(found[Down](b)); n != 50 {
		t.Errorf("%d ends reported", n)
	}
}

// initRequestTo is a request that seems to come from src.
func initRequestTo(t testing.TB, a, b *host, src netip.AddrPort) []byte {
	t.Helper()
	raw := initRequest(t, a, b)
	m, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	_ = src // NAT detection finds a NAT, which is all the same here
	return m.Append(nil)
}

// TestRow58Caravan: 500 clients behind one address come up after the gateway restarted.
func TestRow58Caravan(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness, client.Keepalive = -1, -1, -1
	w := newWorld(t)
	b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway}})
	var clients []*host
	for i := range 500 {
		c := w.add(fmt.Sprint("client", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), &Config{Connections: []*Connection{client}})
		for port, base := range map[uint16]int{500: 10000, 4500: 20000} {
			w.nat[netip.AddrPortFrom(c.addr, port)] = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), uint16(base+i))
		}
		clients = append(clients, c)
		c.initiate("home", b)
	}
	w.run(20 * time.Second)
	if n := len(b.established()); n != 500 {
		t.Errorf("%d of 500 came up", n)
	}
	if b.count(DropCookieRequired) == 0 || b.count(DropHalfOpenLimit) != 0 {
		t.Errorf("%d cookies, %d turned away", b.count(DropCookieRequired), b.count(DropHalfOpenLimit))
	}
	for _, c := range clients {
		c.handle(Terminate{})
	}
	w.run(2 * time.Minute)
	empty(t, append(clients, b)...)
}

// TestRow58Cycles: connecting and disconnecting leaves nothing behind, on either side.
func TestRow58Cycles(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	for range 300 {
		a.initiate("home", b)
		w.run(time.Second)
		if len(b.established()) != 1 {
			t.Fatal("not up")
		}
		a.handle(Terminate{})
		w.run(time.Second)
		if len(a.e.timers) != 0 || len(a.e.sas) != 0 {
			t.Fatalf("%d timers, %d SAs left", len(a.e.timers), len(a.e.sas))
		}
	}
	w.run(time.Minute)
	empty(t, a, b)
}

// TestFragmentLimits: one message at a time is put together for an SA, of 64 fragments and
// 64 KiB at most, for 30 s, and nothing of it before the integrity check (security.md B6).
func TestFragmentLimits(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	sa, sb := engineOf(a), engineOf(b)
	grams := message.Seal(sa.header(message.Informational, sa.nextID, 0), []message.Payload{&message.VendorID{Data: make([]byte, 6000)}}, sa.seal, sa.nextIV, 200)
	if n := len(grams); n < 30 || n > message.MaxFragments {
		t.Fatalf("%d fragments", n)
	}
	pending := func() bool { _, is := sb.requests.Pending(); return is }
	forged := slices.Clone(grams[0])
	forged[len(forged)-1] ^= 1
	b.deliver(a, forged)
	if pending() || b.count(DropICV) != 1 {
		t.Error("a fragment with a wrong ICV is kept")
	}
	b.deliver(a, grams[0])
	if !pending() {
		t.Fatal("the first fragment is not kept")
	}
	w.run(reassemblyLife - time.Second)
	if !pending() {
		t.Error("given up too early")
	}
	w.run(2 * time.Second)
	if pending() {
		t.Error("kept for more than 30 s")
	}
	b.sent = nil
	for _, g := range slices.Backward(grams) {
		b.deliver(a, g)
	}
	if pending() || len(b.sent) != 1 {
		t.Errorf("%d answers to the whole message", len(b.sent))
	}
	sa.nextID++
	tooMany := message.Seal(sa.header(message.Informational, sa.nextID, 0), []message.Payload{&message.VendorID{Data: make([]byte, 12000)}}, sa.seal, sa.nextIV, 200)
	b.sent = nil
	for _, g := range tooMany {
		b.deliver(a, g)
	}
	if len(tooMany) <= message.MaxFragments || pending() || len(b.sent) != 0 {
		t.Errorf("%d fragments of %d octets did something", len(tooMany), len(tooMany[0]))
	}
	agree(t, a, b, 1)
}

// TestRow59SpoofedAuth: wrong IKE_AUTH messages of a third party do not cost the victim
// its half-open SA.
func TestRow59SpoofedAuth(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b, auth := halfOpen(t, client, gateway)
	for i := range 500 {
		x := slices.Clone(auth)
		x[28+i%(len(x)-28)] ^= byte(1 + i%255)
		b.deliverOn(Path{Local: b.path(a, true).Local, Remote: netip.MustParseAddrPort("203.0.113.66:4500"), Encap: true}, x)
		b.deliver(a, x[:28+i%(len(x)-28)])
	}
	if s := engineOf(b); s.state != stateConnecting || s.path != b.path(a, false) {
		t.Error("a message with a wrong ICV changed state")
	}
	w.fate = nil
	w.run(2 * time.Second)
	agree(t, a, b, 1)
}

// TestRow60SPIs: none is reserved or there twice, each leads to its engine, and those of one engine
// have all values of the bits by which udpencap spreads them over its readers.
func TestRow60SPIs(t *testing.T) {
	for bits := range uint8(7) {
		e := New(&Config{Shard: 1<<bits - 1, ShardBits: bits})
		seen := map[uint32]bool{}
		for range 5000 {
			spi := e.newESPSPI()
			if spi < 256 || seen[spi] || spi&(1<<bits-1) != 1<<bits-1 {
				t.Fatalf("SPI %08x with %d shard bits", spi, bits)
			}
			seen[spi] = true
		}
		high := map[uint32]bool{}
		for spi := range seen {
			high[spi>>24&7] = true
		}
		if len(high) != 8 {
			t.Errorf("with %d shard bits the SPIs come to %d of 8 readers", bits, len(high))
		}
	}
}
