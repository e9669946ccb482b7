package ike

import (
	"slices"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// withMLKEM makes every key exchange of a pair one with the parameter set beside it.
func withMLKEM(t testing.TB, set string) (client, gateway *Connection) {
	client, gateway = hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_"+set)
	for _, c := range []*Connection{client, gateway} {
		c.Children[0].Proposals = espProposals(t, "aes256gcm16-x25519-ke1_"+set)
	}
	return client, gateway
}

// TestRekeyMLKEM: IKE and child SAs are replaced by either side, with every exchange done
// again, and each message lost or doubled.
func TestRekeyMLKEM(t *testing.T) {
	for set, method := range map[string]uint16{"mlkem768": suite.KEMLKEM768, "mlkem1024": suite.KEMLKEM1024} {
		for what, rekey := range map[string]func(*host){"IKE": rekeyIKE, "child": rekeyChild} {
			for who := range 2 {
				for fault := range 17 { // the last one is none
					client, gateway := withMLKEM(t, set)
					w, a, b := up(t, client, gateway)
					before := a.onlyChild().SPIIn
					n := 0
					w.fate = func(*host, Send) int {
						if n++; fault < 16 && n-1 == fault/2 {
							return 2 * (fault % 2)
						}
						return 1
					}
					rekey([]*host{a, b}[who])
					w.run(time.Minute)
					agree(t, a, b, 1)
					got := a.onlyChild().Suite
					if what == "IKE" {
						got = a.established()[0].Suite
						if len(found[Rekeyed](a)) != 1 || len(found[Rekeyed](b)) != 1 {
							t.Errorf("%s: the SA was not replaced once", set)
						}
					} else if a.onlyChild().SPIIn == before {
						t.Errorf("%s: the child was not replaced", set)
					}
					if !slices.Equal(got.AddKEs(), []uint16{method}) {
						t.Errorf("%s: %v", set, got)
					}
					if t.Failed() {
						t.Fatalf("%s of %s by %d, fault %d", what, set, who, fault)
					}
				}
			}
		}
	}
}

// A child that comes later has the exchanges of its own proposals; one with the defaults
// has them with a peer that knows them, and one without has none.
func TestCreateChildMLKEM(t *testing.T) {
	for name, hybrid := range map[string]bool{"both": true, "one": false} {
		client, gateway := hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768", "aes256gcm16-prfsha256-x25519")
		if !hybrid {
			gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519")
		}
		for _, c := range []*Connection{client, gateway} {
			c.Children[0].Proposals = suite.DefaultESP(suite.RolePeer, suite.PostQuantumPrefer)
			more := *c.Children[0]
			more.Name, more.OnRequest = "dmz", true
			more.Local, more.Remote = slices.Clone(more.Local), slices.Clone(more.Remote)
			c.Children = append(c.Children, &more)
		}
		client.Children[1].Local, client.Children[1].Remote = selectors("10.3.0.0/16"), selectors("10.4.0.0/16")
		gateway.Children[1].Local, gateway.Children[1].Remote = selectors("10.4.0.0/16"), selectors("10.3.0.0/16")
		w, a, b := up(t, client, gateway)
		acquireAt(a)
		w.run(time.Second)
		agree(t, a, b, 2)
		for _, c := range a.installed {
			want := []uint16(nil)
			if c.Name == "dmz" && hybrid {
				want = []uint16{suite.KEMLKEM768}
			}
			if !slices.Equal(c.Suite.AddKEs(), want) {
				t.Errorf("%s, %s: %v", name, c.Name, c.Suite)
			}
		}
		// A peer that knows none of it is offered none of it.
		raw := lastOpened(t, a, b, message.CreateChildSA)
		sa, _ := message.Find[*message.SA](raw)
		if offered := slices.ContainsFunc(sa.Proposals, func(p message.Proposal) bool { return p.HasAddKE() }); offered != hybrid {
			t.Errorf("%s: additional key exchanges offered: %v", name, offered)
		}
	}
}

// lastOpened is what was inside the last request of an exchange that from sent.
func lastOpened(t testing.TB, from, to *host, kind message.ExchangeType) []message.Payload {
	t.Helper()
	all := sentOf(from, kind, false)
	raw := slices.Clone(all[len(all)-1])
	_, enc, text, err := message.Open(raw, engineOf(to).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(enc.First, text)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// following is a pair whose gateway waits for IKE_FOLLOWUP_KE to replace the child or,
// with ike, the SA; the request for it was lost.
func following(t testing.TB, ike bool) (w *world, a, b *host) {
	client, gateway := hybridChildren(t)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b = up(t, client, gateway)
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKEFollowupKE {
			return 0
		}
		return 1
	}
	if ike {
		rekeyIKE(a)
	} else {
		rekeyChild(a)
	}
	w.run(100 * time.Millisecond)
	if engineOf(b).followUp == nil {
		t.Fatal("the gateway waits for nothing")
	}
	return w, a, b
}

// answersOf is the notifies in the last answer that h sent.
func answersOf(t testing.TB, h, far *host, kind message.ExchangeType) (out []message.NotifyType) {
	t.Helper()
	all := sentOf(h, kind, true)
	if len(all) == 0 {
		return nil
	}
	_, enc, text, err := message.Open(slices.Clone(all[len(all)-1]), engineOf(far).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(enc.First, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if n, ok := p.(*message.Notify); ok {
			out = append(out, n.Notify)
		}
	}
	return out
}

// TestFollowUpLate: what waits is not kept for ever, and a request that comes after is
// told STATE_NOT_FOUND; the peer then begins anew.
func TestFollowUpLate(t *testing.T) {
	for _, ike := range []bool{false, true} {
		w, a, b := following(t, ike)
		s := engineOf(b)
		if n := len(b.e.inbound); !ike && n != 2 {
			t.Errorf("%d SPIs while a child is being opened", n)
		}
		b.poke(func(s *ikeSA) { s.set(dueFollowUp, w.now) })
		b.handle(Tick{})
		if s.followUp != nil || s.holding || s.promised != 0 || len(b.e.inbound) != 1 {
			t.Errorf("something is kept: %v, %v, %d SPIs", s.followUp, s.holding, len(b.e.inbound))
		}
		w.fate = nil
		w.run(2 * time.Second)
		if got := answersOf(t, b, a, message.IKEFollowupKE); !slices.Equal(got, []message.NotifyType{message.StateNotFound}) {
			t.Errorf("answer %v", got)
		}
		w.run(time.Minute)
		agree(t, a, b, 1)
		if ike {
			rekeyIKE(a)
		} else {
			rekeyChild(a)
		}
		w.run(time.Minute)
		agree(t, a, b, 1)
		if ike && len(found[Rekeyed](a)) != 1 || !ike && len(found[ChildUp](a)) != 2 {
			t.Error("the second attempt did not replace it")
		}
		a.handle(Terminate{})
		w.run(time.Minute)
		empty(t, a, b)
	}
}

// TestFollowUpHostile: link data and key exchange that are not those that are due; and the
// SA ends, or something else is begun, while one is.
func TestFollowUpHostile(t *testing.T) {
	for _, ike := range []bool{false, true} {
		for name, c := range map[string]struct {
			payloads func(link []byte) []message.Payload
			want     message.NotifyType // 0: the SA ends by INVALID_SYNTAX
		}{
			"no link": {func([]byte) []message.Payload { return []message.Payload{mlkemKE()} }, message.StateNotFound},
			"empty link": {func([]byte) []message.Payload {
				return []message.Payload{mlkemKE(), notify(message.AdditionalKeyExchange)}
			}, message.StateNotFound},
			"other link": {func(link []byte) []message.Payload {
				return []message.Payload{mlkemKE(), notifyData(message.AdditionalKeyExchange, append(slices.Clone(link), 0))}
			}, message.StateNotFound},
			"no key exchange": {func(link []byte) []message.Payload {
				return []message.Payload{notifyData(message.AdditionalKeyExchange, link)}
			}, 0},
			"other method": {func(link []byte) []message.Payload {
				return []message.Payload{&message.KE{Method: suite.KEMLKEM1024, Data: make([]byte, 1568)}, notifyData(message.AdditionalKeyExchange, link)}
			}, 0},
			"wrong length": {func(link []byte) []message.Payload {
				return []message.Payload{&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1183)}, notifyData(message.AdditionalKeyExchange, link)}
			}, 0},
			"not reduced": {func(link []byte) []message.Payload {
				return []message.Payload{&message.KE{Method: suite.KEMLKEM768, Data: slices.Repeat([]byte{0xff}, 1184)}, notifyData(message.AdditionalKeyExchange, link)}
			}, 0},
		} {
			w, a, b := following(t, ike)
			s := engineOf(b)
			b.deliver(a, craft(t, engineOf(a), message.IKEFollowupKE, s.expectID, 0, c.payloads(s.followUp.link)...))
			got := answersOf(t, b, a, message.IKEFollowupKE)
			switch {
			case c.want != 0 && (!slices.Equal(got, []message.NotifyType{c.want}) || len(found[Down](b)) != 0 || s.followUp == nil):
				t.Errorf("%s: answer %v", name, got)
			case c.want == 0 && (!slices.Equal(got, []message.NotifyType{message.InvalidSyntax}) || len(found[Down](b)) != 1):
				t.Errorf("%s: answer %v", name, got)
			}
			b.handle(Terminate{})
			a.handle(Terminate{})
			w.fate = nil
			w.run(5 * time.Minute)
			empty(t, a, b)
		}
	}
	// Another CREATE_CHILD_SA takes the place of the one that waits.
	_, a, b := following(t, false)
	s := engineOf(b)
	link := s.followUp.link
	b.deliver(a, craft(t, engineOf(a), message.CreateChildSA, s.expectID, 0, childPayloads(t, false)...))
	if s.followUp != nil || len(b.installed) != 2 || len(b.e.inbound) != 2 {
		t.Errorf("%d children, %d SPIs", len(b.installed), len(b.e.inbound))
	}
	b.deliver(a, craft(t, engineOf(a), message.IKEFollowupKE, s.expectID, 0, mlkemKE(), notifyData(message.AdditionalKeyExchange, link)))
	if got := answersOf(t, b, a, message.IKEFollowupKE); !slices.Equal(got, []message.NotifyType{message.StateNotFound}) {
		t.Errorf("answer %v", got)
	}
}

// mlkemKE is an encapsulation key that can be used.
func mlkemKE() *message.KE {
	return &message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1184)}
}

