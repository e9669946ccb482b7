package ike

import (
	"slices"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// hybridPair is a client and a gateway with additional key exchanges.
func hybridPair(t testing.TB, proposals ...string) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	client.Proposals = ikeProposals(t, proposals...)
	gateway.Proposals = ikeProposals(t, proposals...)
	return client, gateway
}

// hybridChildren gives the children additional key exchanges too, several of them.
func hybridChildren(t testing.TB) (client, gateway *Connection) {
	client, gateway = hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
	for _, c := range []*Connection{client, gateway} {
		c.Children[0].Proposals = espProposals(t, "aes256gcm16-x25519-ke1_mlkem768-ke2_ecp256")
	}
	return client, gateway
}

// TestAdditionalKeyExchanges: every number of them, with each kind of method, the slow
// ones by way of an Ask, and in fragments.
func TestAdditionalKeyExchanges(t *testing.T) {
	for _, kes := range []string{
		"x25519-ke1_mlkem768", "x25519-ke1_mlkem1024", "x25519-ke7_mlkem768",
		"ecp384-ke1_mlkem1024-ke2_x25519", "modp8192-ke1_mlkem1024-ke2_modp3072",
		"x25519-ke1_mlkem768-ke2_mlkem1024-ke3_ecp256-ke4_ecp384-ke5_ecp521-ke6_modp1024-ke7_modp2048",
	} {
		t.Run(kes, func(t *testing.T) {
			client, gateway := hybridPair(t, "aes256gcm16-prfsha384-"+kes)
			_, a, b := up(t, client, gateway)
			want := client.Proposals[0].String()
			if got := a.established()[0].Suite.String(); got != want {
				t.Errorf("suite %s, want %s", got, want)
			}
			rounds := len(a.established()[0].Suite.AddKEs())
			ids := map[uint32]bool{}
			for _, raw := range sentOf(a, message.IKEIntermediate, false) {
				h, err := message.ParseHeader(raw)
				if err != nil || len(raw) > 1252 {
					t.Errorf("%d octets, %v", len(raw), err)
				}
				ids[h.MessageID] = true
			}
			if len(ids) != rounds {
				t.Errorf("%d rounds of IKE_INTERMEDIATE, want %d", len(ids), rounds)
			}
			for _, h := range []*host{a, b} {
				var stages []Stage
				for _, d := range found[StageDone](h) {
					stages = append(stages, d.Stage)
				}
				if !slices.Equal(stages, []Stage{StageInit, StageIntermediate, StageAuth, StageChild}) {
					t.Errorf("%s: stages %v", h.name, stages)
				}
			}
			if s := engineOf(a); s.received != nil || s.intAuth.rounds != 0 {
				t.Error("what only AUTH needed is kept")
			}
		})
	}
}

// TestAdditionalKeyExchangeChosen: what comes of two lists, and that a peer which knows
// none of it is served without a second attempt.
func TestAdditionalKeyExchangeChosen(t *testing.T) {
	const base = "aes256gcm16-prfsha256-"
	for _, tt := range []struct {
		client, gateway []string
		want            string // of the suite, "" for none
	}{
		{[]string{"x25519-ke1_mlkem768", "x25519"}, []string{"x25519-ke1_mlkem768", "x25519"}, "x25519-ke1_mlkem768"},
		{[]string{"x25519-ke1_mlkem768", "x25519"}, []string{"x25519"}, "x25519"},
		{[]string{"x25519"}, []string{"x25519-ke1_mlkem768", "x25519"}, "x25519"},
		{[]string{"x25519-ecp384-ke1_mlkem768", "x25519"}, []string{"ecp384-ke1_mlkem768"}, "ecp384-ke1_mlkem768"},
		{[]string{"x25519-ke1_mlkem768-ke1_none"}, []string{"x25519"}, "x25519-ke1_none"},
		{[]string{"x25519-ke1_mlkem768-ke1_none-ke2_ecp256"}, []string{"x25519-ke2_ecp256"}, "x25519-ke1_none-ke2_ecp256"},
		{[]string{"x25519-ke1_mlkem768"}, []string{"x25519"}, ""},
		{[]string{"x25519"}, []string{"x25519-ke1_mlkem768"}, ""},
	} {
		client, gateway := pskPair(t)
		prefix := func(list []string) (out []string) {
			for _, s := range list {
				out = append(out, base+s)
			}
			return out
		}
		client.Proposals, gateway.Proposals = ikeProposals(t, prefix(tt.client)...), ikeProposals(t, prefix(tt.gateway)...)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(3 * time.Second)
		if tt.want == "" {
			if c := a.downCode(); c != CodeNoProposal || len(b.e.Statuses()) != 0 {
				t.Errorf("%v with %v: code %s", tt.client, tt.gateway, c)
			}
			if n := len(sentOf(a, message.IKESAInit, false)); n > 4 {
				t.Errorf("%v with %v: %d attempts", tt.client, tt.gateway, n)
			}
			continue
		}
		agree(t, a, b, 1)
		if got := a.established()[0].Suite.String(); got != base+tt.want {
			t.Errorf("%v with %v: %s, want %s", tt.client, tt.gateway, got, tt.want)
		}
	}
}

// TestIntermediateUnderLoss: each message of the conversation lost once, and each sent
// twice. The answer to a lost response is sealed by keys that are no longer in use.
func TestIntermediateUnderLoss(t *testing.T) {
	client, gateway := hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem1024")
	for fault := range 2 {
		for nth := range 30 {
			w, a, b := pair(t, client, gateway)
			n := 0
			w.fate = func(*host, Send) int {
				n++
				if n-1 == nth {
					return 2 * fault
				}
				return 1
			}
			a.initiate("home", b)
			w.run(time.Minute)
			agree(t, a, b, 1)
			if w.t.Failed() {
				t.Fatalf("fault %d at datagram %d", fault, nth)
			}
		}
	}
}

// TestInitFits: the offers of the defaults leave IKE_SA_INIT below the smallest packet
// of IPv6, for it cannot be fragmented.
func TestInitFits(t *testing.T) {
	for _, role := range []suite.Role{suite.RolePeer, suite.RoleDeviceGateway} {
		client, gateway := pskPair(t)
		client.Proposals = suite.DefaultIKE(role, suite.PostQuantumPrefer)
		gateway.Proposals = suite.DefaultIKE(suite.RoleDeviceGateway, suite.PostQuantumPrefer)
		_, a, b := up(t, client, gateway)
		for _, h := range []*host{a, b} {
			if n := len(lastInit(t, h).Append(nil)); n > 1232-4 {
				t.Errorf("%s: IKE_SA_INIT has %d octets", h.name, n)
			}
		}
		if got := a.established()[0].Suite.String(); got != "aes256gcm16-prfsha256-x25519-ke1_mlkem768" {
			t.Errorf("the defaults give %s", got)
		}
	}
}
