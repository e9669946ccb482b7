package ike

import (
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

func rekeyChild(h *host) { h.handle(Rekey{Child: h.onlyChild().ID}) }

func rekeyIKE(h *host) { h.handle(Rekey{SA: h.established()[0].SA}) }

// withPFS gives both sides' children a group.
func withPFS(t testing.TB) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	for _, c := range []*Connection{client, gateway} {
		c.Children[0].Proposals = espProposals(t, "aes256gcm16-x25519")
	}
	return client, gateway
}

// TestRekeyChild: by either side, with and without a key exchange of its own.
func TestRekeyChild(t *testing.T) {
	for _, pfs := range []bool{false, true} {
		for who := range 2 {
			client, gateway := pskPair(t)
			if pfs {
				client, gateway = withPFS(t)
			}
			w, a, b := up(t, client, gateway)
			h := []*host{a, b}[who]
			before := [2]ChildInfo{a.onlyChild().ChildInfo, b.onlyChild().ChildInfo}
			rekeyChild(h)
			w.run(time.Second)
			agree(t, a, b, 1)
			for i, x := range []*host{a, b} {
				now := x.onlyChild()
				if now.SPIIn == before[i].SPIIn || now.Name != before[i].Name || !slices.Equal(now.Local, before[i].Local) {
					t.Errorf("%s: %+v in place of %+v", x.name, now.ChildInfo, before[i])
				}
				if got := now.Suite.KE.ID != suite.KENone; got != pfs {
					t.Errorf("key exchange %v, want %v", got, pfs)
				}
				ups, downs := found[ChildUp](x), found[ChildDown](x)
				if len(ups) != 2 || ups[1].Replaces != before[i].ID || len(downs) != 1 || !downs[0].Replaced {
					t.Errorf("%s: reports %+v, %+v", x.name, ups, downs)
				}
				if x.sends[now.Name] != now.ID {
					t.Errorf("%s did not switch", x.name)
				}
				// What comes late on the old one is still taken.
				if len(x.retired) != 1 || len(x.e.inbound) != 2 {
					t.Errorf("%s: %d children retired, %d SPIs", x.name, len(x.retired), len(x.e.inbound))
				}
			}
			w.run(retiredLife)
			for _, x := range []*host{a, b} {
				if len(x.retired) != 0 || len(x.e.inbound) != 1 {
					t.Errorf("%s: %d children retired for ever, %d SPIs", x.name, len(x.retired), len(x.e.inbound))
				}
			}
			a.handle(Terminate{})
			w.run(time.Minute)
			empty(t, a, b)
		}
	}
}

// TestRekeyIKE: by either side, and again by either side: the roles of the new SA are
// those of the exchange, those of the connection stay.
func TestRekeyIKE(t *testing.T) {
	client, gateway := pskPair(t)
	virtualPair(client, gateway)
	w, a, b := pair(t, client, gateway)
	b.admit = func(Admit) Admission { return Admission{Lease: testLease} }
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	for _, h := range []*host{a, b, b, a} {
		before := [2]Status{a.established()[0], b.established()[0]}
		rekeyIKE(h)
		w.run(time.Second)
		agree(t, a, b, 1)
		for i, x := range []*host{a, b} {
			now := x.established()[0]
			if now.SPIi == before[i].SPIi || now.SPIr == before[i].SPIr || now.Initiator != before[i].Initiator || now.Remote != before[i].Remote ||
				len(now.Lease.Addresses) != 2 || now.Children[0].SA != now.SA || uint8(now.SA)&(1<<x.e.cfg.ShardBits-1) != x.e.cfg.Shard {
				t.Errorf("%s: %+v in place of %+v", x.name, now, before[i])
			}
			all := found[Rekeyed](x)
			if last := all[len(all)-1]; last.Old != before[i].SA || last.New != now.SA {
				t.Errorf("%s: report %+v", x.name, last)
			}
			s := x.e.sas[message.SPI(now.SA)]
			if s.nextID != 0 || s.expectID != 0 {
				t.Errorf("%s: message IDs begin at %d and %d", x.name, s.nextID, s.expectID)
			}
		}
		// Children are replaced on it by both sides, with what it gave them.
		rekeyChild(a)
		w.run(time.Second)
		rekeyChild(b)
		w.run(time.Second)
		agree(t, a, b, 1)
	}
	if n := len(found[Down](a)) + len(found[Down](b)); n != 0 {
		t.Errorf("%d ends were reported", n)
	}
	w.run(2 * time.Minute)
	for _, x := range []*host{a, b} {
		if len(x.e.sas) != 1 {
			t.Errorf("%s has %d SAs", x.name, len(x.e.sas))
		}
	}
	b.handle(Terminate{})
	w.run(time.Minute)
	empty(t, a, b)
}

