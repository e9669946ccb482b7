package ike

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/ike/message"
)

// openStream opens a stream from a host, if that is possible.
func (w *world) openStream(h *host, q OpenStream) Reply {
	if w.noTCP {
		return StreamOpened{Err: errors.New("connection refused")}
	}
	if w.streams == nil {
		w.streams = map[Path]*host{}
	}
	w.ports++
	p := Path{Local: netip.AddrPortFrom(h.addr, 40000+w.ports), Remote: netip.AddrPortFrom(q.Remote, 4500), Encap: true, Stream: true}
	w.streams[p] = h
	w.log("%s opens stream %v", h.name, p.Local)
	return StreamOpened{Path: p}
}

func reversed(p Path) Path {
	p.Local, p.Remote = p.Remote, p.Local
	return p
}

// stream carries a message on a stream that stands. Nothing is lost on it.
func (w *world) stream(a Send) {
	if len(a.Data) == 0 || a.Keepalive {
		w.t.Error("a keepalive on a stream")
	}
	if w.streams[a.Path] == nil && w.streams[reversed(a.Path)] == nil {
		return
	}
	for _, h := range w.nodes {
		if h.addr == a.Path.Remote.Addr() {
			w.post(w.delay, h, Datagram{Path: reversed(a.Path), Data: slices.Clone(a.Data)})
		}
	}
}

// breakStreams ends all streams. Only who opened them cares.
func (w *world) breakStreams() {
	for _, p := range slices.SortedFunc(maps.Keys(w.streams), func(a, b Path) int { return a.Local.Compare(b.Local) }) {
		w.post(0, w.streams[p], StreamClosed{Path: p})
	}
	clear(w.streams)
}

// streamers is a pair of which the client went over TCP from the start.
func streamers(t testing.TB, change ...func(client, gateway *Connection)) (w *world, a, b *host) {
	t.Helper()
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = -1, -1
	client.Streams = StreamsFallback
	for _, f := range change {
		f(client, gateway)
	}
	w, a, b = pair(t, client, gateway)
	w.noUDP = true
	p := w.openStream(a, OpenStream{Remote: b.addr}).(StreamOpened).Path
	a.handle(Initiate{Connection: client.Name, Path: p, Encap: p})
	w.run(time.Second)
	agree(t, a, b, 1)
	meetOnStream(t, w, a, b)
	return w, a, b
}

// meetOnStream checks that both sides are on the same stream, with IKE and ESP.
func meetOnStream(t testing.TB, w *world, a, b *host) {
	t.Helper()
	agree(t, a, b, 1)
	p := engineOf(a).path
	if w.streams[p] == nil {
		t.Errorf("the client is on %v, which is no stream that stands", p)
	}
	for _, x := range []struct {
		h    *host
		want Path
	}{{a, p}, {b, reversed(p)}} {
		if s := engineOf(x.h); s.path != x.want || s.espPath != x.want || x.h.onlyChild().Path != x.want {
			t.Errorf("%s: IKE on %v, ESP on %v and %v, want %v", x.h.name, s.path, s.espPath, x.h.onlyChild().Path, x.want)
		}
	}
}

// sentBy counts what a host sent on streams and by UDP, and takes it away.
func sentBy(h *host) (stream, udp int) {
	for _, s := range h.sent {
		if s.Path.Stream {
			stream++
		} else {
			udp++
		}
	}
	h.sent = nil
	return stream, udp
}

// A request is not repeated on a living stream, and goes again on the next one, with which it is
// answered; the same with and without MOBIKE, and for requests of either side.
func TestStreamBreaks(t *testing.T) {
	for name, off := range map[string]bool{"with MOBIKE": false, "without MOBIKE": true} {
		t.Run(name, func(t *testing.T) {
			w, a, b := streamers(t, func(client, gateway *Connection) { client.NoMOBIKE = off })
			mute := false
			w.fate = func(*host, Send) int {
				if mute {
					return 0
				}
				return 1
			}
			sentBy(a)
			sentBy(b)
			// The stream swallows what both ask, and says nothing.
			mute = true
			a.poke(func(s *ikeSA) { s.check() })
			b.poke(func(s *ikeSA) { s.check() })
			w.run(2 * time.Second)
			for _, h := range []*host{a, b} {
				if stream, udp := sentBy(h); stream != 1 || udp != 0 {
					t.Errorf("%s sent its request %d times on the stream and %d times by UDP", h.name, stream, udp)
				}
			}
			mute = false
			w.breakStreams()
			w.run(5 * time.Second)
			meetOnStream(t, w, a, b)
			for _, h := range []*host{a, b} {
				if s := engineOf(h); s.pending != nil || s.active != nil || len(s.queue) > 0 {
					t.Errorf("%s: something is still under way", h.name)
				}
			}
			if len(w.streams) != 1 {
				t.Errorf("%d streams stand", len(w.streams))
			}
			// Again and again, with time between.
			for range 4 {
				w.breakStreams()
				w.run(5 * time.Second)
				meetOnStream(t, w, a, b)
			}
		})
	}
}

