package eap

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lengthOf writes the length field of a packet anew.
func lengthOf(b []byte) []byte {
	if len(b) >= headerLen {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	}
	return b
}

// TestTruncated: each packet of each method, cut off everywhere, with the old length field
// and with a true one.
func TestTruncated(t *testing.T) {
	someKinds(t, func(t *testing.T, k kind, peer func() *Peer, server func() *Server) {
		stages(t, peer, server, func(n int, p *Peer, s *Server, next []byte) {
			p.Stop()
			s.Stop()
			step := 1
			if len(next) > 100 {
				step = len(next)/8 + 1
			}
			for cut := 0; cut < len(next); cut += step {
				for _, honest := range []bool{false, true} {
					p, s := peer(), server()
					o := converse(t, p, s, func(i int, b []byte) []byte {
						if i != n {
							return b
						}
						b = bytes.Clone(b[:min(cut, len(b))])
						if honest {
							lengthOf(b)
						}
						return b
					})
					short := cut <= headerLen || !honest
					if short && o.peer.Err == nil && o.server.Err == nil {
						t.Errorf("packet %d cut off at %d: no error", n, cut)
					}
					if o.peer.Done && o.server.Done && o.peer.Err == nil && o.server.Err == nil && !bytes.Equal(p.MSK(), s.MSK()) {
						t.Errorf("packet %d cut off at %d: two keys", n, cut)
					}
				}
				if k.method.onTLS() && cut == 0 {
					step = max(step, 7)
				}
			}
		})
	})
}

// TestTwice: a packet that comes twice gets the same answer, and nothing else happens.
func TestTwice(t *testing.T) {
	allKinds(t, func(t *testing.T, _ kind, peer func() *Peer, server func() *Server) {
		p, s := peer(), server()
		t.Cleanup(func() { p.Stop(); s.Stop() })
		var seen []string
		st := settle(t, s, s.Start(), accounts, &seen)
		for n := 0; !st.Done; n++ {
			packet := st.Send
			st = send(t, n, p, s, packet)
			again := send(t, n, p, s, packet)
			if !bytes.Equal(st.Send, again.Send) || st.Done != again.Done {
				t.Fatalf("packet %d: first %x, then %x", n, st.Send, again.Send)
			}
			if st.Done && n%2 == 1 {
				st = send(t, n+1, p, s, st.Send)
			}
			if st.Err != nil {
				t.Fatal(describe(st.Err))
			}
		}
		if !bytes.Equal(p.MSK(), s.MSK()) || s.Identity() == "" {
			t.Error("two keys, or nobody")
		}
	})
}

// TestOutOfTurn: in each state, each packet of the whole conversation but the right one;
// packets back to who sent them; one lost, so that the next comes early.
func TestOutOfTurn(t *testing.T) {
	someKinds(t, func(t *testing.T, k kind, peer func() *Peer, server func() *Server) {
		p, s := peer(), server()
		whole := converse(t, p, s, nil)
		stages(t, peer, server, func(n int, p *Peer, s *Server, next []byte) {
			p.Stop()
			s.Stop()
			for i := range whole.packets {
				if i == n {
					continue
				}
				// Those of another conversation, with the number that is awaited.
				p, s := peer(), server()
				o := converse(t, p, s, func(at int, b []byte) []byte {
					if at != n {
						return b
					}
					other := bytes.Clone(whole.packets[i])
					other[1] = b[1]
					return other
				})
				if !o.peer.Done || !o.server.Done || o.peer.Err != nil || o.server.Err != nil {
					continue
				}
				// Without harm: a notification or identity too much, or plain methods
				// whose packets are the same in every conversation.
				if !bytes.Equal(p.MSK(), s.MSK()) || k.method.onTLS() && k.method != TypeTLS && i > n {
					t.Errorf("packet %d instead of %d: success", i, n)
				}
			}
		})
	})
}

// TestFlipped: each packet with one octet changed ends without two different keys, and a
// change in what TLS protects in failure.
func TestFlipped(t *testing.T) {
	someKinds(t, func(t *testing.T, k kind, peer func() *Peer, server func() *Server) {
		p, s := peer(), server()
		packets := converse(t, p, s, nil).packets
		for n := range packets {
			for at := 0; at < len(packets[n]); at += 1 + len(packets[n])/6 {
				p, s := peer(), server()
				o := converse(t, p, s, func(i int, b []byte) []byte {
					if i == n && at < len(b) {
						b = bytes.Clone(b)
						b[at] ^= 0x41
					}
					return b
				})
				if o.peer.Done && o.server.Done && o.peer.Err == nil && o.server.Err == nil {
					if !bytes.Equal(p.MSK(), s.MSK()) {
						t.Errorf("packet %d, octet %d: two keys", n, at)
					}
					if k.method.onTLS() && n > 1 && at > 6 {
						t.Errorf("packet %d, octet %d: success", n, at)
					}
				}
			}
		}
	})
}

