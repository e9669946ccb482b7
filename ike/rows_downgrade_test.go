package ike

import (
	"slices"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// manInTheMiddle changes IKE_SA_INIT messages of one direction on their way; everything
// else passes.
func manInTheMiddle(w *world, response bool, change func(*message.Message)) {
	w.fate = func(_ *host, s Send) int {
		m, err := message.Parse(s.Data)
		if err != nil || m.Exchange != message.IKESAInit || m.IsResponse() != response {
			return 1
		}
		change(m)
		s.Data = m.Append(nil)
		w.carry(s)
		return 0
	}
}

func withoutNotify(kinds ...message.NotifyType) func(*message.Message) {
	return func(m *message.Message) {
		m.Payloads = slices.DeleteFunc(m.Payloads, func(p message.Payload) bool {
			n, ok := p.(*message.Notify)
			return ok && slices.Contains(kinds, n.Notify)
		})
	}
}

// inSA changes the SA payload.
func inSA(change func(*message.SA)) func(*message.Message) {
	return func(m *message.Message) {
		if sa, ok := message.Find[*message.SA](m.Payloads); ok {
			change(sa)
		}
	}
}

func eachProposal(change func(suite.Proposal) suite.Proposal) func(*message.Message) {
	return inSA(func(sa *message.SA) {
		for i := range sa.Proposals {
			sa.Proposals[i].Proposal = change(sa.Proposals[i].Proposal)
		}
	})
}

func withoutAddKE(p suite.Proposal) suite.Proposal {
	p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t suite.Transform) bool { return t.Type.IsAddKE() })
	return p
}

// TestRow40NoDowngrade: who sits on the way takes the additional key exchange or the
// pre-shared key out, or changes what is chosen. There is no SA then, required or not.
func TestRow40NoDowngrade(t *testing.T) {
	changes := map[string]func(*message.Message){
		"no USE_PPK":      withoutNotify(message.UsePPK),
		"no INTERMEDIATE": withoutNotify(message.IntermediateExchangeSupported),
		"neither":         withoutNotify(message.UsePPK, message.IntermediateExchangeSupported),
		"no ADDKE":        eachProposal(withoutAddKE),
		"no ADDKE and no notify": func(m *message.Message) {
			eachProposal(withoutAddKE)(m)
			withoutNotify(message.IntermediateExchangeSupported)(m)
		},
		"only the last proposal":          inSA(func(sa *message.SA) { sa.Proposals = sa.Proposals[len(sa.Proposals)-1:] }),
		"proposals in the other order":    inSA(func(sa *message.SA) { slices.Reverse(sa.Proposals) }),
		"transforms in the other order":   eachProposal(func(p suite.Proposal) suite.Proposal { slices.Reverse(p.Transforms); return p }),
		"another method":                  eachProposal(swapMLKEM),
		"ADDKE at another place":          eachProposal(shiftAddKE),
		"NONE added":                      eachProposal(noneBeside),
		"no SIGNATURE_HASH_ALGORITHMS":    withoutNotify(message.SignatureHashAlgorithms),
		"the order of payloads":           func(m *message.Message) { slices.Reverse(m.Payloads) },
		"no FRAGMENTATION_SUPPORTED":      withoutNotify(message.FragmentationSupported),
		"USE_PPK twice":                   func(m *message.Message) { m.Payloads = append(m.Payloads, notify(message.UsePPK)) },
		"a proposal of the other's added": inSA(func(sa *message.SA) { sa.Proposals = append(sa.Proposals, sa.Proposals[0]) }),
	}
	for name, change := range changes {
		for _, response := range []bool{false, true} {
			for _, required := range []bool{false, true} {
				client, gateway := pskPair(t)
				for _, c := range []*Connection{client, gateway} {
					c.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp256-ke1_mlkem768-ke1_mlkem1024", "aes256gcm16-prfsha256-x25519")
					if required {
						c.Proposals = c.Proposals[:1]
					}
					c.PPKs, c.PPKRequired = ppks("k"), required
				}
				w, a, b := pair(t, client, gateway)
				changed := false
				manInTheMiddle(w, response, func(m *message.Message) {
					before := m.Append(nil)
					change(m)
					changed = changed || !slices.Equal(before, m.Append(nil))
				})
				a.initiate("home", b)
				w.run(2 * time.Minute)
				if !changed {
					continue // there is nothing of it in this message
				}
				if len(a.established())+len(b.established()) != 0 || len(a.installed)+len(b.installed) != 0 {
					t.Errorf("%s, response %v, required %v: an SA came of it", name, response, required)
				}
				for _, h := range []*host{a, b} {
					if len(found[Established](h)) != 0 && len(found[Down](h)) == 0 {
						t.Errorf("%s, response %v, required %v: %s believed it", name, response, required, h.name)
					}
				}
			}
		}
	}
}

// swapMLKEM puts one parameter set in the place of the other.
func swapMLKEM(p suite.Proposal) suite.Proposal {
	for i, t := range p.Transforms {
		if t.ID == suite.KEMLKEM768 {
			p.Transforms[i].ID = suite.KEMLKEM1024
		}
	}
	return p
}