// A stream that stands and is dead is replaced too.
func TestStreamIsStuck(t *testing.T) {
	w, a, b := streamers(t)
	dead := engineOf(a).path
	w.fate = func(_ *host, s Send) int {
		if s.Path == dead || reversed(s.Path) == dead {
			return 0
		}
		return 1
	}
	a.poke(func(s *ikeSA) { s.check() })
	w.run(10 * time.Second)
	if engineOf(a).path == dead {
		t.Fatal("the client is still on the dead stream")
	}
	meetOnStream(t, w, a, b)
}

// Without any answer the SA ends in the time that it has by UDP, however often streams open
// and break.
func TestStreamsInVain(t *testing.T) {
	w, a, _ := streamers(t)
	w.fate = func(*host, Send) int { return 0 }
	for range 400 {
		w.breakStreams()
		w.run(100 * time.Millisecond)
	}
	if got := a.downCode(); got != CodePeerDead {
		t.Errorf("after 40 s the client's SA is %q, want %q", got, CodePeerDead)
	}
	if w.ports > 30 {
		t.Errorf("%d streams were opened in 40 s", w.ports)
	}
	w, a, _ = streamers(t)
	w.noTCP = true
	w.breakStreams()
	w.run(40 * time.Second)
	if got := a.downCode(); got != CodePeerDead {
		t.Errorf("without streams: %q, want %q", got, CodePeerDead)
	}
}

// UDP passes again, and after a while the SA is there.
func TestReturnToUDP(t *testing.T) {
	w, a, b := streamers(t)
	sentBy(a)
	w.run(10 * time.Minute)
	stream, udp := sentBy(a)
	if udp == 0 || udp > 20 || stream == 0 {
		t.Errorf("in 10 minutes without UDP the client sent %d times by UDP and %d times on the stream", udp, stream)
	}
	meetOnStream(t, w, a, b)
	w.noUDP = false
	w.run(16 * time.Minute)
	meet(t, a, b, a.addr.String(), b.addr.String())
	// A change of the network makes it look at once.
	w, a, b = streamers(t)
	w.noUDP = false
	a.handle(Moved{Addresses: a.addresses()})
	w.run(time.Second)
	meet(t, a, b, a.addr.String(), b.addr.String())
	// And never, where the file says so.
	w, a, b = streamers(t, func(client, _ *Connection) { client.Streams = StreamsAlways })
	w.noUDP = false
	a.handle(Moved{Addresses: a.addresses()})
	w.breakStreams()
	w.run(time.Hour)
	meetOnStream(t, w, a, b)
	if _, udp := sentBy(a); udp > 0 {
		t.Errorf("%d messages by UDP", udp)
	}
}

// Without MOBIKE the SA on the stream is replaced by another one by UDP, make before break. While
// UDP does not pass nothing happens that anybody hears of.
func TestReturnToUDPWithoutMOBIKE(t *testing.T) {
	for _, at := range []string{"client", "gateway"} {
		t.Run("off at the "+at, func(t *testing.T) {
			w, a, b := streamers(t, func(client, gateway *Connection) {
				client.NoMOBIKE, gateway.NoMOBIKE = at == "client", at == "gateway"
			})
			before := a.established()[0].SA
			sentBy(a)
			a.reports, b.reports = nil, nil
			w.run(10 * time.Minute)
			if stream, udp := sentBy(a); udp == 0 || udp > 20 || stream != 0 {
				t.Errorf("in 10 minutes without UDP the client sent %d times by UDP and %d times on the stream", udp, stream)
			}
			meetOnStream(t, w, a, b)
			if len(a.reports)+len(b.reports) != 0 || a.established()[0].SA != before {
				t.Errorf("the client heard %v, the gateway %v", a.reports, b.reports)
			}
			w.noUDP = false
			var order []string
			a.watch = func(x Action) {
				switch x := x.(type) {
				case Install, Switch, Remove:
					order = append(order, fmt.Sprintf("%T", x)[len("ike."):])
				}
			}
			w.run(16 * time.Minute)
			meet(t, a, b, a.addr.String(), b.addr.String())
			if a.established()[0].SA == before {
				t.Error("the SA is the one before")
			}
			if got := strings.Join(order, " "); got != "Install Switch Remove" {
				t.Errorf("%s: not make before break", got)
			}
			for _, d := range found[Down](a) {
				if !d.Replaced || d.Err != nil {
					t.Errorf("down: %+v", d)
				}
			}
			// It stays there.
			w.run(time.Hour)
			meet(t, a, b, a.addr.String(), b.addr.String())
		})
	}
}

