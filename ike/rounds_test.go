package ike

import (
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// twoRounds makes the client prove itself by certificate and then by pre-shared key.
func twoRounds(t testing.TB) (client, gateway *Connection) {
	client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	client.Local.Next = &Local{Method: AuthPSK, ID: identity(t, "dave@example.org"), PSK: []byte(testPSK)}
	gateway.Remote.Next = &Remote{Method: AuthPSK, ID: identity(t, "dave@example.org"), PSK: []byte(testPSK)}
	return client, gateway
}

func TestTwoRounds(t *testing.T) {
	client, gateway := twoRounds(t)
	virtualPair(client, gateway)
	w, a, b := pair(t, client, gateway)
	b.admit = func(q Admit) Admission {
		if q.Identity != identity(t, "dave@example.org") {
			t.Errorf("admitted as %v", q.Identity)
		}
		return Admission{Lease: testLease, Lifetime: time.Hour}
	}
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.IKEAuth, false)); n != 2 {
		t.Errorf("%d requests of IKE_AUTH, want 2", n)
	}
	a.handle(Terminate{})
	w.run(time.Hour)
	empty(t, a, b)
}

// Each message of the rounds lost once, and each doubled.
func TestTwoRoundsUnderLoss(t *testing.T) {
	for _, copies := range []int{0, 2} {
		for at := range 8 {
			client, gateway := twoRounds(t)
			w, a, b := pair(t, client, gateway)
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
		}
	}
}

func TestRoundsDiffer(t *testing.T) {
	for _, c := range []struct {
		name            string
		spoil           func(client, gateway *Connection)
		client, gateway Code
	}{
		{"one configured there", func(_, gateway *Connection) { gateway.Remote.Next = nil }, CodeAuthMethod, CodeRefused},
		{"one configured here", func(client, _ *Connection) { client.Local.Next = nil }, CodeAuthRefused, CodeAuthMethod},
		{"second key wrong", func(client, _ *Connection) { client.Local.Next.PSK = []byte("another") }, CodeAuthRefused, CodePSK},
		{"second identity wrong", func(client, _ *Connection) { client.Local.Next.ID = identity(t, "eve@example.org") }, CodeAuthRefused, CodeIdentity},
		{"second method wrong", func(client, _ *Connection) { *client.Local.Next = client.Local; client.Local.Next.Next = nil }, CodeAuthRefused, CodeAuthMethod},
		{"no second key", func(client, _ *Connection) { client.Local.Next.PSK = nil }, CodeNoCredential, CodeAuthRefused},
		{"gateway's certificate", func(client, _ *Connection) { client.Remote.ID = identity(t, "other.example.org") }, CodeIdentity, CodeAuthRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := twoRounds(t)
			c.spoil(client, gateway)
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(10 * time.Second)
			if got := a.downCode(); got != c.client {
				t.Errorf("client's code %s, want %s", got, c.client)
			}
			if c.gateway != CodeRefused {
				if got := b.downCode(); got != c.gateway {
					t.Errorf("gateway's code %s, want %s", got, c.gateway)
				}
			}
			if len(b.established())+len(a.established()) != 0 || len(found[Established](b)) != 0 {
				t.Error("established")
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

// An SA whose first round was passed is not established, whatever comes.
func TestRow27BetweenRounds(t *testing.T) {
	between := func() (w *world, a, b *host) {
		client, gateway := twoRounds(t)
		w, a, b = pair(t, client, gateway)
		n := 0
		w.fate = func(h *host, s Send) int {
			if m, err := message.ParseHeader(s.Data); err == nil && m.Exchange == message.IKEAuth && h == a {
				if n++; n > 1 {
					return 0
				}
			}
			return 1
		}
		a.initiate("home", b)
		w.run(100 * time.Millisecond)
		return w, a, b
	}
	for _, kind := range []message.ExchangeType{message.CreateChildSA, message.Informational, message.IKEAuth, message.IKESAInit, 43, 44} {
		for _, ps := range [][]message.Payload{
			nil, childPayloads(t, false),
			{notify(message.InitialContact)},
			{&message.Auth{Method: message.AuthPSK, Data: make([]byte, 32)}},
		} {
			w, a, b := between()
			b.deliver(a, craft(t, engineOf(a), kind, 2, 0, ps...))
			w.run(time.Second)
			if len(b.established()) != 0 || len(b.installed) != 0 || len(found[Established](b)) != 0 {
				t.Errorf("%v with %d payloads: established", kind, len(ps))
			}
		}
	}
	w, a, b := between()
	w.fate = nil
	w.run(20 * time.Second)
	agree(t, a, b, 1)
}

func TestTerminateBetweenRounds(t *testing.T) {
	client, gateway := twoRounds(t)
	client.Local.Next.Method = AuthCert
	client.Local.Next.Credentials = client.Local.Credentials
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	for len(sentOf(b, message.IKEAuth, true)) == 0 {
		if !w.step(w.now.Add(time.Second)) {
			t.Fatal("no answer")
		}
	}
	a.mute = true // the second signature never comes
	w.run(time.Second)
	a.handle(Terminate{})
	w.run(10 * time.Second)
	if got := b.downCode(); got != "" {
		t.Errorf("gateway's code %s", got)
	}
	w.run(time.Hour)
	empty(t, a, b)
}