// shiftAddKE makes the first additional key exchange the second.
func shiftAddKE(p suite.Proposal) suite.Proposal {
	for i, t := range p.Transforms {
		if t.Type == suite.TypeAddKE1 {
			p.Transforms[i].Type++
		}
	}
	return p
}

// noneBeside lets the peer go without.
func noneBeside(p suite.Proposal) suite.Proposal {
	if p.HasAddKE() {
		p.Transforms = append(slices.Clone(p.Transforms), suite.Transform{Type: suite.TypeAddKE1, ID: suite.KENone})
	}
	return p
}

// TestRow40RequiredFailsClosed: a peer that knows nothing of it has no SA where it is
// required, in either role, and people are told what is missing. There is one attempt.
func TestRow40RequiredFailsClosed(t *testing.T) {
	for _, tt := range []struct {
		name          string
		demand        func(*Connection)
		client        Code // where the client demands
		gateway, told Code // where the gateway demands
	}{
		{"ML-KEM", func(c *Connection) { c.Proposals = suite.DefaultIKE(suite.RolePeer, suite.PostQuantumRequire) }, CodeNoProposal, "", CodeNoProposal},
		{"PPK", func(c *Connection) { c.PPKs, c.PPKRequired = ppks("k"), true }, CodePPK, CodePPK, CodeAuthRefused},
	} {
		client, gateway := pskPair(t)
		tt.demand(client)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Minute)
		if c := a.downCode(); c != tt.client || len(found[Established](a))+len(found[Established](b)) != 0 {
			t.Errorf("%s: the client says %s", tt.name, c)
		}

		client, gateway = pskPair(t)
		tt.demand(gateway)
		w, a, b = pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Minute)
		if c := a.downCode(); c != tt.told || len(found[Established](a))+len(found[Established](b)) != 0 {
			t.Errorf("%s: the client is told %s", tt.name, c)
		}
		if tt.gateway != "" && b.downCode() != tt.gateway {
			t.Errorf("%s: the gateway says %s", tt.name, b.downCode())
		}
	}
	// A peer that chose the exchange and never does it.
	client, gateway := hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
	w, a, b := pair(t, client, gateway)
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.IKEIntermediate && h.IsResponse() {
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(2 * time.Minute)
	if c := a.downCode(); c != CodePortBlocked || len(sentOf(a, message.IKEAuth, false)) != 0 {
		t.Errorf("code %s, IKE_AUTH sent %d times", c, len(sentOf(a, message.IKEAuth, false)))
	}
	empty(t, a, b)
}

// TestIntermediateHostile: what an initiator, or a responder, that has the keys may not
// send in IKE_INTERMEDIATE; and IKE_AUTH before it, or the exchange where none was agreed.
func TestIntermediateHostile(t *testing.T) {
	good := func() *message.KE { return mlkemKE() }
	requests := map[string][]message.Payload{
		"empty":         nil,
		"other method":  {&message.KE{Method: suite.KEMLKEM1024, Data: make([]byte, 1568)}},
		"first method":  {&message.KE{Method: suite.KEX25519, Data: make([]byte, 32)}},
		"short":         {&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1183)}},
		"not reduced":   {&message.KE{Method: suite.KEMLKEM768, Data: slices.Repeat([]byte{0xff}, 1184)}},
		"critical":      {good(), &message.Unknown{Number: 200, Critical: true}},
		"only a notify": {notify(message.AuthenticationFailed)},
	}
	for name, ps := range requests {
		x := situations(t, "half-open-hybrid")
		if got := x.reaction(t, craft(t, x.peer, message.IKEIntermediate, 1, 0, ps...)); got != "end" {
			t.Errorf("request %s: %s", name, got)
		}
	}
	for name, ps := range requests {
		x := situations(t, "intermediate-sent")
		if len(ps) == 1 && ps[0].Type() == message.TypeKE && len(ps[0].(*message.KE).Data) > 1088 {
			ps = []message.Payload{&message.KE{Method: suite.KEMLKEM768, Data: make([]byte, 1087)}}
		}
		x.reaction(t, craft(t, x.peer, message.IKEIntermediate, 1, message.FlagResponse, ps...))
		x.w.run(time.Minute)
		if len(x.h.established()) != 0 || len(found[Down](x.h)) != 1 {
			t.Errorf("answer %s: the client goes on", name)
		}
	}
	// Not agreed: it is not answered, and nothing changes.
	for _, state := range []string{"half-open", "established-r", "established-i"} {
		x := situations(t, state)
		if got := x.reaction(t, craft(t, x.peer, message.IKEIntermediate, x.dueID, 0, good())); got != "drop" {
			t.Errorf("%s: %s", state, got)
		}
	}
	// The same key twice: the second one is a repetition and gets the same bytes.
	x := situations(t, "half-open-hybrid")
	raw := craft(t, x.peer, message.IKEIntermediate, 1, 0, good())
	if got := x.reaction(t, raw); got != "answer" {
		t.Fatalf("a good request: %s", got)
	}
	if got := x.reaction(t, raw); got != "answer" {
		t.Errorf("its repetition: %s", got)
	}
	all := sentOf(x.h, message.IKEIntermediate, true)
	if len(all) < 2 || !slices.Equal(all[len(all)-1], all[len(all)-2]) {
		t.Error("a repetition gets other bytes")
	}
}