// The same when the network changes, without a pause; not where a person would have to log in for
// it, and not where the file says that TCP is all there is.
func TestReturnToUDPWithoutMOBIKEAtOnce(t *testing.T) {
	off := func(client, _ *Connection) { client.NoMOBIKE = true }
	w, a, b := streamers(t, off)
	w.noUDP = false
	a.handle(Moved{Addresses: a.addresses()})
	w.run(time.Minute)
	meet(t, a, b, a.addr.String(), b.addr.String())
	for _, change := range []func(c *Connection){
		func(c *Connection) { c.Streams = StreamsAlways },
		func(c *Connection) { c.Local.Next = &Local{Method: AuthEAP} },
	} {
		w, a, b = streamers(t, off)
		w.noUDP = false
		change(engineOf(a).conn)
		a.handle(Moved{Addresses: a.addresses()})
		w.run(time.Hour)
		meetOnStream(t, w, a, b)
	}
}

// UDP passes in one direction only, or breaks off when the new SA is half open: the one on the
// stream stands, and carries what it carried.
func TestReturnToUDPWithoutMOBIKEFails(t *testing.T) {
	for name, drop := range map[string]func(h *host, b *host, x message.ExchangeType) bool{
		"no answers":   func(h, b *host, _ message.ExchangeType) bool { return h == b },
		"no IKE_AUTH":  func(_, _ *host, x message.ExchangeType) bool { return x == message.IKEAuth },
		"no AUTH back": func(h, b *host, x message.ExchangeType) bool { return h == b && x == message.IKEAuth },
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := streamers(t, func(client, gateway *Connection) { client.NoMOBIKE, gateway.Liveness = true, 30*time.Second })
			before := a.established()[0].SA
			w.noUDP = false
			w.fate = func(h *host, s Send) int {
				m, err := message.ParseHeader(s.Data)
				if err == nil && !s.Path.Stream && drop(h, b, m.Exchange) {
					return 0
				}
				return 1
			}
			a.handle(Moved{Addresses: a.addresses()})
			w.run(5 * time.Minute)
			if got := a.established(); len(got) != 1 || got[0].SA != before || !got[0].Path.Stream {
				t.Fatalf("%+v", got)
			}
			if _, there := a.installed[got(a)]; !there {
				t.Error("its child is gone")
			}
			for _, d := range found[Down](a) {
				if !d.Replaced {
					t.Errorf("the connection is said to be down: %+v", d)
				}
			}
			w.fate = nil
			w.run(20 * time.Minute)
			meet(t, a, b, a.addr.String(), b.addr.String())
		})
	}
}

// got is the child of the only SA.
func got(h *host) ChildID { return h.established()[0].Children[0].ID }

// UDP passes in one direction only while the SA returns: it must end on the stream again.
func TestReturnToUDPFails(t *testing.T) {
	w, a, b := streamers(t)
	w.noUDP = false
	w.fate = func(h *host, s Send) int {
		if h == b && !s.Path.Stream {
			return 0
		}
		return 1
	}
	a.handle(Moved{Addresses: a.addresses()})
	w.run(30 * time.Second)
	meetOnStream(t, w, a, b)
}

// UDP is blocked under an SA that stands.
func TestFallbackOfAnSA(t *testing.T) {
	w, a, b := roamers(t, func(client, _ *Connection) { client.Streams = StreamsFallback })
	w.noUDP = true
	a.poke(func(s *ikeSA) { s.check() })
	w.run(10 * time.Second)
	meetOnStream(t, w, a, b)

	// One that opens no streams stays, and dies.
	w, a, _ = roamers(t)
	w.noUDP = true
	a.poke(func(s *ikeSA) { s.check() })
	w.run(time.Minute)
	if got := a.downCode(); got != CodePeerDead || w.ports != 0 {
		t.Errorf("%q, and %d streams", got, w.ports)
	}
}

