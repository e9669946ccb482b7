package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// roamers is a pair that is up and that checks nothing by itself.
func roamers(t testing.TB, change ...func(client, gateway *Connection)) (w *world, a, b *host) {
	t.Helper()
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = -1, -1
	for _, f := range change {
		f(client, gateway)
	}
	return up(t, client, gateway)
}

// meet checks that IKE and ESP of both sides go between the same two addresses.
func meet(t testing.TB, a, b *host, client, gateway string) {
	t.Helper()
	agree(t, a, b, 1)
	for _, x := range []struct {
		h             *host
		local, remote string
	}{{a, client, gateway}, {b, gateway, client}} {
		want := Path{
			Local:  netip.AddrPortFrom(netip.MustParseAddr(x.local), 4500),
			Remote: netip.AddrPortFrom(netip.MustParseAddr(x.remote), 4500), Encap: true,
		}
		s := engineOf(x.h)
		if s.path != want || s.espPath != want {
			t.Errorf("%s: IKE on %v, ESP on %v, want %v", x.h.name, s.path, s.espPath, want)
		}
		if got := x.h.onlyChild().Path; got != want {
			t.Errorf("%s: the data plane sends on %v, want %v", x.h.name, got, want)
		}
		if s.active != nil || len(s.queue) > 0 {
			t.Errorf("%s: something is still under way", x.h.name)
		}
	}
}

const (
	homeAddr, awayAddr     = "192.0.2.1", "192.0.2.99"
	gatewayAddr, otherAddr = "198.51.100.1", "198.51.100.2"
	strangerAddr           = "203.0.113.66"
)

// pathFrom is where a message to h comes from, when its sender is at addr.
func (h *host) pathFrom(addr string, port uint16) Path {
	return Path{
		Local:  netip.AddrPortFrom(h.addr, 4500),
		Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), port), Encap: true,
	}
}

func TestMOBIKEIsAnnounced(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	b.more = []netip.Addr{netip.MustParseAddr(otherAddr), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.1")}
	b.handle(Moved{Addresses: b.addresses()})
	a.handle(Moved{Addresses: []netip.Addr{a.addr, netip.MustParseAddr(awayAddr)}})
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if !engineOf(a).mobike() || !engineOf(b).mobike() {
		t.Error("MOBIKE is not in use")
	}
	// What is private is not for a peer that came to a public address.
	want := []netip.Addr{b.addr, netip.MustParseAddr(otherAddr), netip.MustParseAddr("2001:db8::1")}
	if got := engineOf(a).remotes; !slices.Equal(got, want) {
		t.Errorf("the client knows the gateway's addresses %v, want %v", got, want)
	}
	if got := engineOf(b).remotes; len(got) != 0 {
		t.Errorf("the client told its addresses %v", got)
	}
}

// TestPrivateAddressesAreForNeighbours: a gateway in a private network tells its other
// addresses there to those who are in it, and only public ones to those who came by a NAT.
func TestPrivateAddressesAreForNeighbours(t *testing.T) {
	private, public := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::1")
	for natted, want := range map[bool][]netip.Addr{false: {private, public}, true: {public}} {
		s := &ikeSA{e: &Engine{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), private, public}}}
		s.path.Local = netip.MustParseAddrPort("10.0.0.1:4500")
		if natted {
			s.conds = condNATHere
		}
		if got := s.furtherAddresses(); !slices.Equal(got, want) {
			t.Errorf("behind a NAT %v: %v, want %v", natted, got, want)
		}
	}
}

func TestMOBIKEOff(t *testing.T) {
	for _, off := range []func(client, gateway *Connection){
		func(client, _ *Connection) { client.NoMOBIKE = true },
		func(_, gateway *Connection) { gateway.NoMOBIKE = true },
	} {
		_, a, b := roamers(t, off)
		if engineOf(a).mobike() || engineOf(b).mobike() {
			t.Error("MOBIKE is in use")
		}
	}
}