// TestRekeyByTime: nobody has to say it, and who opened the connection is first.
func TestRekeyByTime(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	w.run(24 * time.Hour)
	agree(t, a, b, 1)
	for _, h := range []*host{a, b} {
		children, sas := len(found[ChildUp](h))-1, len(found[Rekeyed](h))
		if children < 23 || children > 27 || sas < 5 || sas > 7 {
			t.Errorf("%s: %d children and %d SAs replaced in a day", h.name, children, sas)
		}
		for _, u := range found[ChildUp](h)[1:] {
			if u.Replaces == 0 {
				t.Error("a child was opened anew")
			}
		}
	}
	if n := len(sentOf(b, message.CreateChildSA, false)); n != 0 {
		t.Errorf("the gateway asked %d times, though the client is there", n)
	}
	checkIDs(t, a)
	checkIDs(t, b)
	a.handle(Terminate{})
	w.run(time.Minute)
	empty(t, a, b)
}

// TestNeverRekeyed: who never starts leaves it to the other side; where nobody does, SAs
// live on, or end at their hard limit.
func TestNeverRekeyed(t *testing.T) {
	client, gateway := pskPair(t)
	client.Rekey, client.Children[0].Rekey = -1, -1
	w, a, b := up(t, client, gateway)
	w.run(10 * time.Hour)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.CreateChildSA, false)); n != 0 || len(found[Rekeyed](a)) != 2 {
		t.Errorf("the client asked %d times, %d SAs were replaced", n, len(found[Rekeyed](a)))
	}
	gateway.Rekey, gateway.Children[0].Rekey = -1, -1
	w, a, b = up(t, client, gateway)
	w.run(10 * time.Hour)
	agree(t, a, b, 1)
	if len(found[Rekeyed](a)) != 0 {
		t.Error("replaced")
	}
	gateway.Children[0].Lifetime = time.Hour
	client.Lifetime = 2 * time.Hour
	w, a, b = up(t, client, gateway)
	w.run(61 * time.Minute)
	agree(t, a, b, 0)
	w.run(time.Hour)
	empty(t, a, b)
}

// TestRekeyByVolume: the data plane tells.
func TestRekeyByVolume(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children[0].RekeyBytes, gateway.Children[0].RekeyPackets = 1000, 2000
	w, a, b := up(t, client, gateway)
	if c := a.onlyChild(); c.Soft.Bytes < 900 || c.Soft.Bytes > 1000 || c.Hard.Bytes != 1100 || c.Soft.Packets > usualPackets {
		t.Errorf("limits %+v %+v", c.Soft, c.Hard)
	}
	if c := b.onlyChild(); c.Soft.Packets < 2000 || c.Soft.Packets > 2100 || c.Hard.Packets != 2200 || c.Soft.Bytes < usualBytes {
		t.Errorf("limits %+v %+v", c.Soft, c.Hard)
	}
	old := a.onlyChild().ID
	a.handle(ChildAged{Child: old})
	a.handle(ChildAged{Child: old})
	b.handle(ChildAged{Child: 77})
	w.run(time.Second)
	agree(t, a, b, 1)
	if len(found[ChildUp](a)) != 2 {
		t.Error("not replaced once")
	}
	b.handle(ChildAged{Child: b.onlyChild().ID, Hard: true})
	w.run(time.Second)
	agree(t, a, b, 0)
}

