package level2

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/ike"
)

// keptConfig is alice, whose connection is to be up.
func keptConfig() *config.Config {
	c := clientConfig()
	c.Connections["office"].Keep = config.KeepUp
	return c
}

// waits are the pauses that a node announced before its tries.
func waits(events []martlet.Event) []time.Duration {
	var out []time.Duration
	for _, ev := range events {
		if ev.Kind == martlet.EventRetry {
			out = append(out, ev.Took)
		}
	}
	return out
}

// restart starts a gateway again that has crashed.
func (w *world) restart(old *end) *end {
	w.Helper()
	return w.start(old.host, gatewayConfig(), true)
}

func TestKeptConnectionComesBackAfterTheGatewayWasAwayForHours(t *testing.T) {
	inBubble(t, 60, func(w *world) {
		gateway, client := w.gateway(gatewayConfig()), w.client(keptConfig())
		client.connect()
		pass(5 * time.Minute)
		events := client.watch()
		gateway.crash()
		pass(3 * time.Hour)
		all := waits(events())
		if len(all) < 20 {
			w.Fatalf("%d tries in three hours: %v", len(all), all)
		}
		for i, d := range all {
			if d > time.Minute || i > 8 && d < 40*time.Second {
				w.Errorf("pause %d is %v", i, d)
			}
		}
		if s := client.Status().Waiting; len(s) != 1 || s[0].Connection != "office" || s[0].Err == nil || s[0].Err.Code != ike.CodeUnreachable || s[0].Next.IsZero() {
			w.Errorf("the status says %+v", s)
		}
		gateway = w.restart(gateway)
		pass(2 * time.Minute)
		talk(gateway, client)
		if s := client.Status().Waiting; len(s) != 0 {
			w.Errorf("up, and the status says %+v", s)
		}
		// A short loss after a long stand is mended at once.
		pass(10 * time.Minute)
		gateway.Disconnect("clients")
		pass(3 * time.Second)
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

func TestKeptConnectionIsLetGoByDisconnect(t *testing.T) {
	inBubble(t, 61, func(w *world) {
		gateway, client := w.gateway(gatewayConfig()), w.client(keptConfig())
		client.connect()
		events := client.watch()
		client.Disconnect("office")
		pass(time.Hour)
		client.clean()
		gateway.clean()
		for _, ev := range events() {
			if ev.Kept || ev.Kind == martlet.EventRetry {
				w.Errorf("after Disconnect: %+v", ev)
			}
		}
		client.connect()
		talk(gateway, client)
	})
}

func TestRefusedCredentialsAreTriedSeldom(t *testing.T) {
	inBubble(t, 62, func(w *world) {
		c, g := keptConfig(), gatewayConfig()
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		pass(2 * time.Minute)
		events := client.watch()
		gateway.close()
		g = gatewayConfig()
		g.Connections["clients"].Peer = pskAuth("*@elsewhere")
		gateway = w.start(gateway.host, g, true)
		pass(4 * time.Hour)
		all := waits(events())
		if len(all) < 10 || len(all) > 40 {
			w.Fatalf("%d tries in four hours: %v", len(all), all)
		}
		if last := all[len(all)-1]; last < 11*time.Minute {
			w.Errorf("the last pause is %v", last)
		}
		gateway.clean()
	})
}

func TestSeveralRemotesAreTriedInOrder(t *testing.T) {
	inBubble(t, 63, func(w *world) {
		c := keptConfig()
		spare := netip.MustParseAddr("192.0.2.2")
		c.Connections["office"].Remote = []string{gatewayAddr.String(), spare.String()}
		first := w.gateway(gatewayConfig())
		second := w.start(w.net.Host("spare", usual, spare), gatewayConfig(), true)
		client := w.client(c)
		client.connect()
		talk(first, client)
		first.crash()
		pass(3 * time.Minute)
		talk(second, client)
		closesCleanly(second, client)
	})
}

func TestFirstPacketOpensTheConnection(t *testing.T) {
	inBubble(t, 64, func(w *world) {
		near, far := sites(config.KeepOnDemand, "")
		a := w.start(w.net.Host("near", usual, clientAddr), near, true)
		b := w.gateway(far)
		w.record()
		pass(time.Hour)
		if len(w.seen) > 0 {
			w.Fatalf("%d datagrams before there was anything to send", len(w.seen))
		}
		f := flow{a, b, mustAddr("10.2.0.1"), serverAddr}
		opens := func() {
			w.Helper()
			f.send(0, 1)
			pass(time.Second)
			f.to.take()
			f.send(1, 5)
			pass(time.Second)
			if n := len(f.arrived(6)); n != 5 {
				w.Fatalf("%d of 5 packets arrived", n)
			}
			a.sa()
		}
		opens()
		b.Disconnect("")
		pass(time.Hour)
		a.clean()
		opens()
		a.Disconnect("site")
		pass(time.Minute)
		f.to.take()
		f.send(0, 3)
		pass(time.Minute)
		a.clean()
	})
}

func TestDemandIsNotRepeatedForEachPacket(t *testing.T) {
	inBubble(t, 65, func(w *world) {
		near, _ := sites(config.KeepOnDemand, "")
		a := w.start(w.net.Host("near", usual, clientAddr), near, true) // nobody is there
		events := a.watch()
		for n := range 3600 {
			a.tun.Inject(packet(mustAddr("10.2.0.1"), serverAddr, n))
			pass(time.Second)
		}
		if n := len(waits(events())); n < 10 || n > 80 {
			w.Errorf("%d tries in an hour", n)
		}
	})
}

func TestChildOpensByItsFirstPacket(t *testing.T) {
	inBubble(t, 66, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		withChildren(g, c)
		c.Connections["office"].Children["rare"].Keep = config.KeepOnDemand
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		pass(time.Minute)
		if n := len(client.sa().Children); n != 2 {
			w.Fatalf("%d children, want two", n)
		}
		f := flow{client, gateway, client.address(), mustAddr("10.3.0.9")}
		f.send(0, 1)
		pass(time.Second)
		f.to.take()
		f.send(1, 3)
		pass(time.Second)
		if n := len(f.arrived(4)); n != 3 {
			w.Errorf("%d of 3 packets arrived", n)
		}
		if n := len(client.sa().Children); n != 3 {
			w.Errorf("%d children, want three", n)
		}
		closesCleanly(gateway, client)
	})
}

// sites are two peers, each of which has the other as its remote.
func sites(near, far config.Keep) (a, b *config.Config) {
	site := func(local, remote, id, peer, at string, keep config.Keep) *config.Config {
		c := &config.Config{
			Node: config.Node{Listen: []netip.Addr{netip.IPv4Unspecified()}, IKEPort: 500, NATPort: 4500},
			Connections: map[string]*config.Connection{"site": {
				Local: pskAuth(id), Peer: pskAuth(peer), Keep: keep,
				Children: map[string]*config.Child{"net": {Local: []string{local}, Remote: []string{remote}}},
			}},
		}
		if keep != "" {
			c.Connections["site"].Remote = []string{at}
		}
		return c
	}
	a = site("10.2.0.0/16", "10.1.0.0/16", "near.test", "far.test", gatewayAddr.String(), near)
	b = site("10.1.0.0/16", "10.2.0.0/16", "far.test", "near.test", clientAddr.String(), far)
	return a, b
}

func TestPeersThatCallEachOtherAtOnceEndWithOneTunnel(t *testing.T) {
	for seed := range uint64(12) {
		inBubble(t, 670+seed, func(w *world) {
			near, far := sites(config.KeepUp, config.KeepUp)
			a := w.start(w.net.Host("near", usual, clientAddr), near, true)
			pass(time.Duration(seed*7) * time.Millisecond)
			b := w.gateway(far)
			pass(time.Minute)
			for round := range 3 {
				x, y := a.sa(), b.sa()
				if x.SPIi != y.SPIi || len(x.Children) != 1 || len(y.Children) != 1 || x.Children[0].SPIIn != y.Children[0].SPIOut {
					w.Fatalf("round %d: %+v and %+v", round, x, y)
				}
				f := flow{a, b, mustAddr("10.2.0.1"), serverAddr}
				f.to.take()
				f.send(0, 5)
				pass(time.Second)
				if n := len(f.arrived(5)); n != 5 {
					w.Errorf("round %d: %d of 5 packets arrived", round, n)
				}
				if round == 0 {
					pass(time.Hour)
				} else {
					b.crash()
					b = w.start(b.host, far, true)
					pass(5 * time.Minute)
				}
			}
		})
	}
}

func TestKeepIsChecked(t *testing.T) {
	c := clientConfig()
	c.Connections["office"].Keep = "always"
	c.Connections["office"].Children["net"].Keep = "never"
	err := c.Complete()
	var all config.Errors
	if !errors.As(err, &all) || len(all) != 2 || !strings.Contains(err.Error(), `"on-demand"`) {
		t.Errorf("got %v", err)
	}
	g := gatewayConfig()
	g.Connections["clients"].Keep = config.KeepUp
	if err := g.Complete(); err == nil || !strings.Contains(err.Error(), "no remote") {
		t.Errorf("a connection without remote: %v", err)
	}
}

// TestKeptChildComesBackOnItsSA: a peer that ends a child has not ended the connection.
func TestKeptChildComesBackOnItsSA(t *testing.T) {
	inBubble(t, 65, func(w *world) {
		g, c := gatewayConfig(), keptConfig()
		ends := g.Connections["clients"].Children["net"]
		ends.Rekey, ends.Lifetime = config.Never, config.Duration(2*time.Minute)
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		spi, child := client.sa().SPIi, client.sa().Children[0].SPIIn
		pass(2*time.Minute + 10*time.Second)
		talk(gateway, client)
		if got := client.sa(); got.SPIi != spi || len(got.Children) != 1 || got.Children[0].SPIIn == child {
			w.Errorf("the child was %s of %s, and is now %+v", child, spi, got)
		}
		if n := len(gateway.Status().SAs); n != 1 {
			w.Errorf("the gateway has %d SAs", n)
		}
		closesCleanly(gateway, client)
	})
}