// TestAddressChange: UPDATE_SA_ADDRESSES, its answer, the cookie and its echo, each of
// them in good order, lost, repeated and late.
func TestAddressChange(t *testing.T) {
	type fate struct {
		name   string
		copies int
		late   time.Duration
	}
	for _, f := range []fate{{"lost", 0, 0}, {"repeated", 2, 0}, {"late", 1, 1300 * time.Millisecond}} {
		for number := range 4 {
			t.Run(fmt.Sprintf("message %d is %s", number, f.name), func(t *testing.T) {
				w, a, b := roamers(t)
				seen := 0
				w.fate = func(_ *host, s Send) int {
					seen++
					if seen != number+1 {
						return 1
					}
					if f.late > 0 {
						w.delay, f.late = f.late, 0
						w.carry(s)
						w.delay = 10 * time.Millisecond
						return 0
					}
					return f.copies
				}
				a.move(awayAddr)
				w.run(20 * time.Second)
				meet(t, a, b, awayAddr, gatewayAddr)
				if n := len(found[PathChanged](b)); n != 1 {
					t.Errorf("the gateway reports %d changes", n)
				}
			})
		}
	}
}

// TestAddressChangeTakesTwoRoundTrips: what the client sends goes on at once, what the
// gateway sends when the cookie came back.
func TestAddressChangeTakesTwoRoundTrips(t *testing.T) {
	w, a, b := roamers(t)
	old := b.onlyChild().Path
	a.move(awayAddr)
	w.run(0)
	if got := a.onlyChild().Path.Local.Addr().String(); got != awayAddr {
		t.Errorf("the client sends from %v, an address that it has not", got)
	}
	w.run(25 * time.Millisecond)
	if got := b.onlyChild().Path; got != old {
		t.Errorf("the gateway sends to %v before the cookie came back", got)
	}
	w.run(15 * time.Millisecond)
	meet(t, a, b, awayAddr, gatewayAddr)
}

// TestMoveIsInTheKeyLog: Wireshark looks keys up by the addresses of a packet.
func TestMoveIsInTheKeyLog(t *testing.T) {
	w, a, _ := roamers(t)
	var entries []KeyLogEntry
	a.e.cfg.KeyLog = func(k KeyLogEntry) { entries = append(entries, k) }
	a.move(awayAddr)
	w.run(20 * time.Second)
	if len(entries) != 1 || entries[0].Child == nil || entries[0].Child.Path.Local.Addr().String() != awayAddr || len(entries[0].Child.Out.Encr) == 0 {
		t.Errorf("%d entries, want one of the child at %s", len(entries), awayAddr)
	}
}

// TestRow64SpoofedUpdate: somebody on the path changes the source of an authentic
// UPDATE_SA_ADDRESSES, and does not answer there. No packet ever goes there, and the
// SA lives on where it was.
func TestRow64SpoofedUpdate(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		w, a, b := roamers(t)
		home := b.onlyChild().Path
		s := engineOf(a)
		spoofed := b.pathFrom(strangerAddr, 4500)
		raw := craft(t, s, message.Informational, s.nextID, 0, notify(message.UpdateSAAddresses))
		s.nextID++
		w.fate = func(from *host, x Send) int {
			if from == b && x.Path.Remote == spoofed.Remote && relayed {
				// The stranger sends on what comes, and the answers too, from anywhere.
				a.deliver(b, x.Data)
			}
			return 1
		}
		b.deliverOn(spoofed, raw)
		for range 1200 {
			w.run(50 * time.Millisecond)
			if got := b.onlyChild().Path; got != home {
				t.Fatalf("relayed %v: packets go to %v", relayed, got)
			}
		}
		asked := 0
		for _, x := range b.sent {
			if h, err := message.ParseHeader(x.Data); err == nil && !h.IsResponse() && x.Path.Remote == spoofed.Remote {
				asked++
			}
		}
		if asked == 0 {
			t.Error("the gateway did not ask at the address that it was told")
		}
		agree(t, a, b, 1)
		a.move(awayAddr)
		w.run(30 * time.Second)
		meet(t, a, b, awayAddr, gatewayAddr)
	}
}

// TestRow64CookieMustBeRight: an answer without the cookie, or with another one, moves
// nothing.
func TestRow64CookieMustBeRight(t *testing.T) {
	for _, answer := range [][]message.Payload{nil, {notifyData(message.Cookie2, make([]byte, cookie2Len))}, {notifyData(message.Cookie2, nil)}} {
		w, a, b := roamers(t)
		home := b.onlyChild().Path
		s := engineOf(a)
		w.fate = func(*host, Send) int { return 0 }
		b.deliverOn(b.pathFrom(strangerAddr, 4500), craft(t, s, message.Informational, s.nextID, 0, notify(message.UpdateSAAddresses)))
		id := engineOf(b).pending.id
		b.deliverOn(b.pathFrom(strangerAddr, 4500), craft(t, s, message.Informational, id, message.FlagResponse, answer...))
		if got := b.onlyChild().Path; got != home {
			t.Errorf("%v: packets go to %v", answer, got)
		}
		if len(found[Warned](b)) != 1 {
			t.Error("nobody is told")
		}
	}
}