// TestRekeyPFS: the responder takes both (R4); the group of a request is asked for anew.
func TestRekeyPFS(t *testing.T) {
	for name, c := range map[string]struct {
		client, gateway string
		want            uint16
	}{
		"none at the client":      {"aes256gcm16", "aes256gcm16-x25519", suite.KENone},
		"none at the gateway":     {"aes256gcm16-x25519", "aes256gcm16", suite.KEX25519},
		"another group first":     {"aes256gcm16-ecp256-x25519", "aes256gcm16-x25519", suite.KEX25519},
		"a group that takes long": {"aes256gcm16-modp3072", "aes256gcm16-modp3072", suite.KEMODP3072},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			client.Children[0].Proposals, gateway.Children[0].Proposals = espProposals(t, c.client), espProposals(t, c.gateway)
			w, a, b := up(t, client, gateway)
			for range 2 { // the second time nobody asks twice
				a.sent = nil
				rekeyChild(a)
				w.run(time.Second)
				agree(t, a, b, 1)
				if got := a.onlyChild().Suite.KE.ID; got != c.want {
					t.Errorf("group %d, want %d", got, c.want)
				}
			}
			if n := len(sentOf(a, message.CreateChildSA, false)); n != 1 {
				t.Errorf("%d requests, the group is known by now", n)
			}
		})
	}
}

// TestRekeyMismatch: the algorithms of the child agree, its groups do not. The child stays
// as long as it may, a person is told why, and the end comes by its lifetime.
func TestRekeyMismatch(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children[0].Proposals = espProposals(t, "aes256gcm16-ecp521")
	gateway.Children[0].Proposals = espProposals(t, "aes256gcm16-x25519")
	gateway.Children[0].Rekey = -1
	w, a, b := up(t, client, gateway)
	rekeyChild(a)
	w.run(time.Minute)
	agree(t, a, b, 1)
	failed := found[RekeyFailed](a)
	if len(failed) != 1 || failed[0].Name != "net" || failed[0].Err.Hint == "" {
		t.Fatalf("reports %+v", failed)
	}
	for _, want := range []string{"PFS", "by ecp521", "NO_PROPOSAL_CHOSEN", "after 1h0m0s"} {
		if !strings.Contains(failed[0].Err.Why, want) {
			t.Errorf("no %q in: %s", want, failed[0].Err.Why)
		}
	}
	// The gateway knows both sides.
	refused := found[RekeyFailed](b)
	if len(refused) != 1 || !strings.Contains(refused[0].Err.What, "child net") || !strings.Contains(refused[0].Err.Why, "PFS") ||
		!strings.Contains(refused[0].Err.Detail, "ecp521") || !strings.Contains(refused[0].Err.Detail, "x25519") {
		t.Errorf("the gateway reports %+v", refused)
	}
	w.run(67 * time.Minute)
	agree(t, a, b, 0)
	if n := len(found[RekeyFailed](a)); n < 3 || n > 20 {
		t.Errorf("%d tries before the end", n)
	}
	if len(a.e.inbound)+len(b.e.inbound) != 0 {
		t.Error("SPIs are left")
	}
}

