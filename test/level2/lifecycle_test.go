package level2

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"martlet"
	"martlet/config"
	"martlet/ike"
)

func TestCloseWhileConnecting(t *testing.T) {
	// At each step of the handshake: before the first answer, between, before the last.
	for _, after := range []time.Duration{0, 5, 25, 45, 65} {
		inBubble(t, 40, func(w *world) {
			gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
			failed := make(chan error)
			go func() { failed <- client.Connect(w.Context(), "") }()
			pass(after * time.Millisecond)
			client.close()
			if err := <-failed; err == nil {
				w.Errorf("after %d ms: Connect says that it went well", after)
			}
			client.clean()
			pass(2 * time.Minute)
			gateway.clean()
		})
	}
}

func TestConnectCancelled(t *testing.T) {
	for _, after := range []time.Duration{0, 5, 25, 45, 65} {
		inBubble(t, 41, func(w *world) {
			gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
			enough := errors.New("enough")
			ctx, cancel := context.WithCancelCause(w.Context())
			failed := make(chan error)
			go func() { failed <- client.Connect(ctx, "") }()
			pass(after * time.Millisecond)
			cancel(enough)
			if err := <-failed; !errors.Is(err, enough) {
				w.Errorf("after %d ms: %v, want the context's cause", after, err)
			}
			pass(time.Second)
			client.clean()
			pass(time.Minute)
			gateway.clean()
			client.connect()
			talk(gateway, client)
		})
	}
}

func TestConnectAgainAtOnceAfterCancelOrDisconnect(t *testing.T) {
	inBubble(t, 42, func(w *world) {
		gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
		for _, after := range []time.Duration{0, 5, 25, 45, 65} {
			ctx, cancel := context.WithTimeout(w.Context(), after*time.Millisecond)
			if err := client.Connect(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
				w.Fatalf("after %d ms: %v", after, err)
			}
			cancel()
			// What is left of the attempt before must not end this one.
			client.connect()
			talk(gateway, client)
			client.Disconnect("office")
			client.connect()
			pass(time.Minute)
			talk(gateway, client)
			client.Disconnect("")
			pass(time.Minute)
			client.clean()
			gateway.clean()
		}
	})
}

func TestTwoConnectsAtOnceMakeOneTunnel(t *testing.T) {
	inBubble(t, 43, func(w *world) {
		gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
		done := make(chan error)
		for range 5 {
			go func() { done <- client.Connect(w.Context(), "office") }()
		}
		for range 5 {
			if err := <-done; err != nil {
				w.Error(err)
			}
		}
		pass(time.Minute)
		talk(gateway, client)
	})
}

func TestConnectThatWaitsForAnotherCanBeCancelled(t *testing.T) {
	inBubble(t, 44, func(w *world) {
		client := w.client(clientConfig()) // there is no gateway
		first := make(chan error, 1)
		go func() { first <- client.Connect(w.Context(), "") }()
		pass(time.Second)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := client.Connect(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("got %v", err)
		}
		if err := <-first; !errors.Is(err, &martlet.Error{Code: ike.CodeUnreachable}) {
			w.Errorf("the first one was disturbed: %v", err)
		}
	})
}

func TestDisconnectEndsTheTunnelOnBothSides(t *testing.T) {
	inBubble(t, 45, func(w *world) {
		gateway, client := w.pair()
		flows := both(gateway, client)
		client.Disconnect("another")
		pass(time.Second)
		client.sa()
		client.Disconnect("office")
		pass(time.Second)
		client.clean()
		gateway.clean()
		silent(flows)
		client.connect()
		gateway.Disconnect("clients")
		pass(time.Second)
		client.clean()
		gateway.clean()
	})
}

// withChildren gives both sides a second child that is opened from the start and a third that is
// opened on request.
func withChildren(gateway, client *config.Config) {
	g, c := gateway.Connections["clients"].Children, client.Connections["office"].Children
	for name, network := range map[string]string{"more": "10.2.0.0/16", "rare": "10.3.0.0/16"} {
		g[name] = &config.Child{Local: []string{network}}
		c[name] = &config.Child{Remote: []string{network}}
	}
	c["rare"].Keep = config.KeepManual
}

