package ike

import (
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/eap"
	"martlet/ike/message"
)

const testPassword = "open sesame"

// eapPair makes the client log in by EAP at a gateway with a certificate. The
// gateway's host has to know the account: see eapHosts.
func eapPair(t testing.TB, methods ...eap.Type) (client, gateway *Connection) {
	if len(methods) == 0 {
		methods = []eap.Type{eap.TypeMSCHAPv2}
	}
	client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	trust := pki.Verifier{Roots: []*x509.Certificate{keys().ca.Cert}}
	client.Local = Local{Method: AuthEAP, EAP: EAPPeer{
		User: "carol@example.org", Password: suite.Secret(testPassword), Methods: methods, Verifier: trust,
	}}
	gateway.Remote = Remote{Method: AuthEAP, ID: identity(t, "*@example.org"), EAP: EAPServer{
		Methods: methods, Credentials: gateway.Local.Credentials, Verifier: trust,
	}}
	return client, gateway
}

// eapHosts is a pair whose gateway knows Carol and Dave.
func eapHosts(t testing.TB, client, gateway *Connection) (w *world, a, b *host) {
	w, a, b = pair(t, client, gateway)
	b.accounts = map[string]string{"carol@example.org": testPassword, "dave@example.org": "another"}
	return w, a, b
}

func TestEAPTunnel(t *testing.T) {
	for _, method := range []eap.Type{eap.TypeMSCHAPv2, eap.TypeMD5, eap.TypeGTC} {
		client, gateway := eapPair(t, method)
		virtualPair(client, gateway)
		w, a, b := eapHosts(t, client, gateway)
		b.admit = func(q Admit) Admission {
			if q.Identity != identity(t, "carol@example.org") || q.EAPIdentity != "carol@example.org" {
				t.Errorf("%v: admitted as %v", method, q.Identity)
			}
			return Admission{Lease: testLease}
		}
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		if got := b.established()[0].Remote; got != identity(t, "carol@example.org") {
			t.Errorf("%v: the gateway shows %v", method, got)
		}
		if engineOf(a).eap != nil || engineOf(b).eap != nil || engineOf(b).auth != nil {
			t.Error("something of the conversation is left")
		}
		a.handle(Terminate{})
		w.run(time.Hour)
		empty(t, a, b)
	}
}