// TestBounded: nobody keeps a conversation going for ever.
func TestBounded(t *testing.T) {
	a := newAuthority(t)
	// Questions without end.
	for _, typ := range []Type{TypeIdentity, TypeNotification, TypeMD5} {
		p := alice()
		var st Step
		for i := 0; !st.Done; i++ {
			if i > maxRounds {
				t.Fatalf("%s: no end", typ)
			}
			st = p.Handle(newPacket(codeRequest, byte(i), typ, []byte{byte(i >> 8), 1, 2}))
		}
		is(t, st.Err, CodeLimit)
	}
	// Fragments without end, with and without an announced length, and empty ones.
	for _, flags := range [][]byte{{flagMore}, {flagMore | flagLength, 0, 0, 0xff, 0xff}, {flagMore | flagLength, 0xff, 0xff, 0xff, 0xff}} {
		for _, size := range []int{0, 1, 1000, 60000} {
			for _, m := range []Type{TypeTLS, TypeTTLS, TypePEAP} {
				p, s := a.peer(m, nil, 0), a.gateway(m, nil)
				st := p.Handle(s.Start().Send)
				st = s.Handle(st.Send)
				p.Handle(st.Send)
				body := append(bytes.Clone(flags), make([]byte, size)...)
				for i := 0; !st.Done; i++ {
					if i > maxRounds {
						t.Fatal("no end")
					}
					st = p.Handle(newPacket(codeRequest, byte(i), m, body))
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				st = Step{}
				for i := 0; !st.Done; i++ {
					if i > maxRounds {
						t.Fatal("no end")
					}
					st = s.Handle(newPacket(codeResponse, s.id, m, body))
				}
				runtime.ReadMemStats(&after)
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
					t.Errorf("%d octets were taken", grown)
				}
				p.Stop()
				s.Stop()
			}
		}
	}
	// A client that asks for nothing for ever.
	s := a.gateway(TypeTTLS, nil)
	st := s.Start()
	for i := 0; !st.Done; i++ {
		if i > maxRounds {
			t.Fatal("no end")
		}
		typ, body := TypeTTLS, []byte{0}
		if i == 0 {
			typ, body = TypeIdentity, nil
		}
		st = s.Handle(newPacket(codeResponse, s.id, typ, body))
	}
}

// TestStop: whenever a conversation is stopped, in the middle of work or of a question
// too, nothing of it is left.
func TestStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	allKinds(t, func(t *testing.T, _ kind, peer func() *Peer, server func() *Server) {
		for n := 0; ; n++ {
			p, s := peer(), server()
			st := s.Start()
			onPeer, over := false, false
			for range n {
				var e end = s
				if onPeer {
					e = p
				}
				switch {
				case st.Work != nil:
					st.Work()
					st = e.Resume()
				case st.Lookup != "":
					st = s.Account(accounts(st.Lookup))
				case st.Done:
					over = true
				default:
					onPeer = !onPeer
					if e = s; onPeer {
						e = p
					}
					st = e.Handle(st.Send)
				}
			}
			work := st.Work
			p.Stop()
			s.Stop()
			if work != nil {
				work() // it may still be running somewhere
			}
			for _, st := range []Step{p.Resume(), s.Resume(), p.Handle(nil), s.Handle(nil), s.Account(nil)} {
				if !st.Done {
					t.Fatal("alive after Stop")
				}
			}
			if over {
				break
			}
		}
	})
}

// TestWorkOutOfTurn: Resume without work, Handle in the middle of work, Resume before the
// work was done.
func TestWorkOutOfTurn(t *testing.T) {
	a := newAuthority(t)
	working := func() *Server {
		p, s := a.peer(TypeTTLS, nil, 0), a.gateway(TypeTTLS, nil)
		t.Cleanup(func() { p.Stop(); s.Stop() })
		st := s.Handle(p.Handle(s.Start().Send).Send)
		st = s.Handle(p.Handle(st.Send).Send)
		if st.Work == nil {
			t.Fatalf("%+v is no work", st)
		}
		return s
	}
	s := working()
	is(t, s.Handle(resultPacket(codeFailure, 1)).Err, CodeProtocol)
	s = working()
	is(t, s.Account(nil).Err, CodeProtocol)
	s = working()
	st := s.Resume()
	for st.Send != nil && !st.Done {
		st = s.Handle(newPacket(codeResponse, s.id, TypeTTLS, []byte{0}))
	}
	is(t, st.Err, CodeTLS)
	is(t, alice().Resume().Err, CodeProtocol)
	is(t, NewServer(ServerConfig{}).Resume().Err, CodeProtocol)
	is(t, NewServer(ServerConfig{}).Handle(nil).Err, CodeProtocol)
}
