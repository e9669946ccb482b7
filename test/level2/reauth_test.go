package level2

import (
	"bytes"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/ike/message"
	"martlet/test/simnet"
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

// The old SA ends while its successor is on the way over a slow line: whoever keeps the
// connection up waits for that one, and opens no other beside it.
func TestKeeperWaitsForTheSuccessorThatIsOnItsWay(t *testing.T) {
	slow := simnet.Link{Latency: time.Second}
	for seed := range uint64(6) {
		inBubble(t, 970+seed, func(w *world) {
			gateway := w.gateway(gatewayConfig())
			client := w.start(w.net.Host("client", slow, clientAddr), keptConfig(), false)
			client.connect()
			pass(5 * time.Minute)
			w.record()
			events := client.watch()
			client.Reauthenticate("office", 0)
			pass(100*time.Millisecond + time.Duration(seed)*150*time.Millisecond)
			gateway.Disconnect("clients") // the old one; the new one has not come yet
			pass(time.Minute)
			talk(gateway, client)
			client.sa()
			gateway.sa()
			begun := map[string]bool{}
			for _, r := range w.records(func(r simnet.Record) bool { return r.Host == "client" }) {
				if h, err := message.ParseHeader(bytes.TrimPrefix(r.Datagram.Data, make([]byte, 4))); err == nil && h.Exchange == message.IKESAInit {
					begun[h.SPIi.String()] = true
				}
			}
			if len(begun) != 1 {
				w.Errorf("%d SAs were begun, want one: %v", len(begun), begun)
			}
			for _, ev := range events() {
				if ev.Kind == martlet.EventDown && !ev.Replaced || ev.Kind == martlet.EventRetry {
					w.Errorf("told: %+v", ev)
				}
			}
		})
	}
}
