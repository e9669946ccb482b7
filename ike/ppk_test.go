package ike

import (
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/eap"
	"martlet/ike/message"
)

const testPPK = "a post-quantum pre-shared key of 256 bits, at least"

// ppks is the keys of these names; another name has another key.
func ppks(ids ...string) (out []PPK) {
	for _, id := range ids {
		out = append(out, PPK{ID: id, Key: []byte(testPPK + id)})
	}
	return out
}

// TestPPK: every combination of what both sides have and demand (the table of RFC 8784
// §3), with a pre-shared key and with certificates.
func TestPPK(t *testing.T) {
	const not = Code("")
	for _, tt := range []struct {
		name             string
		client, gateway  []PPK
		clientReq, gwReq bool
		used             bool
		clientEnd, gwEnd Code // of an SA that does not come to be
	}{
		{name: "both", client: ppks("k1"), gateway: ppks("k1"), used: true},
		{name: "both, demanded", client: ppks("k1"), gateway: ppks("k1"), clientReq: true, gwReq: true, used: true},
		{name: "one of several", client: ppks("k2"), gateway: ppks("k1", "k2", "k3"), clientReq: true, used: true},
		{name: "only the client", client: ppks("k1")},
		{name: "only the gateway", gateway: ppks("k1")},
		{name: "unknown name", client: ppks("k9"), gateway: ppks("k1")},
		{name: "client demands", client: ppks("k1"), clientReq: true, clientEnd: CodePPK, gwEnd: CodeUnreachable},
		{name: "gateway demands", gateway: ppks("k1"), gwReq: true, clientEnd: CodeAuthRefused, gwEnd: CodePPK},
		{name: "unknown, client demands", client: ppks("k9"), gateway: ppks("k1"), clientReq: true, clientEnd: CodeAuthRefused, gwEnd: CodePPK},
		{name: "unknown, gateway demands", client: ppks("k9"), gateway: ppks("k1"), gwReq: true, clientEnd: CodeAuthRefused, gwEnd: CodePPK},
		{
			name: "other key of that name", client: ppks("k1"), gateway: []PPK{{ID: "k1", Key: []byte("another")}},
			clientEnd: CodeAuthRefused, gwEnd: CodePSK,
		},
		{
			name: "empty key of that name", client: ppks("k1"), gateway: []PPK{{ID: "k1"}},
			clientReq: true, clientEnd: CodeAuthRefused, gwEnd: CodePPK,
		},
	} {
		for _, certs := range []bool{false, true} {
			client, gateway := pskPair(t)
			if certs {
				client, gateway = certPair(t, pki.ECDSAP256, pki.RSA2048)
				if tt.gwEnd == CodePSK {
					tt.gwEnd = CodeSignature
				}
			}
			client.PPKs, client.PPKRequired = tt.client, tt.clientReq
			gateway.PPKs, gateway.PPKRequired = tt.gateway, tt.gwReq
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(time.Minute)
			if tt.clientEnd != not {
				if c := a.downCode(); c != tt.clientEnd {
					t.Errorf("%s: client's code %s, want %s", tt.name, c, tt.clientEnd)
				}
				if c := b.downCode(); c != tt.gwEnd {
					t.Errorf("%s: gateway's code %s, want %s", tt.name, c, tt.gwEnd)
				}
				empty(t, a, b)
				continue
			}
			agree(t, a, b, 1)
			for _, h := range []*host{a, b} {
				if used := slices.Contains(h.established()[0].Conditions, "ppk"); used != tt.used {
					t.Errorf("%s: %s used it: %v", tt.name, h.name, used)
				}
				if s := engineOf(h); s.ppk.before.D != nil || s.ppk.unsaid {
					t.Errorf("%s: %s keeps what is over", tt.name, h.name)
				}
			}
			warned := len(found[Warned](a)) + len(found[Warned](b))
			if mismatched := len(tt.client) > 0 && len(tt.gateway) > 0 && !tt.used; mismatched != (warned == 2) {
				t.Errorf("%s: %d warnings", tt.name, warned)
			}
		}
	}
}