// Windows says its private address in IDi, and no IDr (R8, R9).
func TestEAPIdentityIsNotIDi(t *testing.T) {
	client, gateway := eapPair(t)
	client.Local.ID = pki.Addr(netip.MustParseAddr("192.168.1.10"))
	client.Remote.ID = identity(t, "*.example.org") // a pattern: no IDr
	w, a, b := eapHosts(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if got := b.established()[0].Remote; got != identity(t, "carol@example.org") {
		t.Errorf("the gateway shows %v", got)
	}
	for _, q := range b.asked {
		if q, ok := q.(Admit); ok && q.Identity != identity(t, "carol@example.org") {
			t.Errorf("admitted as %v", q.Identity)
		}
	}
}

// Every message of every round lost, doubled, and late.
func TestEAPUnderLoss(t *testing.T) {
	for _, copies := range []int{0, 2, 3} {
		for at := range 14 {
			client, gateway := eapPair(t)
			w, a, b := eapHosts(t, client, gateway)
			n := 0
			w.fate = func(*host, Send) int {
				if n++; n == at+1 {
					return copies
				}
				return 1
			}
			a.initiate("home", b)
			w.run(20 * time.Second)
			agree(t, a, b, 1)
			if lookups := countAsked[Account](b); lookups != 1 {
				t.Errorf("the account was looked up %d times", lookups)
			}
		}
	}
}

func countAsked[T Question](h *host) (n int) {
	for _, q := range h.asked {
		if _, ok := q.(T); ok {
			n++
		}
	}
	return n
}

func TestEAPFails(t *testing.T) {
	for _, c := range []struct {
		name            string
		spoil           func(client, gateway *Connection)
		client, gateway Code
	}{
		{"wrong password", func(client, _ *Connection) { client.Local.EAP.Password = []byte("wrong") }, Code(eap.CodePassword), Code(eap.CodePassword)},
		{"another's password", func(client, _ *Connection) { client.Local.EAP.User = "dave@example.org" }, Code(eap.CodePassword), Code(eap.CodePassword)},
		{"no such user", func(client, _ *Connection) { client.Local.EAP.User = "eve@example.org" }, Code(eap.CodePassword), Code(eap.CodePassword)},
		{"no common method", func(client, _ *Connection) { client.Local.EAP.Methods = []eap.Type{eap.TypeGTC} }, Code(eap.CodeNoMethod), Code(eap.CodeNoMethod)},
		{"user not allowed", func(_, gateway *Connection) { gateway.Remote.ID = identity(t, "*@example.net") }, CodeAuthRefused, CodeIdentity},
		{"gateway demands a certificate", func(_, gateway *Connection) {
			_, g := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			gateway.Remote = g.Remote
		}, CodeAuthRefused, CodeAuthMethod},
		{"client has a certificate", func(client, _ *Connection) {
			c, _ := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			client.Local = c.Local
		}, CodeAuthRefused, CodeAuthMethod},
		{"client has no password", func(client, _ *Connection) { client.Local.EAP.Password = nil }, CodeNoCredential, CodeAuthRefused},
		{"gateway for another name", func(client, _ *Connection) { client.Remote.ID = identity(t, "other.example.org") }, CodeIdentity, CodeAuthRefused},
		{"gateway by EAP alone", func(_, gateway *Connection) { gateway.Local.Method = AuthEAP }, CodeAuthRefused, CodeEAPOnly},
		{"by EAP alone with MSCHAPv2", func(client, gateway *Connection) {
			client.EAPOnly, gateway.EAPOnly, gateway.Local.Method = true, true, AuthEAP
		}, CodeAuthRefused, CodeEAPOnly},
		{"gateway has no key", func(_, gateway *Connection) { gateway.Local.Credentials = nil }, CodeAuthRefused, CodeNoCredential},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := eapPair(t)
			c.spoil(client, gateway)
			w, a, b := eapHosts(t, client, gateway)
			a.initiate("home", b)
			w.run(10 * time.Second)
			if got := a.downCode(); got != c.client {
				t.Errorf("client's code %s, want %s", got, c.client)
			}
			if got := b.downCode(); got != c.gateway {
				t.Errorf("gateway's code %s, want %s", got, c.gateway)
			}
			for _, h := range []*host{a, b} {
				err := found[Down](h)[0].Err
				if err.What == "" || err.Why == "" || err.Hint == "" || err.Code.Class() == 0 {
					t.Errorf("%s explains too little: %+v", h.name, err)
				}
				if len(found[Established](h)) != 0 {
					t.Errorf("%s reports an SA", h.name)
				}
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

// The gateway may prove itself by a pre-shared key, too.
func TestEAPAtAGatewayWithAKey(t *testing.T) {
	client, gateway := eapPair(t)
	shared, byKey := pskPair(t)
	client.Remote, gateway.Local = shared.Remote, byKey.Local
	w, a, b := eapHosts(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
}

func TestEAPAsksThePerson(t *testing.T) {
	client, gateway := eapPair(t)
	client.Local.EAP.User, client.Local.EAP.Password = "", nil
	w, a, b := eapHosts(t, client, gateway)
	a.person = func(q Credential) CredentialReply {
		if q.Connection != "home" || q.User != "" || q.Gateway != identity(t, "gw.example.org") {
			t.Errorf("asked %+v", q)
		}
		return CredentialReply{User: "carol@example.org", Password: suite.Secret(testPassword)}
	}
	a.mute = true
	a.initiate("home", b)
	w.run(2 * time.Minute) // so long takes the person
	a.mute = false
	for id := range a.e.asks {
		w.post(0, a, Answer{ID: id, Value: a.reply(a.asked[len(a.asked)-1])})
	}
	w.run(time.Second)
	agree(t, a, b, 1)
}

// Nobody answers the prompt: the gateway gives up at its time, the client with it.
func TestEAPPersonIsGone(t *testing.T) {
	client, gateway := eapPair(t)
	client.Local.EAP.Password = nil
	w, a, b := eapHosts(t, client, gateway)
	a.mute = true
	a.initiate("home", b)
	w.run(2*time.Minute + 50*time.Second)
	if len(b.e.Statuses()) != 1 {
		t.Error("the gateway gave up too early")
	}
	w.run(time.Minute)
	empty(t, b)
	a.mute = false
	for id := range a.e.asks { // the person comes back
		w.post(0, a, Answer{ID: id, Value: CredentialReply{Password: suite.Secret(testPassword)}})
	}
	w.run(time.Minute)
	if got := a.downCode(); got != CodePeerDead {
		t.Errorf("code %s", got)
	}
	empty(t, a)
}

func TestEAPNakChoosesAnotherMethod(t *testing.T) {
	client, gateway := eapPair(t, eap.TypeGTC, eap.TypeMD5, eap.TypeMSCHAPv2)
	client.Local.EAP.Methods = []eap.Type{eap.TypeMSCHAPv2}
	w, a, b := eapHosts(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
}

func TestEAPDomain(t *testing.T) {
	for _, strip := range []bool{false, true} {
		client, gateway := eapPair(t)
		client.Local.EAP.User = `CORP\carol`
		gateway.Remote.EAP.StripDomain = strip
		gateway.Remote.ID = pki.Identity{}
		w, a, b := eapHosts(t, client, gateway)
		want := `CORP\carol`
		if strip {
			want = "carol"
		}
		b.accounts = map[string]string{want: testPassword}
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		if got := b.established()[0].Remote.Data; got != want {
			t.Errorf("the user is %s, want %s", got, want)
		}
	}
}

// A certificate, then EAP (RFC 4739).
func TestCertificateThenEAP(t *testing.T) {
	for at := range 18 {
		client, gateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
		login, serve := eapPair(t)
		client.Local.Next, gateway.Remote.Next = &login.Local, &serve.Remote
		w, a, b := eapHosts(t, client, gateway)
		n := 0
		w.fate = func(*host, Send) int {
			if n++; n == at {
				return 0
			}
			return 1
		}
		a.initiate("home", b)
		w.run(20 * time.Second)
		agree(t, a, b, 1)
	}
}

// EAP twice, for two users; and EAP, then a certificate.
func TestRoundsOfEAP(t *testing.T) {
	client, gateway := eapPair(t)
	login, serve := eapPair(t, eap.TypeMD5)
	login.Local.EAP.User, login.Local.EAP.Password = "dave@example.org", suite.Secret("another")
	client.Local.Next, gateway.Remote.Next = &login.Local, &serve.Remote
	certClient, certGateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	login.Local.Next, serve.Remote.Next = &certClient.Local, &certGateway.Remote
	w, a, b := eapHosts(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
}

// relayServer is an AAA server made of our own.
func relayServer(users map[string]string) func(Relay) Relayed {
	servers := map[SAID]*eap.Server{}
	return func(q Relay) Relayed {
		srv := servers[q.SA]
		var st eap.Step
		if srv == nil {
			srv = eap.NewServer(eap.ServerConfig{Methods: []eap.Type{eap.TypeMSCHAPv2}, SkipIdentity: q.Identity})
			servers[q.SA] = srv
			st = srv.Start()
		} else {
			st = srv.Handle(q.Packet)
		}
		for st.Lookup != "" {
			var account *eap.Account
			if p, ok := users[st.Lookup]; ok {
				account = &eap.Account{Password: suite.Secret(p)}
			}
			st = srv.Account(account)
		}
		return Relayed{Packet: st.Send, Accept: st.Done && st.Err == nil, Reject: st.Done && st.Err != nil, MSK: srv.MSK()}
	}
}

func withoutKey(relay func(Relay) Relayed) func(Relay) Relayed {
	return func(q Relay) Relayed {
		r := relay(q)
		r.MSK = nil
		return r
	}
}

func TestEAPRelayed(t *testing.T) {
	users := map[string]string{"carol@example.org": testPassword}
	for _, c := range []struct {
		name            string
		relay           func(Relay) Relayed
		password        string
		client, gateway Code
	}{
		{"accepted", relayServer(users), testPassword, "", ""},
		{"rejected", relayServer(users), "wrong", Code(eap.CodePassword), Code(eap.CodeRefused)},
		{"no answer", func(Relay) Relayed { return Relayed{Err: errWrongReply} }, testPassword, Code(eap.CodeRefused), CodeEAPRelay},
		{"nonsense", func(Relay) Relayed { return Relayed{Packet: []byte{3, 1, 0, 4}} }, testPassword, Code(eap.CodeRefused), CodeEAPRelay},
		{"accepted at once", func(Relay) Relayed { return Relayed{Accept: true} }, testPassword, Code(eap.CodeEarlySuccess), CodeAuthRefused},
		{"no key", withoutKey(relayServer(users)), testPassword, CodeAuthRefused, CodeEAPBinding},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := eapPair(t)
			client.Local.EAP.Password = suite.Secret(c.password)
			gateway.Remote.EAP = EAPServer{Relay: true}
			w, a, b := eapHosts(t, client, gateway)
			b.relay = c.relay
			a.initiate("home", b)
			w.run(10 * time.Second)
			if c.client == "" {
				agree(t, a, b, 1)
				return
			}
			if got := a.downCode(); got != c.client {
				t.Errorf("client's code %s, want %s", got, c.client)
			}
			if got := b.downCode(); got != c.gateway {
				t.Errorf("gateway's code %s, want %s", got, c.gateway)
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

// TestOnlyResponsesAreRelayed: what else a peer sends stays here, at every step.
func TestOnlyResponsesAreRelayed(t *testing.T) {
	for _, code := range []byte{0, 1, 3, 4, 5} {
		for steps := range uint32(2) {
			client, gateway := eapPair(t)
			gateway.Remote.EAP = EAPServer{Relay: true}
			w, a, b := eapHosts(t, client, gateway)
			b.relay = relayServer(map[string]string{"carol@example.org": testPassword})
			w.fate = func(h *host, m Send) int {
				if head, err := message.ParseHeader(m.Data); h == a && err == nil && head.MessageID > 1+steps {
					return 0
				}
				return 1
			}
			a.initiate("home", b)
			w.run(time.Second)
			relayed := countAsked[Relay](b)
			if relayed != int(steps) {
				t.Fatalf("%d packets were relayed, want %d", relayed, steps)
			}
			b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 2+steps, message.FlagInitiator, &message.EAP{Data: []byte{code, 1, 0, 5, 1}}))
			if got := countAsked[Relay](b); got != relayed {
				t.Errorf("code %d is relayed at step %d", code, steps)
			}
			if got := b.downCode(); got != Code(eap.CodeProtocol) {
				t.Errorf("code %d at step %d: the gateway's code is %s", code, steps, got)
			}
		}
	}
}

// TestRefusedByEAPFailure: with EAP-Failure the gateway has ended the SA, and the client asks
// nothing more of it, whoever of them found the fault.
func TestRefusedByEAPFailure(t *testing.T) {
	for name, spoil := range map[string]func(client *Connection){
		"gateway": func(client *Connection) { client.Local.EAP.Password = []byte("wrong") },
		"client":  func(client *Connection) { client.Local.EAP.ServerName = identity(t, "other.example.org") },
	} {
		for _, method := range []eap.Type{eap.TypeTTLS, eap.TypePEAP} {
			client, gateway := eapPair(t, method)
			spoil(client)
			w, a, b := eapHosts(t, client, gateway)
			a.initiate("home", b)
			w.run(time.Minute)
			if got := a.downCode(); got == "" {
				t.Fatalf("%s, %v: it is up", name, method)
			}
			if n := len(sentOf(a, message.Informational, false)); n != 0 {
				t.Errorf("%s, %v: %d packets went into the void", name, method, n)
			}
			empty(t, a)
		}
	}
}

// The conversation is Stopped whenever the SA ends.
func TestEAPEndsWithTheSA(t *testing.T) {
	for steps := range 12 {
		client, gateway := eapPair(t)
		w, a, b := eapHosts(t, client, gateway)
		a.initiate("home", b)
		for range steps {
			w.step(w.now.Add(time.Second))
		}
		a.handle(Terminate{})
		b.handle(Terminate{})
		w.run(time.Hour)
		empty(t, a, b)
	}
}

// One gateway takes peers with certificates and those that log in, and answers as the identity
// that is asked for, or by the first connection that fits (R8).
func TestConnectionOfALogin(t *testing.T) {
	withCert, byCert := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	login, first := eapPair(t)
	_, second := eapPair(t, eap.TypeMD5)
	byCert.Name, first.Name, second.Name = "certificates", "first", "second"
	cred, err := keys().ca.Issue(pki.Request{DNSNames: []string{"other.example.org"}, Purpose: pki.ServerAuth, Now: epoch.Add(-time.Minute), Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	second.Local.Credentials = []*pki.Credential{cred}
	for _, c := range []struct {
		name, want string
		client     *Connection
		asked      string
	}{
		{"a certificate", "certificates", withCert, "gw.example.org"},
		{"no identity asked for", "first", login, "*.example.org"},
		{"the first", "first", login, "gw.example.org"},
		{"the second", "second", login, "other.example.org"},
	} {
		client := *c.client
		client.Remote.ID = identity(t, c.asked)
		if c.client == login {
			client.Local.EAP.Methods = []eap.Type{eap.TypeMSCHAPv2, eap.TypeMD5}
		}
		w := newWorld(t)
		a := w.add("client", "192.0.2.1", &Config{Connections: []*Connection{&client}})
		b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{byCert, first, second}})
		b.accounts = map[string]string{"carol@example.org": testPassword}
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		if got := b.established()[0].Connection; got != c.want {
			t.Errorf("%s: connection %s, want %s", c.name, got, c.want)
		}
	}
}
