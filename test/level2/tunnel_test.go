package level2

import (
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
	"martlet/test/simnet"
)

// closesCleanly checks that a client that is closed leaves nothing on either side.
// What is left of goroutines the bubble finds.
func closesCleanly(gateway, client *end) {
	client.w.Helper()
	flows := both(gateway, client)
	client.close()
	pass(time.Second)
	gateway.clean()
	for _, f := range flows {
		if f.from == gateway {
			silent([]flow{f})
		}
	}
}

func TestPSKTunnelCarriesTrafficAndClosesCleanly(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		gateway, client := w.pair()
		g, c := gateway.sa(), client.sa()
		if c.State != "established" || g.State != c.State || g.SPIi != c.SPIi || g.SPIr != c.SPIr || g.Suite != c.Suite {
			w.Errorf("the ends disagree:\n%+v\n%+v", c, g)
		}
		if g.RemoteID != "alice@test" || c.RemoteID != "gateway.test" {
			w.Errorf("identities %s and %s", g.RemoteID, c.RemoteID)
		}
		talk(gateway, client)
		counts := client.sa().Children[0]
		if other := gateway.sa().Children[0]; counts.PacketsIn != 20 || counts.PacketsOut != 20 ||
			other.PacketsIn != 20 || other.PacketsOut != 20 || other.BytesIn != counts.BytesOut {
			w.Errorf("counted %+v and %+v", counts, other)
		}
		closesCleanly(gateway, client)
	})
}

// certified changes both configurations to certificates.
func certified(gateway, client *config.Config, p *people) {
	g, c := gateway.Connections["clients"], client.Connections["office"]
	g.Local, c.Peer = p.gateway.local(), p.client.trusts("gateway.test")
	c.Local, g.Peer = p.client.local(), p.gateway.trusts("*@test")
}

func TestCertificateTunnelCarriesTrafficAndClosesCleanly(t *testing.T) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519} {
		t.Run(kind.String(), func(t *testing.T) {
			inBubble(t, 2, func(w *world) {
				g, c := gatewayConfig(), clientConfig()
				certified(g, c, w.people(kind))
				gateway, client := w.gateway(g), w.client(c)
				client.connect()
				talk(gateway, client)
				closesCleanly(gateway, client)
			})
		})
	}
}

func TestGatewayThatClosesTellsItsClients(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		gateway, client := w.pair()
		events := client.watch()
		gateway.close()
		pass(time.Second)
		client.clean()
		all := events()
		if last := all[len(all)-1]; last.Kind != martlet.EventDown || last.Err == nil || last.Err.Code != ike.CodeDeleted {
			w.Errorf("the client was told %+v, want that the gateway closed the connection", last)
		}
	})
}

func TestBadNetworkLosesPacketsButNeverChangesOrRepeatsThem(t *testing.T) {
	bad := simnet.Link{Latency: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.3, Dup: 0.2, Reorder: 0.2, ReorderBy: 50 * time.Millisecond}
	for seed := range uint64(12) {
		inBubble(t, 100+seed, func(w *world) {
			g, c := gatewayConfig(), clientConfig()
			if seed%2 == 1 {
				certified(g, c, w.people(pki.ECDSAP256))
			}
			gateway := w.gateway(g)
			// Loss on the client's link only: each way crosses it once.
			client := w.start(w.net.Host("client", bad, clientAddr), c, false)
			client.connect()
			const count = 200
			for _, f := range both(gateway, client) {
				f.send(0, count)
				pass(time.Second)
				got := len(f.arrived(count))
				if got < count/2 || got == count {
					w.Errorf("seed %d: %d of %d packets arrived at %s over a link that loses 30 %%", seed, got, count, f.to.host.Name)
				}
			}
			if drops := gateway.Status().Drops; drops["esp-replay"] == 0 {
				w.Errorf("seed %d: no duplicate was dropped: %v", seed, drops)
			}
			client.host.SetLink(usual)
			talk(gateway, client)
			closesCleanly(gateway, client)
		})
	}
}
