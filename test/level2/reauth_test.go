package level2

import (
	"testing"
	"time"

	"martlet/config"
)

// Authenticating again is no moment without a tunnel: the address stays, and no packet is lost.
func TestReauthUnderTraffic(t *testing.T) {
	inBubble(t, 95, func(w *world) {
		g := gatewayConfig()
		g.Connections["clients"].Reauth = config.Duration(10 * time.Minute)
		gateway, client := w.gateway(g), w.client(clientConfig())
		client.connect()
		address, spi := client.address(), client.sa().SPIi
		flows := both(gateway, client)
		const count = 4000
		for n := range count { // an hour and seven minutes
			for _, f := range flows {
				f.send(n, 1)
			}
			pass(time.Second)
			if n%100 == 99 {
				synced(w, flows, n)
			}
		}
		if got := client.sa().SPIi; got == spi {
			w.Error("the SA is the same after an hour")
		}
		if got := client.address(); got != address {
			w.Errorf("the address was %v and is %v", address, got)
		}
		closesCleanly(gateway, client)
	})
}

// synced checks that the last hundred packets up to number n arrived at both ends.
func synced(w *world, flows []flow, n int) {
	w.Helper()
	for _, f := range flows {
		if got := f.arrived(n + 1); len(got) != 100 {
			w.Fatalf("of packets %d to %d, %d arrived at %s", n-99, n, len(got), f.to.host.Name)
		}
	}
}

func TestReauthByCommandOfTheGateway(t *testing.T) {
	inBubble(t, 96, func(w *world) {
		gateway, client := w.pair()
		spi := client.sa().SPIi
		gateway.Reauthenticate("clients", 20*time.Second)
		pass(21 * time.Second)
		if client.sa().SPIi == spi {
			w.Error("the client did not authenticate again")
		}
		talk(gateway, client)
	})
}