// multihomed is a client and a gateway with two addresses, which the client was told.
func multihomed(t testing.TB) (w *world, a, b *host) {
	t.Helper()
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = 10*time.Second, -1
	w, a, b = pair(t, client, gateway)
	b.more = []netip.Addr{netip.MustParseAddr(otherAddr)}
	b.handle(Moved{Addresses: b.addresses()})
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	return w, a, b
}

// TestDeadPathIsLeft: one of the gateway's addresses is cut off, and it does not know. The
// client finds the other one before it gives the peer up.
func TestDeadPathIsLeft(t *testing.T) {
	w, a, b := multihomed(t)
	w.fate = func(_ *host, s Send) int {
		if s.Path.Local.Addr().String() == gatewayAddr || s.Path.Remote.Addr().String() == gatewayAddr {
			return 0
		}
		return 1
	}
	w.run(30 * time.Second)
	meet(t, a, b, homeAddr, otherAddr)
}

// TestGatewayMoves: it cannot move the SA itself, but tells the client that its old
// address is gone.
func TestGatewayMoves(t *testing.T) {
	w, a, b := multihomed(t)
	b.move(otherAddr)
	w.run(time.Second)
	meet(t, a, b, homeAddr, otherAddr)
	if got := engineOf(a).remotes; !slices.Equal(got, []netip.Addr{netip.MustParseAddr(otherAddr)}) {
		t.Errorf("the client knows the gateway's addresses %v", got)
	}
	b.move(otherAddr, gatewayAddr)
	w.run(time.Second)
	if got := engineOf(a).remotes; len(got) != 2 {
		t.Errorf("the client knows the gateway's addresses %v", got)
	}
	meet(t, a, b, homeAddr, otherAddr)
}

// TestOffline: without a network the SA is kept, nothing is given up, and it goes on.
func TestOffline(t *testing.T) {
	for _, back := range []string{homeAddr, awayAddr} {
		client, gateway := pskPair(t)
		client.Liveness, gateway.Liveness = 10*time.Second, -1
		w, a, b := up(t, client, gateway)
		a.offline = true
		a.handle(Moved{})
		w.run(time.Minute)
		if n := len(a.established()); n != 1 {
			t.Fatalf("%d SAs after a minute without network", n)
		}
		a.offline = false
		a.move(back)
		w.run(5 * time.Second)
		meet(t, a, b, back, gatewayAddr)
	}
	// An order to end it is carried out all the same.
	w, a, _ := roamers(t)
	a.offline = true
	a.handle(Moved{})
	w.run(time.Second)
	a.poke((*ikeSA).check)
	a.handle(Terminate{})
	w.run(time.Minute)
	empty(t, a)
}

// TestWoken: after a sleep the peer is asked at once, and given up soon if it is gone.
func TestWoken(t *testing.T) {
	w, a, b := roamers(t)
	a.sent, b.sent = nil, nil
	a.handle(Moved{Addresses: a.addresses(), Woken: true})
	w.run(time.Second)
	if len(a.sent) != 1 || len(b.sent) != 1 {
		t.Errorf("%d requests and %d answers", len(a.sent), len(b.sent))
	}
	w.fate = func(*host, Send) int { return 0 }
	b.handle(Moved{Addresses: b.addresses(), Woken: true})
	w.run(15 * time.Second)
	if b.downCode() != CodePeerDead {
		t.Error("a peer that is gone was not given up")
	}
}