// TestFollowUpMissing: a peer that chose additional key exchanges and does not go on with
// them, or answers without what is due: no SA comes of it.
func TestFollowUpMissing(t *testing.T) {
	for name, answer := range map[string][]message.Payload{
		"nothing":      nil,
		"no KE":        {notifyData(message.AdditionalKeyExchange, []byte("link"))},
		"other method": {&message.KE{Method: suite.KEMLKEM1024, Data: make([]byte, 1568)}},
		"wrong length": {&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1087)}},
		"no second":    {&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1088)}},
		"refused":      {notify(message.NoProposalChosen)},
	} {
		w, a, b := following(t, false)
		before := a.onlyChild().SPIIn
		a.deliver(b, craft(t, engineOf(b), message.IKEFollowupKE, engineOf(a).pending.id, message.FlagResponse, answer...))
		if a.onlyChild().SPIIn != before {
			t.Errorf("%s: the child was replaced", name)
		}
		if len(found[RekeyFailed](a)) != 1 || len(a.e.inbound) != 1 {
			t.Errorf("%s: %d reports, %d SPIs", name, len(found[RekeyFailed](a)), len(a.e.inbound))
		}
		// The gateway has not seen the request whose answer this was.
		a.handle(Terminate{})
		b.handle(Terminate{})
		w.run(10 * time.Minute)
		empty(t, a, b)
	}
}
