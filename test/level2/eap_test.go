package level2

import (
	"context"
	"errors"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike/eap"
)

// loggedIn makes the client log in by EAP at a gateway with a certificate.
func loggedIn(w *world) (g, c *config.Config) {
	p := w.people(pki.ECDSAP256)
	g, c = gatewayConfig(), clientConfig()
	certified(g, c, p)
	g.Users = map[string]*config.User{
		"alice@test": {Password: config.Secret{Value: []byte("open sesame")}},
		"bob@test":   {Password: config.Secret{Value: []byte("another")}},
	}
	g.Connections["clients"].Peer = config.Auth{Auth: "eap", ID: "*@test"}
	c.Connections["office"].Local = config.Auth{Auth: "eap", User: "alice@test", Secret: config.Secret{Value: []byte("open sesame")}}
	return g, c
}

func TestEAPTunnelCarriesTrafficAndClosesCleanly(t *testing.T) {
	inBubble(t, 60, func(w *world) {
		g, c := loggedIn(w)
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		talk(gateway, client)
		if got := gateway.sa().RemoteID; got != "alice@test" {
			w.Errorf("the gateway shows %s", got)
		}
		closesCleanly(gateway, client)
	})
}

func TestCertificateThenEAP(t *testing.T) {
	inBubble(t, 61, func(w *world) {
		g, c := loggedIn(w)
		p := w.people(pki.ECDSAP256)
		gc, cc := g.Connections["clients"], c.Connections["office"]
		gc.Peer2, cc.Local2 = gc.Peer, cc.Local
		gc.Local, cc.Peer = p.gateway.local(), p.client.trusts("gateway.test")
		cc.Local, gc.Peer = p.client.local(), p.gateway.trusts("*@test")
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

// A person who mistypes is asked again, one who was right is not.
func TestEAPAsksAPerson(t *testing.T) {
	inBubble(t, 62, func(w *world) {
		g, c := loggedIn(w)
		c.Connections["office"].Local = config.Auth{Auth: "eap-mschapv2"}
		gateway := w.gateway(g)
		client := w.node(w.net.Host("client", usual, clientAddr), c, false)
		var asked []martlet.Login
		client.Prompt = func(ctx context.Context, l martlet.Login) (string, []byte, error) {
			asked = append(asked, l)
			<-time.After(2 * time.Minute)
			if len(asked) == 1 {
				return "bob@test", []byte("wrong"), nil
			}
			return "bob@test", []byte("another"), nil
		}
		if err := client.Start(w.Context()); err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { client.close() })
		err := client.Connect(w.Context(), "")
		if e, ok := errors.AsType[*martlet.Error](err); !ok || string(e.Code) != string(eap.CodePassword) || e.Code.Class() != martlet.ClassAuthentication {
			w.Errorf("a wrong password: %v", err)
		}
		client.connect()
		talk(gateway, client)
		client.Disconnect("")
		pass(time.Second)
		client.connect()
		if len(asked) != 2 || asked[0] != (martlet.Login{Connection: "office", Gateway: "gateway.test"}) {
			w.Errorf("asked %+v", asked)
		}
		closesCleanly(gateway, client)
	})
}

// A gateway that forgets who takes so long is asked again, the person is not.
func TestEAPSlowPerson(t *testing.T) {
	inBubble(t, 64, func(w *world) {
		g, c := loggedIn(w)
		c.Connections["office"].Local = config.Auth{Auth: "eap-mschapv2", User: "alice@test"}
		gateway := w.gateway(g)
		client := w.node(w.net.Host("client", usual, clientAddr), c, false)
		asked := 0
		client.Prompt = func(context.Context, martlet.Login) (string, []byte, error) {
			asked++
			gateway.crash()
			gateway = w.start(gateway.host, g, true)
			return "", []byte("open sesame"), nil
		}
		if err := client.Start(w.Context()); err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { client.close() })
		client.connect()
		if asked != 1 {
			w.Errorf("asked %d times", asked)
		}
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

func TestEAPWithNobodyToAsk(t *testing.T) {
	inBubble(t, 63, func(w *world) {
		g, c := loggedIn(w)
		c.Connections["office"].Local = config.Auth{Auth: "eap-mschapv2"}
		gateway, client := w.gateway(g), w.client(c)
		err := client.Connect(w.Context(), "")
		if e, ok := errors.AsType[*martlet.Error](err); !ok || e.Code != "no-credential" {
			w.Errorf("without a person: %v", err)
		}
		pass(time.Minute)
		gateway.clean()
	})
}