// TestUnacceptableAddresses: a gateway that takes peers from some addresses only says
// so, and the client goes elsewhere or ends.
func TestUnacceptableAddresses(t *testing.T) {
	narrow := func(_, gateway *Connection) { gateway.From = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	w, a, b := roamers(t, narrow)
	a.move(strangerAddr, awayAddr)
	w.run(5 * time.Second)
	meet(t, a, b, awayAddr, gatewayAddr)

	w, a, b = roamers(t, narrow)
	a.move(strangerAddr)
	w.run(5 * time.Second)
	if a.downCode() != CodeRefused {
		t.Errorf("ended with %v", a.downCode())
	}
	w.run(time.Minute)
	empty(t, a, b)
}

// TestReadAddresses: lists of every length, and addresses that cannot be another host's.
func TestReadAddresses(t *testing.T) {
	for size := range 21 {
		for _, kind := range []message.NotifyType{message.AdditionalIP4Address, message.AdditionalIP6Address} {
			got, said := readAddresses([]message.Payload{notifyData(kind, bytes.Repeat([]byte{33}, size))})
			want := kind == message.AdditionalIP4Address && size == 4 || kind == message.AdditionalIP6Address && size == 16
			if !said || len(got) != map[bool]int{true: 1}[want] {
				t.Errorf("%v of %d octets: %v", kind, size, got)
			}
		}
	}
	for _, bad := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1", "fe80::1"} {
		if got, _ := readAddresses(additionalAddresses([]netip.Addr{netip.MustParseAddr(bad)})); len(got) != 0 {
			t.Errorf("took %v", got)
		}
	}
	many := slices.Repeat([]netip.Addr{netip.MustParseAddr(otherAddr)}, 50)
	if got, _ := readAddresses(additionalAddresses(many)); len(got) != maxAddresses {
		t.Errorf("took %d addresses", len(got))
	}
	if _, said := readAddresses([]message.Payload{notify(message.MOBIKESupported)}); said {
		t.Error("nothing was said of addresses")
	}
	if got, said := readAddresses([]message.Payload{notify(message.NoAdditionalAddresses)}); !said || len(got) != 0 {
		t.Error("NO_ADDITIONAL_ADDRESSES was not understood")
	}
}

// TestOneWayTrafficIsChecked: who opened the connection asks soon when it sends and nothing
// comes back, and only then.
func TestOneWayTrafficIsChecked(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	sent := int64(time.Second)
	a.usage = func(Usage) UsageReply { return UsageReply{Heard: -1, Sent: sent} }
	b.usage = a.usage
	a.sent, b.sent = nil, nil
	w.run(6 * time.Second)
	if len(a.sent) != 1 || len(b.sent) != 1 {
		t.Errorf("%d messages of the client's and %d of the gateway's", len(a.sent), len(b.sent))
	}
	sent = -1
	a.sent = nil
	w.run(24 * time.Second)
	if len(a.sent) != 0 {
		t.Errorf("%d checks of a peer from whom nothing is wanted", len(a.sent))
	}
}

// TestFreshSAWhereThePeerDoesNotFollow: a gateway without MOBIKE that takes nothing of the SA
// from our new address. A fresh SA is tried from there before the one that we have is given up.
func TestFreshSAWhereThePeerDoesNotFollow(t *testing.T) {
	start := func() (w *world, a, b *host) {
		w, a, b = roamers(t, func(client, _ *Connection) { client.NoMOBIKE = true })
		old := engineOf(a).spii
		w.fate = func(_ *host, s Send) int {
			if h, err := message.ParseHeader(s.Data); err == nil && h.SPIi == old {
				return 0
			}
			return 1
		}
		return w, a, b
	}
	w, a, b := start()
	// A runner of the gateway would end the old SA because of the new one; this one lets it be.
	empty := 0
	a.watch = func(x Action) {
		if _, ok := x.(Remove); ok && len(a.installed) == 1 {
			empty++
		}
	}
	a.move(awayAddr)
	w.run(5 * time.Second)
	if c := a.installed[a.sends["net"]]; c == nil || c.Path.Local.Addr().String() != awayAddr || len(a.established()) != 1 {
		t.Errorf("packets go by %+v", c)
	}
	w.run(time.Minute)
	for _, d := range found[Down](a) {
		if !d.Replaced || d.Err != nil {
			t.Errorf("down: %+v", d)
		}
	}
	if empty != 0 || len(a.established()) != 1 || len(a.e.sas) != 1 {
		t.Errorf("%d times without a child, %d SAs", empty, len(a.e.sas))
	}
	b.handle(Terminate{SA: b.established()[0].SA, Replaced: true})
	w.run(time.Minute)
	agree(t, a, b, 1)

	// It follows after all, while the fresh one is being tried: one SA in the end.
	w, a, b = start()
	a.move(awayAddr)
	w.run(2300 * time.Millisecond)
	w.fate = nil
	w.run(2 * time.Minute)
	meet(t, a, b, awayAddr, gatewayAddr)

	// Nothing comes back at all: that is told once, and in half a minute.
	w, a, _ = start()
	w.fate = func(*host, Send) int { return 0 }
	a.move(awayAddr)
	w.run(45 * time.Second)
	if len(a.e.sas) != 0 || len(a.installed) != 0 {
		t.Errorf("%d SAs of a dead gateway", len(a.e.sas))
	}
}
