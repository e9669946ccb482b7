package ike

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// inEAP is a login by MSCHAPv2 that stops before the gateway gets the request with an ID: 2 is
// the identity, 3 the response, 4 the acknowledgement, and 5 is AUTH.
func inEAP(t testing.TB, stop uint32) (w *world, a, b *host) {
	t.Helper()
	client, gateway := eapPair(t)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b = eapHosts(t, client, gateway)
	w.fate = func(h *host, s Send) int {
		if m, err := message.ParseHeader(s.Data); err == nil && h == a && m.MessageID >= stop {
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(200 * time.Millisecond)
	if s := engineOf(b); s.state != stateConnecting || s.eap == nil || s.expectID != stop {
		t.Fatalf("not in EAP before request %d", stop)
	}
	return w, a, b
}

// lastPayloads is what the last message of a host says.
func lastPayloads(t testing.TB, from, to *host) []message.Payload {
	t.Helper()
	_, e, text, err := message.Open(slices.Clone(from.sent[len(from.sent)-1].Data), engineOf(to).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestRow27InEAP(t *testing.T) {
	for stop := uint32(2); stop <= 5; stop++ {
		for _, kind := range []message.ExchangeType{message.CreateChildSA, message.Informational, message.IKEAuth, message.IKEIntermediate, message.IKESessionResume} {
			for name, ps := range map[string][]message.Payload{
				"nothing":      nil,
				"a child":      childPayloads(t, false),
				"the zero key": {&message.Auth{Method: message.AuthPSK, Data: make([]byte, 32)}},
				"IDi":          {idPayload(false, identity(t, "eve@example.org"))},
			} {
				w, a, b := inEAP(t, stop)
				b.deliver(a, craft(t, engineOf(a), kind, stop, 0, ps...))
				w.run(100 * time.Millisecond)
				if len(b.established()) != 0 || len(b.installed) != 0 || len(found[Established](b)) != 0 || b.count(DropPanic) != 0 {
					t.Errorf("before request %d, %v with %s: established", stop, kind, name)
				}
			}
		}
	}
}

// TestRow28EarlySuccess: a gateway that is proven sends EAP-Success too early, at each step,
// with and without a key.
func TestRow28EarlySuccess(t *testing.T) {
	for at := 1; at <= 2; at++ {
		for _, key := range [][]byte{nil, make([]byte, 64)} {
			client, gateway := eapPair(t)
			gateway.Remote.EAP = EAPServer{Relay: true}
			w, a, b := eapHosts(t, client, gateway)
			honest, n := relayServer(b.accounts), 0
			b.relay = func(q Relay) Relayed {
				if n++; n == at {
					return Relayed{Accept: true, MSK: key}
				}
				return honest(q)
			}
			a.initiate("home", b)
			w.run(10 * time.Second)
			if got := a.downCode(); got != Code(eap.CodeEarlySuccess) {
				t.Errorf("at %d: code %s", at, got)
			}
			if len(found[Established](a))+len(found[Established](b)) != 0 {
				t.Errorf("at %d: established", at)
			}
		}
	}
}

// TestRow28SuccessInFirstAnswer: before the gateway has asked anything.
func TestRow28SuccessInFirstAnswer(t *testing.T) {
	client, gateway := eapPair(t)
	w, a, b := eapHosts(t, client, gateway)
	w.fate = func(h *host, s Send) int {
		if m, err := message.ParseHeader(s.Data); err == nil && h == b && m.Exchange == message.IKEAuth {
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(100 * time.Millisecond)
	ps := lastPayloads(t, b, a)
	p, _ := message.Find[*message.EAP](ps)
	p.Data = []byte{3, p.Data[1], 0, 4}
	a.deliver(b, craft(t, engineOf(b), message.IKEAuth, 1, message.FlagResponse, ps...))
	w.run(10 * time.Second)
	if got := a.downCode(); got != Code(eap.CodeEarlySuccess) {
		t.Errorf("code %s", got)
	}
}

// TestRow29EveryPacketInEveryState: a client that does not know the password sends each packet
// at each step of MSCHAPv2, and then AUTH by the keys that it knows.
func TestRow29EveryPacketInEveryState(t *testing.T) {
	var packets [][]byte
	for code := byte(0); code <= 5; code++ {
		packets = append(packets, []byte{code, 0, 0, 4})
		for _, method := range []byte{1, 2, 3, 4, 6, 13, 26, 254} {
			packets = append(packets, []byte{code, 0, 0, 5, method})
		}
		for opcode := byte(1); opcode <= 5; opcode++ {
			packets = append(packets, []byte{code, 0, 0, 6, 26, opcode}, append([]byte{code, 0, 0, 59, 26, opcode, 0, 0, 54, 49}, make([]byte, 49)...))
		}
	}
	for stop := uint32(2); stop <= 4; stop++ {
		for _, packet := range packets {
			w, a, b := inEAP(t, stop)
			s := engineOf(a)
			packet := slices.Clone(packet)
			due, _ := message.Find[*message.EAP](lastPayloads(t, a, b))
			packet[1] = due.Data[1]
			b.deliver(a, craft(t, s, message.IKEAuth, stop, 0, &message.EAP{Data: packet}))
			w.run(10 * time.Millisecond)
			auth := &message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, s.keys.Pi, s.signedOctets(true, s.active.(*authTask).id))}
			b.deliver(a, craft(t, s, message.IKEAuth, stop+1, 0, auth))
			w.run(10 * time.Millisecond)
			if len(found[Established](b)) != 0 || b.count(DropPanic) != 0 {
				t.Errorf("before request %d: %x led in", stop, packet[:min(len(packet), 8)])
			}
		}
	}
}

// TestRow32NothingBeforeTheGatewayIsProven: a gateway that is not proven hears nothing of EAP.
func TestRow32NothingBeforeTheGatewayIsProven(t *testing.T) {
	other, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	rogue, err := other.Issue(pki.Request{DNSNames: []string{"gw.example.org"}, Purpose: pki.ServerAuth, Now: epoch.Add(-time.Minute), Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(client, gateway *Connection){
		"another CA":   func(_, g *Connection) { g.Local.Credentials = []*pki.Credential{rogue} },
		"another name": func(c, _ *Connection) { c.Remote.ID = identity(t, "other.example.org") },
		"a client's":   func(_, g *Connection) { g.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]} },
		"a key":        func(_, g *Connection) { g.Local = Local{Method: AuthPSK, ID: g.Local.ID, PSK: []byte(testPSK)} },
		"nothing": func(_, g *Connection) {
			g.Local.Method, g.EAPOnly = AuthEAP, true
			g.Remote.EAP.Methods = []eap.Type{eap.TypeTLS}
		},
		"alone, MSCHAPv2":  func(c, g *Connection) { alone(c, g); c.Local.EAP.Methods = []eap.Type{eap.TypeMSCHAPv2} },
		"alone, other CA":  func(c, g *Connection) { alone(c, g); g.Remote.EAP.Credentials = []*pki.Credential{rogue} },
		"alone, no name":   func(c, g *Connection) { alone(c, g); c.Remote.ID = pki.Identity{} },
		"alone, not asked": func(c, g *Connection) { alone(c, g); c.EAPOnly = false },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := eapPair(t)
			client.Local.EAP.Password = nil // a person would be asked
			spoil(client, gateway)
			w, a, b := eapHosts(t, client, gateway)
			asked := false
			a.person = func(Credential) CredentialReply {
				asked = true
				return CredentialReply{Password: []byte(testPassword)}
			}
			a.initiate("home", b)
			w.run(10 * time.Second)
			if a.downCode() == "" || len(found[Established](a)) != 0 {
				t.Error("the client let the gateway be")
			}
			alone := client.EAPOnly
			if asked && !alone {
				t.Error("a person was asked")
			}
			if n := len(sentOf(a, message.IKEAuth, false)); n != 1 && !alone {
				t.Errorf("%d requests of IKE_AUTH, want 1", n)
			}
			if countAsked[Account](b) != 0 {
				t.Error("EAP came as far as the password")
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

// alone makes both prove themselves by EAP-TTLS.
func alone(client, gateway *Connection) {
	client.EAPOnly, gateway.EAPOnly, gateway.Local.Method = true, true, AuthEAP
	client.Remote.Method = AuthEAP
	client.Local.EAP.Methods = []eap.Type{eap.TypeTTLS}
	gateway.Remote.EAP.Methods = []eap.Type{eap.TypeTTLS}
}

// TestRow45InitialContactOfAUser: INITIAL_CONTACT is about the user, not about IDi, which two
// users behind two NATs share.
func TestRow45InitialContactOfAUser(t *testing.T) {
	for _, user := range []string{"carol@example.org", "dave@example.org"} {
		client, gateway := eapPair(t)
		client.Local.ID = identity(t, "192.168.1.10")
		client.Local.EAP.User = user
		if user == "dave@example.org" {
			client.Local.EAP.Password = []byte("another")
		}
		w, a, b := eapHosts(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		for _, q := range b.asked {
			if q, ok := q.(Admit); ok && (q.Identity != identity(t, user) || !q.InitialContact || q.Claimed != client.Local.ID) {
				t.Errorf("admitted as %v, initial contact %v, claimed %v", q.Identity, q.InitialContact, q.Claimed)
			}
		}
	}
}

// TestEAPOnTLS: every method on TLS by both versions, before and without a proof of the
// gateway's own, and behind a certificate.
func TestEAPOnTLS(t *testing.T) {
	for _, method := range []eap.Type{eap.TypeTLS, eap.TypeTTLS, eap.TypePEAP} {
		for _, version := range []uint16{0x0303, 0x0304} {
			for _, how := range []string{"after", "alone", "second"} {
				t.Run(fmt.Sprintf("%v/%x/%s", method, version, how), func(t *testing.T) {
					client, gateway := eapPair(t, method)
					client.Local.EAP.MaxTLS, gateway.Remote.EAP.MaxTLS = version, version
					client.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]}
					switch how {
					case "alone":
						alone(client, gateway)
						client.Local.EAP.Methods, gateway.Remote.EAP.Methods = []eap.Type{method}, []eap.Type{method}
					case "second":
						first, demanded := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
						login, serve := client.Local, gateway.Remote
						client, gateway = first, demanded
						client.Local.Next, gateway.Remote.Next = &login, &serve
					}
					w, a, b := eapHosts(t, client, gateway)
					a.initiate("home", b)
					w.run(2 * time.Second)
					agree(t, a, b, 1)
					if got := b.established()[0].Remote; got != identity(t, "carol@example.org") {
						t.Errorf("the gateway shows %v", got)
					}
					if a.e.seats != 0 || b.e.seats != 0 {
						t.Error("a seat is taken")
					}
					a.handle(Terminate{})
					w.run(time.Hour)
					empty(t, a, b)
				})
			}
		}
	}
}

// TestRow31CertificateInsideEAP: the TLS certificates of both ends are checked.
func TestRow31CertificateInsideEAP(t *testing.T) {
	other, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(client, gateway *Connection){
		"server of another CA":   func(c, _ *Connection) { c.Local.EAP.Verifier.Roots = []*x509.Certificate{other.Cert} },
		"server of another name": func(c, _ *Connection) { c.Local.EAP.ServerName = identity(t, "radius.example.org") },
		"client of another CA":   func(_, g *Connection) { g.Remote.EAP.Verifier.Roots = []*x509.Certificate{other.Cert} },
		"client not allowed":     func(_, g *Connection) { g.Remote.ID = identity(t, "*@example.net") },
		"client without":         func(c, _ *Connection) { c.Local.Credentials = nil },
	} {
		client, gateway := eapPair(t, eap.TypeTLS)
		client.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]}
		spoil(client, gateway)
		w, a, b := eapHosts(t, client, gateway)
		a.initiate("home", b)
		w.run(10 * time.Second)
		if a.downCode() == "" || b.downCode() == "" || len(found[Established](a))+len(found[Established](b)) != 0 {
			t.Errorf("%s: let in", name)
		}
		w.run(time.Hour)
		empty(t, a, b)
	}
}

// TestConversationsAreBounded: those that cost a coroutine. One whose peer is silent gives way,
// but not at once.
func TestConversationsAreBounded(t *testing.T) {
	client, gateway := eapPair(t, eap.TypeTTLS)
	w, a, b := eapHosts(t, client, gateway)
	b.e.seats = maxConversations - 1
	w.fate = func(_ *host, s Send) int { // the client falls silent in TLS
		if m, err := message.ParseHeader(s.Data); err == nil && m.MessageID > 2 {
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(5 * time.Second)
	if b.e.seats != maxConversations {
		t.Fatalf("%d seats", b.e.seats)
	}
	w.fate = nil
	other := w.add("other", "192.0.2.2", &Config{Connections: []*Connection{client}})
	other.initiate("home", b)
	w.fate = func(h *host, _ Send) int { return boolInt(h != a) }
	w.run(2 * time.Second)
	if got := other.downCode(); got != CodeRefused || len(b.established()) != 0 {
		t.Errorf("code %s", got)
	}
	w.run(10 * time.Second)
	other.reports = nil
	other.initiate("home", b)
	w.run(2 * time.Second)
	if len(other.established()) != 1 || found[Down](b)[1].Err.Code != CodeRefused {
		t.Error("the silent one did not give way")
	}
	if b.e.seats != maxConversations-1 {
		t.Errorf("%d seats", b.e.seats)
	}
}