// TestRekeyWindows: a child of a Windows client is never replaced by us, by whatever
// reason; the client does it, and the IKE SA is replaced with the group in use (R5, R6).
func TestRekeyWindows(t *testing.T) {
	client, gateway := pskPair(t)
	client.Rekey, client.Children[0].Rekey = -1, -1
	gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-ecp256-modp2048-x25519")
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-modp2048")
	w, a, b := up(t, client, gateway)
	s := engineOf(b)
	s.readExtensions([]message.Payload{&message.VendorID{Data: append(slices.Clone(windowsVendor), 0, 0, 0, 9)}})
	if !s.supports(extWindows) || !slices.Contains(s.status().Extensions, "Windows") {
		t.Fatal("not recognized")
	}
	for kind, want := range map[message.AttributeType]bool{message.InternalIP4Address: false, 23456: true, 23457: true} {
		if fromWindows(&message.Config{Attributes: []message.Attribute{{Type: 1}, {Type: kind}}}) != want {
			t.Errorf("attribute %d: not %v", kind, want)
		}
	}
	s.age(s.children[0])
	b.handle(ChildAged{Child: b.onlyChild().ID})
	rekeyChild(b)
	w.run(23 * time.Hour)
	agree(t, a, b, 1)
	if n := len(found[ChildUp](b)); n != 1 {
		t.Errorf("the child was replaced %d times", n-1)
	}
	if n := len(found[RekeyFailed](b)); n != 1 {
		t.Errorf("%d times told that a command is not obeyed", n)
	}
	if n := len(found[Rekeyed](b)); n < 4 {
		t.Errorf("the IKE SA was replaced %d times", n)
	}
	rekeyChild(a)
	w.run(time.Second)
	agree(t, a, b, 1)
	if n := len(found[ChildUp](b)); n != 2 {
		t.Error("the client cannot replace it")
	}
}

// TestRekeyRequests: what real peers put into requests (R1, R2), and what nobody may.
func TestRekeyRequests(t *testing.T) {
	rekeyOf := func(b *host) *message.Notify {
		return &message.Notify{Protocol: suite.ProtocolESP, SPI: spiBytes(b.onlyChild().SPIOut), Notify: message.RekeySA}
	}
	public := append([]byte{9}, make([]byte, 31)...)
	numbered := func(spi []byte) []message.Payload {
		client, _ := pskPair(t)
		sa := wireProposals(client.Proposals, spi)
		sa.Proposals[0].Num = 3
		return []message.Payload{sa, &message.Nonce{Data: make([]byte, 32)}, &message.KE{Method: suite.KEX25519, Data: public}}
	}
	for name, c := range map[string]struct {
		ps    func(b *host) []message.Payload
		error message.NotifyType
		num   uint8
	}{
		"CP in the request": {func(b *host) []message.Payload {
			return append(append([]message.Payload{rekeyOf(b)}, childPayloads(t, false)...), &message.Config{Kind: message.ConfigRequest, Attributes: []message.Attribute{{Type: message.InternalIP4Address}}})
		}, 0, 1},
		"REKEY_SA last": {func(b *host) []message.Payload { return append(childPayloads(t, false), rekeyOf(b)) }, 0, 1},
		"AH": {func(b *host) []message.Payload {
			n := rekeyOf(b)
			n.Protocol = 2
			return append(childPayloads(t, false), n)
		}, message.ChildSANotFound, 0},
		"the IKE SA in REKEY_SA": {func(b *host) []message.Payload {
			n := rekeyOf(b)
			n.Protocol = suite.ProtocolIKE
			return append([]message.Payload{n}, numbered([]byte{1, 2, 3, 4, 5, 6, 7, 8})...)
		}, message.ChildSANotFound, 0},
		"a child unknown here": {func(*host) []message.Payload {
			return append(childPayloads(t, false), &message.Notify{Protocol: suite.ProtocolESP, SPI: []byte{9, 9, 9, 9}, Notify: message.RekeySA})
		}, message.ChildSANotFound, 0},
		"the IKE SA, number 3":   {func(*host) []message.Payload { return numbered([]byte{1, 2, 3, 4, 5, 6, 7, 8}) }, 0, 3},
		"the IKE SA without SPI": {func(*host) []message.Payload { return numbered(nil) }, message.NoProposalChosen, 0},
		"the IKE SA with SPI 0":  {func(*host) []message.Payload { return numbered(make([]byte, 8)) }, message.NoProposalChosen, 0},
		"the IKE SA without KE":  {func(*host) []message.Payload { return numbered([]byte{1, 2, 3, 4, 5, 6, 7, 8})[:2] }, message.InvalidKEPayload, 0},
		"other algorithms for the child": {func(b *host) []message.Payload {
			ps := childPayloads(t, false)
			ps[0].(*message.SA).Proposals[0].Proposal = espProposals(t, "aes128-sha256")[0]
			return append(ps, rekeyOf(b))
		}, message.NoProposalChosen, 0},
		"other selectors": {func(b *host) []message.Payload {
			ps := childPayloads(t, false)
			ps[3].(*message.TS).Selectors = selectors("10.77.0.0/16")
			return append(ps, rekeyOf(b))
		}, message.TSUnacceptable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			s := engineOf(a)
			sb := engineOf(b)
			b.sent = nil
			b.deliver(a, craft(t, s, message.CreateChildSA, s.nextID, 0, c.ps(b)...))
			_, e, text, err := message.Open(slices.Clone(b.sent[0].Data), sb.seal)
			if err != nil {
				t.Fatal(err)
			}
			ps, err := message.ParsePayloads(e.First, text)
			if err != nil {
				t.Fatal(err)
			}
			n := message.FindError(ps)
			switch {
			case c.error != 0 && (n == nil || n.Notify != c.error):
				t.Errorf("answer %+v, want %v", n, c.error)
			case c.error == 0 && n != nil:
				t.Errorf("answer %v", n.Notify)
			case c.error == 0:
				if sa, ok := message.Find[*message.SA](ps); !ok || sa.Proposals[0].Num != c.num {
					t.Errorf("proposal %+v, want number %d", sa, c.num)
				}
			default:
				if len(b.installed) != 1 || len(b.e.inbound) != 1 || len(b.e.sas) != 1 {
					t.Error("something is left")
				}
			}
			_ = w
		})
	}
}

