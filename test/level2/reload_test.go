package level2

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/ike"
)

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	inBubble(t, 100, func(w *world) {
		gateway, client := w.pair()
		spi := client.sa().SPIi
		g, c := gatewayConfig(), clientConfig()
		// What no SA shows.
		g.Connections["clients"].Rekey = config.Duration(time.Hour)
		g.Connections["more"] = &config.Connection{Local: pskAuth("gateway.test"), Peer: pskAuth("*@more"), Pool: []string{"v4"}}
		c.Connections["office"].Liveness = config.Duration(20 * time.Second)
		c.Connections["office"].Keep = config.KeepUp
		for end, next := range map[*end]*config.Config{gateway: g, client: c} {
			if err := end.Reload(next); err != nil {
				w.Fatal(err)
			}
		}
		pass(10 * time.Minute)
		if got := client.sa().SPIi; got != spi {
			w.Error("the SA is another one")
		}
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

func TestReloadReplacesWhatChanged(t *testing.T) {
	inBubble(t, 101, func(w *world) {
		gateway, client := w.pair()
		spi, address := client.sa().SPIi, client.address()
		flows := both(gateway, client)
		wider := func(c *config.Config, name string, local bool) *config.Config {
			child := c.Connections[name].Children["net"]
			if local {
				child.Local = append(child.Local, "10.5.0.0/16")
			} else {
				child.Remote = append(child.Remote, "10.5.0.0/16")
			}
			return c
		}
		events := client.watch()
		if err := gateway.Reload(wider(gatewayConfig(), "clients", true)); err != nil {
			w.Fatal(err)
		}
		if err := client.Reload(wider(clientConfig(), "office", false)); err != nil {
			w.Fatal(err)
		}
		for n := range 120 {
			for _, f := range flows {
				f.send(n, 1)
			}
			pass(time.Second)
		}
		for _, f := range flows {
			if got := f.arrived(120); len(got) != 120 {
				w.Errorf("%d of 120 packets arrived at %s", len(got), f.to.host.Name)
			}
		}
		sa := client.sa()
		if sa.SPIi == spi || client.address() != address || !slices.Contains(sa.Children[0].Remote, "10.5.0.0/16") {
			w.Errorf("after the reload: %+v", sa)
		}
		for _, ev := range events() {
			if ev.Kind == martlet.EventDown && !ev.Replaced {
				w.Errorf("the connection was lost: %+v", ev)
			}
		}
		closesCleanly(gateway, client)
	})
}

func TestReloadClosesWhatIsGoneAndOpensWhatIsNew(t *testing.T) {
	inBubble(t, 102, func(w *world) {
		near, far := sites(config.KeepUp, config.KeepUp)
		a := w.start(w.net.Host("near", usual, clientAddr), near, true)
		b := w.gateway(far)
		pass(time.Minute)
		a.sa()
		empty, _ := sites(config.KeepUp, config.KeepUp)
		delete(empty.Connections, "site")
		if err := a.Reload(empty); err != nil {
			w.Fatal(err)
		}
		pass(5 * time.Second)
		a.clean()
		again, _ := sites(config.KeepUp, config.KeepUp)
		if err := a.Reload(again); err != nil {
			w.Fatal(err)
		}
		pass(2 * time.Minute)
		if x, y := a.sa(), b.sa(); x.SPIi != y.SPIi {
			w.Error("the ends have different SAs")
		}
	})
}

func TestReloadToAnotherGateway(t *testing.T) {
	inBubble(t, 103, func(w *world) {
		spare := mustAddr("192.0.2.2")
		first := w.gateway(gatewayConfig())
		second := w.start(w.net.Host("spare", usual, spare), gatewayConfig(), true)
		client := w.client(keptConfig())
		client.connect()
		c := keptConfig()
		c.Connections["office"].Remote = []string{spare.String()}
		if err := client.Reload(c); err != nil {
			w.Fatal(err)
		}
		pass(10 * time.Second)
		first.clean()
		talk(second, client)
		closesCleanly(second, client)
	})
}

// When Reload returns, what is new is in force: a connection that came with it can be opened at
// once, each time.
func TestReloadIsInForceWhenItReturns(t *testing.T) {
	inBubble(t, 105, func(w *world) {
		w.gateway(gatewayConfig())
		client := w.client(clientConfig())
		for range 40 {
			without := clientConfig()
			clear(without.Connections)
			if err := client.Reload(without); err != nil {
				w.Fatal(err)
			}
			if err := client.Reload(clientConfig()); err != nil {
				w.Fatal(err)
			}
			client.connect()
		}
	})
}

func TestReloadWithAFaultChangesNothing(t *testing.T) {
	inBubble(t, 104, func(w *world) {
		gateway, client := w.pair()
		bad := gatewayConfig()
		bad.Connections["clients"].Proposals = []string{"aes256gcm17"}
		delete(bad.Pools, "v4")
		var faults config.Errors
		if err := gateway.Reload(bad); !errors.As(err, &faults) || len(faults) < 2 {
			w.Errorf("got %v", err)
		}
		port := gatewayConfig()
		port.Node.NATPort, port.Node.MTU = 4600, 1300
		err := gateway.Reload(port)
		if e, ok := errors.AsType[*martlet.Error](err); !ok || e.Code != ike.CodeReload || !strings.Contains(e.What, "node.mtu, node.nat_port") {
			w.Errorf("got %v", err)
		}
		pass(time.Minute)
		talk(gateway, client)
		if err := gateway.ReloadFile(); err == nil {
			w.Error("a Node without a file read it again")
		}
	})
}

// Who was let in is asked for a proof by the new words the next time.
func TestReloadOfSecretsCountsFromTheNextLogin(t *testing.T) {
	inBubble(t, 105, func(w *world) {
		gateway, client := w.pair()
		g := gatewayConfig()
		other := config.Secret{Value: []byte("another key, which the client does not have")}
		g.Connections["clients"].Local.Secret, g.Connections["clients"].Peer.Secret = other, other
		if err := gateway.Reload(g); err != nil {
			w.Fatal(err)
		}
		pass(time.Minute)
		talk(gateway, client)
		client.Disconnect("")
		pass(time.Second)
		if err := client.Connect(w.Context(), ""); err == nil {
			w.Error("the old key lets in")
		}
	})
}