// The host is offline for long, and then somewhere else.
func TestStreamMoves(t *testing.T) {
	w, a, b := streamers(t)
	a.offline = true
	a.handle(Moved{})
	w.noTCP = true
	w.breakStreams()
	w.run(10 * time.Minute)
	a.offline, w.noTCP = false, false
	a.move(awayAddr)
	w.run(10 * time.Second)
	meetOnStream(t, w, a, b)
	if got := engineOf(b).path.Remote.Addr().String(); got != awayAddr {
		t.Errorf("the gateway thinks that the client is at %v", got)
	}
}

// COOKIE, INVALID_KE_PAYLOAD and rekeying over streams, and no keepalives although there is a NAT.
func TestStreamHandshake(t *testing.T) {
	client, gateway := pskPair(t)
	client.Streams = StreamsAlways
	gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-ecp256")
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp256")
	w, a, b := pair(t, client, gateway)
	w.noUDP = true
	b.e.gate.cfg.CookieTotal = -1
	p := w.openStream(a, OpenStream{Remote: b.addr}).(StreamOpened).Path
	a.handle(Initiate{Connection: client.Name, Path: p, Encap: p})
	w.run(time.Second)
	agree(t, a, b, 1)
	for _, d := range []Drop{DropCookieRequired, DropInvalidKE} {
		if b.count(d) != 1 {
			t.Errorf("%d requests were answered with %v", b.count(d), d)
		}
	}
	a.poke(func(s *ikeSA) { s.conds |= condNATHere; s.armKeepalive() })
	a.handle(Rekey{SA: engineOf(a).id()})
	w.run(time.Minute)
	meetOnStream(t, w, a, b)
	if engineOf(a).conds&condNATHere == 0 {
		t.Error("there is no NAT: the test does not test it")
	}
}

// IKE is not cut on streams, whatever was announced (RFC 9329 §7.5).
func TestNoFragmentsOnStreams(t *testing.T) {
	_, a, b := streamers(t, func(client, gateway *Connection) { client.FragmentSize, gateway.FragmentSize = 256, 256 })
	for _, h := range []*host{a, b} {
		if !engineOf(h).supports(extFragmentation) {
			t.Errorf("%s does not know fragmentation: the test does not test it", h.name)
		}
		for _, s := range h.sent {
			m, err := message.Parse(s.Data)
			if err != nil {
				t.Fatal(err)
			}
			if enc, ok := message.Find[*message.Encrypted](m.Payloads); ok && enc.Fragment != 0 {
				t.Errorf("%s sends a fragment of %d octets", h.name, len(s.Data))
			}
		}
	}
}

// Whoever has a copy of an authentic message moves nothing by a stream of his own from elsewhere
// to an SA that is not on a stream.
func TestStrangerOnStream(t *testing.T) {
	w, a, b := roamers(t)
	before := engineOf(b).espPath
	var copied []byte
	w.fate = func(h *host, s Send) int {
		if h == a && copied == nil {
			copied = s.Data
			return 0
		}
		return 1
	}
	a.poke(func(s *ikeSA) { s.check() })
	stranger := Path{Local: netip.AddrPortFrom(b.addr, 4500), Remote: netip.MustParseAddrPort(strangerAddr + ":5"), Encap: true, Stream: true}
	b.handle(Datagram{Path: stranger, Data: copied})
	w.run(10 * time.Second)
	if s := engineOf(b); s.espPath != before || s.path != before {
		t.Errorf("the gateway went to %v", s.path)
	}
}

// A gateway redirects over a stream, in IKE_SA_INIT and of an SA that stands, and the new one is
// called over another stream.
func TestRedirectOverStreams(t *testing.T) {
	for _, when := range []string{"init", "auth", "later"} {
		t.Run(when, func(t *testing.T) {
			client, gateway := pskPair(t)
			client.Streams = StreamsFallback
			w, a, gws := gateways(t, client, gateway, 2, func(i int, c *Connection) {
				if i == 0 && when != "later" {
					c.Redirect, c.RedirectLate = gatewayID(1, "address"), when == "auth"
				}
			})
			w.noUDP = true
			p := w.openStream(a, OpenStream{Remote: gws[0].addr}).(StreamOpened).Path
			a.handle(Initiate{Connection: client.Name, Path: p, Encap: p})
			w.run(time.Second)
			if when == "later" {
				meetOnStream(t, w, a, gws[0])
				gws[0].handle(RedirectPeers{To: gatewayID(1, "address")})
			}
			w.run(time.Minute)
			meetOnStream(t, w, a, gws[1])
			empty(t, gws[0])
		})
	}
}
