package level2

import (
	"net/netip"
	"testing"
	"time"

	"martlet"
)

var secondAddr = netip.MustParseAddr("192.0.2.2")

// TestRedirect: a client that calls one gateway ends up with the other, by an answer to its
// first message, to its proof, or by command while packets flow.
func TestRedirect(t *testing.T) {
	for i, when := range []string{"init", "auth", "later"} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, 50+uint64(i), func(w *world) {
				cfg := gatewayConfig()
				if when != "later" {
					cfg.Connections["clients"].Redirect = secondAddr.String()
					cfg.Connections["clients"].RedirectIn = when
				}
				first := w.start(w.net.Host("first", usual, gatewayAddr), cfg, true)
				second := w.start(w.net.Host("second", usual, secondAddr), gatewayConfig(), true)
				client := w.start(w.net.Host("client", usual, clientAddr), clientConfig(), false)
				events := client.watch()
				client.connect()
				if when == "later" {
					talk(first, client)
					told, err := first.Redirect("clients", secondAddr.String())
					if told != 1 || err != nil {
						w.Fatalf("%d told, %v", told, err)
					}
				}
				pass(5 * time.Second)
				if sa := client.sa(); sa.RemoteAddr.Addr() != secondAddr {
					w.Errorf("the client is with %v", sa.RemoteAddr)
				}
				talk(second, client)
				if n := len(first.Status().SAs); n != 0 {
					w.Errorf("the first gateway still has %d SAs", n)
				}
				told := false
				for _, ev := range events() {
					told = told || ev.Kind == martlet.EventRedirected && ev.Text == secondAddr.String()
				}
				if !told {
					w.Error("nobody is told")
				}
				closesCleanly(second, client)
			})
		})
	}
}

func TestRedirectOrders(t *testing.T) {
	inBubble(t, 53, func(w *world) {
		gateway, _ := w.pair()
		for _, c := range []struct{ connection, to string }{{"nobody", "192.0.2.2"}, {"", "no gateway"}} {
			if told, err := gateway.Redirect(c.connection, c.to); err == nil || told != 0 {
				w.Errorf("%+v: %d told", c, told)
			}
		}
	})
}
