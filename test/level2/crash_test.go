package level2

import (
	"testing"
	"time"

	"martlet/config"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// sent counts the messages of an exchange on port 500.
func (w *world) sent(kind message.ExchangeType) int {
	return len(w.records(func(r simnet.Record) bool {
		h, err := message.ParseHeader(r.Datagram.Data)
		return err == nil && h.Exchange == kind && r.Datagram.To.Port() == 500
	}))
}

// TestCrashIsDetected: a gateway that crashed and was started anew tells its peers so, who
// resume their SAs at once instead of waiting for answers that never come.
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
		w.record()
		pass(time.Minute) // what stood for long is begun again with less delay
		gateway.crash()
		next := w.start(host, durable(), true)
		flow{client, next, client.address(), serverAddr}.send(0, 1)
		pass(3 * time.Second)
		talk(next, client)
		if resumed, begun := w.sent(message.IKESessionResume), w.sent(message.IKESAInit); resumed == 0 || begun != 0 {
			w.Errorf("%d times resumed, %d times begun anew", resumed, begun)
		}
		restarted := false
		for _, ev := range events() {
			restarted = restarted || ev.Err != nil && ev.Err.Code == ike.CodePeerRestarted
		}
		if !restarted {
			w.Error("the client was not told that its peer was started anew")
		}
	})
}
