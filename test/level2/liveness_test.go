package level2

import (
	"errors"
	"testing"
	"time"

	"martlet"
	"martlet/ike"
)

func TestBlackoutEndsWithPeerDeadOnBothSidesAndReconnectWorks(t *testing.T) {
	inBubble(t, 20, func(w *world) {
		gateway, client := w.pair()
		talk(gateway, client)
		flows := both(gateway, client)
		atClient, atGateway := client.watch(), gateway.watch()
		begin := time.Now()
		client.host.Blackout(true)
		pass(2 * time.Minute)
		for name, events := range map[string][]martlet.Event{"client": atClient(), "gateway": atGateway()} {
			var down *martlet.Event
			for i := range events {
				if events[i].Kind == martlet.EventDown {
					down = &events[i]
				}
			}
			switch {
			case down == nil:
				w.Errorf("the %s has no event that the tunnel is down", name)
			case down.Err == nil || down.Err.Code != ike.CodePeerDead || down.Err.Code.Class() != martlet.ClassNetwork:
				w.Errorf("the %s says %+v", name, down.Err)
			case down.Err.What == "" || down.Err.Why == "" || down.Err.Hint == "":
				w.Errorf("the %s leaves a line out: %+v", name, down.Err)
			case down.Time.Sub(begin) < 30*time.Second || down.Time.Sub(begin) > 65*time.Second:
				w.Errorf("the %s took %v", name, down.Time.Sub(begin))
			}
		}
		gateway.clean()
		client.clean()
		client.host.Blackout(false)
		silent(flows)
		client.connect()
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

func TestShortBlackoutIsSurvived(t *testing.T) {
	inBubble(t, 21, func(w *world) {
		gateway, client := w.pair()
		spi := client.sa().SPIi
		for _, dark := range []time.Duration{5 * time.Second, 45 * time.Second} {
			client.host.Blackout(true)
			pass(dark)
			client.host.Blackout(false)
			pass(10 * time.Second)
			if got := client.sa().SPIi; got != spi {
				w.Fatalf("after %v the SA is another one", dark)
			}
			talk(gateway, client)
		}
	})
}

func TestTrafficReplacesLivenessChecks(t *testing.T) {
	inBubble(t, 22, func(w *world) {
		gateway, client := w.pair()
		pass(time.Second) // the path's MTU is tried
		w.record()
		flows := both(gateway, client)
		for n := range 60 {
			for _, f := range flows {
				f.send(n, 1)
			}
			pass(5 * time.Second)
		}
		for _, r := range w.seen {
			if len(r.Datagram.Data) > 4 && [4]byte(r.Datagram.Data) == [4]byte{} {
				w.Fatal("an IKE message was sent though ESP told that the peer lives")
			}
		}
	})
}

func TestUnreachableGatewayIsTold(t *testing.T) {
	inBubble(t, 23, func(w *world) {
		client := w.client(clientConfig())
		err := client.Connect(w.Context(), "")
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || e.Code != ike.CodeUnreachable {
			w.Fatalf("got %v", err)
		}
		client.clean()
	})
}

func TestBlockedPort4500IsTold(t *testing.T) {
	inBubble(t, 24, func(w *world) {
		g := gatewayConfig()
		g.Node.NATPort = 4501 // who calls 4500 finds nobody
		w.gateway(g)
		client := w.client(clientConfig())
		err := client.Connect(w.Context(), "")
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || e.Code != ike.CodePortBlocked || e.Code.Class() != martlet.ClassNetwork {
			w.Fatalf("got %v", err)
		}
		client.clean()
	})
}