// TestRow46FreshMessageIDs: the SA is replaced before its message IDs are used up, in
// either direction, also where nobody wants that.
func TestRow46FreshMessageIDs(t *testing.T) {
	for who := range 2 {
		client, gateway := pskPair(t)
		client.Rekey, gateway.Rekey = -1, -1
		w, a, b := up(t, client, gateway)
		hosts := []*host{a, b}
		x, y := engineOf(hosts[who]), engineOf(hosts[1-who])
		x.nextID, y.expectID = lastIDs-1, lastIDs-1
		y.reply = nil
		hosts[who].poke((*ikeSA).check)
		w.run(10 * time.Second)
		agree(t, a, b, 1)
		if s := hosts[who].e.sas[message.SPI(hosts[who].established()[0].SA)]; s.nextID > 2 {
			t.Errorf("message ID %d", s.nextID)
		}
	}
}

// lose makes a host forget its children, as if it had never had them.
func lose(h *host) {
	h.poke(func(s *ikeSA) {
		for len(s.children) > 0 {
			s.removeChild(s.children[0], "lost")
		}
	})
}

// TestRekeyOddPeers: what a peer can do wrong. In the end there is one pair.
func TestRekeyOddPeers(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(t *testing.T, w *world, a, b *host)
		want int
	}{
		"it has lost the child": {func(_ *testing.T, w *world, a, b *host) {
			lose(b)
			rekeyChild(a)
		}, 1},
		"it has lost the child, and notices first": {func(_ *testing.T, w *world, a, b *host) {
			lose(b)
			b.handle(Acquire{Connection: "rw", Child: "net"})
			w.run(time.Second)
		}, 2}, // ours stays until it is old or used
		"it deletes the new child in place of the old one": {func(t *testing.T, w *world, a, b *host) {
			old := b.onlyChild().ID
			v := newValve(w, a, b)
			rekeyChild(a)
			v.pass(a)
			v.pass(b)
			for id := range b.installed {
				if id != old {
					b.poke(func(s *ikeSA) {
						s.enqueue(&deleteChildTask{spi: b.installed[id].SPIIn, child: b.e.children[id], superseded: true})
					})
				}
			}
			v.pass(b)
			v.open()
		}, 0},
		"it deletes the child before it answers": {func(t *testing.T, w *world, a, b *host) {
			v := newValve(w, a, b)
			rekeyChild(a)
			v.pass(a)
			v.drop(b)
			for _, c := range engineOf(b).children {
				if c.successor != nil {
					b.handle(CloseChild{c.ID})
				}
			}
			v.pass(b)
			v.open()
		}, 0},
		"its answer to the delete never comes": {func(t *testing.T, w *world, a, b *host) {
			v := newValve(w, a, b)
			rekeyChild(a)
			v.pass(a)
			v.pass(b)
			v.pass(a)
			for range 4 {
				v.drop(b)
				w.run(4 * time.Second)
				v.pass(a)
			}
			v.open()
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			c.act(t, w, a, b)
			w.run(2 * time.Minute)
			if c.want < 2 {
				agree(t, a, b, c.want)
			}
			w.run(2 * time.Hour)
			agree(t, a, b, min(c.want, 1))
		})
	}
}

