package level2

import (
	"strings"
	"testing"
	"time"

	"martlet/config"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// A password that was changed counts at once, also for who would resume an SA by a ticket: the
// client begins anew, and its old password is refused.
func TestChangedPasswordEndsTickets(t *testing.T) {
	for name, password := range map[string]string{"changed": "today's", "as it was": "open sesame"} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir() // tickets outlive the gateway
			inBubble(t, 97, func(w *world) {
				g, c := loggedIn(w)
				g.Node.State = state
				c.Connections["office"].Keep = config.KeepUp
				host := w.net.Host("gateway", usual, gatewayAddr)
				gateway, client := w.start(host, g, true), w.client(c)
				client.connect()
				talk(gateway, client)
				pass(2 * time.Minute)
				address := client.address()
				events := client.watch()
				w.record()
				gateway.crash()
				g.Users["alice@test"].Password.Value = suite.Secret(password)
				next := w.start(host, g, true)
				flow{client, next, address, serverAddr}.send(0, 1)
				pass(10 * time.Second)
				if w.sent(message.IKESessionResume) == 0 {
					w.Error("the ticket was not used: the test does not test it")
				}
				changed := name == "changed"
				if begun := w.sent(message.IKESAInit) > 0; begun != changed {
					w.Errorf("begun anew: %v", begun)
				}
				if up := len(next.Status().SAs) > 0; up == changed {
					w.Errorf("the client is in: %v", up)
				}
				void := strings.Contains(strings.Join(next.warnings(), "\n"), "changed since it was given out")
				refused := false
				for _, ev := range events() {
					refused = refused || ev.Err != nil && ev.Err.Code == "eap-wrong-password"
				}
				if void != changed || refused != changed {
					w.Errorf("the gateway said %v; the client was refused: %v", next.warnings(), refused)
				}
			})
		})
	}
}
