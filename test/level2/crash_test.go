package level2

import (
	"testing"
	"time"

	"martlet/config"
	"martlet/ike"
)

// TestCrashIsDetected: a gateway that crashed and was started anew tells its peers so, who
// begin again at once instead of waiting for answers that never come.
func TestCrashIsDetected(t *testing.T) {
	state := t.TempDir()
	inBubble(t, 54, func(w *world) {
		durable := func() *config.Config {
			c := gatewayConfig()
			c.Node.State = state
			return c
		}
		host := w.net.Host("gateway", usual, gatewayAddr)
		gateway := w.start(host, durable(), true)
		cfg := clientConfig()
		cfg.Connections["office"].Keep = config.KeepUp
		client := w.start(w.net.Host("client", usual, clientAddr), cfg, false)
		client.connect()
		talk(gateway, client)
		events := client.watch()
		pass(time.Minute) // what stood for long is begun again with less delay
		gateway.crash()
		next := w.start(host, durable(), true)
		flow{client, next, client.address(), serverAddr}.send(0, 1)
		pass(3 * time.Second)
		talk(next, client)
		restarted := false
		for _, ev := range events() {
			restarted = restarted || ev.Err != nil && ev.Err.Code == ike.CodePeerRestarted
		}
		if !restarted {
			w.Error("the client was not told that its peer was started anew")
		}
	})
}