func TestChildOnRequestIsOpenedByOpenChildOnly(t *testing.T) {
	inBubble(t, 46, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		withChildren(g, c)
		gateway, client := w.gateway(g), w.client(c)
		at := func(server string) flow { return flow{client, gateway, client.address(), mustAddr(server)} }
		arrives := func(f flow) bool {
			f.send(0, 2)
			pass(time.Second)
			return len(f.arrived(2)) == 2
		}
		if err := client.OpenChild(w.Context(), "office", "rare"); !errors.Is(err, &martlet.Error{Code: ike.CodeNoConnection}) {
			w.Errorf("a child of a connection that is down: %v", err)
		}
		client.connect()
		pass(time.Second)
		if !arrives(at("10.1.0.9")) || !arrives(at("10.2.0.9")) || arrives(at("10.3.0.9")) {
			w.Error("the children are not those that are opened from the start")
		}
		for range 2 { // the second time it is up already
			if err := client.OpenChild(w.Context(), "office", "rare"); err != nil {
				w.Fatal(err)
			}
		}
		if !arrives(at("10.3.0.9")) {
			w.Error("nothing passes the child on request")
		}
		if err := client.OpenChild(w.Context(), "office", "none"); !errors.Is(err, &martlet.Error{Code: ike.CodeNoConnection}) {
			w.Errorf("a child that is not configured: %v", err)
		}
		if n, m := len(client.sa().Children), len(gateway.sa().Children); n != 3 || m != 3 {
			w.Errorf("%d and %d children, want three", n, m)
		}
		closesCleanly(gateway, client)
	})
}

func TestOpenChildThatIsRefused(t *testing.T) {
	inBubble(t, 47, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		withChildren(g, c)
		delete(g.Connections["clients"].Children, "rare")
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		err := client.OpenChild(w.Context(), "office", "rare")
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || e.Code != ike.CodeSelectors || !strings.Contains(e.Why, "10.3.0.0/16") || e.Hint == "" {
			w.Errorf("got %#v", err)
		}
		talk(gateway, client)
	})
}

func TestStartAndCloseInAnyOrder(t *testing.T) {
	inBubble(t, 48, func(w *world) {
		host := w.net.Host("client", usual, clientAddr)
		never := w.node(host, clientConfig(), false)
		never.close()
		never.close()
		if err := never.Start(w.Context()); err == nil {
			w.Error("a node started after it was closed")
		}

		twice := w.node(host, clientConfig(), false)
		if err := twice.Start(w.Context()); err != nil {
			w.Fatal(err)
		}
		if err := twice.Start(w.Context()); err == nil {
			w.Error("a node started twice")
		}
		gateway := w.gateway(gatewayConfig())
		twice.connect()
		talk(gateway, twice)
		twice.close()
		twice.close()
		if err := twice.Connect(w.Context(), ""); err == nil {
			w.Error("a closed node connected")
		}
		if err := twice.OpenChild(w.Context(), "office", "net"); err == nil {
			w.Error("a closed node opened a child")
		}
		twice.Disconnect("")
		twice.clean()
		if _, open := <-twice.Watch(w.Context()); open {
			w.Error("a closed node has an event")
		}

		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		late := w.node(host, clientConfig(), false)
		if err := late.Start(ctx); !errors.Is(err, context.Canceled) {
			w.Errorf("started with a context that is over: %v", err)
		}
	})
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	inBubble(t, 49, func(w *world) {
		host := w.net.Host("gateway", usual, gatewayAddr)
		first := w.start(host, gatewayConfig(), true)
		second := w.node(host, gatewayConfig(), true)
		err := second.Start(w.Context())
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || e.Code != ike.CodeHost || !strings.Contains(e.Hint, "another IKE daemon") {
			w.Errorf("got %v", err)
		}
		client := w.client(clientConfig())
		client.connect()
		talk(first, client)
	})
}

func TestCloseOfAGatewayWithASilentClientTakesASecond(t *testing.T) {
	inBubble(t, 50, func(w *world) {
		gateway, client := w.pair()
		client.host.Blackout(true)
		begin := time.Now()
		gateway.close()
		if took := time.Since(begin); took > 2*time.Second {
			w.Errorf("took %v", took)
		}
		client.host.Blackout(false)
	})
}

func TestStatusAndEventsWhileTunnelsComeAndGo(t *testing.T) {
	inBubble(t, 51, func(w *world) {
		gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
		stop := make(chan struct{})
		ended := make(chan struct{})
		for _, e := range []*end{gateway, client} {
			go func() {
				defer func() { ended <- struct{}{} }()
				for {
					e.Status()
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
			}()
		}
		for range 20 {
			ctx, cancel := context.WithCancel(w.Context())
			client.Watch(ctx)
			client.connect()
			cancel()
			client.Disconnect("")
			pass(100 * time.Millisecond)
		}
		close(stop)
		<-ended
		<-ended
		synctest.Wait()
		gateway.clean()
		client.clean()
	})
}