// TestRekeyCrossedByNoDelete: the peer's child of a collision that it lost is closed by us, if
// it does not close it.
func TestRekeyCrossedByNoDelete(t *testing.T) {
	for range 8 {
		client, gateway := pskPair(t)
		w, a, b := up(t, client, gateway)
		v := newValve(w, a, b)
		rekeyChild(a)
		rekeyChild(b)
		for range 2 {
			v.pass(a)
			v.pass(b)
		}
		// Whoever lost asks to delete its child: that is never done, as far as the other knows.
		b.poke(func(s *ikeSA) { s.queue = nil })
		v.open()
		w.run(2 * time.Hour)
		agree(t, a, b, 1)
	}
}

// TestRekeyPeerGone: an SA whose replacement is not answered ends as one whose peer is dead.
func TestRekeyPeerGone(t *testing.T) {
	for name, begin := range map[string]func(*host){"child": rekeyChild, "SA": rekeyIKE} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := up(t, client, gateway)
			w.fate = func(*host, Send) int { return 0 }
			begin(a)
			w.run(5 * time.Minute)
			if a.downCode() != CodePeerDead || b.downCode() != CodePeerDead {
				t.Error("the peer is not dead")
			}
			empty(t, a, b)
		})
	}
}

// TestRow27RekeyUnestablished: what is not established is not replaced, by command or by the
// peer, and does not become established by it.
func TestRow27RekeyUnestablished(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b, auth := halfOpen(t, client, gateway)
	sa, sb := engineOf(a), engineOf(b)
	for _, h := range []*host{a, b} {
		h.handle(Rekey{SA: engineOf(h).id()})
		h.poke(func(s *ikeSA) { s.rekey(false) })
	}
	ps := []message.Payload{wireProposals(client.Proposals, []byte{1, 2, 3, 4, 5, 6, 7, 8}), &message.Nonce{Data: make([]byte, 32)}, &message.KE{Method: suite.KEX25519, Data: append([]byte{9}, make([]byte, 31)...)}}
	b.deliver(a, craft(t, sa, message.CreateChildSA, 1, 0, ps...))
	a.deliver(b, craft(t, sb, message.CreateChildSA, 0, 0, ps...))
	if len(a.established())+len(b.established()) != 0 || len(a.e.sas) != 1 || len(b.e.sas) != 1 {
		t.Error("something is established")
	}
	b.deliver(a, auth)
	w.run(time.Second)
	if len(b.established()) != 1 {
		t.Error("the right IKE_AUTH was spoilt")
	}
}