// The key is part of every later key: of children, and of AUTH.
func TestPPKChangesKeys(t *testing.T) {
	client, gateway := pskPair(t)
	client.PPKs, gateway.PPKs = ppks("k"), ppks("k")
	_, a, _ := up(t, client, gateway)
	s := engineOf(a)
	k, err := DeriveIKE(s.suite, SKEYSEED(s.prf, s.ni, s.nr, make([]byte, 32)), s.ni, s.nr, s.spii, s.spir)
	if err != nil {
		t.Fatal(err)
	}
	mixed := MixPPK(s.prf, client.PPKs[0].Key, k)
	if slices.Equal(mixed.D, k.D) || slices.Equal(mixed.Pi, k.Pi) || slices.Equal(mixed.Pr, k.Pr) || slices.Equal(mixed.Pi, mixed.Pr) {
		t.Error("a key is not mixed")
	}
	if !slices.Equal(mixed.Ei, k.Ei) || !slices.Equal(mixed.Ar, k.Ar) {
		t.Error("a key of messages is mixed: they are in use already")
	}
}

// With additional key exchanges, with several rounds and with EAP, and each message lost
// or doubled.
func TestPPKWithOthers(t *testing.T) {
	for name, pairOf := range map[string]func() (*Connection, *Connection){
		"EAP":    func() (*Connection, *Connection) { return eapPair(t, eap.TypeMSCHAPv2) },
		"no MSK": func() (*Connection, *Connection) { return eapPair(t, eap.TypeMD5) },
		"ML-KEM": func() (*Connection, *Connection) { return hybridPair(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768") },
		"rounds": func() (*Connection, *Connection) { return twoRounds(t) },
	} {
		for _, required := range []bool{false, true} {
			for fault := range 24 {
				client, gateway := pairOf()
				client.PPKs, gateway.PPKs = ppks("k"), ppks("j", "k")
				client.PPKRequired, gateway.PPKRequired = required, required
				w, a, b := eapHosts(t, client, gateway)
				n := 0
				w.fate = func(*host, Send) int {
					if n++; n-1 == fault/2 {
						return 2 * (fault % 2)
					}
					return 1
				}
				a.initiate("home", b)
				w.run(time.Minute)
				agree(t, a, b, 1)
				if !slices.Contains(a.established()[0].Conditions, "ppk") || !slices.Contains(b.established()[0].Conditions, "ppk") {
					t.Errorf("%s: not used", name)
				}
			}
		}
	}
}

// Two connections for one peer: the one that demands a key does not spoil the other, and
// its key is not used for it.
func TestPPKOfCandidates(t *testing.T) {
	client, gateway := pskPair(t)
	strict := *gateway
	strict.Name, strict.PPKs, strict.PPKRequired = "strict", ppks("k"), true
	for _, tt := range []struct {
		has  []PPK
		want string
	}{{nil, "rw"}, {ppks("k"), "strict"}, {ppks("other"), "rw"}} {
		client.PPKs = tt.has
		w := newWorld(t)
		a := w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
		b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{&strict, gateway}})
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		if got := b.established()[0]; got.Connection != tt.want || slices.Contains(got.Conditions, "ppk") != (tt.want == "strict") {
			t.Errorf("%d keys: connection %s, %v", len(tt.has), got.Connection, got.Conditions)
		}
	}
}

// TestPPKIdentityMalformed: what a peer may not put into its notifies, and one that was
// not asked for.
func TestPPKIdentityMalformed(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": {}, "no name": {2}, "opaque": []byte("\x01k"), "unknown type": []byte("\x09k"), "long": append([]byte{2}, make([]byte, 60000)...),
	} {
		client, gateway := pskPair(t)
		client.PPKs, client.PPKRequired = ppks("k"), true
		gateway.PPKs = append(ppks("k"), PPK{Key: []byte("of no name")})
		w, a, b := pair(t, client, gateway)
		w.fate = func(h *host, s Send) int {
			if h == a && s.Path.Encap {
				return 0
			}
			return 1
		}
		a.initiate("home", b)
		w.run(30 * time.Millisecond)
		engineOf(a).active.(*authTask).behind = nil
		ps := authPayloads(t, a)
		b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, append(ps, notifyData(message.PPKIdentity, data))...))
		if c := b.downCode(); c != CodePPK {
			t.Errorf("%s: code %s", name, c)
		}
	}
}
